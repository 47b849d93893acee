"""What a planned comparison can detect: the smallest difference of two methods, and the seeds that others need.

Differences are of two methods' accuracies, paired by seed and item, as fractions; variances are those of such
differences.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis.records import load_all
from bench.analysis.runs import RunRecord, sorted_labels
from bench.plan.spec import RunPlan
from bench.stats.intervals import ALPHA, FEWEST
from bench.stats.power import EFFECTS, POWER, TYPICAL, detectable, seeds_needed
from bench.stats.variance import Variances, decompose, most_helpful
from bench.store.job import Job
from bench.store.run_folder import CorruptRun, done_runs, read_json

SAME = ("task", "task_version", "level", "template", "data_digest", "model_digest")


@dataclass(frozen=True)
class Outlook:
    """What can be found on one task: sizes, pairs corrected for, variances with their origin, and what follows."""

    task: str
    num_methods: int  # that train
    num_seeds: int
    num_items: int
    num_samples: int
    num_pairs: int
    variances: Variances
    origin: str
    detectable: float
    seeds_needed: dict[str, int | None]  # by effect in points; None: more than any number tried


def outlooks(jobs: Sequence[Job], results: Path) -> list[Outlook]:
    """One per task, in order.  Finished runs of the same task and model give the variances if there are enough."""
    tasks: dict[str, list[RunPlan]] = defaultdict(list)
    for job in jobs:
        tasks[job.plan.task].append(job.plan)
    return [outlook(plans, results, len(tasks)) for plans in tasks.values()]


def outlook(plans: Sequence[RunPlan], results: Path, num_tasks: int) -> Outlook:
    """The outlook of one task, corrected for the pairs of trained methods on all tasks.

    With a single method the pair is the one with base.
    """
    trained = {p.method for p in plans if any(stage.fields["batch_size"] > 0 for stage in p.stages)}
    num_pairs = num_tasks * max(1, len(trained) * (len(trained) - 1) // 2)
    e = plans[0].evaluation
    sizes = len({p.seed for p in plans}), e.test_items, e.test_samples
    variances, origin = estimated(earlier(plans[0], results)) or (TYPICAL, "assumed")
    alpha = ALPHA / num_pairs
    needed = {
        f"{100 * effect:g}": seeds_needed(
            effect, variances, e.test_items, e.test_samples, alpha=alpha, power=POWER, fewest=FEWEST
        )
        for effect in EFFECTS
    }
    # Two seeds are too few for a corrected test.  One seed: the test is of these very models.
    smallest = math.inf if 1 < sizes[0] < FEWEST else detectable(variances, *sizes, alpha=alpha, power=POWER)
    return Outlook(plans[0].task, len(trained), *sizes, num_pairs, variances, origin, smallest, needed)


def earlier(plan: RunPlan, results: Path) -> list[RunRecord]:
    """Finished runs of the same task, level, template, data and model; budget and protocol may differ."""
    paths = []
    for path in done_runs(results):
        try:
            record = read_json(path / "plan.json")
        except CorruptRun:
            continue
        if all(record.get(name) == getattr(plan, name) for name in SAME):
            paths.append(path)
    return load_all(paths)[0]


def estimated(records: Sequence[RunRecord]) -> tuple[Variances, str] | None:
    """Mean variances over the pairs of trained methods with two seeds in common, and their origin in words.

    None if there is no such pair.
    """
    runs: dict[str, dict[str, dict[int, np.ndarray]]] = defaultdict(lambda: defaultdict(dict))
    labels: dict[str, tuple[str, ...] | None] = {}
    for r in records:
        if r.method != "base":
            runs[r.comparison][r.method][r.seed] = r.correct[np.argsort(r.item_ids)].astype(float)
            labels[r.comparison] = labels.get(r.comparison) or sorted_labels(r)
    components, methods = [], set()
    for comparison, by_method in runs.items():
        for a, b in combinations(sorted(by_method), 2):
            seeds = sorted(by_method[a].keys() & by_method[b].keys())
            if len(seeds) > 1:
                differences = [by_method[a][seed] - by_method[b][seed] for seed in seeds]
                components.append(asdict(decompose(np.stack(differences), labels[comparison])))
                methods |= {a, b}
    if not components:
        return None
    means = Variances(**{name: float(np.mean([parts[name] for parts in components])) for name in components[0]})
    pairs = f"{len(components)} pair{'s' if len(components) > 1 else ''}"
    return means, f"estimated from {pairs} of {len(methods)} methods run earlier"


def say_outlook(outlook: Outlook) -> list[str]:
    """The outlook of a task in sentences."""
    o = outlook
    v = o.variances
    seeds = f"{o.num_seeds} seed{'s' if o.num_seeds > 1 else ''}"
    smallest = f"a difference of {100 * o.detectable:.1f} points" if math.isfinite(o.detectable) else "no difference"
    corrected = (
        f"Holm's correction over {o.num_pairs} pairs of methods and tasks, at its strictest step"
        if o.num_pairs > 1
        else "one pair"
    )
    sentences = [
        f"{o.task}: {seeds} x {o.num_items} items x {o.num_samples} samples can detect {smallest} between two methods "
        f"(power {100 * POWER:.0f} %, two-sided "
        f"{100 * ALPHA:.0f} %, {corrected}).",
    ]
    if o.num_seeds == 1:
        sentences.append("One seed: that is a difference of these two trainings, other seeds may differ by more.")
    elif o.num_seeds < FEWEST:
        sentences.append(
            f"Two seeds: too few for a corrected test, which takes {FEWEST}; all methods will share a letter."
        )
    parts = [f"{k} points: {n if n is not None else 'no number of seeds'}" for k, n in o.seeds_needed.items()]
    sentences.append(f"Seeds needed with as many items and samples: {', '.join(parts)}.")
    sentences.append(
        f"Variances of a difference: seed {v.seed:.4f}, item {v.item:.4f}, seed x item {v.interaction:.4f}, "
        f"decoding {v.decoding:.4f} ({o.origin})."
    )
    if helpful := most_helpful(v, o.num_seeds, o.num_items, o.num_samples):
        sentences.append(f"Twice as many {helpful} would help most.")
    return sentences


def outlook_as_dict(outlook: Outlook) -> dict[str, Any]:
    """For JSON: fractions and fractions squared; ``detectable`` is None if no difference can be detected."""
    smallest = outlook.detectable if math.isfinite(outlook.detectable) else None
    return {**asdict(outlook), "detectable": smallest, "alpha": ALPHA, "power": POWER}

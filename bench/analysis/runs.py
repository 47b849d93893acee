"""Verdicts of finished runs as arrays: what one run brings along, and the scores of one method's runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from bench.analysis.metrics import ACCURACY, item_scores
from bench.stats.intervals import (
    SAMPLED,
    Difference,
    Interval,
    crossed_intervals,
    pair_seeds,
    paired_differences,
)
from bench.types import UserError

# What runs that may be compared have in common; the first one that differs is the one that users are told.
SHARED = ("protocol", "model", "task", "level", "template", "data", "budget_unit", "budget_limit", "comparison")

BASE = "base"  # the untrained model: the control


@dataclass(frozen=True)
class Judged:
    """Verdicts on one split: ``correct`` is bool [items, samples], ``formatted`` the share that could be read.

    ``clusters`` are as in RunRecord.
    """

    item_ids: tuple[str, ...]
    correct: np.ndarray
    formatted: float | None = None
    clusters: tuple[str, ...] | None = None


@dataclass(frozen=True)
class RunRecord:
    """One finished, evaluated run.  Only runs of the same ``comparison`` are ever compared.

    ``correct`` is bool [items, samples], sampled at temperature 1.  ``greedy`` is bool [items].  ``chance`` is the mean
    probability that a random valid answer is right.  ``ledger`` holds totals (flops, tokens, rollouts, seconds, ...).
    ``clusters`` has one label per item, equal for near duplicates, None where the run recorded none.
    """

    run_id: str
    path: str
    method: str  # "uft", "uft:r3", "sft@0.3+grpo", "base"
    task: str
    level: str
    model: str
    template: str
    data: str  # "generated" or a file's name, and by what it is split
    seed: int
    budget_unit: str
    budget_limit: float
    protocol: int
    comparison: str  # hash of everything that must be equal for two runs to be comparable
    split: str
    item_ids: tuple[str, ...]
    correct: np.ndarray
    greedy: np.ndarray
    chance: float
    ledger: dict[str, float]
    passport: str = (
        "none"  # of the run's stack: "passed", "none", "failed" or "other methods" (bench.store.passport.STATES)
    )
    ood_level: str = ""  # the level of the split "ood"
    tuned: Mapping[str, Any] | None = None  # bench.plan.spec.Tuned, if trials chose the settings
    elsewhere: Mapping[str, Judged] = field(default_factory=dict)  # by split: "ood", "selected", "other:logic"
    selected_fraction: float | None = None  # share of the budget at the best validation, None where it was not kept
    clusters: tuple[str, ...] | None = None

    @property
    def table(self) -> tuple[str, int]:
        """What the runs of one table share, besides the split."""
        return self.comparison, self.protocol


@dataclass(frozen=True)
class Scores:
    """Scores of one method by one metric: ``values`` is [seeds, items], its rows in the order of ``seeds``.

    ``correct`` [seeds, items, samples] and ``greedy`` [seeds, items] are the verdicts themselves.  ``correct`` is None
    when the runs differ in their number of samples, ``greedy`` when they have no greedy verdicts of these items.
    ``control``: of the untrained model, whose runs differ by the sampling of completions alone.  ``clusters`` has the
    items' labels where a run recorded them.
    """

    seeds: tuple[int, ...]
    values: np.ndarray
    correct: np.ndarray | None = None
    greedy: np.ndarray | None = None
    control: bool = False
    clusters: tuple[str, ...] | None = None


def shared_clusters(*scores: Scores) -> tuple[str, ...] | None:
    """The labels of items that these have in common: those of the first one whose runs recorded them."""
    # Runs from before labels were recorded stand beside newer ones, judged on the same items.
    return next((s.clusters for s in scores if s.clusters is not None), None)


def compare(a: Scores, b: Scores, level: float = 0.95) -> Difference:
    """Paired difference of two methods' scores, on the rows of ``paired_values``."""
    return compare_all([(a, b)], level)[0]


def compare_all(pairs: Sequence[tuple[Scores, Scores]], level: float = 0.95) -> list[Difference]:
    """``compare`` of many pairs at once, which is much faster than one by one."""
    labels = [shared_clusters(*pair) for pair in pairs]
    return paired_differences((paired_values(*pair) for pair in pairs), level, clusters=labels)


def paired_values(a: Scores, b: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two methods row by row, both [seeds, items] of one shape; the side with fewer seeds counts.

    The control, whose runs differ by the sampling of completions alone, stands with the mean of its runs against every
    run of the other side.  Its noise is then per item and the same in every row, so that the item component holds it.
    A trained run that was used several times would count as many.
    """
    if a.control != b.control:
        pooled_a, pooled_b = pooled_values(a), pooled_values(b)
        shape = max(pooled_a.shape, pooled_b.shape)
        return np.broadcast_to(pooled_a, shape), np.broadcast_to(pooled_b, shape)
    rows_a, rows_b = pair_seeds(a.seeds, b.seeds)
    return a.values[rows_a], b.values[rows_b]


def pooled_values(scores: Scores) -> np.ndarray:
    """Scores [seeds, items] of a trained method; of the control the mean of its runs, [1, items]."""
    return scores.values.mean(axis=0, keepdims=True) if scores.control else scores.values


def scores_interval(scores: Scores) -> Interval:
    """Interval of a method's mean: over seeds and items, of the control over its sampling and the items."""
    return scores_intervals([scores])[0]


def scores_intervals(several: Sequence[Scores]) -> list[Interval]:
    """``scores_interval`` of many methods at once, which is much faster than one by one."""
    found = crossed_intervals([pooled_values(s) for s in several], clusters=[s.clusters for s in several])
    return [replace(interval, over=SAMPLED) if s.control else interval for s, interval in zip(several, found)]


@lru_cache(maxsize=256)
def order_of(item_ids: tuple[str, ...]) -> np.ndarray:
    """Places of the items in the order of their ids.  Runs of one comparison share their list: it is sorted once."""
    return np.argsort(item_ids)


def same_items(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether two lists hold the same items, in whatever order."""
    return a == b or sorted(a) == sorted(b)


def by_table(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Records that stand in one table together, in the order in which tables are shown."""
    groups: dict[tuple[str, int, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[*record.table, record.split].append(record)
    return sorted(groups.values(), key=lambda g: (g[0].task, g[0].level, g[0].model, g[0].protocol, g[0].comparison))


def by_method(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Records of one table by method; UserError if they were judged on different items."""
    runs: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        if not same_items(record.item_ids, records[0].item_ids):
            raise UserError(f"runs of one comparison judged on different items: {records[0].path} and {record.path}")
        runs[record.method].append(record)
    return dict(runs)


def method_scores(records: Sequence[RunRecord], metric: str = ACCURACY) -> Scores:
    """Scores of one method's runs, seeds ascending and items in the order of their sorted ids.

    Raises UserError if two runs were judged on different items, or if two different runs have one seed, which would
    count the same evidence twice.
    """
    by_seed: dict[int, RunRecord] = {}
    for record in records:
        other = by_seed.setdefault(record.seed, record)
        if other.run_id != record.run_id:
            raise UserError(f"two runs of {record.method} with seed {record.seed}: {other.path} and {record.path}")
    runs = [by_seed[seed] for seed in sorted(by_seed)]
    for run in runs:
        if not same_items(run.item_ids, runs[0].item_ids):
            raise UserError(f"runs of one comparison judged on different items: {runs[0].path} and {run.path}")
    orders = [order_of(run.item_ids) for run in runs]
    values = [item_scores(metric, run.correct, run.greedy)[order] for run, order in zip(runs, orders)]
    correct = [run.correct[order] for run, order in zip(runs, orders)]
    alike = len({verdicts.shape for verdicts in correct}) == 1
    judged = all(len(run.greedy) == len(run.item_ids) for run in runs)
    return Scores(
        tuple(sorted(by_seed)),
        np.stack(values),
        np.stack(correct) if alike else None,
        np.stack([run.greedy[order] for run, order in zip(runs, orders)]) if judged else None,
        control=records[0].method == BASE,
        clusters=next((sorted_labels(run) for run in runs if run.clusters is not None), None),
    )


def sorted_labels(run: RunRecord) -> tuple[str, ...] | None:
    """Labels of a run's items in the order of their ids, None where it recorded none."""
    return None if run.clusters is None else tuple(run.clusters[place] for place in order_of(run.item_ids))

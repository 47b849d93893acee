"""From run directories back to records for the analysis; broken directories are named, never touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from bench import passport
from bench.analysis.runs import Judged, RunRecord
from bench.spec import RunPlan
from bench.store import CorruptRun, check, finished, read_json, read_lines

OWN = ("val", "test")  # splits that every run has


class NotJudged(Exception):
    """A sound run without an evaluation of a split that not every run has."""


def load_run(path: Path, split: str = "test", fraction: float | None = None) -> RunRecord:
    """The evaluation of a finished run at a share of its budget, by default the last one.

    The record of the test split brings the splits elsewhere along.  Raises CorruptRun when the files contradict each
    other, NotJudged when the run has no such split elsewhere.
    """
    done = check(path)
    try:
        plan = RunPlan.restore(read_json(path / "plan.json"))
    except ValidationError as error:
        raise CorruptRun(f"plan.json: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    evals = [e for e in read_lines(path / "evals.jsonl") if fraction in (None, e["fraction"])]
    lines = read_lines(path / "items.jsonl")
    last, items = judged_items(evals, lines, split)
    names = [e["split"] for e in evals if e["split"] not in OWN] if split == "test" else []
    here, elsewhere = judged(items), {name: judged(judged_items(evals, lines, name)[1]) for name in names}
    return RunRecord(
        run_id=plan.run_id,
        path=str(path),
        method=plan.method,
        task=plan.task,
        level=plan.level,
        model=plan.model,
        template=plan.template,
        data=plan.data,
        seed=plan.seed,
        budget_unit=plan.budget_unit,
        budget_limit=plan.budget_limit,
        protocol=plan.protocol,
        comparison=plan.comparison,
        split=split,
        item_ids=here.item_ids,
        correct=here.correct,
        greedy=np.array([i["greedy"]["correct"] for i in items], dtype=bool),
        chance=float(last["chance"]),
        ledger=dict(done["ledger"]),
        passport=passport_state(path, plan),
        ood_level=plan.ood_level,
        tuned=plan.tuned.model_dump(mode="json") if plan.tuned else None,
        elsewhere=elsewhere,
    )


def judged_items(
    evals: Sequence[dict[str, Any]], lines: Sequence[dict[str, Any]], split: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The last evaluation of a split among these and its items."""
    found = [e for e in evals if e["split"] == split]
    if not found:
        fault = f"evals.jsonl has no such evaluation of the {split} split"
        raise CorruptRun(fault) if split in OWN else NotJudged(fault)
    last = found[-1]
    items = [i for i in lines if i["split"] == split and i["fraction"] == last["fraction"]]
    if len(items) != last["num_items"]:
        raise CorruptRun(f"items.jsonl has {len(items)} items of the {split} split, expected {last['num_items']}")
    return last, items


def judged(items: Sequence[dict[str, Any]]) -> Judged:
    """Verdicts of sampled completions."""
    correct = np.array([[s["correct"] for s in i["samples"]] for i in items], dtype=bool)
    return Judged(tuple(i["id"] for i in items), correct)


def passport_state(path: Path, plan: RunPlan) -> str:
    """How the stack of a run stands, by the passports beside the run; stages that do not train need no check."""
    stages = [stage for stage in plan.stages if stage.fields["batch_size"] > 0]
    return passport.state(path.parent, passport.stack_keys(path / "env.json"), plan.task, stages)


def load_all(paths: Sequence[Path], split: str = "test") -> tuple[list[RunRecord], list[tuple[Path, str]]]:
    """Records of these finished runs and, apart, the corrupted ones with their fault; runs without the split go."""
    good, bad = [], []
    for path in paths:
        try:
            good.append(load_run(path, split))
        except NotJudged:
            continue
        except (CorruptRun, OSError, LookupError, TypeError, ValueError) as fault:
            bad.append((path, str(fault)))
    return good, bad


def load_results(results: Path, split: str = "test") -> tuple[list[RunRecord], list[tuple[Path, str]]]:
    """All finished runs of a results folder."""
    paths, corrupt = finished(results)
    good, bad = load_all(paths, split)
    return good, corrupt + bad

"""From run directories back to records for the analysis; broken directories are named, never touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from bench import passport
from bench.analysis import RunRecord
from bench.spec import RunPlan
from bench.store import CorruptRun, check, finished, read_json, read_lines


def load_run(path: Path, split: str = "test", fraction: float | None = None) -> RunRecord:
    """The evaluation of a finished run at a share of its budget, by default the last one.

    Raises CorruptRun when its files contradict each other.
    """
    done = check(path)
    try:
        plan = RunPlan.model_validate(read_json(path / "plan.json"))
    except ValidationError as error:
        raise CorruptRun(f"plan.json: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    evals = [e for e in read_lines(path / "evals.jsonl") if e["split"] == split and fraction in (None, e["fraction"])]
    if not evals:
        raise CorruptRun(f"evals.jsonl has no such evaluation of the {split} split")
    last = evals[-1]
    items = [i for i in read_lines(path / "items.jsonl") if i["split"] == split and i["fraction"] == last["fraction"]]
    if len(items) != last["num_items"]:
        raise CorruptRun(f"items.jsonl has {len(items)} items of the {split} split, expected {last['num_items']}")
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
        item_ids=tuple(i["id"] for i in items),
        correct=np.array([[s["correct"] for s in i["samples"]] for i in items], dtype=bool),
        greedy=np.array([i["greedy"]["correct"] for i in items], dtype=bool),
        chance=float(last["chance"]),
        ledger=dict(done["ledger"]),
        passport=passport_state(path, plan),
    )


def passport_state(path: Path, plan: RunPlan) -> str:
    """How the stack of a run stands, by the passports beside the run; stages that do not train need no check."""
    stages = [stage for stage in plan.stages if stage.fields["batch_size"] > 0]
    return passport.state(path.parent, passport.stack_keys(path / "env.json"), plan.task, stages)


def load_all(paths: Sequence[Path], split: str = "test") -> tuple[list[RunRecord], list[tuple[Path, str]]]:
    """Records of these finished runs and, apart, the corrupted ones with their fault."""
    good, bad = [], []
    for path in paths:
        try:
            good.append(load_run(path, split))
        except (CorruptRun, OSError, LookupError, TypeError, ValueError) as fault:
            bad.append((path, str(fault)))
    return good, bad


def load_results(results: Path, split: str = "test") -> tuple[list[RunRecord], list[tuple[Path, str]]]:
    """All finished runs of a results folder."""
    paths, corrupt = finished(results)
    good, bad = load_all(paths, split)
    return good, corrupt + bad

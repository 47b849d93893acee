"""The checkpoint that validation selects: the best so far is kept with every checkpoint, and tested at the end.

Off the clock.  The last policy stays the run's policy; where the best validation was the last one, both are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.engine import checkpoint, evaluate
from bench.engine.adapters import own_parameters
from bench.engine.policy import Policy
from bench.engine.splits import Split, evaluation_settings
from bench.store.job import Job
from bench.store.run_folder import SELECTED, read_lines

Selection = dict[str, Any]  # "fraction" of the budget, "step" and "accuracy" of a validation


def better(best: Selection | None, accuracy: float, fraction: float, step: int) -> Selection | None:
    """The new validation if it is strictly better than all earlier ones, None otherwise."""
    # A tie keeps the earlier policy, which has spent less.
    if best is not None and accuracy <= best["accuracy"]:
        return None
    return {"fraction": fraction, "step": step, "accuracy": accuracy}


def test_selected(
    policy: Policy, job: Job, test: Split, saved: checkpoint.Saved
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Summary and items of the selected weights on the test split, sampled like those of the last policy.

    ``saved``: the last checkpoint.  CorruptRun if its weights were damaged meanwhile.  The policy has its own weights
    again afterwards.
    """
    kept = saved.path / checkpoint.KEPT
    checkpoint.check_file(kept, saved.files[checkpoint.KEPT])
    # It has a shared weight once, so tied weights stay tied.
    final = {name: p.detach().clone() for name, p in own_parameters(policy.model).items()}
    checkpoint.load_weights(policy.model, kept)
    policy.changed()
    how = evaluation_settings(job.plan, test, job.execution.sample_rows)
    summary, items = evaluate.evaluate_split(policy, test.task, test.examples, test.name, how)
    checkpoint.copy_weights(policy.model, final)
    policy.changed()
    return {**summary, "split": SELECTED}, [{**item, "split": SELECTED} for item in items]


def spent_by_then(path: Path, best: Mapping[str, Any]) -> dict[str, Any]:
    """The ledger at the selected validation."""
    lines = read_lines(path / "evals.jsonl")
    return next(e for e in lines if (e["split"], e["step"]) == ("val", best["step"]))["spent"]

"""The checkpoint that validation selects: the best so far is kept with every checkpoint, and tested at the end.

Off the clock.  The last policy stays the run's policy; where the best validation was the last one, both are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.engine import checkpoint, evaluate
from bench.engine.policy import Policy
from bench.engine.splits import Split, evaluation_settings
from bench.store.job import Job
from bench.store.run_folder import SELECTED, read_lines

Selection = dict[str, Any]  # "fraction" of the budget, "step" and "accuracy" of a validation
UNKNOWN: Selection = {"fraction": None, "step": None, "accuracy": 1.0}  # earlier weights were not kept: none is better


def better(best: Selection | None, accuracy: float, fraction: float, step: int) -> Selection | None:
    """The new validation if it is strictly better than all earlier ones, None otherwise."""
    # A tie keeps the earlier policy, which has spent less.
    if best is not None and accuracy <= best["accuracy"]:
        return None
    return {"fraction": fraction, "step": step, "accuracy": accuracy}


def known(best: Selection | None) -> Selection | None:
    """The best validation, None if there was none or its weights were not kept."""
    return None if best is None or best["fraction"] is None else best


def test_selected(policy: Policy, job: Job, test: Split, path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Summary and items of the selected weights on the test split, sampled like those of the last policy.

    The policy has its own weights again afterwards.
    """
    saved = checkpoint.latest(path)
    assert saved is not None, "a validation is followed by a checkpoint"
    # named_parameters has a shared weight once, so tied weights stay tied.
    final = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    checkpoint.load_weights(policy.model, saved / checkpoint.KEPT)
    how = evaluation_settings(job.plan, test, job.execution.sample_rows)
    summary, items = evaluate.evaluate_split(policy, test.task, test.examples, test.name, how)
    checkpoint.copy_weights(policy.model, final)
    return {**summary, "split": SELECTED}, [{**item, "split": SELECTED} for item in items]


def spent_by_then(path: Path, best: Mapping[str, Any]) -> dict[str, Any]:
    """The ledger at the selected validation."""
    lines = read_lines(path / "evals.jsonl")
    return next(e for e in lines if (e["split"], e["step"]) == ("val", best["step"]))["spent"]

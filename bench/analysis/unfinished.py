"""Runs of a results folder that have no result: interrupted, failed, still going on, or corrupted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.analysis.concerns import MISSING, Concern
from bench.plan.spec import RunPlan
from bench.store.run_folder import CorruptRun, is_done, read_json


def missing(results: Path, bad: Sequence[tuple[Path, str]]) -> Iterator[tuple[RunPlan, Concern]]:
    """Plans of such runs, each with what to say; directories without a readable plan say nothing."""
    corrupted = {path for path, _ in bad}
    for path in sorted(results.glob("*/plan.json")):
        run = path.parent
        if is_done(run) and run not in corrupted:
            continue
        try:
            plan = RunPlan.restore(read_json(path))
        except (CorruptRun, ValueError):
            continue
        state = "corrupted" if run in corrupted else "unfinished"
        yield plan, (MISSING, f"seed {plan.seed} {state}")

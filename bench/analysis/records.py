"""From run directories to records for the analysis.  Broken directories are named and never touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.analysis.runs import Judged, RunRecord
from bench.plan.spec import RunPlan
from bench.store import passport
from bench.store.packed_verdicts import Records, read_verdicts
from bench.store.run_folder import SELECTED, VERDICTS, CorruptRun, check_records, done_runs
from bench.store.stored_run import read_plan

OWN = ("val", "test")  # splits that every run has
PLANNED = (  # what a record takes over from the plan
    *("run_id", "method", "task", "level", "ood_level", "model", "template", "seed"),
    *("budget_unit", "budget_limit", "protocol", "comparison"),
)
READ = ("plan.json", "env.json", VERDICTS)  # what a table is made from: digests always compared


class NotJudged(Exception):
    """A sound run without an evaluation of a split that not every run has."""


def load_run(path: Path, split: str = "test", fraction: float | None = None, verify: bool = False) -> RunRecord:
    """The evaluation of a finished run at a share of its budget, by default the last one.

    The record of the test split also holds the splits elsewhere.  ``selected`` is the test split judged with the
    weights of the best validation.  ``verify`` compares the digests of all files, not only of those read here.
    Raises CorruptRun when the files contradict each other, NotJudged when the run has no such split elsewhere.
    """
    done = check_records(path, None if verify else READ)
    plan, records, selection = read_plan(path), read_verdicts(path, done), done.get("selection", {})
    evaluations = [e for e in records.evaluations if fraction in (None, e["fraction"])]
    last = last_evaluation(evaluations, split, selection)
    verdicts = records.verdicts(last)
    names = [e["split"] for e in evaluations if e["split"] not in OWN] if split == "test" else []
    if split == "test" and selection.get("fraction") == 1.0:
        names.append(SELECTED)
    elsewhere = {name: judged_split(records, last_evaluation(evaluations, name, selection)) for name in names}
    return RunRecord(
        **{name: getattr(plan, name) for name in PLANNED},
        path=str(path),
        data=plan.problems,
        split=split,
        item_ids=verdicts.item_ids,
        correct=verdicts.correct,
        greedy=verdicts.greedy,
        clusters=verdicts.clusters,
        chance=float(last["chance"]),
        ledger=dict(done["ledger"]),
        passport=passport_state(path, plan),
        tuned=plan.tuned.model_dump(mode="json") if plan.tuned else None,
        elsewhere=elsewhere,
        selected_fraction=selection.get("fraction"),
    )


def judged_split(records: Records, evaluation: Mapping[str, Any]) -> Judged:
    """Verdicts of one evaluation, with the share of readable answers that it recorded."""
    verdicts = records.verdicts(evaluation)
    return Judged(verdicts.item_ids, verdicts.correct, evaluation.get("formatted"), verdicts.clusters)


def last_evaluation(
    evaluations: Sequence[Mapping[str, Any]], split: str, selection: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The last evaluation of a split; where the last validation was the best, ``selected`` is the test split."""
    if split == SELECTED and selection.get("fraction") == 1.0:
        split = "test"
    matching = [e for e in evaluations if e["split"] == split]
    if not matching:
        fault = f"evals.jsonl has no such evaluation of the {split} split"
        raise CorruptRun(fault) if split in OWN else NotJudged(fault)
    return matching[-1]


def passport_state(path: Path, plan: RunPlan) -> str:
    """State of a run's stack by the passports beside the run.  Stages that do not train need no check."""
    stages = [stage for stage in plan.stages if stage.fields["batch_size"] > 0]
    return passport.stages_state(path.parent, passport.stack_keys(path / "env.json"), plan.task, stages)


def load_all(
    paths: Sequence[Path], split: str = "test", verify: bool = False
) -> tuple[list[RunRecord], list[tuple[Path, str]]]:
    """Records of these finished runs, and the corrupted ones with their fault.  Runs without the split are left out."""
    good, bad = [], []
    for path in paths:
        try:
            good.append(load_run(path, split, verify=verify))
        except NotJudged:
            continue
        except (CorruptRun, OSError, LookupError, TypeError, ValueError) as fault:
            bad.append((path, str(fault)))
    return good, bad


def load_results(
    results: Path, split: str = "test", verify: bool = False
) -> tuple[list[RunRecord], list[tuple[Path, str]]]:
    """All finished runs of a results folder."""
    return load_all(done_runs(results), split, verify)

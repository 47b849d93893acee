"""`bench ablate` and `bench path`: arms of one method, or from one method to another, trained and compared."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Json, Judging, Preflight, Seeds, Training, Workers, grouped
from bench.types import UserError

if TYPE_CHECKING:
    from bench.audit.identities import Agreement
    from bench.store.job import Job
    from bench.study.ablation import Ablation, Subject
    from bench.study.jobs import Spec

FORMATS = ("table", "markdown", "json")
METRICS = ("accuracy", "greedy")


@dataclass(frozen=True)
class Reporting:
    """What is started and what is reported; both commands take these."""

    seeds: Seeds = "3"
    split: Annotated[str, typer.Option(help="test, selected, val, ood, reworded or other:TASK.")] = "test"
    metric: Annotated[str, typer.Option(help="accuracy (of samples) or greedy.")] = "accuracy"
    workers: Workers = 0
    save_policy: Annotated[bool, typer.Option(help="Keep the trained model of every run.")] = True
    preflight: Preflight = True
    yes: Annotated[bool, typer.Option("--yes", help="Start more than 64 runs.")] = False
    dry_run: Annotated[bool, typer.Option(help="Print the runs and what they will cost, start nothing.")] = False
    report_only: Annotated[bool, typer.Option(help="Report finished runs, train nothing.")] = False
    out: Annotated[Path | None, typer.Option(help="Folder for report.md, report.json and figures.")] = None
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")] = "table"
    as_json: Json = False

    @property
    def shape(self) -> str:
        """The format; UserError for an unknown one or an unknown metric."""
        from bench.plan.registry import nearest

        for given, known, what in ((self.format, FORMATS, "format"), (self.metric, METRICS, "metric")):
            if given not in known:
                raise nearest(given, known, what)
        return "json" if self.as_json else self.format


@grouped
def ablate(
    method: Annotated[str, typer.Argument(help="Method or variant: uft, uft:stage.")],
    training: Training,
    judging: Judging,
    reporting: Reporting,
    vary: Annotated[list[str] | None, typer.Option(help="FIELD=VALUE,VALUE, repeatable.")] = None,
    design: Annotated[str, typer.Option(help="one-at-a-time, grid, leave-one-out or fractional.")] = "one-at-a-time",
    suite: Annotated[str | None, typer.Option(help="paper: the method's named variants.")] = None,
) -> None:
    """Train a method with settings varied and report each component's effect, paired and corrected (Holm).

    one-at-a-time: the default and each value alone. grid: all combinations, with two-way interactions.
    leave-one-out: --vary FIELD=OFF or FIELD=OFF,ON; without --vary what the method's variants switch off.
    fractional: half of a two-level grid. Finished runs of earlier commands are reused.
    """
    shape = reporting.shape
    from bench.models import model_path, model_settings
    from bench.study import designs
    from bench.study.ablation import Subject
    from bench.study.jobs import parse_seeds

    presets = model_settings(model_path(training.model)).get("methods", {})
    subject = Subject(method, presets, training.set_ or ())
    ablation = designs.build_ablation(subject, vary or (), design, suite)
    spec = training.spec(subject.name, parse_seeds(reporting.seeds), judging.evaluation())
    sys.exit(perform(spec, ablation, [subject], reporting, shape))


@grouped
def path(
    start: Annotated[str, typer.Argument(help="Method at the start.")],
    end: Annotated[str, typer.Argument(help="Method at the end.")],
    training: Training,
    judging: Judging,
    reporting: Reporting,
) -> None:
    """Go from one method to another one term at a time: every arm is trained and compared with the one before."""
    shape = reporting.shape
    from bench.models import model_path, model_settings
    from bench.study import method_paths
    from bench.study.jobs import parse_seeds

    if training.set_:
        raise UserError("bench path takes no --set: its settings are the path's; bench ablate takes them")
    presets = model_settings(model_path(training.model)).get("methods", {})
    ablation, subjects = method_paths.build_path(start, end, presets)
    spec = training.spec(start, parse_seeds(reporting.seeds), judging.evaluation())
    sys.exit(perform(spec, ablation, subjects, reporting, shape))


def perform(spec: Spec, ablation: Ablation, subjects: Sequence[Subject], reporting: Reporting, shape: str) -> int:
    """Train what is missing, check identities, report; exit code 0 if all is finished and all identities hold."""
    from bench.audit.identities import check_identities
    from bench.cli.running import report_failures, run_missing
    from bench.study.ablation import arm_jobs, check_size

    if len(spec.tasks) != 1:
        raise UserError(f"an ablation has one task, got {', '.join(spec.tasks)}: give the command once for each")
    planned = arm_jobs(replace(spec, settings=()), ablation, subjects)
    every = [job for arm in planned.values() for job in arm]
    code = 0
    if not reporting.report_only:
        if not reporting.dry_run:
            check_size(planned, reporting.yes)
        try:
            switches = (reporting.save_policy, reporting.preflight, reporting.dry_run)
            states = run_missing(spec, every, reporting.workers, *switches, shape)
        except KeyboardInterrupt:
            print("interrupted: the same command reuses finished runs and resumes the others", file=sys.stderr)
            return 130
        if reporting.dry_run:
            return 0
        code = report_failures([state for state in states if state.status == "failed"], len(states))
    agreements = check_identities(ablation, planned, replayed=not reporting.report_only)
    report(ablation, planned, agreements, reporting, shape)
    return code or int(any(agreement.difference for agreement in agreements))


def report(
    ablation: Ablation,
    planned: Mapping[str, Sequence[Job]],
    agreements: Sequence[Agreement],
    reporting: Reporting,
    shape: str,
) -> None:
    """Print the findings of the finished runs and write them to --out."""
    from bench.analysis.records import load_all
    from bench.report import effect_plots
    from bench.report.ablation_report import FORMATS, findings

    records = {}
    for name, jobs in planned.items():
        records[name], bad = load_all([job.path for job in jobs if job.done], reporting.split)
        for broken, fault in bad:
            print(f"warning: run '{broken}' is corrupted and was left out: {fault}", file=sys.stderr)
    if not any(records.values()):
        folder = next(iter(planned.values()))[0].path.parent
        raise UserError(
            f"no finished run of these arms with the {reporting.split} split in '{folder}': nothing to report"
        )
    found = findings(ablation, records, agreements, reporting.metric)
    print(FORMATS[shape](found), end="")
    if reporting.out is not None:
        for written in effect_plots.write(found, records, reporting.out):
            print(written, file=sys.stderr)

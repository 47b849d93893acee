"""`bench ablate` and `bench path`: arms of one method, or from one method to another, trained and compared."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.leaderboard import check_split
from bench.cli.options import Compare, Evaluate, Execute, Json, Judging, Output, Seeds, Training, grouped
from bench.cli.starting import Starting
from bench.foreign import say
from bench.plan.registry import check_choice
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
    """What is reported and how; both commands take these."""

    seeds: Seeds = "3"
    split: Annotated[str, Evaluate(help="test, selected, val, ood, reworded or other:TASK.")] = "test"
    metric: Annotated[str, Evaluate(help="accuracy (of samples) or greedy.")] = "accuracy"
    yes: Annotated[bool, Execute("--yes", help="Start even more than 64 runs.")] = False
    report_only: Annotated[bool, Execute(show_default=False, help="Report finished runs; train nothing.")] = False
    out: Annotated[Path | None, Output(help="Folder for report.md, report.json and figures.")] = None
    format: Annotated[str, Output(help=f"One of {', '.join(FORMATS)}.")] = "table"
    as_json: Json = False

    def checked_format(self) -> str:
        """The format to print; UserError if it, the split or the metric is unknown."""
        check_split(self.split)
        check_choice(self.format, FORMATS, "format")
        check_choice(self.metric, METRICS, "metric")
        return "json" if self.as_json else self.format


@grouped
def ablate(
    method: Annotated[str, typer.Argument(help="Method or variant: uft, uft:stage.")],
    training: Training,
    judging: Judging,
    starting: Starting,
    reporting: Reporting,
    vary: Annotated[list[str] | None, Compare(metavar="TEXT", help="FIELD=VALUE,VALUE, repeatable.")] = None,
    design: Annotated[str, Compare(help="one-at-a-time, grid, leave-one-out or fractional.")] = "one-at-a-time",
    suite: Annotated[str | None, Compare(help="paper: the method's named variants.")] = None,
) -> None:
    """Vary the settings of a method and test the effect of each.

    Effects are paired by problem and seed and corrected by Holm's rule. Finished runs of earlier commands are reused.

    one-at-a-time: the default and each value alone.

    grid: all combinations, with two-way interactions. fractional: half of a two-level grid.

    leave-one-out: --vary FIELD=OFF or FIELD=OFF,ON; without --vary, what the method's variants switch off.
    """
    from bench.study import designs
    from bench.study.ablation import Subject

    presets = training.presets()
    subject = Subject(method, presets, training.set_ or ())
    ablation = designs.build_ablation(subject, vary or (), design, suite)
    here = starting.placement().is_here
    spec = training.spec(subject.name, reporting.seeds, judging.evaluation(), here)
    sys.exit(train_and_report(spec, ablation, [subject], starting, reporting))


@grouped
def path(
    start: Annotated[str, typer.Argument(help="Method at the start.")],
    end: Annotated[str, typer.Argument(help="Method at the end.")],
    training: Training,
    judging: Judging,
    starting: Starting,
    reporting: Reporting,
) -> None:
    """Go from one method to another, one change at a time.

    Every arm between the two is trained and compared with the one before.
    """
    from bench.study import method_paths

    if training.set_:
        raise UserError("bench path takes no --set: its settings are the path's; bench ablate takes them")
    presets = training.presets()
    ablation, subjects = method_paths.build_path(start, end, presets)
    here = starting.placement().is_here
    spec = training.spec(start, reporting.seeds, judging.evaluation(), here)
    sys.exit(train_and_report(spec, ablation, subjects, starting, reporting))


def train_and_report(
    spec: Spec, ablation: Ablation, subjects: Sequence[Subject], starting: Starting, reporting: Reporting
) -> int:
    """Train what is missing, check identities, report; exit code 0 if all is finished and all identities hold."""
    from bench.store.targets import check_folder

    format = reporting.checked_format()
    if reporting.report_only and starting.dry_run:
        raise UserError("--report-only trains nothing and --dry-run reports nothing: expected one of them")
    if reporting.out is not None:
        check_folder(reporting.out)
    from bench.audit.identities import check_identities
    from bench.cli.running import report_failures, resumable, run_missing
    from bench.study.ablation import arm_jobs, check_size

    if len(spec.tasks) != 1:
        raise UserError(f"an ablation has one task, got {', '.join(spec.tasks)}: give the command once for each")
    arms = arm_jobs(replace(spec, settings=()), ablation, subjects)
    jobs = [job for jobs_of_arm in arms.values() for job in jobs_of_arm]
    code = 0
    if not reporting.report_only:
        if not starting.dry_run:
            check_size(arms, reporting.yes)
        with resumable("runs"):
            states = run_missing(spec, jobs, starting, format)
        if starting.dry_run:
            return 0
        code = report_failures(states)
    agreements = check_identities(ablation, arms, replayed=not reporting.report_only)
    report_effects(ablation, arms, agreements, reporting)
    return code or int(any(agreement.difference for agreement in agreements))


def report_effects(
    ablation: Ablation, arms: Mapping[str, Sequence[Job]], agreements: Sequence[Agreement], reporting: Reporting
) -> None:
    """Print the effects that the finished runs show, and write them to --out."""
    from bench.analysis.records import load_all
    from bench.report import effect_plots
    from bench.report.ablation_report import FORMATS, findings
    from bench.store.stored_run import warn_corrupt

    records = {}
    for name, jobs in arms.items():
        records[name], bad = load_all([job.path for job in jobs if job.done], reporting.split)
        warn_corrupt(bad)
    if not any(records.values()):
        folder = next(iter(arms.values()))[0].path.parent
        raise UserError(
            f"no finished run of these arms with the {reporting.split} split in '{folder}': nothing to report"
        )
    effects = findings(ablation, records, agreements, reporting.metric)
    say(FORMATS[reporting.checked_format()](effects), end="")
    if reporting.out is not None:
        for file in effect_plots.write_report(effects, records, reporting.out):
            say(file, error=True)

"""`bench run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import (
    Format,
    Json,
    Judging,
    Methods,
    Preflight,
    Seeds,
    Training,
    Workers,
    check_format,
    grouped,
)

if TYPE_CHECKING:
    from bench.store.job import Job
    from bench.study.jobs import Spec


@grouped
def run(
    methods: Methods,
    training: Training,
    judging: Judging,
    seeds: Seeds = "3",
    tuned: Annotated[bool, typer.Option("--tuned", help="Use the best settings that 'bench tune' found.")] = False,
    tuning: Annotated[Path | None, typer.Option(help="File of 'bench tune' to use, if there are several.")] = None,
    workers: Workers = 0,
    save_policy: Annotated[bool, typer.Option(help="Keep the trained model of every run.")] = True,
    preflight: Preflight = True,
    dry_run: Annotated[bool, typer.Option(help="Print the runs and what they will cost, start nothing.")] = False,
    format: Format = "table",
    as_json: Json = False,
) -> None:
    """Train every method on every task with every seed under one budget, evaluate, and print the leaderboard.

    Finished runs are reused, interrupted ones resume: the same command is safe to repeat.
    """
    shape = check_format(format, as_json)
    from bench.study.jobs import parse_seeds

    spec = training.spec(methods, parse_seeds(seeds), judging.evaluation())
    from bench.cli.running import plan_and_run

    planned = chosen_jobs(spec, tuned, tuning)
    try:
        code = plan_and_run(spec, planned, workers, save_policy, preflight, dry_run, shape)
    except KeyboardInterrupt:
        print("interrupted: the same command reuses finished runs and resumes the others", file=sys.stderr)
        code = 130
    sys.exit(code)


def chosen_jobs(spec: Spec, tuned: bool, tuning: Path | None) -> list[Job]:
    """The runs of a spec, with tuned settings if asked for; what makes these doubtful is said on standard error."""
    if not tuned and tuning is None:
        from bench.study.jobs import plan_jobs

        return plan_jobs(spec)
    from bench.study.best_settings import tuned_jobs

    found, warnings = tuned_jobs(spec, tuning)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return found

"""`bench run`."""

from __future__ import annotations

import sys
from typing import Annotated

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
    parse_seeds,
)


@grouped
def run(
    methods: Methods,
    training: Training,
    judging: Judging,
    seeds: Seeds = "3",
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
    from bench.plan import jobs

    spec = training.spec(methods, parse_seeds(seeds), judging.evaluation())
    from bench.command import plan_and_run

    try:
        code = plan_and_run(spec, jobs(spec), workers, save_policy, preflight, dry_run, shape)
    except KeyboardInterrupt:
        print("interrupted: the same command reuses finished runs and resumes the others", file=sys.stderr)
        code = 130
    sys.exit(code)

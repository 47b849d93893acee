"""`bench run`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.cli.options import Batching, Format, Json, Judging, Methods, Seeds, Training, Tuning, check_format, grouped
from bench.cli.starting import Starting
from bench.foreign import say
from bench.types import UserError

if TYPE_CHECKING:
    from bench.store.job import Job
    from bench.study.jobs import Spec


@grouped
def run(
    training: Training,
    batching: Batching,
    judging: Judging,
    tuning: Tuning,
    starting: Starting,
    methods: Methods = "",
    seeds: Seeds = "3",
    format: Format = "table",
    as_json: Json = False,
) -> None:
    """Train methods under one budget, evaluate them, print the leaderboard.

    Every method is trained on every task with every seed. The same command is safe to repeat: finished runs are
    reused, interrupted ones resume.
    """
    format = check_format(format, as_json)
    from bench.cli.running import plan_and_run, resumable

    here = starting.placement().is_here
    spec = replace(training.spec(methods, seeds, judging.evaluation(), here), batch=batching.checked())
    jobs = chosen_jobs(spec, tuning)
    with resumable("runs"):
        sys.exit(plan_and_run(spec, jobs, starting, format))


def chosen_jobs(spec: Spec, tuning: Tuning) -> list[Job]:
    """The runs of a spec, with tuned settings if asked for; doubts about these are warnings on standard error."""
    if not tuning.tuned and tuning.tuning is None:
        from bench.study.jobs import plan_jobs

        return plan_jobs(spec)
    from bench.study.best_settings import tuned_jobs

    if spec.batch is not None:
        raise UserError("--batch auto changes batches, which --tuned takes from trials: expected one of them")

    with_best_settings, warnings = tuned_jobs(spec, tuning.tuning)
    for warning in warnings:
        say(f"warning: {warning}", error=True)
    return with_best_settings

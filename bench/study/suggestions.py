"""Budgets that make sense for a model that has no default one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.store.job import Job
from bench.study.durations import evaluation_seconds
from bench.study.estimate import check_budget, duration
from bench.study.probe import Probe, probes_of
from bench.study.rates import measured_rates
from bench.study.slots import Slot
from bench.types import UserError

TOKENS = (75_000, 250_000, 750_000)  # that a run may train on, at six FLOPs per weight and token


def suggested_budgets(jobs: Sequence[Job]) -> str:
    """Three budgets in words, with the time of a run at the model's measured rate; that of the jobs does not count."""
    probe = probes_of(jobs[:1])[jobs[0].model_path, jobs[0].plan.task]
    rates = measured_rates(jobs[0], [Slot(0)])
    budgets = [float(f"{6.0 * probe.num_parameters * tokens:.0e}") for tokens in TOKENS]
    times = [duration(budget / rates.train * rates.busy) for budget in budgets]
    texts = [f"{budget:.0e}flops".replace("e+", "e") for budget in budgets]
    words = [f"{text} ({time})" for text, time in zip(texts[1:], times[1:])]
    need = "" if all(fits(job, probe, budgets[0]) for job in jobs) else ", with --batch auto"
    judging = duration(evaluation_seconds(jobs[0], probe, rates) * rates.busy)
    return (
        f"for example {texts[0]} (about {times[0]} of training a run here), {' or '.join(words)}{need}; evaluation "
        f"takes {judging} more, less with fewer --test-items, --other-items and the like"
    )


def fits(job: Job, probe: Probe, limit: float) -> bool:
    """Whether a budget allows one step of each stage of a run."""
    try:
        check_budget(replace(job, plan=job.plan.model_copy(update={"budget_limit": limit})), probe)
    except UserError:
        return False
    return True

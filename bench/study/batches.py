"""``--batch auto``: batches of all methods follow the budget by one rule, the same share of it for a step of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bench.plan.origins import Scaled
from bench.plan.spec import RunPlan, Stage
from bench.store.job import Job
from bench.study.probe import Probe, probes_of, stage_costs
from bench.types import UserError

SHARE = 1 / 50  # of a stage's budget that one of its steps may cost at most
FOLLOWING = ("num_demos", "buffer_size")  # sizes of a step that shrink with its batch, in proportion
MEASURED = ("flops", "tokens", "rollouts")  # units in which the cost of a step follows from its batch


def scale_batches(jobs: Sequence[Job], tell: Callable[[str], None]) -> list[Job]:
    """The runs with batches so small that no step may cost more than SHARE of its stage's budget, of one row at least.

    A batch that fits is left as it is, and so is every size of a group.  ``num_updates`` is at most the number of
    prompts.  UserError for a budget in whose unit the cost of a step does not follow from its batch.
    """
    if (unit := jobs[0].plan.budget_unit) not in MEASURED:
        raise UserError(f"--batch auto needs a budget in flops, tokens or rollouts, this one is in {unit}")
    probes = probes_of(jobs)
    known: dict[str, RunPlan] = {}
    scaled = []
    for job in jobs:
        key = f"{job.plan.task} {job.plan.method}"  # seeds share a batch
        if key not in known:
            known[key] = scaled_plan(job, probes[job.model_path, job.plan.task], tell)
        plan = job.plan.model_copy(update={name: getattr(known[key], name) for name in ("stages", "scaled")})
        scaled.append(replace(job, plan=plan, path=job.path.parent / plan.directory))
    return scaled


def scaled_plan(job: Job, probe: Probe, tell: Callable[[str], None]) -> RunPlan:
    """The plan with smaller stages where a step is too large; the note says what was changed."""
    stages, before, words, shares = [], {}, [], [0.0]
    for number, stage in enumerate(job.plan.stages):
        smaller = stage
        if stage.fields["batch_size"] > 0:
            smaller, share = fitting_stage(job, probe, number)
            shares.append(share)
        for name, value in stage.fields.items():
            if smaller.fields[name] != value:
                before[f"{number}:{stage.name}.{name}"] = value
                words.append(f"{stage.name}.{name} {value} to {smaller.fields[name]}")
        stages.append(smaller)
    if not before:
        return job.plan
    most = f"a step costs up to {max(shares):.1%} of its stage's budget"
    if max(shares) > SHARE:
        most += f", more than the rule's {SHARE:.0%}, since one prompt is the least: a larger budget mends that"
    tell(f"--batch auto: {job.plan.method} on {job.plan.task}: {', '.join(words)} ({most})")
    return job.plan.model_copy(update={"stages": tuple(stages), "scaled": Scaled(share=SHARE, before=before)})


def fitting_stage(job: Job, probe: Probe, number: int) -> tuple[Stage, float]:
    """A stage with the largest batch of at most its own size whose step fits, and the share that a step may cost.

    The batch is found by halving the interval.
    """
    stage, plan = job.plan.stages[number], job.plan
    budget = plan.budget_limit * stage.share
    limit = budget * SHARE

    def costs(size: int) -> float:
        stages = (*plan.stages[:number], with_batch(stage, size), *plan.stages[number + 1 :])
        trial = replace(job, plan=plan.model_copy(update={"stages": stages}))
        return stage_costs(trial, probe, number, plan.budget_unit)[0]

    low, high = 1, int(stage.fields["batch_size"])
    if costs(high) <= limit:
        return stage, costs(high) / budget
    while high - low > 1:  # costs grow with the batch: low fits or is 1, high does not fit
        middle = (low + high) // 2
        low, high = (middle, high) if costs(middle) <= limit else (low, middle)
    return with_batch(stage, low), costs(low) / budget


def with_batch(stage: Stage, size: int) -> Stage:
    """A stage with a smaller batch, and what follows from it."""
    fields: dict[str, Any] = {**stage.fields, "batch_size": size}
    fields["num_updates"] = min(fields["num_updates"], size)
    for name in FOLLOWING:
        if fields.get(name):
            fields[name] = max(1, round(fields[name] * size / stage.fields["batch_size"]))
    return stage.model_copy(update={"fields": fields})

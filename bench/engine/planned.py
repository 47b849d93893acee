"""From a job to a stage of its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.engine.policy import Policy
from bench.engine.trainer import Stage
from bench.plan import registry
from bench.store.job import Job
from bench.types import Example, Method

LIMITS = ("max_new_tokens", "temperature", "max_grad_norm")


def planned_stage(
    job: Job, policy: Policy, method: Method, pool: Sequence[Example], name: str, reference: Any | None = None
) -> Stage:
    """A stage of a run: the method on these examples, with the limits of the plan and of the machine."""
    plan, execution = job.plan, job.execution
    task, values = registry.task(plan.task), {limit: getattr(plan, limit) for limit in LIMITS}
    sizes = {"micro_batch_tokens": execution.micro_batch_tokens, "sample_rows": execution.sample_rows}
    return Stage(policy, method, task, pool, plan.seed, name, reference, **values, **sizes)

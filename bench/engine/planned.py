"""The policy and the stages of a run as its plan and its execution say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bench.engine.adapters import attach
from bench.engine.engines import Engine
from bench.engine.policy import Policy, load_model
from bench.engine.reference import frozen_copy
from bench.engine.trainer import Stage
from bench.plan import registry
from bench.store.job import Job
from bench.types import Example, Method, Requests

LIMITS = ("max_new_tokens", "temperature", "max_grad_norm")


def planned_policy(job: Job) -> Policy:
    """The model of a job, with an adapter where the plan has one."""
    model, tokenizer = load_model(job.model_path, job.execution.device)
    if job.plan.lora is not None:
        attach(model, job.plan.lora, job.plan.seed)
    how = job.execution
    engine = planned_engine(how.sampler, job.model_path, how.device, how.sample_rows)
    return Policy(model, tokenizer, packing=how.packing, reference_place=how.reference, engine=engine)


def planned_engine(sampler: str, path: str, device: str, rows: int) -> Engine | None:
    """The engine of this name for a model; None stands for that of torch, which needs the policy itself."""
    if sampler == "torch":
        return None
    from bench.engine.vllm_engine import VllmEngine

    return VllmEngine(path, torch.device(device), rows)


def planned_stage(
    job: Job, policy: Policy, method: Method, pool: Sequence[Example], name: str, reference: Any | None = None
) -> Stage:
    """A stage of a run: the method on these examples, with the limits of the plan and of the machine."""
    plan, execution = job.plan, job.execution
    initial = initial_model(job, policy) if "initial" in Requests.of(method).scored_under else None
    task, values = registry.task(plan.task), {limit: getattr(plan, limit) for limit in LIMITS}
    how: dict[str, Any] = {
        "micro_batch_tokens": execution.micro_batch_tokens,
        "sample_rows": execution.sample_rows,
        "optimizer": plan.optimizer,
    }
    return Stage(policy, method, task, pool, plan.seed, name, reference, initial, **values, **how)


def initial_model(job: Job, policy: Policy) -> Any:
    """The run's model as it is stored, without gradients, kept where references are kept.

    Not a copy of the policy: that one has changed by the second stage, and when a run resumes.
    """
    model, _ = load_model(job.model_path, job.execution.device)
    return frozen_copy(model, policy.device, policy.reference_place, mixed=False)

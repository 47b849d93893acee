"""What is recorded of how and where a run was computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.plan import machine, registry
from bench.store.job import Job


def run_environment(job: Job, command: Sequence[str]) -> dict[str, Any]:
    """What is recorded of a run's surroundings: how it is computed, versions, hardware, command, installed modules."""
    plan = job.plan
    modules = {
        "methods": registry.distributions("methods", [stage.name for stage in plan.stages]),
        "tasks": registry.distributions("tasks", [plan.task]),
    }
    how = {"execution": job.execution.model_dump(), "command": list(command)}
    return {**machine.machine_facts(job.execution.device), **modules, **how}

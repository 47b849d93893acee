"""A run that is to be made: what the command hands to a worker process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.plan.data import Source
from bench.plan.execution import Execution
from bench.plan.spec import RunPlan
from bench.store.run_folder import is_done


@dataclass(frozen=True)
class Job:
    """A run plan, how it is computed, and where its inputs and records are on this machine."""

    plan: RunPlan
    execution: Execution
    path: Path
    model_path: str
    data: Source | None

    @property
    def done(self) -> bool:
        return is_done(self.path)

    def record(self) -> dict[str, Any]:
        """The job as JSON has it."""
        data = asdict(self.data) if self.data else None
        how = {"plan": self.plan.record(), "execution": self.execution.model_dump()}
        return {**how, "path": str(self.path), "model_path": self.model_path, "data": data}

    @staticmethod
    def restore(record: Mapping[str, Any]) -> Job:
        """The job of a record."""
        data = Source.restore(record["data"]) if record["data"] else None
        plan, execution = RunPlan.model_validate(record["plan"]), Execution.model_validate(record["execution"])
        return Job(plan, execution, Path(record["path"]), record["model_path"], data)

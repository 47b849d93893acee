"""What a run's process is told: a file in the run's directory, which an executor writes and its worker reads.

``order.json`` is the last command's word that the run is to be made, for whoever lists runs.  Workers follow files of
their own command, ``order-....json``: another one may want other devices, or keep other models.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.store.job import Job
from bench.store.run_folder import read_json

NAME, ALL = "order.json", "order*.json"


@dataclass(frozen=True)
class Order:
    """A run to be made.

    ``keep``: one of KEEPS; ``command`` is recorded with the run; ``folder``: where relative paths begin; ``seconds``:
    what the run will take by the estimate, 0 if unknown; ``lost`` as for ``lease.acquire``; ``name``: of the file.
    """

    job: Job
    keep: str
    command: Sequence[str]
    folder: str
    seconds: float = 0.0
    lost: tuple[int, int] | None = None
    name: str = NAME

    @property
    def path(self) -> Path:
        return Path(self.folder) / self.job.path / self.name

    def write(self) -> Path:
        """Write the order whole, in the place of an earlier one; its path."""
        fields = {"keep": self.keep, "command": list(self.command), "folder": self.folder, "seconds": self.seconds}
        record = {"job": self.job.record(), **fields, "lost": self.lost}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.name}-{secrets.token_hex(4)}")  # several commands may write it at once
        part.write_text(json.dumps(record), encoding="utf-8")
        part.replace(self.path)
        return self.path

    @staticmethod
    def read(path: Path) -> Order:
        """The order of a file; CorruptRun if it is none."""
        record = read_json(path)
        lost = record["lost"]
        how = (record["keep"], record["command"], record["folder"], record["seconds"])
        return Order(Job.restore(record["job"]), *how, (lost[0], lost[1]) if lost else None, path.name)


def order_for(
    job: Job, keep: str, command: Sequence[str], seconds: float = 0.0, lost: Any = None, name: str = NAME
) -> Order:
    """The order of a run whose paths begin in the present folder."""
    return Order(job, keep, tuple(command), os.getcwd(), seconds, lost, name)


def own_name() -> str:
    """A name for the orders of one command."""
    return f"order-{secrets.token_hex(4)}.json"


def clear(run: Path) -> None:
    """Remove all orders of a finished run."""
    for path in run.glob(ALL):
        path.unlink(missing_ok=True)

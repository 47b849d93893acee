"""The process that makes a run: what its lease says of it, and whether it still lives."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bench.types import UserError

SECONDS = 120.0  # without a heartbeat, after which an owner on another machine counts as lost
SETTING = "BENCH_LEASE_SECONDS"  # another time, for all who share a folder
LEAST, MOST = 0.1, 86_400.0  # that may be set
MOST_PID = 2**31 - 1
HOST = "BENCH_HOST"  # this machine's name in leases, where several containers have one name


@dataclass(frozen=True)
class Owner:
    """A process that makes a run.

    ``machine`` tells where its process id means something, ``started`` is the system's word for when it began;
    ``seconds`` without a heartbeat make it count as lost.
    """

    id: str
    host: str
    machine: str
    pid: int
    started: str
    device: str
    batch_job: str
    seconds: float

    @staticmethod
    def here() -> Owner:
        """This process; UserError for a setting that is no number of seconds."""
        host = os.environ.get(HOST) or socket.gethostname()
        job = next((os.environ[name] for name in ("SLURM_JOB_ID", "RAY_JOB_ID") if name in os.environ), "")
        device = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        who = (secrets.token_hex(8), host, machine_id(host), os.getpid(), process_start(os.getpid()) or "")
        return Owner(*who, device, job, lease_seconds())

    @staticmethod
    def restore(record: Any) -> Owner | None:
        """The owner of a lease file; None if it is none that this version wrote."""
        if not isinstance(record, dict):
            return None
        values: dict[str, Any] = {field.name: record.get(field.name) for field in fields(Owner)}
        pid, seconds = values["pid"], values["seconds"]
        whole = all(isinstance(value, str) for name, value in values.items() if name not in ("pid", "seconds"))
        whole = whole and isinstance(pid, int) and 0 < pid <= MOST_PID
        return Owner(**values) if whole and isinstance(seconds, int | float) and LEAST <= seconds <= MOST else None

    @property
    def is_near(self) -> bool:
        """Whether its process id can be looked up here."""
        return self.machine == machine_id(os.environ.get(HOST) or socket.gethostname())

    @property
    def is_dead(self) -> bool:
        """Whether its process has ended for certain; False on another machine."""
        if not self.is_near:
            return False
        now = process_start(self.pid)
        return now is None or (now != self.started and "" not in (now, self.started))

    @property
    def is_alive(self) -> bool:
        """Whether its process goes on for certain, be it stopped; False on another machine."""
        return self.started != "" and self.is_near and process_start(self.pid) == self.started

    def __str__(self) -> str:
        device = f", device {self.device}" if self.device else ""
        return f"{self.host} (pid {self.pid}{device})"


def lease_seconds() -> float:
    """Seconds without a heartbeat that make an owner count as lost; UserError for a setting that is no such number."""
    text = os.environ.get(SETTING) or str(SECONDS)
    with suppress(ValueError):
        if LEAST <= float(text) <= MOST:
            return float(text)
    raise UserError(f"{SETTING}='{text}': expected seconds between {LEAST:g} and {MOST:.0f}, such as {SECONDS:g}")


def machine_id(host: str) -> str:
    """What processes share that see each other's ids: the machine since its last start, and the container on it."""
    parts = [host]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def process_start(pid: int) -> str | None:
    """When a process of this machine began, in the system's own units and empty if it does not say; None if it ended.

    A process id alone would not do: it is given again.
    """
    try:
        with suppress(PermissionError):  # another user's: it goes on
            os.kill(pid, 0)
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except ProcessLookupError:
        return None
    except OSError:  # a system without such files, or one that hides other users'
        return ""
    state, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]

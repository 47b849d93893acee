"""How long a preflight takes here, by the last one of the same model and device on this machine."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

from bench.foreign import parse_json
from bench.plan.spec import stable_hash
from bench.store.job import Job
from bench.study.rates import rates_folder, write_atomic_in


@dataclass(frozen=True)
class Preflight:
    """Checks that are to be made before the runs, and their seconds; None where no earlier preflight tells them."""

    checks: int
    seconds: float | None

    @property
    def text(self) -> str:
        """For the parts of an estimate."""
        if self.seconds is None:
            return "preflight besides, its time is not known here yet"
        minutes = self.seconds / 60
        return f"preflight about {f'{minutes:.0f} min' if minutes >= 10 else f'{self.seconds:.0f} s'}"


def file_name(job: Job) -> str:
    """Where the time of a check is kept: by model, how and where it runs, and the task that its texts are of."""
    how = job.execution
    asked = [job.plan.model_digest, how.device, how.threads, job.plan.task, platform.node()]
    return f"preflight-{stable_hash(asked)}.json"


def note_preflight(job: Job, checks: int, seconds: float) -> None:
    """Remember what so many checks took."""
    write_atomic_in(rates_folder(), file_name(job), {"checks": float(checks), "seconds": seconds})


def check_seconds(job: Job) -> float | None:
    """Seconds of one check in the last preflight of a run like this one; None without one."""
    try:
        record: dict[str, Any] = parse_json((rates_folder() / file_name(job)).read_bytes())
        return float(record["seconds"]) / float(record["checks"])
    except (OSError, ValueError, TypeError, KeyError, ZeroDivisionError):  # none, or one that another version wrote
        return None

"""Which executor was asked for, with what settings: checked before anything is planned, opened when runs start."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bench.plan.registry import check_choice
from bench.schedule.executor import Cluster
from bench.schedule.local import Local
from bench.store.job import Job
from bench.store.owner import lease_seconds
from bench.study.slots import Slot, make_slots
from bench.types import UserError

EXECUTORS = (LOCAL, RAY, SLURM) = ("local", "ray", "slurm")
PACKAGES = {RAY: "ray", SLURM: "submitit"}
DEFAULT_MINUTES = 24 * 60
DAYS = re.compile(r"(?:(\d{1,3})-)?(\d{1,3}):(\d{2})(?::\d{2})?")  # 2-00:00, 12:00 or 12:00:00
NAME, PARTITION = re.compile(r"[a-z][a-z0-9_-]*"), re.compile(r"[\w.,-]+")
OURS = {"partition": "--partition", "time": "--time", "array": "--workers", "signal": "nothing"}


@dataclass(frozen=True)
class Placement:
    """Where runs are to be made; None for what was not given."""

    executor: str = LOCAL
    workers: int = 0
    devices: str | None = None
    per_device: int | None = None
    address: str | None = None
    partition: str | None = None
    time: str | None = None
    slurm: Sequence[str] = ()

    @property
    def is_here(self) -> bool:
        """Whether runs are made on this machine, so that its devices and its speed say something."""
        return self.executor == LOCAL

    def check(self) -> None:
        """UserError for what does not go together, or is not there."""
        check_choice(self.executor, EXECUTORS, "executor")
        given = {"--address": self.address, "--partition": self.partition, "--time": self.time}
        for option, value in {**given, "--slurm": self.slurm or None}.items():
            wanted = RAY if option == "--address" else SLURM
            if value is not None and self.executor != wanted:
                raise UserError(f"{option} is about --executor {wanted}: expected it with {option}")
        if self.devices is not None and not self.is_here:
            raise UserError(f"--devices chooses devices of this machine: expected none with --executor {self.executor}")
        if self.per_device is not None and self.executor == SLURM:
            raise UserError("--per-device shares a device, and Slurm gives each run its own: expected none of them")
        if self.executor == RAY and not self.address:
            raise UserError("--executor ray needs a running cluster: give --address auto, or HOST:PORT")
        if self.partition is not None and not PARTITION.fullmatch(self.partition):
            raise UserError(f"--partition '{self.partition}': expected the name of one, as sinfo lists them")
        lease_seconds()
        minutes_of(self.time)
        sbatch_options(self.slurm)
        self.check_installed()

    def check_installed(self) -> None:
        """UserError without the package of the executor, or without Slurm's programs."""
        if self.is_here:
            return
        package = PACKAGES[self.executor]
        found = find_spec(package)
        if found is None or found.origin is None:  # a folder of that name here, such as results, is no package
            raise UserError(
                f"--executor {self.executor} needs the package {package}, which is not installed: "
                f"pip install 'posttrain-bench[{self.executor}]', or use local"
            )
        missing = [name for name in ("sbatch", "srun") if self.executor == SLURM and shutil.which(name) is None]
        if missing:
            raise UserError(
                f"--executor slurm needs Slurm's program {missing[0]}, which this machine does not have: expected a "
                "login node of a cluster"
            )

    def slots(self, job: Job, runs: int) -> list[Slot]:
        """A slot for each of so many runs that goes on at a time; in a cluster those of all that may."""
        if self.is_here:
            how = job.execution
            given = (self.workers, self.devices, self.per_device, how.devices_per_run)
            return make_slots(how.device, how.threads, *given)
        if (count := job.execution.devices_per_run) > 1:
            raise UserError(f"--devices-per-run {count} does not go with --executor {self.executor}: expected local")
        return [Slot(number) for number in range(max(1, min(self.workers or runs, runs)))]

    def open(self, job: Job, results: Path, slots: Sequence[Slot]) -> Local | Cluster:
        """The place itself, for so many runs at a time that are computed as this one; UserError if there is none."""
        how, cuda = job.execution, job.execution.device == "cuda"
        if self.executor == RAY:
            from bench.schedule.ray_cluster import RayCluster

            return RayCluster(self.address or "", cuda, how.threads, len(slots), self.per_device or 1)
        if self.executor == SLURM:
            from bench.schedule.slurm import Slurm, Wishes

            wishes = Wishes(minutes_of(self.time), self.partition, len(slots), sbatch_options(self.slurm))
            return Slurm(results, cuda, how.threads, wishes)
        return Local(slots)


def minutes_of(text: str | None) -> int:
    """Minutes of a time limit; UserError if it is none."""
    if text is None:
        return DEFAULT_MINUTES
    found = DAYS.fullmatch(text)
    minutes = (int(found[1] or 0) * 24 + int(found[2])) * 60 + int(found[3]) if found else 0
    if minutes < 5:
        raise UserError(f"--time '{text}': expected hours and minutes such as 12:00, with days 2-00:00, at least 0:05")
    return minutes


def sbatch_options(texts: Sequence[str]) -> dict[str, str]:
    """Options of sbatch by name; UserError for what is none, and for those that other options of ours set."""
    options: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not NAME.fullmatch(name) or not value.strip() or "\n" in value:
            raise UserError(f"--slurm '{text}': expected an option of sbatch such as account=physics")
        if name in OURS:
            raise UserError(f"--slurm '{text}': {name} is set by {OURS[name]}")
        name = name.replace("-", "_")
        if name in options:
            raise UserError(f"--slurm '{text}': {name} is given twice, expected once")
        options[name] = value
    return options

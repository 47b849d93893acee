"""Workers as jobs of a Slurm cluster, one for each run and sent off as arrays, by submitit."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.engine.worker import TRY_AGAIN
from bench.foreign import one_line, say
from bench.schedule.local import WORKER
from bench.schedule.remote import Task, passed_on
from bench.schedule.states import Handle
from bench.store.order import Order
from bench.types import UserError

FOLDER = ".slurm"  # in the results folder: submitit's files
WARNING_SECONDS = 120  # ahead of a job's time limit, for a step and a checkpoint
MOST_REQUEUES = 1000  # a run may need more time than a job has, again and again
MOST_JOBS = 1000  # of one array, the usual limit of a cluster


@dataclass(frozen=True)
class Wishes:
    """What is asked of Slurm for each run; ``more`` are options of sbatch by name."""

    minutes: int
    partition: str | None = None
    workers: int = MOST_JOBS  # at a time
    more: Mapping[str, str] = field(default_factory=dict)


class SlurmJob:
    """A job, or what will be one with the next array."""

    device = ""  # Slurm chooses it; the run's lease says which

    def __init__(self, words: tuple[list[str], str, str]) -> None:
        self.words = words
        self.job: Any = None

    def poll(self) -> int | None:
        from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError

        if self.job is None or not self.job.done():
            return None
        try:
            return int(self.job.result())
        except (FailedJobError, FailedSubmissionError, UncompletedJobError) as error:
            last = (str(error).strip().splitlines() or [type(error).__name__])[0]
            with open(self.words[2], "a", encoding="utf-8") as log:
                log.write(one_line(f"error: Slurm job {self.job.job_id} ended without a result ({last})") + "\n")
            return TRY_AGAIN

    def send(self, number: signal.Signals) -> None:
        """No signal reaches a job: its worker saves at its intervals, and ahead of the time limit."""


class Slurm:
    """The queue of a Slurm cluster; ``cluster="local"`` lets submitit start the same jobs on this machine."""

    def __init__(self, results: Path, cuda: bool, threads: int, wishes: Wishes, cluster: str = "slurm") -> None:
        import submitit

        self.environment = passed_on(threads)
        self.waiting: list[SlurmJob] = []
        folder = results.absolute() / FOLDER
        self.executor = submitit.AutoExecutor(folder, cluster=cluster, slurm_max_num_timeout=MOST_REQUEUES)
        self.executor.update_parameters(
            name="bench",
            timeout_min=wishes.minutes,
            cpus_per_task=threads,
            gpus_per_node=1 if cuda else 0,
            slurm_partition=wishes.partition,
            slurm_array_parallelism=wishes.workers,
            slurm_signal_delay_s=WARNING_SECONDS,
            slurm_additional_parameters=dict(wishes.more),
        )

    def room(self, running: Sequence[Handle]) -> int:
        return 1_000_000

    def call(self, command: Sequence[str], folder: str, log: str) -> SlurmJob:
        """Run a command as a job of its own."""
        handle = SlurmJob((list(command), folder, log))
        self.submit([handle])
        return handle

    def start(self, order: Order, avoid: str | None) -> Handle:
        words = ([*WORKER, str(order.path)], order.folder, str(order.path.with_name("log.txt")))
        self.waiting.append(SlurmJob(words))
        return self.waiting[-1]

    def flush(self) -> None:
        """Send off what was started since the last time."""
        handles, self.waiting = self.waiting, []
        for place in range(0, len(handles), MOST_JOBS):
            self.submit(handles[place : place + MOST_JOBS])

    def submit(self, handles: Sequence[SlurmJob]) -> None:
        """Submit jobs, several as an array; UserError with Slurm's own words if it refuses them."""
        from submitit.core.utils import FailedJobError

        columns = [*zip(*(handle.words for handle in handles)), [self.environment] * len(handles)]
        try:
            if len(handles) == 1:
                jobs = [self.executor.submit(Task(), *(column[0] for column in columns))]
            else:
                jobs = self.executor.map_array(Task(), *columns)
        except (FailedJobError, subprocess.CalledProcessError, OSError) as error:
            raise UserError(one_line(f"Slurm refused the jobs: {last_words(error)}")) from None
        for handle, job in zip(handles, jobs):
            handle.job = job

    def stop(self, running: Sequence[Handle]) -> None:
        """Jobs go on without the command that sent them."""
        sent = [handle.job.job_id for handle in running if isinstance(handle, SlurmJob) and handle.job is not None]
        if sent:
            ids = " ".join(sorted({job.partition("_")[0] for job in sent}))
            say(f"note: {len(sent)} runs stay with Slurm: 'scancel {ids}' ends them", error=True)


def last_words(error: Exception) -> str:
    """The last line of what a program said when it failed."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__

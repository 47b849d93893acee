"""What Ray tasks and Slurm jobs call on their machine: a command as a process of its own, which saves when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from bench.store.owner import HOST
from bench.study.slots import FAKE, child_environment

Process = subprocess.Popen[bytes]
OF_HERE = {HOST, FAKE}  # settings that say something of one machine


def passed_on(threads: int) -> dict[str, str]:
    """What a command on another machine needs of this one's environment: settings, and where the code is."""
    ours = child_environment("", threads)
    names = {"PYTHONPATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM"}
    names |= {name for name in ours if name.startswith(("BENCH_", "HF_"))} - OF_HERE
    return {name: ours[name] for name in sorted(names)}


def start_command(command: Sequence[str], folder: str, log: str, changes: Mapping[str, str]) -> Process:
    """Start a command in a folder; what it prints goes to the end of a log.

    Its standard input is a pipe from this process: a worker ends when that ends.  Its process group is its own, so that
    signals for this process's group, whatever they do to others, leave it time to save.
    """
    env = {**os.environ, **changes}
    with open(log, "ab") as out:
        return subprocess.Popen(
            list(command), cwd=folder, env=env, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True
        )


def run_command(command: Sequence[str], folder: str, log: str, changes: Mapping[str, str]) -> int:
    """Run a command to its end; its exit code.  When this process is to end, so is the command, after it has saved."""
    process = start_command(command, folder, log, changes)
    try:
        return process.wait()
    finally:
        process.terminate()  # nothing for one that has ended
        process.wait()


class Task:
    """``run_command`` as submitit calls it: a warning ahead of the time limit saves, ends and queues the job again."""

    def __init__(self) -> None:
        self.process: Process | None = None

    def __call__(self, command: Sequence[str], folder: str, log: str, changes: Mapping[str, str]) -> int:
        self.process = start_command(command, folder, log, changes)
        return self.process.wait()

    def checkpoint(self, *words: object) -> object:
        """End the command after it has saved; what is to be queued again.  Called by a signal, within ``wait``."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError, ChildProcessError):  # it has just ended by itself
                os.kill(self.process.pid, signal.SIGTERM)
                os.waitid(
                    os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT
                )  # the interrupted wait holds Popen's lock
        return DelayedSubmission(Task(), *words)

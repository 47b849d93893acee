"""Runs jobs in parallel processes, one in each slot; a failed run does not stop the others.

What may succeed elsewhere or later is tried again: the device was lost, memory was short, a system took the process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.foreign import one_line, say
from bench.plan.registry import ROOT
from bench.store.job import Job
from bench.store.run_folder import CorruptRun, content_size, read_json
from bench.study.slots import VISIBLE, Slot

WORKER = (sys.executable, "-m", "bench.engine.worker")
POLL_SECONDS = 0.25
MAX_RETRIES = 3
RETRY_SECONDS = 5.0  # before the first new try; twice as long before each further one
# Exit codes of a worker that may end otherwise another time: its own word for that, or a signal that it did not handle:
# SIGKILL comes from a system that is out of memory, the others from one that wants the machine back.
TRY_AGAIN = {os.EX_TEMPFAIL, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGUSR1}

Process = subprocess.Popen[bytes]
Running = dict[Slot, tuple["State", Process]]


@dataclass
class State:
    """Where one job stands: waiting, running, done, reused (finished earlier) or failed."""

    job: Job
    status: str = "waiting"
    message: str = ""
    exit_code: int = 0
    began: float = 0.0
    ended: float = 0.0
    progress: dict[str, Any] = field(default_factory=dict)
    first_share: float | None = None  # of the budget, spent before this process: a resumed run does not start at 0
    log_size: int = 0  # bytes of the log that earlier processes wrote
    retries: int = 0
    not_before: float = 0.0  # the moment from which it may be tried again
    failed_on: str | None = None  # the device of its last try


def worker_order(job: Job, keep: str) -> bytes:
    """What a worker reads from its standard input."""
    fields = {"job": job.record(), "keep": keep, "command": ["bench", *sys.argv[1:]]}
    return json.dumps(fields).encode() + b"\n"


def child_environment(slot: Slot, threads: int) -> dict[str, str]:
    """The environment of a process in a slot: it sees the slot's device alone, and has so many threads."""
    sizes = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(":")
    return {**os.environ, **sizes, **({VISIBLE: slot.device} if slot.device else {}), "PYTHONPATH": path}


def start_worker(job: Job, keep: str, slot: Slot) -> Process:
    """Start a job's process; what it prints goes to ``log.txt`` of its run directory.

    Its standard input stays open: by its end the worker learns that this process has died.
    """
    job.path.mkdir(parents=True, exist_ok=True)
    env = child_environment(slot, job.execution.threads)
    with (job.path / "log.txt").open("ab") as log:
        process = subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=log, stderr=log, env=env)
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # a worker that died at once is reported by its exit code
        process.stdin.write(worker_order(job, keep))
        process.stdin.flush()
    return process


def refresh(state: State) -> None:
    """Read the progress file that the worker rewrites."""
    try:
        state.progress = read_json(state.job.path / "progress.json")
    except CorruptRun:
        return  # not written yet, or already removed: the last known progress stands
    if state.first_share is None:
        state.first_share = state.progress.get("share", 0.0)


def last_line(path: Path, start: int = 0) -> str:
    """The last line that a log has after its first ``start`` bytes."""
    content = path.read_bytes()[start:] if path.exists() else b""
    lines = content.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "it left no message"


def run_all(jobs: Sequence[Job], slots: Sequence[Slot], keep: str, show: Callable[[list[State]], None]) -> list[State]:
    """Run every job that is not finished; ``show`` is called with all states several times a second."""
    states = [State(job, "reused" if job.done else "waiting") for job in jobs]
    running: Running = {}
    try:
        with handing_on(signal.SIGUSR1, running):
            while any(s.status in {"waiting", "running"} for s in states):
                start_waiting(states, slots, keep, running)
                time.sleep(POLL_SECONDS)
                for slot, (state, process) in list(running.items()):
                    refresh(state)
                    if process.poll() is not None:
                        del running[slot]
                        note_end(state, process, slot)
                show(states)
    finally:
        stop([process for _, process in running.values()])
    return states


def start_waiting(states: Sequence[State], slots: Sequence[Slot], keep: str, running: Running) -> None:
    """Start waiting jobs as long as there is a free slot; a job goes back to the device that failed it only at need."""
    for state in states:
        free = [slot for slot in slots if slot not in running]
        if not free or state.status != "waiting" or time.monotonic() < state.not_before:
            continue
        slot = min(free, key=lambda slot: slot.device == state.failed_on)  # the first of the others, else the first
        state.status, state.began = "running", time.monotonic()
        state.log_size = content_size(state.job.path / "log.txt")
        try:
            running[slot] = (state, start_worker(state.job, keep, slot))
        except OSError as error:
            state.status, state.message, state.exit_code = "failed", f"cannot start: {error}", 2


@contextmanager
def handing_on(number: signal.Signals, running: Running) -> Iterator[None]:
    """A signal that this process gets goes to all workers."""

    def send(received: int, frame: object) -> None:
        for _, process in running.values():
            process.send_signal(number)

    before = signal.signal(number, send)
    try:
        yield
    finally:
        signal.signal(number, before)


def stop(processes: Sequence[Process]) -> None:
    """End workers after Ctrl-C, SIGTERM or a fault here: each saves after its step, and resumes next time."""
    for process in processes:
        process.terminate()
    try:
        for process in processes:
            process.wait()
    except KeyboardInterrupt:  # asked for once more: without waiting for their steps
        for process in processes:
            process.kill()
            process.wait()
        raise


def note_end(state: State, process: Process, slot: Slot) -> None:
    """Note how a run's process ended, with the last progress that it wrote; what may be tried again waits for it."""
    if process.stdin is not None:
        process.stdin.close()
    refresh(state)
    code = process.returncode
    state.ended, state.exit_code = time.monotonic(), code
    if code == 0 and state.job.done:
        state.status, state.message = "done", ""
        (state.job.path / "progress.json").unlink(missing_ok=True)
        return
    log = state.job.path / "log.txt"
    state.message = last_line(log, state.log_size) if code >= 0 else killed(-code)
    if code not in TRY_AGAIN or state.retries == MAX_RETRIES:
        tries = f" (tried {state.retries + 1} times)" if state.retries else ""
        state.status, state.message = "failed", state.message + tries
        return
    wait = RETRY_SECONDS * 2**state.retries
    state.retries += 1
    state.status, state.not_before, state.failed_on = "waiting", time.monotonic() + wait, slot.device
    where = f" on device {slot.device}" if slot.device else ""
    again = f"tried again in {wait:g} s ({state.retries} of {MAX_RETRIES})"
    say(one_line(f"warning: run {state.job.path.name}{where}: {state.message}; {again}"), error=True)


def killed(number: int) -> str:
    return f"killed by signal {number}" + (", perhaps because memory was short" if number == signal.SIGKILL else "")

"""Runs jobs in parallel processes, one torch thread each by default; a failed run does not stop the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.plan.registry import ROOT
from bench.store.job import Job
from bench.store.run_folder import CorruptRun, content_size, read_json

POLL_SECONDS = 0.25


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


def num_workers(threads: int) -> int:
    """Processes that fit this machine's cores."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, available // threads)


def worker_order(job: Job, save_policy: bool) -> bytes:
    """What a worker reads from its standard input."""
    fields = {
        "job": job.record(),
        "save_policy": save_policy,
        "command": ["bench", *sys.argv[1:]],
        "parent": os.getpid(),
    }
    return json.dumps(fields).encode()


def start_worker(job: Job, save_policy: bool) -> subprocess.Popen[bytes]:
    """Start a job's process; what it prints goes to ``log.txt`` of its run directory."""
    job.path.mkdir(parents=True, exist_ok=True)
    threads = str(job.execution.threads)
    env = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")]).rstrip(":")
    with (job.path / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.engine.worker"], stdin=subprocess.PIPE, stdout=log, stderr=log, env=env
        )
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:  # a worker that died at once is reported by its exit code
        process.stdin.write(worker_order(job, save_policy))
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


def run_all(jobs: Sequence[Job], workers: int, save_policy: bool, show: Callable[[list[State]], None]) -> list[State]:
    """Run every job that is not finished; ``show`` is called with all states several times a second."""
    states = [State(job, "reused" if job.done else "waiting") for job in jobs]
    running: list[tuple[State, subprocess.Popen[bytes]]] = []
    try:
        while any(s.status in {"waiting", "running"} for s in states):
            for state in states:
                if state.status == "waiting" and len(running) < workers:
                    state.status, state.began = "running", time.monotonic()
                    state.log_size = content_size(state.job.path / "log.txt")
                    try:
                        running.append((state, start_worker(state.job, save_policy)))
                    except OSError as error:
                        state.status, state.message, state.exit_code = "failed", f"cannot start: {error}", 2
            time.sleep(POLL_SECONDS)
            for state, process in list(running):
                refresh(state)
                if process.poll() is not None:
                    running.remove((state, process))
                    note_end(state, process.returncode)
            show(states)
    finally:
        for _, process in running:  # Ctrl-C or a fault here: the runs resume from their checkpoints next time
            process.terminate()
        for _, process in running:
            process.wait()
    return states


def note_end(state: State, code: int) -> None:
    """Note how a run's process ended, with the last progress that it wrote."""
    refresh(state)
    state.ended, state.exit_code = time.monotonic(), code
    state.status = "done" if code == 0 and state.job.done else "failed"
    if state.status == "failed":
        log = state.job.path / "log.txt"
        state.message = last_line(log, state.log_size) if code >= 0 else f"killed by signal {-code}"
    else:
        (state.job.path / "progress.json").unlink(missing_ok=True)

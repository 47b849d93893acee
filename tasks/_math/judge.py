"""math-verify in worker processes that are killed when an answer takes too long: model output is hostile.

The workers are plain subprocesses that speak JSON lines: nothing is pickled, and the caller's main module is not
imported again, as ``multiprocessing`` would.  They start with the first answer that needs them and end with us.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bench.types import UserError

WORKER = Path(__file__).parent / "worker.py"
CPU_SECONDS = 2  # per answer; the worker kills itself beyond
WALL_SECONDS = 10.0  # per answer: beyond, the worker is killed although others may have kept it waiting
START_SECONDS = 120.0
MAX_WORKERS = 4
MAX_REMEMBERED = 10_000  # verdicts kept, as groups repeat answers


class Worker:
    """One subprocess that has loaded math-verify; ``ask`` may be called until it returns None or raises."""

    def __init__(self) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(CPU_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | {"PYTHONPATH": paths, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        )
        self.buffer = b""
        hello = self.receive(START_SECONDS)
        if hello is None or "version" not in hello:
            self.close()
            why = (hello or {}).get("error", "its process ended or did not answer")
            raise UserError(f"math-verify cannot be loaded ({why}): install it with pip install math-verify==0.9.0")
        self.version: str = hello["version"]

    def ask(self, gold: str, answer: str) -> dict[str, Any] | None:
        """The worker's reply; None if it had to be killed or killed itself."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps([gold, answer]).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        return self.receive(WALL_SECONDS)

    def receive(self, seconds: float) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        limit = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            ready = select.select([self.process.stdout], [], [], max(0.0, limit - time.monotonic()))[0]
            piece = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not piece:
                return None
            self.buffer += piece
        line, _, self.buffer = self.buffer.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:  # what a killed worker had not read
                    continue


class Judge:
    """Idle workers and remembered verdicts; safe to use from threads, each of which gets a worker of its own."""

    def __init__(self) -> None:
        self.remembered: dict[tuple[str, str], tuple[bool, str]] = {}
        self.begin()

    def begin(self) -> None:
        """No worker yet, in this process; after a fork those that there were belong to the parent."""
        self.lock, self.places = threading.Lock(), threading.Semaphore(MAX_WORKERS)
        self.idle: list[Worker] = []
        self.owner = os.getpid()

    def equal(self, gold: str, answer: str) -> tuple[bool, str]:
        """Whether the answer equals the gold answer, which come in this order, and why, with the judge's version."""
        if self.owner != os.getpid():
            self.begin()
        with self.lock:
            known = self.remembered.get((gold, answer))
        if known is None:
            with self.places:
                known = self.decide(gold, answer)
            with self.lock:
                if len(self.remembered) >= MAX_REMEMBERED:
                    self.remembered.clear()
                self.remembered[gold, answer] = known
        return known

    def decide(self, gold: str, answer: str) -> tuple[bool, str]:
        worker = self.rested()
        if worker is None:
            atexit.unregister(self.close)  # registered once
            atexit.register(self.close)
            worker = Worker()
        done = False
        try:
            reply = worker.ask(gold, answer)
            done = reply is not None and not reply.get("last")
        finally:
            if done:
                with self.lock:
                    self.idle.append(worker)
            else:
                worker.close()
        name = f"math-verify {worker.version}"
        if reply is None:
            over = worker.process.returncode == -signal.SIGPROF
            return (
                False,
                f"{name}: no verdict{f' within {CPU_SECONDS} s of CPU time' if over else ', its process ended'}",
            )
        return bool(reply["equal"]), f"{name}: {reply['reason']}"

    def rested(self) -> Worker | None:
        """An idle worker that is alive, if there is one."""
        while True:
            with self.lock:
                worker = self.idle.pop() if self.idle else None
            if worker is None or worker.process.poll() is None:
                return worker
            worker.close()

    def close(self) -> None:
        """End all idle workers; the next answer starts one again."""
        with self.lock:
            workers, self.idle = self.idle, []
        for worker in workers:
            worker.close()


JUDGE = Judge()

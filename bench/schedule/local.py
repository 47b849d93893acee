"""Workers on this machine, one in each slot."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

from bench.schedule.states import Handle
from bench.store.order import Order
from bench.study.slots import Slot, child_environment

WORKER = (sys.executable, "-m", "bench.engine.worker")

Process = subprocess.Popen[bytes]


class Worker:
    """A process in a slot.  Its standard input stays open: by its end it learns that this process has died."""

    def __init__(self, process: Process, slot: Slot) -> None:
        self.process, self.slot, self.device = process, slot, slot.device

    def poll(self) -> int | None:
        code = self.process.poll()
        if code is not None and self.process.stdin is not None:
            self.process.stdin.close()
        return code

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


def start_worker(order: Order, slot: Slot) -> Process:
    """Start a run's process; what it prints goes to ``log.txt`` of its run directory."""
    env = child_environment(slot.device, order.job.execution.threads)
    with order.path.with_name("log.txt").open("ab") as log:
        return subprocess.Popen([*WORKER, str(order.path)], stdin=subprocess.PIPE, stdout=log, stderr=log, env=env)


class Local:
    """The slots of this machine."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = list(slots)
        self.workers: list[Worker] = []

    def room(self, running: Sequence[Handle]) -> int:
        self.workers = [worker for worker in self.workers if worker in running]
        return len(self.slots) - len(self.workers)

    def start(self, order: Order, avoid: str | None) -> Handle:
        taken = [worker.slot for worker in self.workers]
        free = [slot for slot in self.slots if slot not in taken]
        slot = min(free, key=lambda slot: slot.device == avoid)  # the first of the others, else the first
        worker = Worker(start_worker(order, slot), slot)
        self.workers.append(worker)
        return worker

    def flush(self) -> None:
        """Workers begin when they are started."""

    def stop(self, running: Sequence[Handle]) -> None:
        """End workers after Ctrl-C, SIGTERM or a fault here: each saves after its step, and resumes next time."""
        processes = [worker.process for worker in self.workers if worker in running]
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

"""A side's process: it reads its order, prepares, and does one turn of the work whenever it is told to."""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.foreign import parse_json, say
from bench.speed.work import Work
from bench.types import UserError

GO, PROFILE = "go", "profile"
STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MATRIX, MATRIX_REPEATS = {"cpu": 1024, "cuda": 8192}, 4


@dataclass
class Amount:
    """What a timed piece of work came to.  ``counts`` have to be equal on all sides of a part."""

    units: float = 0.0
    flops: float = 0.0
    counts: dict[str, float] = field(default_factory=dict)


class Channel(Protocol):
    """Orders in, records out."""

    def read(self) -> str:
        """The next order; empty when there are no more."""
        ...

    def write(self, record: dict[str, Any]) -> None: ...


class Turns:
    """What a side's function works with: ``wait`` for a turn, then time each case of it."""

    def __init__(self, channel: Channel, device: str) -> None:
        self.channel, self.device = channel, device
        self.number = -1
        self.cases: dict[str, dict[str, Any]] | None = None
        self.matrix_rate = 0.0
        self.profiler: Any = None

    def wait(self) -> bool:
        """Report the last turn (before the first: that all is ready), and wait; False when there are no more."""
        if self.cases is None:
            self.channel.write({"ready": memory(self.device)})
            reset_peak(self.device)
        else:
            self.channel.write({"cases": self.cases, "matrix_rate": self.matrix_rate, **self._operators()})
        order = self.channel.read()
        self.cases, self.number = {}, self.number + 1
        if order == PROFILE:
            from torch.profiler import ProfilerActivity, profile

            kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.device == "cuda" else [])]
            self.profiler = profile(activities=kinds)
            self.profiler.start()
        return bool(order)

    def __iter__(self) -> Iterator[int]:
        while self.wait():
            yield self.number

    @contextmanager
    def timed(self, case: str) -> Iterator[Amount]:
        """Seconds of the enclosed work, the device's included, and of the processor."""
        amount, start = Amount(), self.begin()
        yield amount
        self.end(case, start, amount)

    def begin(self) -> tuple[float, float]:
        synchronize(self.device)
        return time.perf_counter(), time.process_time()

    def end(self, case: str, start: tuple[float, float], amount: Amount) -> None:
        synchronize(self.device)
        spent = {"seconds": time.perf_counter() - start[0], "cpu_seconds": time.process_time() - start[1]}
        assert self.cases is not None
        self.cases[case] = spent | {"units": amount.units, "flops": amount.flops, "counts": amount.counts}

    def measure_matrix(self) -> None:
        """FLOPs of matrix products per second of the processor, on CUDA per second, at this moment.

        Not in a profiled turn, whose operators are those of the work alone.
        """
        if self.profiler is None:
            self.matrix_rate = matrix_rate(self.device)

    def _operators(self) -> dict[str, Any]:
        if self.profiler is None:
            return {}
        self.profiler.stop()
        on_device = self.device == "cuda"
        times = {
            event.key: event.self_device_time_total if on_device else event.self_cpu_time_total
            for event in self.profiler.key_averages()
        }
        self.profiler = None
        return {"operators": times}


def synchronize(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def matrix_rate(device: str) -> float:
    """FLOPs per second of square products, float32 on a CPU and bfloat16 on CUDA; the best of a few."""
    import torch

    size, kind = MATRIX[device], torch.float32 if device == "cpu" else torch.bfloat16
    a = torch.ones(size, size, device=device, dtype=kind)
    clock = time.process_time if device == "cpu" else time.perf_counter
    seconds = []
    for _ in range(MATRIX_REPEATS):
        synchronize(device)
        begin = clock()
        a @ a
        synchronize(device)
        seconds.append(clock() - begin)
    return 2 * size**3 / min(seconds)


# --- memory ------------------------------------------------------------------------------------------------------


def status_bytes(name: str) -> int:
    """``VmRSS``, what this process holds, or ``VmHWM``, the most since the last reset; 0 where there is no /proc."""
    with suppress(OSError, StopIteration):
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
    return 0


def reset_peak(device: str) -> None:
    with suppress(OSError):  # not every system allows it: the peak is that of the whole process then
        PEAK_RESET.write_text("5", encoding="utf-8")
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()


def memory(device: str) -> dict[str, int]:
    """Bytes held now and at most since the last reset, by the process and by the device's allocator."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    found = {"held_bytes": status_bytes("VmRSS"), "peak_bytes": status_bytes("VmHWM") or whole}
    if device == "cuda":
        import torch

        found["device_peak_bytes"] = torch.cuda.max_memory_allocated()
        found["device_reserved_bytes"] = torch.cuda.max_memory_reserved()
    return found


# --- the process -------------------------------------------------------------------------------------------------


class Pipes:
    """Orders from standard input, records to what was standard output; what libraries print goes to the errors."""

    def __init__(self) -> None:
        self.records = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        os.dup2(2, 1)

    def read(self) -> str:
        return sys.stdin.readline().strip()

    def write(self, record: dict[str, Any]) -> None:
        self.records.write(json.dumps(record) + "\n")


def run_side(place: str, work: Work, turns: Turns) -> None:
    """Call the function of a side."""
    module, _, name = place.partition(":")
    getattr(importlib.import_module(f"bench.speed.{module}"), name)(work, turns)


def prepare(work: Work) -> None:
    """Threads and quiet libraries; only where a model is needed is torch loaded."""
    if work.has_model:
        import torch
        from transformers.utils import logging

        torch.set_num_threads(work.threads)
        logging.disable_progress_bar()
        logging.set_verbosity_error()


def main(arguments: Sequence[str]) -> int:
    """``PLACE WORK``: the side's function, and the file that says what its work is."""
    pipes = Pipes()
    place, path = arguments
    work = Work.read(Path(path))
    turns = Turns(pipes, work.device)
    try:
        prepare(work)
        run_side(place, work, turns)
    except UserError as error:
        say(str(error), error=True)
        return 2
    pipes.write({"end": memory(work.device), "digest": work.digest})
    return 0


def received(line: str) -> dict[str, Any]:
    """A record that a side's process wrote."""
    record = parse_json(line)
    if not isinstance(record, dict):
        raise ValueError("no record")
    return record


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Verdicts on completions, computed in threads while the next completions are sampled."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from types import TracebackType
from typing import Any, Protocol

import torch

from bench.engine.ranks import ALONE, Ranks
from bench.types import Verdict

MOST_THREADS = 8  # beside a device: verifiers written in Python take turns anyway


class Verifier(Protocol):
    """The part of a task that judges."""

    def verify(self, problem: Mapping[str, Any], text: str) -> Verdict: ...


def num_threads(device: torch.device) -> int:
    """Threads for verdicts: on a CPU those of this run, beside a device the cores that this process may use."""
    if device.type == "cpu":
        return torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_THREADS, cores)


class Verification:
    """Verdicts by row, asked for one after another and waited for together; leave it as a context."""

    def __init__(self, verifier: Verifier, threads: int, ranks: Ranks = ALONE) -> None:
        self.verifier, self.ranks = verifier, ranks
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="verify")
        self.verdicts: dict[int, Future[Verdict]] = {}

    def __enter__(self) -> Verification:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.pool.shutdown(cancel_futures=True)

    def ask(self, row: int, problem: Mapping[str, Any], text: str) -> None:
        self.verdicts[row] = self.pool.submit(self.verifier.verify, problem, text)

    def wait(self) -> list[Verdict]:
        """All verdicts in the order of rows; raises what the verifier raised at the first row where it did.

        Each rank judges the rows that it was asked about, and all get the verdicts of all.
        """
        own = {row: self.verdicts[row].result() for row in sorted(self.verdicts)}
        if self.ranks.count == 1:
            return list(own.values())
        told = self.ranks.objects([[row, asdict(verdict)] for row, verdict in own.items()])
        known = {row: Verdict(**verdict) for answers in told for row, verdict in answers}
        return [known[row] for row in sorted(known)]

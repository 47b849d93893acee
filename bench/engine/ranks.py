"""Several processes that make one run: each has a part of the weights and of the rows, and all decide alike.

Every process goes through the same loop over the same trajectories.  What is dealt out is collected again, so that all
of them know what one process alone would.  A rank is the number of such a process; the first one, 0, writes and prints.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bench.engine.out_of_memory import OutOfMemoryElsewhere, is_out_of_memory
from bench.plan.budget import Meter

PATIENCE = timedelta(hours=2)  # with a rank that is still busy; one that has died is noticed at once


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run; every method that exchanges something has to be called by all of them."""

    number: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.number == 0

    def flat(self, values: Tensor) -> list[Tensor]:
        """The vectors of all ranks, in their order, on the CPU; their lengths may differ."""
        if self.count == 1:
            return [values]
        values = values.detach().cpu().contiguous()
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        dist.all_gather(sizes, torch.tensor([len(values)]))
        longest = max(int(size) for size in sizes)
        padded = torch.zeros(longest, dtype=values.dtype)
        padded[: len(values)] = values
        found = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(found, padded)
        return [part[: int(size)] for part, size in zip(found, sizes)]

    def objects(self, value: Any) -> list[Any]:
        """What each rank says, as JSON has it."""
        if self.count == 1:
            return [value]
        text = bytearray(json.dumps(value).encode())
        return [json.loads(part.numpy().tobytes()) for part in self.flat(torch.frombuffer(text, dtype=torch.uint8))]

    def of_first(self, value: Any) -> Any:
        """What the first rank says, as JSON has it."""
        return self.objects(value if self.first else None)[0]

    def any(self, *flags: bool) -> list[bool]:
        """Whether some rank says yes, to each question."""
        return [any(answers) for answers in zip(*self.objects(flags))]

    def added(self, values: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """The sum over ranks of each of these figures; a rank may lack some."""
        if self.count == 1:
            return dict(values)
        sums: dict[str, float] = {}
        for figures in self.objects({name: float(value) for name, value in values.items()}):
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + value
        return {name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in sums.items()}

    # --- what is charged ---

    @contextmanager
    def charged_together(self, meter: Meter) -> Iterator[None]:
        """What each rank is charged inside, all are charged; seconds stay those of each."""
        before = asdict(meter.ledger)
        yield
        if self.count == 1:
            return
        kept = [name for name in before if not name.startswith("seconds_")]
        for added in self.objects({n: getattr(meter.ledger, n) - before[n] for n in kept}):
            for name, value in added.items():
                before[name] += value
        for name in kept:
            setattr(meter.ledger, name, before[name])

    def agree_on_time(self, meter: Meter) -> None:
        """All take the first rank's clock: a budget in seconds ends everywhere at once."""
        if self.count == 1:
            return
        names = [name for name in asdict(meter.ledger) if name.startswith("seconds_")]
        slowest, seconds = self.of_first([meter.slowest_step, [getattr(meter.ledger, name) for name in names]])
        meter.slowest_step = slowest
        for name, value in zip(names, seconds):
            setattr(meter.ledger, name, value)

    # --- memory ---

    def all_have_memory(self) -> None:
        """Before an exchange in a pass: OutOfMemoryElsewhere if memory has run out in another rank since the last one.

        A rank whose memory ran out cannot take part in the exchanges that the others wait for, so each is preceded by
        this one, which it can.
        """
        if self._memory_failed(False):
            raise OutOfMemoryElsewhere("memory ran out in another process of this run")

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Tell the others, who are about to ask by ``all_have_memory``, when memory runs out inside."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error) and not isinstance(error, OutOfMemoryElsewhere):
                self._memory_failed(True)
            raise

    def _memory_failed(self, here: bool) -> bool:
        if self.count == 1:
            return here
        failed = torch.tensor([int(here)])
        dist.all_reduce(failed, op=dist.ReduceOp.MAX)
        return bool(failed)


ALONE = Ranks()


def join(count: int, device: str) -> Ranks:
    """Meet the other processes of a run of ``count``, of which torchrun's environment variables tell."""
    if count == 1:
        return ALONE
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Numbers that decide travel by gloo, from memory to memory: no device is waited for.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """Part from the other processes, if there were any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def dealt(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Indices for each of ``count`` ranks, in order, whose sizes add up to about the same: the largest go first."""
    shares: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        least = loads.index(min(loads))
        shares[least].append(index)
        loads[least] += sizes[index]
    return [sorted(share) for share in shares]

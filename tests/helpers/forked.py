"""Several processes of one run inside a test: forks of this process, which have all modules already."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from bench.engine.ranks import Ranks


def forked(folder: Path, count: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """What ``work`` returns in each of ``count`` ranks: plain values and tensors.  AssertionError if one fails."""
    folder.mkdir(parents=True)
    children = [fork(folder, Ranks(number, count), work) for number in range(count)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    faults = "".join(path.read_text() for path in sorted(folder.glob("*.txt")))
    assert codes == [0] * count, faults
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(count)]


def fork(folder: Path, ranks: Ranks, work: Callable[[Ranks], Any]) -> int:
    """The process id of a new rank."""
    if child := os.fork():
        return child
    code = 1
    try:
        dist.init_process_group("gloo", f"file://{folder}/meet", rank=ranks.number, world_size=ranks.count)
        torch.save(work(ranks), folder / f"{ranks.number}.pt")
        code = 0
    except BaseException:
        (folder / f"{ranks.number}.txt").write_text(traceback.format_exc())
    finally:
        os._exit(code)

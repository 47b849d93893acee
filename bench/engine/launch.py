"""Starts the processes of a run over several devices: torch's elastic launcher, as ``torchrun --standalone`` uses it.

They are workers that follow the same order.  Their standard input is a pipe from here: its end tells them that
this process has died, and a signal that this process gets is a byte for one of them, which tells the others.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.engine.signals import ENDING, LETTERS, Preempted
from bench.foreign import say

LOST = 76  # exit code of a rank whose exchange failed: another one has ended, and says why
MARK = "BENCH_RANKS"  # in the environment of the processes that share a run
GRACE_SECONDS = 10  # for the others to end when one has failed


def launch(order: Path, count: int) -> int:
    """Follow an order in ``count`` processes to its end; the exit code, of the one that failed if one did.

    Preempted if they were ended by a signal that this process got.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the last line is the rank's own
    reading, writing = os.pipe()
    os.dup2(reading, sys.stdin.fileno())
    told: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        told.append(number)
        os.write(writing, LETTERS[number])

    for number in LETTERS:
        signal.signal(number, hand_on)
    os.environ[MARK] = str(count)
    how: dict[str, Any] = {"run_id": "run", "min_nodes": 1, "max_nodes": 1, "nproc_per_node": count, "max_restarts": 0}
    where: dict[str, Any] = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "local_addr": "localhost"}
    end: dict[str, Any] = {"signals_to_handle": "SIGQUIT", "shutdown_timeout": GRACE_SECONDS}
    try:
        elastic_launch(LaunchConfig(**how, **where, **end), sys.executable)("-m", "bench.engine.worker", str(order))
    except ChildFailedError as error:
        code = exit_code({rank: failure.exitcode for rank, failure in error.failures.items()})
        if code == os.EX_TEMPFAIL and set(told) & ENDING:
            raise Preempted from None
        return code
    return 0


def exit_code(codes: Mapping[int, int]) -> int:
    """The exit code of a run from those of its failed ranks; says what none of them could say itself."""
    # By SIGTERM the launcher ends those that are left: a consequence, as it is to lose another one.
    first = {rank: code for rank, code in codes.items() if code not in (LOST, -signal.SIGTERM)}
    for rank, code in first.items():
        if code < 0:
            say(f"error: process {rank} of the run was killed by signal {-code}", error=True)
    told = {os.EX_TEMPFAIL if code < 0 else code for code in first.values()}
    if not told:
        say("error: the processes of the run lost each other", error=True)
    # A fault before what the user has to mend, before what may end otherwise next time.
    known = (2, os.EX_UNAVAILABLE, os.EX_TEMPFAIL)
    for code in known:
        if told <= set(known) and code in told:
            return code
    return 1 if told else os.EX_TEMPFAIL

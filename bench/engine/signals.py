"""What a run's process does on signals: SIGTERM and SIGUSR2 save and end it, SIGUSR1 saves and lets it go on.

A save needs the state between two steps.  While a step is made, the signals are noted only, and ``asked`` is read
after it.  At any other time SIGTERM ends the process at once by ``Preempted``.  Where several processes make a run,
that happens where they meet, so that all end at the same place.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.engine.ranks import Ranks


class Preempted(BaseException):
    """This process was told to end.  No Exception: nothing that handles faults may take it for one."""


@dataclass
class Asked:
    """What signals have asked for so far, and whether SIGTERM has to wait."""

    end: bool = False
    save: bool = False
    held: bool = False
    alone: bool = True  # False: other processes make the same run


ENDING: set[int] = {signal.SIGTERM, signal.SIGUSR2}
# On a pipe from a process that got the signal.
LETTERS: dict[int, bytes] = {signal.SIGTERM: b"T", signal.SIGUSR1: b"1", signal.SIGUSR2: b"2"}

asked = Asked()  # of this process: signals know no other owner


def listen() -> None:
    """Follow the signals from now on."""

    def end(number: int, frame: object) -> None:
        first, asked.end = not asked.end, True
        if first and asked.alone and not asked.held:  # once: a second one must not disturb what the first has begun
            raise Preempted

    def save(number: int, frame: object) -> None:
        asked.save = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGUSR2, end)  # what batch systems send ahead of a time limit
    signal.signal(signal.SIGUSR1, save)


@contextmanager
def holding(held: bool) -> Iterator[None]:
    """Let SIGTERM wait inside, or, within such a block, let it end the process at once again."""
    before, asked.held = asked.held, held
    try:
        if asked.end and asked.alone and not held:
            raise Preempted
        yield
    finally:
        asked.held = before


def agree(ranks: Ranks) -> tuple[bool, bool]:
    """Whether signals have asked some rank to end, and to save; Preempted, on all ranks, unless that has to wait.

    All ranks get the same answer.  A signal that comes while they exchange it counts when they meet again.
    """
    end, save = ranks.any(asked.end, asked.save)
    if end:
        asked.end = True
    if end and not asked.held:
        raise Preempted
    return end, save

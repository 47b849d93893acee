"""How long a call computes, whatever else the machine does."""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import thread_time
from typing import TypeVar

Result = TypeVar("Result")


def timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """What a call returns and its CPU seconds in this thread.

    Waiting for a core does not count.  Nor does a collection of garbage: over what some thousand tests have left it
    takes half a second, many times what a verdict takes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        start = thread_time()
        result = call()
        return result, thread_time() - start
    finally:
        if was_on:
            gc.enable()

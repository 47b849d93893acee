"""The process in which math-verify reads answers: one JSON line [gold, answer] in, one JSON line out.

It runs as a program and imports nothing of bench.  It kills itself when an answer takes more CPU time than its argument
allows, or five times that by the clock; its memory, files and children are limited.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

MEMORY = 2 * 1024**3  # bytes of address space


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # a lower limit may be set already
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def clock(seconds: float) -> None:
    """Arm or, with 0, disarm the timers; both end the process, as no handler is installed."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 5 * seconds)


def judge() -> Any:
    """The function (gold, answer) -> reply; imports math-verify."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    configs = [LatexExtractionConfig(), ExprExtractionConfig()]

    def read(text: str) -> list[Any]:
        expressions: list[Any] = parse(f"\\boxed{{{text}}}", configs, parsing_timeout=None)
        return expressions

    gold_of = lru_cache(256)(read)

    def compare(gold: str, answer: str) -> dict[str, Any]:
        golds, answers = gold_of(gold), read(answer)
        if not answers or not golds:
            return {"equal": False, "reason": f"the {'gold ' if answers else ''}answer cannot be read"}
        equal = bool(verify(golds, answers, timeout_seconds=None))
        return {"equal": equal, "reason": "equal" if equal else "not equal"}

    return compare


def main() -> None:
    seconds = float(sys.argv[1])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print must not reach the caller
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides when to end

    def say(reply: dict[str, Any]) -> None:
        print(json.dumps(reply), file=out, flush=True)

    try:
        from importlib.metadata import version

        compare = judge()
        say({"version": version("math-verify")})
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
        return
    limit()
    for line in sys.stdin:
        clock(seconds)
        try:
            reply = compare(*json.loads(line))
        except (MemoryError, RecursionError) as error:  # the library may be in any state
            reply = {"equal": False, "reason": f"{type(error).__name__} while reading the answer", "last": True}
        except Exception as error:  # a library that reads hostile text may fail in any way
            reply = {"equal": False, "reason": f"{type(error).__name__} while reading the answer"}
        clock(0)
        say(reply)
        if reply.get("last"):
            return


if __name__ == "__main__":
    main()

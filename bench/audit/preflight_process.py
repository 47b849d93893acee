"""Preflight in a process of its own, on the device of a slot: what it took of memory is free again when it ends.

The process reads job records from standard input and writes lines of JSON: its progress, then the failed checks or
what the user has to mend.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from bench.audit.preflight import cover, is_covered, progress
from bench.audit.stack import Check
from bench.engine.worker import exit_with_parent
from bench.foreign import parse_json, say
from bench.schedule.states import killed
from bench.store.job import Job
from bench.study.slots import Slot, child_environment
from bench.types import UserError

COMMAND = (sys.executable, "-m", "bench.audit.preflight_process")


def cover_apart(jobs: Sequence[Job], slot: Slot) -> list[Check]:
    """``cover`` in a process of its own; UserError as it raises it.

    A process that ends before its time is a warning, since the runs may go well all the same.
    """
    missing = [job for job in jobs if not job.done]
    if not missing or (missing[0].execution.device == "cpu" and is_covered(missing)):
        return []  # on CUDA the device has to be asked for its name, which takes memory
    env = child_environment(slot.device, missing[0].execution.threads)
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    try:
        return answer(process, missing)
    finally:  # Ctrl-C too
        process.kill()
        process.wait()


def answer(process: subprocess.Popen[bytes], jobs: Sequence[Job]) -> list[Check]:
    """The failed checks that the process reports; its progress is shown meanwhile."""
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError):  # it died at once
        process.stdin.write(json.dumps([job.record() for job in jobs]).encode() + b"\n")
        process.stdin.flush()
    with progress() as report:
        for line in process.stdout:
            said: dict[str, Any] = parse_json(line)
            if "mend" in said:
                raise UserError(said["mend"])
            if "failed" in said:
                return [Check(**check) for check in said["failed"]]
            report(*said["progress"])
    code = process.wait()
    how = killed(-code) if code < 0 else f"exit code {code}"
    say(f"warning: preflight ended before its time ({how}): the runs go on, and their rows get a mark", error=True)
    return []


def main() -> None:
    """Read jobs, make the checks that their passports lack, and say how they went."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the whole group: end without a traceback
    jobs = [Job.restore(record) for record in json.loads(sys.stdin.buffer.readline())]
    exit_with_parent(sys.stdin.fileno())
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no line of ours

    def write(**said: Any) -> None:
        lines.write(json.dumps(said) + "\n")

    try:
        failed = cover(jobs, lambda done, total, now: write(progress=[done, total, now]))
    except UserError as error:
        write(mend=str(error))
    else:
        write(failed=[asdict(check) for check in failed])


if __name__ == "__main__":
    main()

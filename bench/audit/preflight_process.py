"""Preflight in a process of its own, on the device of a slot: what it took of memory is free again when it ends.

The process reads job records from standard input and writes lines of JSON: its progress, then the failed checks or
what the user has to mend.  In a cluster it is the first job, and reads and writes files.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.audit.preflight import Report, cover, is_covered, progress
from bench.audit.stack import Check
from bench.engine.worker import exit_with_parent
from bench.foreign import parse_json, say
from bench.schedule.executor import POLL_SECONDS, Cluster
from bench.schedule.states import killed, last_line
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


def cover_there(jobs: Sequence[Job], cluster: Cluster) -> list[Check]:
    """``cover`` as a job of a cluster, on a device like those of the runs; UserError as it raises it.

    A job that ends before its time is a warning.  It is ended, or named, if this process is to end.
    """
    missing = [job for job in jobs if not job.done]
    with tempfile.TemporaryDirectory(prefix=".preflight-", dir=jobs[0].path.parent) as name:
        asked, said, log = (Path(name).absolute() / file for file in ("jobs.json", "answer.jsonl", "log.txt"))
        asked.write_text(json.dumps([job.record() for job in missing]), encoding="utf-8")
        say("preflight is the first job of the cluster", error=True)
        task = cluster.call([*COMMAND, str(asked), str(said)], os.getcwd(), str(log))
        try:
            while (code := task.poll()) is None:
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            cluster.stop([task])
            raise
        lines = said.read_bytes().splitlines() if said.exists() else []
        if (failed := verdict(lines, lambda *_: None)) is not None:
            return failed
        ended_early(f"{how_ended(code)}: {last_line(log)}")
        return []


def answer(process: subprocess.Popen[bytes], jobs: Sequence[Job]) -> list[Check]:
    """The failed checks that the process reports; its progress is shown meanwhile."""
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError):  # it died at once
        process.stdin.write(json.dumps([job.record() for job in jobs]).encode() + b"\n")
        process.stdin.flush()
    with progress() as report:
        failed = verdict(process.stdout, report)
    if failed is None:
        ended_early(how_ended(process.wait()))
    return failed or []


def verdict(lines: Iterable[bytes], report: Report) -> list[Check] | None:
    """The failed checks by the lines that the process writes; None if it wrote no last one."""
    for line in lines:
        said: dict[str, Any] = parse_json(line)
        if "mend" in said:
            raise UserError(said["mend"])
        if "failed" in said:
            return [Check(**check) for check in said["failed"]]
        report(*said["progress"])
    return None


def how_ended(code: int) -> str:
    return killed(-code) if code < 0 else f"exit code {code}"


def ended_early(how: str) -> None:
    say(f"warning: preflight ended before its time ({how}): the runs go on, and their rows get a mark", error=True)


def main() -> None:
    """Read jobs, make the checks that their passports lack, and say how they went."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the whole group: end without a traceback
    files = [Path(name) for name in sys.argv[1:]]
    asked = files[0].read_bytes() if files else sys.stdin.buffer.readline()
    jobs = [Job.restore(record) for record in json.loads(asked)]
    exit_with_parent(sys.stdin.fileno())
    lines = files[1].open("w", buffering=1, encoding="utf-8") if files else os.fdopen(os.dup(1), "w", buffering=1)
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

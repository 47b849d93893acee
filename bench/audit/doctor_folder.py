"""What `bench doctor` tries in the results folder: room, speed, and what runs rely on of leases, links and renames."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from time import perf_counter, sleep

from bench.audit.doctor_machine import BAD, NOTE, OK, Finding
from bench.store.lease import Held, latest, take

BLOCK, BLOCKS = 4 << 20, 16  # 64 MB are written
REPLACED = 40  # times that a file is replaced under a reader
SLOW = 50e6  # bytes per second
TICK_SECONDS = 0.02  # more than the step of the clock that stamps files
ELSEWHERE = "give --results on another disk"


def examine_folder(results: Path) -> Iterator[Finding]:
    """All of it in a folder of its own, which is removed; ``results`` itself is not made."""
    there = next(place for place in (results, *results.absolute().parents) if place.exists())
    where = f"'{results}'" if there == results else f"'{there}', where {results.name} will be made"
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=there) as scratch:
            yield room(there, where)
            yield write_rate(Path(scratch))
            yield from semantics(Path(scratch))
    except OSError as error:
        text = f"{where}: {(error.strerror or type(error).__name__).lower()}"
        yield Finding("results", BAD, f"{text}; nothing can be written there", "--results with a folder of yours")


def room(there: Path, where: str) -> Finding:
    free = shutil.disk_usage(there).free
    return Finding("results", OK, f"{where}, {free / 1e9:.1f} GB free", facts={"free": free})


def write_rate(scratch: Path) -> Finding:
    """Bytes per second to the disk itself, the write confirmed."""
    block, file = os.urandom(BLOCK), scratch / "written"
    begin = perf_counter()
    with file.open("wb") as out:
        for _ in range(BLOCKS):
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    rate = BLOCK * BLOCKS / (perf_counter() - begin)
    file.unlink()
    facts = {"bytes_per_second": rate}
    if rate < SLOW:
        return Finding("writing", NOTE, f"{rate / 1e6:.0f} MB/s: checkpoints will take long", ELSEWHERE, facts)
    return Finding("writing", OK, f"{rate / 1e6:.0f} MB/s", facts=facts)


def semantics(scratch: Path) -> Iterator[Finding]:
    """Leases that exclude, links that share, renames that no reader sees half done."""
    if fault := lease_fault(scratch / "run"):
        yield Finding("leases", BAD, f"{fault}: two commands could write into one run", ELSEWHERE)
    else:
        yield Finding("leases", OK, "of two that take a run, one gets it, and its signs of life are seen")
    if fault := link_fault(scratch / "a", scratch / "b"):
        yield Finding("links", NOTE, f"{fault}: the best weights are copied with every checkpoint", ELSEWHERE)
    else:
        yield Finding("links", OK, "a file can have a second name")
    if fault := rename_fault(scratch / "replaced"):
        yield Finding("renames", BAD, f"{fault}: records could be read half written", ELSEWHERE)
    else:
        yield Finding("renames", OK, f"no reader saw one of {REPLACED} replacements half done")


def lease_fault(run: Path) -> str:
    """Why leases cannot be relied on, empty if they can."""
    first = take(run, 1)
    try:
        take(run, 1)
        return "a second lease was given while the first was held"
    except Held:
        pass
    before = latest(run)
    sleep(TICK_SECONDS)
    first.beat()
    return "times of files do not change" if latest(run) == before else ""


def link_fault(path: Path, other: Path) -> str:
    path.write_bytes(b"content")
    try:
        os.link(path, other)
    except OSError as error:
        return f"no links ({error.strerror})"
    return "" if other.read_bytes() == b"content" and path.stat().st_ino == other.stat().st_ino else "links are copies"


def rename_fault(path: Path) -> str:
    """Replace a file again and again while a thread reads it: what the reader saw besides whole files."""
    contents = {bytes([i]) * 4096 for i in range(REPLACED)}
    path.write_bytes(bytes(4096))
    seen: list[str] = []
    ended = False

    def read() -> None:
        while not ended and not seen:
            try:
                if path.read_bytes() not in contents:
                    seen.append("a reader saw a part of a file")
            except OSError as error:
                seen.append(f"a reader found no file ({error.strerror})")

    reader = Thread(target=read)
    reader.start()
    try:
        for i in range(REPLACED):
            part = path.with_suffix(".part")
            part.write_bytes(bytes([i]) * 4096)
            part.replace(path)
    finally:
        ended = True
        reader.join()
    return seen[0] if seen else ""

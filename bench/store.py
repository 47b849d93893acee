"""One directory per run: plan, environment, append-only JSONL records, checkpoint, and a done marker written last.

``plan.json`` what was to be run, ``env.json`` where, ``metrics.jsonl`` one line per step, ``evals.jsonl`` one line per
evaluation, ``items.jsonl`` one line per evaluated item, ``done.json`` digests of the records and the final ledger.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.types import UserError

ALWAYS = ("metrics.jsonl", "evals.jsonl", "items.jsonl")
RECORDS = (*ALWAYS, "targets.jsonl")  # the last one only of methods that prepare their data
DEFAULT_RESULTS = Path("results") / "runs"


class CorruptRun(Exception):
    """A run directory whose files contradict its done marker or cannot be read."""


def write_atomic(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        json.dump(value, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises CorruptRun that names the file."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CorruptRun(f"{path.name}: {error}") from None
    if not isinstance(value, dict):
        raise CorruptRun(f"{path.name}: expected a JSON object")
    return value


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Records of a JSONL file; a torn last line (a killed writer) is left out, any other broken line is corruption."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    lines.pop()  # empty after the last newline, or torn
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except ValueError:
            raise CorruptRun(f"{path.name}: line {number} is not JSON") from None
    return found


def file_digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() if path.exists() else ""


class RunStore:
    """Writer of one run directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory for this process; UserError if another live process holds it."""
        with (self.path / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"run {self.path.name} is in progress in another process") from None
            yield

    def append(self, name: str, records: list[dict[str, Any]]) -> None:
        """Append records to a JSONL file in one write."""
        text = "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in records)
        with (self.path / name).open("a") as file:
            file.write(text)

    def sizes(self) -> dict[str, int]:
        """Bytes of each record file: what a checkpoint remembers."""
        return {n: (self.path / n).stat().st_size if (self.path / n).exists() else 0 for n in RECORDS}

    def truncate(self, sizes: Mapping[str, int]) -> None:
        """Drop the records written after a checkpoint; the resumed run writes them again.

        CorruptRun if a file is shorter than the checkpoint remembers: nothing is changed then.
        """
        for name, size in self.sizes().items():
            if size < sizes.get(name, 0):
                raise CorruptRun(f"{name} has {size} bytes, its checkpoint was made at {sizes[name]}")
        for name in RECORDS:
            if (self.path / name).exists():
                os.truncate(self.path / name, sizes.get(name, 0))

    def finish(self, ledger: Mapping[str, Any]) -> None:
        """Write the done marker: from now on the run is only read."""
        digests = {n: file_digest(self.path / n) for n in (*RECORDS, "plan.json")}
        write_atomic(self.path / "done.json", {"ledger": dict(ledger), "digests": digests})


def is_done(path: Path) -> bool:
    return (path / "done.json").exists()


def check(path: Path) -> dict[str, Any]:
    """The done marker of a finished run whose records match it; raises CorruptRun otherwise."""
    done = read_json(path / "done.json")
    ledger, digests = done.get("ledger"), done.get("digests")
    if not isinstance(ledger, dict) or not isinstance(digests, dict) or not digests.keys() >= set(ALWAYS):
        raise CorruptRun("done.json: fields are missing")
    for name, expected in digests.items():
        if file_digest(path / name) != expected:
            raise CorruptRun(f"{name} was changed after the run ended")
    read_json(path / "plan.json")
    return done


def writable(path: Path) -> None:
    """Raise UserError unless files can be made in this results folder."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"results folder '{path}' is not writable: {error.strerror}") from None


def finished(results: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Finished runs of a results folder and, apart, (path, fault) of corrupted ones, which are left as they are."""
    good, bad = [], []
    for path in sorted(p for p in results.glob("*") if p.is_dir()) if results.exists() else []:
        try:
            if is_done(path):
                check(path)
                good.append(path)
        except (CorruptRun, OSError) as fault:
            bad.append((path, str(fault)))
    return good, bad

"""One directory per run: plan, environment, append-only JSONL records, checkpoint, and a done marker written last.

``plan.json`` what was to be run, ``env.json`` where, ``metrics.jsonl`` one line per step, ``evals.jsonl`` one line per
evaluation, ``items.jsonl`` one line per evaluated item, ``verdicts.npz`` the verdicts alone, ``done.json`` digests and
sizes of these files, the final ledger and a seal over all that.  In an archive ``NAME.jsonl`` is ``NAME.jsonl.gz``;
sizes and digests are of the content.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bench.foreign import parse_json

ALWAYS = ("metrics.jsonl", "evals.jsonl", "items.jsonl")
RECORDS = (*ALWAYS, "targets.jsonl")  # the last one only of methods that prepare their data
VERDICTS = "verdicts.npz"
RESOURCES = "resources.json"  # time and memory of the process that finished the run: no result, and not sealed
SEALED = (*RECORDS, VERDICTS, "plan.json", "env.json")  # the files whose sizes and digests the done marker holds
DONE_FIELDS = {"ledger", "digests", "sizes", "selection", "seal"}
SELECTED = "selected"  # the test split, judged with the weights of the best validation
NONE, LAST = "none", "last"
KEEPS = (NONE, SELECTED, LAST)  # the policy of a run that stays: none, of the best validation, or the last
DEFAULT_RESULTS = Path("results") / "runs"


class CorruptRun(Exception):
    """A run directory whose files contradict its done marker or cannot be read."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises CorruptRun that names the file."""
    try:
        value = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CorruptRun(f"{path.name}: {error}") from None
    if not isinstance(value, dict):
        raise CorruptRun(f"{path.name}: expected a JSON object")
    return value


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Records of a JSONL file or its .gz; a torn last line (a killed writer) is left out, other faults: corruption."""
    content = read_content(path)
    if content is None:
        return []
    lines = content.split(b"\n")
    lines.pop()  # empty after the last newline, or torn
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(parse_json(line))
        except ValueError:
            raise CorruptRun(f"{path.name}: line {number} is not JSON") from None
    return records


def zipped(path: Path) -> Path:
    """Where an archive has a file of this name."""
    return path.with_name(path.name + ".gz")


def read_content(path: Path) -> bytes | None:
    """Content of a file, or of its .gz if there is only that; None if there is neither, CorruptRun for a broken .gz."""
    if path.exists():
        return path.read_bytes()
    try:
        return gzip.decompress(zipped(path).read_bytes()) if zipped(path).exists() else None
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptRun(f"{zipped(path).name}: {error}") from None


def content_size(path: str | Path) -> int:
    """Bytes of a file's content, 0 without a file; of a .gz by its last four bytes, without unpacking it."""
    try:
        return os.stat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        packed = zipped(Path(path))
    if not packed.exists():
        return 0
    with packed.open("rb") as file:
        file.seek(max(-4, -packed.stat().st_size), os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def digest_of(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """Digest of a file's content, or of its .gz's; empty without a file."""
    content = read_content(path)
    return "" if content is None else digest_of(content)


def seal_of(value: Mapping[str, Any]) -> str:
    """SHA-256 over the fields of a JSON object, its ``seal`` left out."""
    rest = {key: value[key] for key in value if key != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def is_done(path: Path) -> bool:
    return (path / "done.json").exists()


def check_records(path: Path, digests: Collection[str] | None = None) -> dict[str, Any]:
    """The done marker of a finished run whose files match it in size; raises CorruptRun otherwise.

    The digests of these files are compared too: all by default, and always where a run from before has no sizes.
    """
    done = read_json(path / "done.json")
    expected, sizes = done.get("digests"), done.get("sizes", {})
    whole = isinstance(done.get("ledger"), dict) and isinstance(sizes, dict)
    if not whole or not isinstance(expected, dict) or not expected.keys() >= set(ALWAYS):
        raise CorruptRun("done.json: fields are missing")
    # Runs from before there were seals have none.  A seal whose name was damaged is a field that no version wrote.
    if not done.keys() <= DONE_FIELDS or ("seal" in done and done["seal"] != seal_of(done)):
        raise CorruptRun("done.json was changed after the run ended")
    for name, digest in expected.items():
        if name in sizes and (size := content_size(f"{path}/{name}")) != sizes[name]:
            raise CorruptRun(f"{name} has {size} bytes, {sizes[name]} when the run ended")
        if (digests is None or name in digests or name not in sizes) and file_digest(path / name) != digest:
            raise CorruptRun(f"{name} was changed after the run ended")
    return done


def done_runs(results: Path) -> list[Path]:
    """Directories of a results folder that have a done marker, sorted; hidden ones are not yet complete."""
    if not results.is_dir():
        return []
    return sorted(path for path in results.iterdir() if not path.name.startswith(".") and is_done(path))


def finished_runs(results: Path, digests: Collection[str] | None = None) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Finished runs of a results folder and, apart, (path, fault) of corrupted ones, which are left as they are."""
    good, bad = [], []
    for path in done_runs(results):
        try:
            check_records(path, digests)
            good.append(path)
        except (CorruptRun, OSError) as fault:
            bad.append((path, str(fault)))
    return good, bad

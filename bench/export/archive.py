"""Published stores: finished runs with gzipped records, without models, checkpoints and logs.

An archive is a results folder: every reader takes ``NAME.jsonl.gz`` for ``NAME.jsonl``, and the done marker's sizes and
digests, which are of the content, still prove it.  The same runs give the same bytes.
"""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from bench.export import Request
from bench.store import passport
from bench.store.run_folder import RECORDS, VERDICTS, CorruptRun, check_records, read_content, read_json, zipped
from bench.store.stored_run import StoredRun, find_runs
from bench.types import UserError

WHOLE = ("plan.json", "env.json", VERDICTS, "done.json")
SYSTEM = 9  # place of the byte in a gzip header that names the system, on which Python's versions do not agree


def to_archive(request: Request) -> list[str]:
    """Copy finished runs and the passports of their stacks; what to print.  UserError without a folder to write to."""
    out = request.out
    if out is None:
        raise UserError("an archive needs a folder, for example: bench export results/runs archive --to archive")
    runs = find_runs(request.source, request.results)
    if out.resolve() in {place.resolve() for run in runs for place in (run.path, run.path.parent)}:
        raise UserError(f"'{out}' holds the runs themselves: give another folder for their archive")
    new = [run for run in runs if not archived(run, out)]
    for run in new:
        copy_run(run.path, out / run.name)
    known_passports = [passport.read_passport(folder, key) for folder, key in stacks(runs)]
    passports = [known for known in known_passports if known is not None]
    for known in passports:
        passport.save_passport(out, known)  # merged with what the archive has of the same stack
    size = sum(file.stat().st_size for run in runs for file in (out / run.name).iterdir())
    old = f", {len(runs) - len(new)} were there already" if len(new) < len(runs) else ""
    return [f"{out}: {len(new)} runs written{old}, {len(passports)} passports, {size / 1e6:.1f} MB"]


def archived(run: StoredRun, out: Path) -> bool:
    """Whether the archive has the run; UserError if it has something else under its name."""
    target = out / run.name
    try:
        if not target.exists() or check_records(target) == read_json(run.path / "done.json"):
            return target.exists()
        fault = "it is another run"
    except CorruptRun as error:
        fault = str(error)
    raise UserError(f"'{target}' is not the archive of '{run.path}' ({fault}): move it away or give another folder")


def copy_run(source: Path, target: Path) -> None:
    """Copy a run under another name and rename it when it is complete and proved."""
    part = target.with_name(f".part-{target.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name in RECORDS:
        if (content := read_content(source / name)) is not None:
            zipped(part / name).write_bytes(compressed(content))
    for name in WHOLE:
        if (source / name).exists():
            shutil.copyfile(source / name, part / name)
    check_records(part)
    part.rename(target)


def compressed(content: bytes) -> bytes:
    """Gzipped, without the time and the system."""
    packed = bytearray(gzip.compress(content, mtime=0))
    packed[SYSTEM] = 255
    return bytes(packed)


def stacks(runs: list[StoredRun]) -> list[tuple[Path, str]]:
    """Results folders and keys of all stacks on which the runs were made, each once."""
    pairs = [(run.path.parent, key) for run in runs for key in passport.stack_keys(run.path / "env.json")]
    return list(dict.fromkeys(pairs))

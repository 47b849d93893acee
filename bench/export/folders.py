"""Exports that are folders of files: each run's folder appears whole or not at all, and only once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from bench.store.run_folder import CorruptRun, read_json
from bench.store.stored_run import StoredRun
from bench.types import UserError

MARKER = "bench-export.json"
VERSION = 1  # raised when what is written changes, so that earlier exports are made again


def export_identity(run: StoredRun, kind: str) -> dict[str, object]:
    """What an export is made from: equal identities mean equal contents."""
    return {"kind": kind, "version": VERSION, "run_id": run.plan.run_id, "records": run.fingerprint}


def write_folder(out: Path, kind: str, write: Callable[[Path, StoredRun], None], run: StoredRun) -> bool:
    """Let ``write`` fill the run's folder below ``out``; False if it holds this export already.

    An export of the same run made from other records is replaced.  UserError for a folder that is anything else, or
    that cannot be written.
    """
    folder, made = out / run.name, export_identity(run, kind)
    part = folder.with_name(f".{folder.name}.part")
    try:
        if folder.exists():
            earlier = read_marker(folder)
            if earlier == made:
                return False
            if {earlier.get(key) for key in ("kind", "run_id")} != {kind, run.plan.run_id}:
                raise UserError(f"'{folder}' exists and is no {kind} export of this run: give another folder")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        write(part, run)
        (part / MARKER).write_text(json.dumps(made, indent=1) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    except OSError as error:
        raise UserError(f"'{folder}' cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return True


def read_marker(folder: Path) -> dict[str, object]:
    """What a folder says it is; nothing if it does not say."""
    try:
        return read_json(folder / MARKER)
    except CorruptRun:
        return {}

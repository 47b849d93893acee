"""What exporters share: what they need installed, where and how they write, and the lines they print."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.export import Request
from bench.store.run_folder import CorruptRun, read_json
from bench.store.stored_run import StoredRun, find_runs, warn_corrupt
from bench.types import UserError

DEFAULT_OUT = Path("results") / "exports"
EXTRA = "pip install 'posttrain-bench[trackers]'"
MARKER = "bench-export.json"
VERSION = 1  # raised when what is written changes, so that earlier exports are made again


def export_folder(request: Request, kind: str, *modules: str) -> Path:
    """The folder to write to, absolute; UserError if it is a file or would lie in a run.

    UserError with the command that installs them unless these modules are there.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"bench export --to {kind} needs {', '.join(missing)}, which is not installed: {EXTRA}")
    out = (request.out or DEFAULT_OUT / kind).absolute()
    if out.exists() and not out.is_dir():
        raise UserError(f"'{out}' is a file: expected a new folder or one of earlier exports")
    if any((folder / "plan.json").exists() for folder in (out, *out.parents)):
        raise UserError(f"'{out}' lies in a run, whose folder is left as it is: give another folder")
    return out


def export_each(request: Request, write: Callable[[StoredRun], bool], view: str) -> list[str]:
    """Write every run of the request and say which are new; the last line says how to look at them.

    ``write`` returns False for a run that was exported before.  UserError if no run of the request can be read.
    """
    lines = []
    for run in find_runs(request.source, request.results):
        try:
            new = write(run)
        except CorruptRun as fault:
            warn_corrupt([(run.path, str(fault))])
            continue
        lines.append(f"{run.name}: {'exported' if new else 'exported earlier, left as it is'}")
    if not lines:
        raise UserError(f"'{request.source}' has no run that can be read: nothing was exported")
    return [*lines, view]


def seed_group(run: StoredRun) -> str:
    """Runs that differ in their seed only share it."""
    return f"{run.plan.method}-{run.plan.task}-{run.plan.model}-{run.plan.comparison}"


# --- files -----------------------------------------------------------------------------------------------------


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> list[Path]:
    """Write contents under their names below a folder, which is made; UserError for one that cannot be written."""
    for name, content in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        except OSError as error:
            raise UserError(f"'{path}' cannot be written: {error.strerror}") from None
    return [folder / name for name in files]


def write_folder(out: Path, kind: str, write: Callable[[Path, StoredRun], None], run: StoredRun) -> bool:
    """Let ``write`` fill the run's folder below ``out``; False if it holds this export already.

    The folder appears whole or not at all.
    An export of the same run made from other records is replaced.  UserError for a folder that is anything else, or
    that cannot be written.
    """
    made = {"kind": kind, "version": VERSION, "run_id": run.plan.run_id, "records": run.fingerprint}
    folder = out / run.name
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
        (part / MARKER).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
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

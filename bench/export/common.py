"""What exporters share: where they write, what they need installed, and the lines they print."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from bench.export import Request
from bench.store.run_folder import CorruptRun
from bench.store.stored_run import StoredRun, find_runs, leave_out
from bench.types import UserError

DEFAULT_OUT = Path("results") / "exports"
EXTRA = "pip install 'posttrain-bench[trackers]'"


def require(kind: str, *modules: str) -> None:
    """UserError with the command that installs them unless these modules are there."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"bench export --to {kind} needs {', '.join(missing)}, which is not installed: {EXTRA}")


def export_folder(request: Request, kind: str) -> Path:
    """The folder to write to, absolute; UserError if it is a file or would lie in a run."""
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
            leave_out(run.path, str(fault))
            continue
        lines.append(f"{run.name}: {'exported' if new else 'exported earlier, left as it is'}")
    if not lines:
        raise UserError(f"'{request.source}' has no run that can be read: nothing was exported")
    return [*lines, view]


def seed_group(run: StoredRun) -> str:
    """Runs that differ in their seed only share it."""
    return f"{run.plan.method}-{run.plan.task}-{run.plan.model}-{run.plan.comparison}"

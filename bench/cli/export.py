"""`bench export`: stored runs for other programs, read from the records after training."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Results
from bench.export import KINDS, Request
from bench.foreign import say
from bench.plan.registry import check_choice
from bench.store.run_folder import DEFAULT_RESULTS
from bench.types import UserError


def export(
    source: Annotated[
        str, typer.Argument(help="A run (directory, name, its beginning or digest) or a folder of runs.")
    ],
    out: Annotated[Path | None, typer.Argument(help="Folder to write to; results/exports/KIND if left out.")] = None,
    to: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.")] = "lm-eval",
    project: Annotated[str, typer.Option(help="Project of a tracker that the runs appear in.")] = "bench",
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Write finished runs for a tracker, for readers of lm-eval, or to publish.

    Nothing is sent anywhere, and a run that is there already is left alone. Trackers need the extra trackers. They read
    what was stored, so training never depends on them.
    """
    from bench.store.targets import check_folder

    check_choice(to, KINDS, "receiver of an export")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", project):
        raise UserError(f"project '{project}' is not valid: expected up to 100 letters, digits, '_', '.' and '-'")
    if out is not None:
        check_folder(out)
    module, _, function = KINDS[to].partition(":")
    say("\n".join(getattr(importlib.import_module(module), function)(Request(source, results, out, project))))

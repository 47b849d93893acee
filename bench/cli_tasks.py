"""`bench tasks`: the registered tasks, one of them in full, and the check of a data file."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from bench.types import UserError


def show_tasks(
    words: Annotated[list[str] | None, typer.Argument(metavar="[check] [NAME]", help="A task; check NAME.")] = None,
    data: Annotated[str | None, typer.Option(help="With check: file, folder or owner/name@split.")] = None,
    columns: Annotated[str | None, typer.Option(help="With check: other names of columns, answer=solution.")] = None,
    template: Annotated[str | None, typer.Option(help="With check: prompt format of the demonstrations.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """List the registered tasks, show one (levels, templates, an example), or check a data file.

    bench tasks check NAME --data FILE runs every row's own answer, and another row's, through the verifier; exit code 1
    if a row fails, is unreadable, or accepts a foreign answer.
    """
    from bench import catalogue, registry

    given = list(words or [])
    if given[:1] == ["check"]:
        sys.exit(check(given[1:], data, columns, template, as_json))
    if len(given) > 1:
        raise UserError(f"unknown words '{' '.join(given)}': expected a task, or check and a task")
    if given:
        sheet = catalogue.task_sheet(given[0])
        emit(sheet, as_json, catalogue.task_text(sheet))
        return
    entries = [{"name": n, "summary": registry.summary("tasks", n)} for n in registry.names("tasks")]
    emit(entries, as_json, "\n".join(f"{e['name']:<12} {e['summary']}" for e in entries))


def check(names: list[str], data: str | None, columns: str | None, template: str | None, as_json: bool) -> int:
    """Exit code of the check of a data file."""
    from bench import data_check, registry
    from bench.data import Source, parse_columns

    if len(names) != 1 or data is None:
        raise UserError("bench tasks check needs a task and --data, for example: check countdown --data rows.parquet")
    task = registry.task(names[0])
    chosen = template or ("plain" if "plain" in task.templates else task.templates[0])
    if chosen not in task.templates:
        raise registry.nearest(chosen, task.templates, f"template of {task.name}")
    found = data_check.check(task, Source(data, parse_columns(columns)), chosen)
    emit(found, as_json, data_check.text(found))
    return 0 if data_check.clean(found) else 1


def emit(value: Any, as_json: bool, text: str) -> None:
    print(json.dumps(value, indent=1) if as_json else text)

"""`bench tasks`: the registered tasks, one of them in full, the check of a data file, and exports."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.types import UserError


def show_tasks(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[check|export] [NAME] [DIR]", help="A task; check NAME; export NAME DIR."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="With check: file, folder or owner/name@split.")] = None,
    columns: Annotated[str | None, typer.Option(help="With check: other names of columns, answer=solution.")] = None,
    template: Annotated[str | None, typer.Option(help="With check and export: prompt format.")] = None,
    to: Annotated[str | None, typer.Option(help="With export: lm-eval, trl, datasets, parquet or verl.")] = None,
    level: Annotated[str | None, typer.Option(help="With export: difficulty level.")] = None,
    split: Annotated[str | None, typer.Option(help="With export: train, val or test; by default as TO needs.")] = None,
    items: Annotated[int, typer.Option(min=1, help="With export: items of each split.")] = 500,
    model: Annotated[str, typer.Option(help="With export: whose template and completion length to use.")] = "tiny",
    force: Annotated[bool, typer.Option(help="With export: write into a folder that is not empty.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """List the registered tasks, show one (levels, templates, an example), check a data file, or export a task.

    bench tasks check NAME --data FILE runs every row's own answer, and another row's, through the verifier; exit code 1
    if a row fails, is unreadable, or accepts a foreign answer.

    bench tasks export NAME DIR --to lm-eval writes items and verdicts for another program.
    """
    given = list(words or [])
    if given[:1] == ["check"]:
        sys.exit(check(given[1:], data, columns, template, as_json))
    elif given[:1] == ["export"]:
        export_task(given[1:], to, (level, template, split, items, model), force, as_json)
    else:
        show(given, as_json)


def show(names: list[str], as_json: bool) -> None:
    """All tasks, or one in full."""
    from bench import catalogue, registry

    if len(names) > 1:
        raise UserError(f"unknown words '{' '.join(names)}': expected a task, check and a task, or export and a task")
    if names:
        sheet = catalogue.task_sheet(names[0])
        emit(sheet, as_json, catalogue.task_text(sheet))
        return
    entries = [{"name": n, "summary": registry.summary("tasks", n)} for n in registry.names("tasks")]
    emit(entries, as_json, "\n".join(f"{e['name']:<12} {e['summary']}" for e in entries))


def export_task(given: list[str], to: str | None, options: tuple[Any, ...], force: bool, as_json: bool) -> None:
    """Write a task's files for another program and list them."""
    from bench.export import export, plan

    if len(given) != 2 or to is None:
        raise UserError("bench tasks export needs a task, a folder and --to, for example: countdown out --to lm-eval")
    chosen = plan(given[0], to, *options)
    paths = export(chosen, to, Path(given[1]), force)
    emit({"name": chosen.name, "files": [str(path) for path in paths]}, as_json, "\n".join(map(str, paths)))


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

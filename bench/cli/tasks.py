"""`bench tasks`: registered tasks, one in full, its problems by split, the check of a data file, and exports."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.types import UserError

SPLITS = ("train", "val", "test", "ood", "reworded")


def show_tasks(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[check|export] [NAME] [DIR]", help="A task; check NAME; export NAME DIR."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="With check: file, folder or owner/name@split.")] = None,
    columns: Annotated[str | None, typer.Option(help="With check: other names of columns, answer=solution.")] = None,
    template: Annotated[str | None, typer.Option(help="With check, export or --sample: prompt format.")] = None,
    level: Annotated[str | None, typer.Option(help="With export or --sample: difficulty level.")] = None,
    split: Annotated[
        str | None,
        typer.Option(help="With --sample: train, val, test, ood or reworded; with export: train, val or test."),
    ] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="With NAME: print so many problems of --split.")] = None,
    answer: Annotated[str | None, typer.Option(help="With --sample: judge this completion or bare answer.")] = None,
    to: Annotated[str | None, typer.Option(help="With export: lm-eval, trl, datasets, parquet or verl.")] = None,
    items: Annotated[int, typer.Option(min=1, help="With export: items of each split.")] = 500,
    model: Annotated[str, typer.Option(help="With export: whose template and completion length to use.")] = "tiny",
    force: Annotated[bool, typer.Option(help="With export: write into a folder that is not empty.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """List the registered tasks, show one (levels, templates, an example), sample, check a data file, or export.

    bench tasks NAME --sample 3 --split ood prints problems, demonstrations and verdicts.
    bench tasks check NAME --data FILE runs every row's own answer, and another row's, through the verifier; exit code 1
    if a row fails, is unreadable, or accepts a foreign answer.

    bench tasks export NAME DIR --to lm-eval writes items and verdicts for another program.
    """
    given = list(words or [])
    if given[:1] == ["check"]:
        sys.exit(check(given[1:], data, columns, template, as_json))
    elif given[:1] == ["export"]:
        export_task(given[1:], to, (level, template, split, items, model), force, as_json)
    elif sample is not None:
        if len(given) != 1:
            raise UserError("--sample needs a task, for example: bench tasks countdown --sample 3 --split ood")
        shown = samples(given[0], sample, split or "test", level, template, answer)
        emit(shown, as_json, "\n\n".join(map(sample_text, shown)))
    else:
        show(given, as_json)


def show(names: list[str], as_json: bool) -> None:
    """All tasks, or one in full."""
    from bench.plan import registry
    from bench.report import catalogue

    if len(names) > 1:
        raise UserError(f"unknown words '{' '.join(names)}': expected a task, check and a task, or export and a task")
    if names:
        sheet = catalogue.task_sheet(names[0])
        emit(sheet, as_json, catalogue.task_text(sheet))
        return
    entries = [{"name": n, "summary": registry.module_summary("tasks", n)} for n in registry.names("tasks")]
    emit(entries, as_json, "\n".join(f"{e['name']:<12} {e['summary']}" for e in entries))


def export_task(given: list[str], to: str | None, options: tuple[Any, ...], force: bool, as_json: bool) -> None:
    """Write a task's files for another program and list them."""
    from bench.export.task_files import export_task, plan

    if len(given) != 2 or to is None:
        raise UserError("bench tasks export needs a task, a folder and --to, for example: countdown out --to lm-eval")
    chosen = plan(given[0], to, *options)
    paths = export_task(chosen, to, Path(given[1]), force)
    emit({"name": chosen.name, "files": [str(path) for path in paths]}, as_json, "\n".join(map(str, paths)))


def check(names: list[str], data: str | None, columns: str | None, template: str | None, as_json: bool) -> int:
    """Exit code of the check of a data file."""
    from bench.audit import data_check
    from bench.plan import registry
    from bench.plan.data import Source, parse_columns

    if len(names) != 1 or data is None:
        raise UserError("bench tasks check needs a task and --data, for example: check countdown --data rows.parquet")
    task = registry.task(names[0])
    chosen = template or ("plain" if "plain" in task.templates else task.templates[0])
    if chosen not in task.templates:
        raise registry.nearest(chosen, task.templates, f"template of {task.name}")
    found = data_check.check_rows(task, Source(data, parse_columns(columns)), chosen)
    emit(found, as_json, data_check.check_text(found))
    return 0 if data_check.clean(found) else 1


def samples(
    name: str, count: int, split: str, level: str | None, template: str | None, answer: str | None
) -> list[dict[str, Any]]:
    """The first problems of a split with prompt, demonstration and verdicts; an answer without a tag gets one."""
    from bench.plan import registry
    from tasks import common

    task = registry.task(name)
    level, template = level or task.default_level, template or task.templates[0]
    for given, known, what in ((level, task.levels, "level"), (template, task.templates, "template")):
        if given not in known:
            raise registry.nearest(given, known, f"{what} of {name}")
    if split not in SPLITS:
        raise registry.nearest(split, SPLITS, "split")
    drawn = common.harder_level(task, level) if split == "ood" else level
    examples = common.load_examples(task, split if split in ("train", "val") else "test", count, drawn, template)
    if split == "reworded":
        examples = common.reworded(task, examples, template)
    text = answer if answer is None or "<answer>" in answer else f"<answer>{answer}</answer>"
    found = []
    for shown in examples:
        whole = shown.demonstration.text
        entry: dict[str, Any] = {"id": shown.id, "split": split, "level": drawn, "template": template}
        entry |= {"prompt": shown.prompt, "demonstration": whole, "verdict": asdict(task.verify(shown.problem, whole))}
        if text is not None:
            entry |= {"answer": text, "answer_verdict": asdict(task.verify(shown.problem, text))}
        found.append(entry)
    return found


def sample_text(entry: dict[str, Any]) -> str:
    """One problem for people."""
    lines = [f"{entry['id']} ({entry['split']} split)", *(f"  {line}" for line in entry["prompt"].splitlines())]
    lines += ["demonstration:", *(f"  {line}" for line in entry["demonstration"].splitlines())]
    lines.append(f"its verdict: {said(entry['verdict'])}")
    if "answer" in entry:
        lines.append(f"verdict of {entry['answer']}: {said(entry['answer_verdict'])}")
    return "\n".join(lines)


def said(verdict: dict[str, Any]) -> str:
    return f"{'right' if verdict['correct'] else 'wrong'}, reward {verdict['reward']:g} ({verdict['reason']})"


def emit(value: Any, as_json: bool, text: str) -> None:
    print(json.dumps(value, indent=1) if as_json else text)

"""`bench tasks`: the registered tasks, one of them in full or its problems, exports, and the check of a data file."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bench.cli.help import register
from bench.cli.options import Json, emit
from bench.plan import registry
from bench.types import UserError

SPLITS = ("train", "val", "test", "ood", "reworded")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A task.")]
Level = Annotated[str | None, typer.Option(help="Difficulty level of the problems.")]
Template = Annotated[str | None, typer.Option(help="Prompt format: compact, plain or chat.")]


def list_tasks(as_json: Json = False) -> None:
    """List the registered tasks, one line each."""
    entries = [{"name": name, "summary": registry.module_summary("tasks", name)} for name in registry.names("tasks")]
    emit(entries, as_json, "\n".join(f"{entry['name']:<12} {entry['summary']}" for entry in entries))


def show_task(
    name: Name,
    sample: Annotated[
        int | None, typer.Option(min=1, max=10_000, metavar="N", help="Show this many problems instead.")
    ] = None,
    split: Annotated[str | None, typer.Option(help=f"Of the problems: {', '.join(SPLITS)}.")] = None,
    answer: Annotated[str | None, typer.Option(help="Judge this completion or bare answer to each problem.")] = None,
    level: Level = None,
    template: Template = None,
    as_json: Json = False,
) -> None:
    """Show a task: its levels, templates and an example, or its problems.

    With --sample N it shows the first N problems of a split, their demonstrations, and the verdicts of these.
    """
    from bench.report import catalogue

    if sample is not None:
        problems = sample_problems(name, sample, split or "test", level, template, answer)
        emit(problems, as_json, "\n\n".join(map(problem_text, problems)))
        return
    needless = {"--split": split, "--answer": answer, "--level": level, "--template": template}
    for option, value in needless.items():
        if value is not None:
            raise UserError(f"{option} is for problems: add --sample with their number")
    sheet = catalogue.task_sheet(name)
    emit(sheet, as_json, catalogue.task_text(sheet))


def export_task(
    name: Name,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to, new or empty.")],
    to: Annotated[str, typer.Option(help="lm-eval, trl, datasets, parquet or verl.")],
    split: Annotated[str | None, typer.Option(help="Only this split: train, val or test.")] = None,
    items: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="Problems of each split.")] = 500,
    level: Level = None,
    template: Template = None,
    model: Annotated[str, typer.Option(help="Whose template and completion length are used.")] = "tiny",
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
    as_json: Json = False,
) -> None:
    """Write a task's problems and its verifier for another program."""
    from bench.export.task_files import export_task, plan
    from bench.store.targets import check_folder

    check_folder(folder)
    chosen = plan(name, to, level, template, split, items, model)
    paths = export_task(chosen, to, folder, force)
    emit({"name": chosen.name, "files": [str(path) for path in paths]}, as_json, "\n".join(map(str, paths)))


def check_problems(
    name: Name,
    data: Annotated[str | None, typer.Option(help="A data file, a folder, or owner/name@split.")] = None,
    columns: Annotated[str | None, typer.Option(help="Other names of columns: answer=solution.")] = None,
    level: Level = None,
    template: Template = None,
    train_size: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, metavar="N", help="Training problems of the run.")
    ] = None,
    split_by: Annotated[str | None, typer.Option(help="A key that no two splits share, as in 'bench run'.")] = None,
    as_json: Json = False,
) -> None:
    """Count held-out problems that have near duplicates in training; check the rows of a data file.

    The splits are those that a run draws. Of a data file every row's answer must pass, and another row's must fail;
    also shows how the right answers are distributed, and three rows. Exit code 1 if a row's answer fails, if a row is
    unreadable, accepts a foreign answer, or has the prompt of another row with an answer that the other refuses.
    """
    from bench.audit import data_check, near_duplicates
    from bench.plan.data import Source, parse_columns

    task = registry.task(name)
    if split_by == "":
        raise UserError("--split-by is empty: expected a key of near duplicates, or leave it out")
    if data is None:
        for option, value in {"--columns": columns, "--template": template}.items():
            if value is not None:
                raise UserError(f"{option} is for rows of a data file: give --data or leave it out")
        registry.check_choice(level or task.default_level, task.levels, f"level of {name}")
        counts = near_duplicates.of_level(task, level or task.default_level, train_size, split_by or "")
        return emit(counts, as_json, near_duplicates.near_text(counts))
    if level is not None:
        raise UserError("--level chooses generated problems and --data brings its own: give one of them")
    template = template or ("plain" if "plain" in task.templates else task.templates[0])
    registry.check_choice(template, task.templates, f"template of {task.name}")
    source = Source(data, parse_columns(columns))
    verdicts = data_check.check_rows(task, source, template, train_size, split_by or "")
    emit(verdicts, as_json, data_check.check_text(verdicts))
    sys.exit(0 if data_check.clean(verdicts) else 1)


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_tasks,
    "show": show_task,
    "export": export_task,
    "check": check_problems,
}


class TaskCommands(TyperGroup):
    """The subcommands; without one ``list`` is meant, and a word that is none of them gets the nearest valid call."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        without = not args or (args[0].startswith("-") and args[0] != "--help")
        return super().parse_args(ctx, ["list", *args] if without else args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS:
            raise unknown_word(*args)
        return super().resolve_command(ctx, args)


def unknown_word(word: str, *rest: str) -> UserError:
    """The error about a word that is no subcommand: what to type instead."""
    choices = [*COMMANDS, *registry.names("tasks")]
    hint = f"expected one of {', '.join(COMMANDS)}"
    if close := difflib.get_close_matches(word.lower(), choices, n=1, cutoff=0.5):
        words = ["show"] * (close[0] not in COMMANDS) + [close[0], *rest]
        hint = f"did you mean 'bench tasks {shlex.join(words)}'?"
    return UserError(f"unknown command '{word}' of bench tasks: {hint}")


app = typer.Typer(cls=TaskCommands, help="List, show, export and check tasks.")
for command, function in COMMANDS.items():
    register(app, command, function)


def sample_problems(
    name: str, count: int, split: str, level: str | None, template: str | None, answer: str | None
) -> list[dict[str, Any]]:
    """The first problems of a split with prompt, demonstration and verdicts; an answer without a tag gets one."""
    from tasks import common

    task = registry.task(name)
    level, template = level or task.default_level, template or task.templates[0]
    for given, known, what in ((level, task.levels, "level"), (template, task.templates, "template")):
        registry.check_choice(given, known, f"{what} of {name}")
    registry.check_choice(split, SPLITS, "split")
    drawn_level = common.harder_level(task, level) if split == "ood" else level
    examples = common.load_examples(task, split if split in ("train", "val") else "test", count, drawn_level, template)
    if split == "reworded":
        examples = common.reworded(task, examples, template)
    completion = answer if answer is None or "<answer>" in answer else f"<answer>{answer}</answer>"
    problems = []
    for example in examples:
        demonstration = example.demonstration.text
        entry: dict[str, Any] = {"id": example.id, "split": split, "level": drawn_level, "template": template}
        entry |= {"prompt": example.prompt, "demonstration": demonstration}
        entry["verdict"] = asdict(task.verify(example.problem, demonstration))
        if completion is not None:
            entry |= {"answer": completion, "answer_verdict": asdict(task.verify(example.problem, completion))}
        problems.append(entry)
    return problems


def problem_text(entry: dict[str, Any]) -> str:
    """One problem for people."""
    lines = [f"{entry['id']} ({entry['split']} split)", *(f"  {line}" for line in entry["prompt"].splitlines())]
    lines += ["demonstration:", *(f"  {line}" for line in entry["demonstration"].splitlines())]
    lines.append(f"its verdict: {verdict_text(entry['verdict'])}")
    if "answer" in entry:
        lines.append(f"verdict of {entry['answer']}: {verdict_text(entry['answer_verdict'])}")
    return "\n".join(lines)


def verdict_text(verdict: dict[str, Any]) -> str:
    return f"{'right' if verdict['correct'] else 'wrong'}, reward {verdict['reward']:g} ({verdict['reason']})"

"""What exported files call: the items beside a module, and verdicts of the task that they were exported from.

Modules that ``bench tasks export`` writes hold names and numbers only; their work is done here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.foreign import parse_json
from bench.plan import registry
from bench.types import Task, UserError, Verdict

VERSION_COLUMN = "task_version"  # with "task" and "problem" it marks a row that bench wrote
Text = str | Sequence[Mapping[str, Any]]  # of a completion: itself, or the turns of a conversation


def task_of(name: str, version: int) -> Task:
    """The installed task; UserError unless it has the version that was exported."""
    task = registry.task(name)
    if task.version != version:
        raise UserError(
            f"exported from version {version} of the task {name}, version {task.version} is installed: "
            f"export it again with 'bench tasks export {name} DIR --to FORMAT'"
        )
    return task


def items(path: Path) -> list[dict[str, Any]]:
    """The rows of an exported JSONL file."""
    return [parse_json(line) for line in path.read_bytes().splitlines()]


def judge(name: str, version: int, problem: str, completion: Text) -> Verdict:
    """The task's verdict of a completion; ``problem`` is the JSON text of the column of that name."""
    return task_of(name, version).verify(parse_json(problem), text_of(completion))


def text_of(completion: Text) -> str:
    """The text of a completion, of all its turns if it is a conversation."""
    return completion if isinstance(completion, str) else "".join(str(turn["content"]) for turn in completion)


def is_exported(row: Mapping[str, Any]) -> bool:
    """Whether a row of a data file is one that bench wrote."""
    return all(name in row for name in ("task", VERSION_COLUMN, "problem"))


def problem_of(task: Task, row: Mapping[str, Any]) -> dict[str, Any]:
    """The problem of an exported row; ValueError if it is another task's, or its demonstration is wrong."""
    if (row["task"], row[VERSION_COLUMN]) != (task.name, task.version):
        written = f"{row['task']}, version {row[VERSION_COLUMN]}"
        raise ValueError(f"exported from the task {written}, expected {task.name}, version {task.version}")
    if not isinstance(row["problem"], str):
        raise ValueError("column 'problem' is not a text")
    problem = parse_json(row["problem"])
    if not isinstance(problem, dict):
        raise ValueError("column 'problem' is not a JSON object")
    verdict = task.verify(problem, str(row.get("demonstration", "")))
    if not verdict.correct:
        raise ValueError(f"column 'demonstration' is wrong: {verdict.reason}")
    return problem

"""The problems behind stored items, made again from the task: records hold ids and completions only."""

from __future__ import annotations

import json
from typing import Any

from bench.exported import VERSION_COLUMN
from bench.plan import registry
from bench.plan.spec import RunPlan
from bench.types import Example, Task, UserError
from tasks.common import load_examples, reworded

Document = dict[str, Any]


def documents(plan: RunPlan) -> dict[str, dict[str, Document]]:
    """By split and item id, the rows that ``bench tasks export`` writes.

    A split is missing where its problems cannot be made again: a data file's (the plan knows its digest only), or those
    of a task whose installed version is another.
    """
    found: dict[str, dict[str, Document]] = {}
    sizes, task = plan.evaluation, installed_task(plan.task, plan.task_version)
    if task is not None and plan.data == "generated":
        own = load_examples(task, "test", max(sizes.test_items, sizes.reworded_items), plan.level, plan.template)
        found["test"] = found["selected"] = document_rows(task, own)
        found["val"] = document_rows(task, load_examples(task, "val", sizes.val_items, plan.level, plan.template))
        if sizes.reworded_items:
            found["reworded"] = document_rows(task, reworded(task, own[: sizes.reworded_items], plan.template))
    if task is not None and plan.ood_level and sizes.ood_items:
        found["ood"] = document_rows(task, load_examples(task, "test", sizes.ood_items, plan.ood_level, plan.template))
    for other in plan.others:
        judge = installed_task(other.task, other.version)
        if judge is not None:
            problems = load_examples(judge, "test", sizes.other_items, other.level, plan.template)
            found[f"other:{other.task}"] = document_rows(judge, problems)
    return found


def installed_task(name: str, version: int) -> Task | None:
    """The task in the version of the plan, None if it is not here."""
    try:
        task = registry.task(name)
    except UserError:
        return None
    return task if task.version == version else None


def document_rows(task: Task, examples: list[Example]) -> dict[str, Document]:
    return {
        e.id: {
            "id": e.id,
            "task": task.name,
            VERSION_COLUMN: task.version,
            "prompt": e.prompt,
            "demonstration": e.demonstration.text,
            "problem": json.dumps(e.problem),
        }
        for e in examples
    }

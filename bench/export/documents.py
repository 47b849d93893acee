"""The problems behind stored items, made again from the task: records hold ids and completions only."""

from __future__ import annotations

from bench.export.task_formats import Row, item_rows
from bench.plan import registry
from bench.plan.spec import RunPlan
from bench.types import Example, Task, UserError
from tasks.common import load_examples, reworded


def documents(plan: RunPlan) -> dict[str, dict[str, Row]]:
    """By split and item id, the rows that ``bench tasks export`` writes.

    A split is missing where its problems cannot be made again: a data file's (the plan knows its digest only), or those
    of a task whose installed version is another.
    """
    by_split: dict[str, dict[str, Row]] = {}
    sizes, task = plan.evaluation, installed_task(plan.task, plan.level, plan.template, plan.task_version)
    if task is not None and plan.data == "generated":
        own = examples_of(plan, "test", max(sizes.test_items, sizes.reworded_items), plan.level)
        by_split["test"] = by_split["selected"] = by_id(task, own)
        by_split["val"] = by_id(task, examples_of(plan, "val", sizes.val_items, plan.level))
        if sizes.reworded_items:
            by_split["reworded"] = by_id(task, reworded(task, own[: sizes.reworded_items], plan.template))
    if task is not None and plan.ood_level and sizes.ood_items:
        by_split["ood"] = by_id(task, examples_of(plan, "test", sizes.ood_items, plan.ood_level))
    for other in plan.others:
        judge = installed_task(other.task, other.level, plan.template, other.version)
        if judge is not None:
            problems = load_examples(judge, "test", sizes.other_items, other.level, plan.template)
            by_split[f"other:{other.task}"] = by_id(judge, problems)
    return by_split


def examples_of(plan: RunPlan, split: str, count: int, level: str) -> list[Example]:
    """Generated problems of the plan's own task."""
    return load_examples(registry.task(plan.task), split, count, level, plan.template, split_by=plan.split_by)


def installed_task(name: str, level: str, template: str, version: int) -> Task | None:
    """The task in the version of the plan, None if it is not here."""
    try:
        task = registry.task(name)
    except UserError:
        return None
    return task if registry.task_version(task, level, template) == version else None


def by_id(task: Task, examples: list[Example]) -> dict[str, Row]:
    return {row["id"]: row for row in item_rows(task, examples)}

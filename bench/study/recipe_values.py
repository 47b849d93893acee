"""Whether the values of a recipe are ones that a run would take, without a model, a file or a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.plan import registry
from bench.plan.budget import Budget
from bench.plan.data import parse_columns
from bench.plan.recipes import Recipe
from bench.plan.spec import parse_method, resolve
from bench.study.jobs import Spec, parse_seeds, split_names, task_format
from bench.types import UserError


def check_values(recipe: Recipe) -> None:
    """UserError that names the recipe and its first value which no run would take."""
    try:
        for method, fields in recipe.methods.items():
            resolve(method, None, fields, {})
        check_options(recipe.options, recipe.methods)
    except UserError as error:
        raise UserError(f"recipe '{recipe.name}': {error}") from None


def check_options(options: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]) -> None:
    """UserError for an option's value that is no method, task, level, template, budget, batch, seeds or columns."""
    for method in split_names(options.get("methods", ""), "method"):
        parse_method(method, presets, {})
    if "budget" in options:
        Budget.parse(options["budget"])
    if "batch" in options:
        registry.check_choice(options["batch"], ("auto",), "batch")
    if "seeds" in options:
        parse_seeds(str(options["seeds"]))
    parse_columns(options.get("columns"))
    tasks = split_names(options.get("task", ""), "task")
    spec = Spec((), tasks, level=options.get("level"), template=options.get("template"))
    for task in tasks:
        task_format(spec, task, {})

"""`bench recipes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Json, emit

if TYPE_CHECKING:
    from bench.plan.recipes import Recipe


def recipes(
    name: Annotated[str | None, typer.Argument(help="One recipe, in full: a name or a .toml file.")] = None,
    as_json: Json = False,
) -> None:
    """List the recipes that --recipe knows, or show one: options, presets of methods, sources.

    The values of a file are checked as a run would check them.
    """
    from bench.plan.recipes import load_recipe, recipe_names

    def record(recipe: Recipe) -> dict[str, object]:
        methods = {m: {**fields, "source": recipe.sources[m]} for m, fields in recipe.methods.items()}
        about = {"name": recipe.name, "description": recipe.description, "source": recipe.source}
        return {**about, "options": dict(recipe.options), "methods": methods}

    if name is not None:
        recipe = load_recipe(name)
        if name.endswith(".toml"):
            from bench.study.recipe_values import check_values

            check_values(recipe)
        emit(record(recipe), as_json, recipe_text(recipe))
        return
    known = [load_recipe(known) for known in recipe_names()]
    lines = [f"{recipe.name:<20} {recipe.description}" for recipe in known]
    lines.append("Use one: bench run --recipe NAME. One in full: bench recipes NAME.")
    emit([record(recipe) for recipe in known], as_json, "\n".join(lines))


def recipe_text(recipe: Recipe) -> str:
    """The recipe as the options that it stands for, and its presets with their sources."""
    options = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in recipe.options.items())
    lines = [f"{recipe.name}: {recipe.description}", f"source: {recipe.source}", "", f"bench run {options}", ""]
    for method, fields in recipe.methods.items():
        lines.append(f"{method}: " + ", ".join(f"{field} {value}" for field, value in fields.items()))
        lines.append(f"  source: {recipe.sources[method]}")
    return "\n".join(lines)

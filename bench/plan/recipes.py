"""Recipes: the settings of a sensible comparison under a name, one TOML file each.

``[options]`` holds options of ``bench run`` by name, ``[methods.NAME]`` presets of a method, which act as those of a
model's own ``bench.json``.  Every preset names the source of its figures.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.plan import registry
from bench.types import UserError

FOLDER = Path(__file__).parents[1] / "recipes"
TEXTS = ("methods", "task", "model", "budget", "batch", "level", "template", "data", "columns", "split_by")
SIZES = ("train_size", "max_new_tokens", "test_items", "test_samples", "val_items")
SWITCHES = ("ood_items", "reworded_items", "other_items", "skill_items")  # 0 switches these off
OPTIONS = (*TEXTS, *SIZES, *SWITCHES, "seeds")
PARTS = ("description", "source", "options", "methods")


@dataclass(frozen=True)
class Recipe:
    """Options of ``bench run`` by name, presets by method, and where the figures come from (by method)."""

    name: str
    description: str
    source: str
    options: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Any]]
    sources: Mapping[str, str]


def recipe_names() -> list[str]:
    """The recipes that come with bench."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


@cache
def load_recipe(name: str) -> Recipe:
    """A recipe by its name or file; UserError if there is none, or for a part of it that nothing reads."""
    file = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not name.endswith(".toml"):
        registry.check_choice(name, recipe_names(), "recipe")
    try:
        if file.exists() and not file.is_file():
            raise ValueError("it is no plain file")
        table = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"recipe '{name}' cannot be read: {reason}") from None
    return checked(name, table)


def checked(name: str, table: Mapping[str, Any]) -> Recipe:
    """The recipe of a file's content; UserError names the first part that is unknown or of another kind."""
    for part in table:
        registry.check_choice(part, PARTS, f"part of recipe {name}")
    options, methods = (mapping(name, part, table.get(part, {})) for part in ("options", "methods"))
    for option, value in options.items():
        check_option(name, option, value)
    presets, sources = {}, {}
    for method, given in methods.items():
        registry.check_choice(method, registry.names("methods"), f"method in recipe {name}")
        preset = dict(mapping(name, f"methods.{method}", given))
        sources[method] = str(preset.pop("source", ""))
        presets[method] = preset
    description, source = str(table.get("description", "")), str(table.get("source", ""))
    return Recipe(name, description, source, options, presets, sources)


def mapping(name: str, part: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"recipe '{name}': {part} is no table: expected [{part}] with a line for each setting")
    return value


def check_option(name: str, option: str, value: Any) -> None:
    """UserError unless an option is one of OPTIONS and its value a text or a number that it may have."""
    registry.check_choice(option, OPTIONS, f"option in recipe {name}")
    whole = isinstance(value, int) and not isinstance(value, bool)
    if option in TEXTS:
        fits, expected = isinstance(value, str) and bool(value.strip()), "a text"
    elif option == "seeds":
        fits, expected = (whole and value > 0) or isinstance(value, str), 'a number, or a list as a text ("0,1,2")'
    else:
        least = 0 if option in SWITCHES else 1
        fits, expected = whole and least <= value <= 1_000_000, f"a whole number from {least} on"
    if not fits:
        raise UserError(f"recipe '{name}': {option} = {value!r} is not valid: expected {expected}")


def merged(presets: Mapping[str, Mapping[str, Any]], recipe: str | None) -> dict[str, dict[str, Any]]:
    """A model's presets, and over them those of a recipe, field by field."""
    above = load_recipe(recipe).methods if recipe else {}
    return {name: {**presets.get(name, {}), **above.get(name, {})} for name in {**presets, **above}}

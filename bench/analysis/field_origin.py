"""Why a stage's field has its value: the method's default, its variant, the model's preset, trials, or the user.

A value that none of these explains was planned by other code or with a preset that is not there any more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from bench.analysis.declared_fields import declared
from bench.plan.recipes import load_recipe
from bench.plan.spec import STAGE, RunPlan
from bench.types import UserError

DECLARED, TUNED, UNDECLARED = STATUSES = ("declared", "tuned", "undeclared")  # the worst last
SET = re.compile(r"(?:^|[\[,])([A-Za-z0-9_-]+\.[A-Za-z_]\w*)=")


@dataclass(frozen=True)
class Reason:
    """One of STATUSES and why, in a few words."""

    status: str
    why: str


@dataclass(frozen=True)
class Presets:
    """What a model's bench.json presets: fields by method, and which methods' presets trials chose.

    ``recipe`` is the name of the run's recipe, ``above`` what that presets.
    """

    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tuned: frozenset[str] = frozenset()
    recipe: str = ""
    above: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def run_presets(plan: RunPlan, env: Mapping[str, Any]) -> Presets:
    """The presets of a run's model and recipe; empty for what is not here any more.

    The model is looked up by the command's --model and by the plan's name.
    """
    command = [str(word) for word in env.get("command", ())]
    found = (presets_of(name) for name in (*option_values(command, "--model"), plan.model))
    known = next((presets for presets in found if presets is not None), Presets())
    recipe = next(iter(option_values(command, "--recipe")), "")
    return replace(known, recipe=recipe, above=recipe_presets(recipe)) if recipe else known


def option_values(command: Sequence[str], option: str) -> list[str]:
    """The values that a command gives an option."""
    apart = [command[i + 1] for i, word in enumerate(command[:-1]) if word == option]
    return apart + [word.partition("=")[2] for word in command if word.startswith(f"{option}=")]


@cache
def recipe_presets(name: str) -> Mapping[str, Mapping[str, Any]]:
    """What a recipe presets; nothing if there is none of this name, or a broken one."""
    try:
        return load_recipe(name).methods
    except UserError:
        return {}


@cache
def presets_of(model: str) -> Presets | None:
    """The presets of a model by name or directory; None if there is no such directory here."""
    from bench.models import local_models, model_settings

    path = local_models().get(model, Path(model))
    if not path.is_dir():
        return None
    try:
        stored = model_settings(str(path))
    except UserError:
        return None
    return Presets(stored.get("methods", {}), frozenset(stored.get("tuned", ())))


def field_reason(plan: RunPlan, number: int, name: str, presets: Presets) -> Reason:
    """Why the field ``name`` of stage ``number`` has its value."""
    stage = plan.stages[number]
    value, full = stage.fields[name], f"{stage.name}.{name}"
    tuning = getattr(plan, "tuned", None)
    if tuning is not None and full in tuning.settings:
        return Reason(TUNED, f"by {tuning.trials} trials")
    if full in SET.findall(plan.method.partition("[")[2]):
        return Reason(DECLARED, "set by the user, in the label")
    try:
        known = declared(stage.name)
    except UserError:
        return Reason(UNDECLARED, f"there is no method {stage.name} here to ask")
    variant = variant_of(plan, number)
    if variant and same_value(known.variants.get(variant, {}).get(name), value):
        return Reason(DECLARED, f"variant {variant}")
    if plan.scaled is not None and (before := plan.scaled.before.get(f"{number}:{full}")) is not None:
        share = f"a step costs at most {plan.scaled.share:.0%} of the budget"
        return Reason(DECLARED, f"{before} made smaller by --batch auto: {share}")
    above = presets.above.get(stage.name, {})
    if name in above and same_value(above[name], value):
        return Reason(DECLARED, f"preset of recipe {presets.recipe}")
    preset = presets.methods.get(stage.name, {})
    if name in preset and same_value(preset[name], value):
        if stage.name in presets.tuned:
            return Reason(TUNED, f"preset of model {Path(plan.model).name}")
        return Reason(DECLARED, f"preset of model {Path(plan.model).name}")
    if name in known.defaults and same_value(known.defaults[name], value):
        return Reason(DECLARED, f"default of {stage.name}")
    return Reason(UNDECLARED, f"neither default, variant nor preset of {stage.name}")


def variant_of(plan: RunPlan, number: int) -> str | None:
    """The variant of a stage by the plan's label, None without one."""
    parts = plan.method.partition("[")[0].split("+")
    match = STAGE.fullmatch(parts[number].strip()) if number < len(parts) else None
    return match["variant"] if match else None


def same_value(expected: Any, value: Any) -> bool:
    """Whether a declared value equals the planned one.  Presets may be text, and JSON turns tuples into lists."""
    if isinstance(value, (list, tuple)):
        parts = expected.split(",") if isinstance(expected, str) else expected
        whole = isinstance(parts, (list, tuple)) and len(parts) == len(value)
        return whole and all(same_value(e, v) for e, v in zip(parts, value))
    if isinstance(value, bool):
        return str(expected).lower() in ({"true", "1"} if value else {"false", "0"})
    if isinstance(value, (int, float)):
        try:
            return not isinstance(expected, bool) and float(expected) == float(value)
        except (TypeError, ValueError):
            return False
    return bool(expected == value)

"""Why a stage's field has its value: the method's default, its variant, the model's preset, trials, or the user.

A value that none of these explains was planned by other code or with a preset that is not there any more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from bench.analysis.declared_fields import declared
from bench.plan.spec import STAGE, RunPlan
from bench.types import UserError

DECLARED, TUNED, UNDECLARED = STATUSES = ("declared", "tuned", "undeclared")
SET = re.compile(r"(?:^|[\[,])([A-Za-z0-9_-]+\.[A-Za-z_]\w*)=")


@dataclass(frozen=True)
class Reason:
    """One of STATUSES and why, in a few words."""

    status: str
    why: str


@dataclass(frozen=True)
class Presets:
    """Of a model's bench.json: fields by method, and the methods whose preset was tuned."""

    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tuned: frozenset[str] = frozenset()


def presets(plan: RunPlan, env: Mapping[str, Any]) -> Presets:
    """The presets of a run's model, looked for under the plan's name and the command's --model; none if not there."""
    command = [str(word) for word in env.get("command", ())]
    named = [command[i + 1] for i, word in enumerate(command[:-1]) if word == "--model"]
    named += [word.partition("=")[2] for word in command if word.startswith("--model=")]
    for name in (*named, plan.model):
        found = presets_of(name)
        if found is not None:
            return found
    return Presets()


@cache
def presets_of(model: str) -> Presets | None:
    """Of a model by its name or directory; None where there is no such directory here."""
    from bench.models import TINY, model_settings

    path = TINY if model == "tiny" else Path(model)
    if not path.is_dir():
        return None
    try:
        found = model_settings(str(path))
    except UserError:
        return None
    return Presets(found.get("methods", {}), frozenset(found.get("tuned", ())))


def reason(plan: RunPlan, number: int, name: str, presets: Presets) -> Reason:
    """Why field ``name`` of the stage of this number has its value."""
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
    if variant and same(known.variants.get(variant, {}).get(name), value):
        return Reason(DECLARED, f"variant {variant}")
    preset = presets.methods.get(stage.name, {})
    if name in preset and same(preset[name], value):
        if stage.name in presets.tuned:
            return Reason(TUNED, f"preset of model {Path(plan.model).name}")
        return Reason(DECLARED, f"preset of model {Path(plan.model).name}")
    if name in known.defaults and same(known.defaults[name], value):
        return Reason(DECLARED, f"default of {stage.name}")
    return Reason(UNDECLARED, f"neither default, variant nor preset of {stage.name}")


def variant_of(plan: RunPlan, number: int) -> str | None:
    """The variant of a stage by the plan's label, None without one."""
    parts = plan.method.partition("[")[0].split("+")
    match = STAGE.fullmatch(parts[number].strip()) if number < len(parts) else None
    return match["variant"] if match else None


def same(expected: Any, value: Any) -> bool:
    """Whether a declared value is the planned one: presets may be text, tuples are lists in JSON."""
    if isinstance(value, (list, tuple)):
        parts = expected.split(",") if isinstance(expected, str) else expected
        whole = isinstance(parts, (list, tuple)) and len(parts) == len(value)
        return whole and all(same(e, v) for e, v in zip(parts, value))
    if isinstance(value, bool):
        return str(expected).lower() in ({"true", "1"} if value else {"false", "0"})
    if isinstance(value, (int, float)):
        try:
            return not isinstance(expected, bool) and float(expected) == float(value)
        except (TypeError, ValueError):
            return False
    return bool(expected == value)

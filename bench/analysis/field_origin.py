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

DECLARED, TUNED, UNDECLARED = STATUSES = ("declared", "tuned", "undeclared")  # the worst last
SET = re.compile(r"(?:^|[\[,])([A-Za-z0-9_-]+\.[A-Za-z_]\w*)=")


@dataclass(frozen=True)
class Reason:
    """One of STATUSES and why, in a few words."""

    status: str
    why: str


@dataclass(frozen=True)
class Presets:
    """What a model's bench.json presets: fields by method, and which methods' presets trials chose."""

    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tuned: frozenset[str] = frozenset()


def run_presets(plan: RunPlan, env: Mapping[str, Any]) -> Presets:
    """The presets of a run's model, looked up by the command's --model and the plan's name; empty if it is not here."""
    command = [str(word) for word in env.get("command", ())]
    named = [command[i + 1] for i, word in enumerate(command[:-1]) if word == "--model"]
    named += [word.partition("=")[2] for word in command if word.startswith("--model=")]
    for name in (*named, plan.model):
        presets = presets_of(name)
        if presets is not None:
            return presets
    return Presets()


@cache
def presets_of(model: str) -> Presets | None:
    """The presets of a model by name or directory; None if there is no such directory here."""
    from bench.models import TINY, model_settings

    path = TINY if model == "tiny" else Path(model)
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

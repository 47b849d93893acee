"""Search spaces of methods and the points at which they are tried.

A method declares its space as ``SEARCH``: field -> a list of choices, or a range (low, high, "log" or "linear").  A
model's ``bench.json`` may bring other ranges for it ("search"), and so may the user.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.plan import registry
from bench.plan.spec import STAGE
from bench.seeds import derive_seed
from bench.types import UserError

SCALES = ("linear", "log")
DIGITS = 3  # significant ones of a value drawn from a range
PATIENCE = 200  # points of the sequence per trial, until a space counts as exhausted
RANGE = re.compile(r"(?P<low>[^.:]+(\.[^.:]+)?)\.\.(?P<high>[^:]+)(:(?P<scale>.+))?")
FORM = "expected [METHOD.]FIELD=LOW..HIGH:log, or choices such as lr=1e-5,1e-4"


@dataclass(frozen=True)
class Axis:
    """One searched field: ``choices``, or all values from ``low`` to ``high``, equally likely on their scale."""

    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    scale: str = "linear"
    whole: bool = False  # of a range: only whole numbers

    def value(self, share: float) -> Any:
        """The value at a share in [0, 1) of the way through."""
        if self.choices:
            return self.choices[int(share * len(self.choices))]
        if self.scale == "log":
            number = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            number = self.low + share * (self.high - self.low)
        return round(number) if self.whole else float(f"{number:.{DIGITS}g}")

    def record(self) -> list[Any] | dict[str, Any]:
        """For JSON: a list of choices, or the limits of a range."""
        return list(self.choices) or {"low": self.low, "high": self.high, "scale": self.scale}


def axis(name: str, declared: Any) -> Axis:
    """What is declared for a field, checked; UserError names the field."""
    if isinstance(declared, (list, tuple)):
        if len(declared) == 3 and declared[2] in SCALES:
            low, high, scale = declared
            numbers = all(isinstance(x, (int, float)) and math.isfinite(x) for x in (low, high))
            if numbers and low < high and (scale == "linear" or low > 0):
                return Axis(low=float(low), high=float(high), scale=scale)
        elif declared and len(set(map(str, declared))) == len(declared):
            return Axis(choices=tuple(declared))
    raise UserError(
        f"search space of {name}: {declared!r} is not valid: expected a list of different values, or a range "
        "[low, high, 'log' or 'linear'] with low below high and above 0 on a log scale"
    )


def parse_search(items: Sequence[str]) -> dict[str, Axis]:
    """``lr=1e-5..1e-3:log`` or ``uft.demo_coef=0,0.001,0.01``: the user's spaces by field, with or without method."""
    axes = {}
    for item in items:
        name, _, text = item.partition("=")
        name = name.strip()
        if not text or not 0 < len(name.split(".")) <= 2 or not all(name.split(".")):
            raise UserError(f"malformed search space '{item}': {FORM}")
        method = name.partition(".")[0] if "." in name else None
        if method is not None:
            registry.check_choice(method, registry.names("methods"), "method")
        match = RANGE.fullmatch(text)
        if match is None:
            declared: list[Any] = [parse_number(part.strip()) for part in text.split(",") if part.strip()]
        else:
            declared = [parse_number(match["low"]), parse_number(match["high"]), match["scale"] or "linear"]
            registry.check_choice(declared[2], SCALES, f"scale of {name}")
        axes[name] = axis(name, declared)
    return axes


def parse_number(text: str) -> float | int | str:
    """The number that a text is, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def method_space(
    text: str,
    fixed: Mapping[str, Mapping[str, Any]],
    preset: Mapping[str, Any],
    given: Mapping[str, Axis],
) -> dict[str, Axis]:
    """What is searched for a method or pipeline, by METHOD.FIELD: declared fields that nothing fixes.

    A variant's own fields and the user's settings (``fixed``, by method) are not searched; ``preset`` holds the
    ranges of the model, ``given`` the user's, which may name further fields.  Empty when no stage trains.
    """
    axes: dict[str, Axis] = {}
    for part in text.split("+"):
        match = STAGE.fullmatch(part.strip())
        if match is None:
            raise UserError(f"malformed method '{text}': expected NAME, NAME:VARIANT or sft@0.3+grpo")
        name = match["name"]
        module = registry.module("methods", name)
        held = {**fixed.get(name, {}), **(module.VARIANTS[match["variant"]] if match["variant"] else {})}
        own = {field: axis(f"{name}.{field}", preset.get(field, values)) for field, values in module.SEARCH.items()}
        own |= {field: given[field] for field in own if field in given}
        own |= {key.partition(".")[2]: value for key, value in given.items() if key.startswith(f"{name}.")}
        method = module.METHOD()
        for field in sorted(own.keys() - held.keys()):
            whole = type(getattr(method, field, None)) is int and not own[field].choices
            axes[f"{name}.{field}"] = replace(own[field], whole=whole)
    return axes


def draw_points(axes: Mapping[str, Axis], num: int) -> list[dict[str, Any]]:
    """``num`` different points: a scrambled Halton sequence whose seed is a hash of the fields' names.

    Methods that search the same fields are tried at the same shares of their ranges, and more trials begin with the
    same points.  UserError when there are fewer points than trials.
    """
    from scipy.stats import qmc

    names = sorted(axes, key=lambda name: name.partition(".")[2])
    seed = derive_seed("search", *(name.partition(".")[2] for name in names))
    sequence = qmc.Halton(len(names), scramble=True, rng=seed)
    points: list[dict[str, Any]] = []
    for shares in sequence.random(PATIENCE * num):
        point = {name: axes[name].value(float(share)) for name, share in zip(names, shares)}
        if point not in points:  # choices come again
            points.append(point)
        if len(points) == num:
            return points
    raise UserError(f"{num} trials are more than the {len(points)} points of {', '.join(names)}: lower --trials")

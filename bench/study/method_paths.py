"""Paths from one method to another, one term at a time; longer ones are joined from these, and may be walked back."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from bench.plan import registry
from bench.study.ablation import Ablation, Arm, Subject, text
from bench.types import UserError

OPTIMIZER = ("lr", "warmup", "decay", "weight_decay", "betas", "batch_size", "num_updates")
ROLLOUTS = ("group_size", "clip_low", "clip_high", "scale", "eps")
WHOLE = {"p_low": 1.0, "p_high": 1.0, "hint_until": 1.0}  # hints of all steps, in every step of the run


@dataclass(frozen=True)
class Waypoint:
    """A method with settings; ``term`` is what changes against the waypoint before, ``fields`` the fields that do.

    ``like`` names a method and fields that are taken from its resolved defaults.  Where the method changes, the
    waypoint with ``undone`` set is the waypoint before, bit for bit by the methods' IDENTITIES; empty: no identity.
    """

    method: str
    term: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    like: tuple[str, tuple[str, ...]] | None = None
    undone: Mapping[str, Any] = field(default_factory=dict)


PLAIN = {"demo_coef": 1.0, "kl_coef": 0.0, "entropy_coef": 0.0}
NO_KL = {"kl_coef": 0.0}
BARE = {"kl_coef": 0.0, "entropy_coef": 0.0}
PATHS: dict[tuple[str, str], tuple[Waypoint, ...]] = {
    ("sft", "dft"): (
        Waypoint("sft"),
        Waypoint("sft", "optimizer settings of dft", {}, OPTIMIZER, ("dft", OPTIMIZER)),
        Waypoint("dft", "each token weighted by its probability", {}, ("weight", "detach")),
    ),
    ("dft", "asft"): (
        Waypoint("dft"),
        Waypoint("dft", "optimizer settings of asft", {}, OPTIMIZER, ("asft", OPTIMIZER)),
        Waypoint("asft", "divergence from the reference model", {}, ("kl_coef",), None, {"kl_coef": 0.0}),
    ),
    ("sft", "uft"): (
        Waypoint("sft"),
        Waypoint("sft", "optimizer settings of uft", {}, OPTIMIZER, ("uft", OPTIMIZER)),
        Waypoint(
            "uft",
            "hints of all steps in place of demonstrations: the ending is sampled, not trained, and not yet rewarded",
            {**WHOLE, **PLAIN, "group_size": 1},
            ("p_low", "p_high", "hint_until", "demo_coef", "kl_coef", "entropy_coef", "group_size"),
        ),
        Waypoint("uft", "groups of rollouts and their reward", {**WHOLE, **PLAIN}, ("group_size",)),
        Waypoint("uft", "hints that shorten by the schedule", PLAIN, ("p_low", "p_high", "hint_until")),
        Waypoint("uft", "weight of the likelihood", BARE, ("demo_coef",)),
        Waypoint("uft", "entropy bonus", NO_KL, ("entropy_coef",)),
        Waypoint("uft", "KL to the reference model", {}, ("kl_coef",)),
    ),
    ("grpo", "uft"): (
        Waypoint("grpo"),
        Waypoint(
            "grpo",
            "optimizer and rollout settings of uft",
            {},
            (*OPTIMIZER, *ROLLOUTS, "kl_coef", "entropy_coef"),
            ("uft", (*OPTIMIZER, *ROLLOUTS, "kl_coef", "entropy_coef")),
        ),
        Waypoint("uft", "hints", {"demo_coef": 0.0}, ("schedule",), None, {"schedule": "none"}),
        Waypoint("uft", "likelihood of the hints", {}, ("demo_coef",)),
    ),
    ("grpo", "chord"): (
        Waypoint("grpo"),
        Waypoint("grpo", "no entropy bonus", {"entropy_coef": 0.0}, ("entropy_coef",)),
        Waypoint("grpo", "no KL to the reference model", BARE, ("kl_coef",)),
        Waypoint(
            "grpo",
            "optimizer and rollout settings of chord",
            BARE,
            (*OPTIMIZER, *ROLLOUTS),
            ("chord", (*OPTIMIZER, *ROLLOUTS)),
        ),
        Waypoint(
            "chord",
            "some prompts set aside as demonstrations, unused",
            {"mu_peak": 0.0, "mu_valley": 0.0},
            ("num_demos", "demo_share"),
            None,
            {"mu_peak": 0.0},
        ),
        Waypoint("chord", "likelihood at its final weight", {"mu_peak": 0.05}, ("mu_peak", "mu_valley")),
        Waypoint("chord", "a likelihood that begins strong and decays", {}, ("mu_peak",)),
    ),
}


def route(start: str, end: str) -> list[Waypoint]:
    """Waypoints from start to end; UserError for methods without a path."""
    joined = {method for pair in PATHS for method in pair}
    for name in (start, end):
        registry.check_choice(name, registry.names("methods"), "method")
        if name not in joined:
            raise UserError(
                f"no path to or from {name}: there are paths between any two of {', '.join(sorted(joined))}"
            )
    if start == end:
        raise UserError(f"a path needs two methods, got {start} twice: choose two of {', '.join(sorted(joined))}")
    came: dict[str, str] = {start: ""}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        for a, b in PATHS:
            for one, other in ((a, b), (b, a)):
                if one == here and other not in came:
                    came[other] = here
                    waiting.append(other)
    stops = [end]
    while stops[0] != start:
        stops.insert(0, came[stops[0]])
    return [Waypoint(start), *(point for a, b in pairwise(stops) for point in leg(a, b))]


def leg(start: str, end: str) -> list[Waypoint]:
    """One declared path without its first waypoint; backwards each waypoint takes the term of the one after it."""
    if (start, end) in PATHS:
        return list(PATHS[start, end][1:])
    return [
        Waypoint(point.method, f"undone: {after.term}", point.settings, after.fields, point.like)
        for point, after in reversed(list(pairwise(PATHS[end, start])))
    ]


def build_path(start: str, end: str, presets: Mapping[str, Mapping[str, Any]]) -> tuple[Ablation, list[Subject]]:
    """The arms of a path under a model's presets; a waypoint that changes nothing there is left out, with a note."""
    points = route(start, end)
    subjects = {point.method: Subject(point.method, presets) for point in points}
    arms: list[Arm] = []
    notes = []
    for point in points:
        arm = reached(point, subjects[point.method], presets)
        if arms and (arms[-1].stage.name, arms[-1].stage.fields) == (arm.stage.name, arm.stage.fields):
            notes.append(f"{point.term}: changes nothing with this model's settings and is left out.")
        else:
            arms.append(arm)
    return Ablation(f"{start} to {end}", "path", (), tuple(arms), arms[0].name, tuple(notes)), list(subjects.values())


def reached(point: Waypoint, subject: Subject, presets: Mapping[str, Mapping[str, Any]]) -> Arm:
    """The arm of a waypoint; its name is the label of its runs."""
    source = Subject(point.like[0], presets).defaults if point.like else {}
    borrowed = {name: source[name] for name in (point.like[1] if point.like else ())}
    changes = {name: text(value) for name, value in {**borrowed, **point.settings}.items()}
    arm = subject.arm("", changes)
    return Arm(arm.method, arm.method, arm.stage, {}, point.term)

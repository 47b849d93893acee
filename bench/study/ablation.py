"""Ablations as lists of arms, and the runs of each arm; designs.py and method_paths.py make the lists.

An arm is an ordinary method expression with settings; a setting that equals the resolved default is left out, so that
an arm has the same run ids as the same method of an earlier command, and its finished runs are reused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.plan import registry
from bench.plan.spec import STAGE, Stage, coerce, parse_method, parse_overrides, resolve
from bench.store.job import Job
from bench.study.jobs import Spec, check_runs, plan_jobs
from bench.types import UserError

MAX_RUNS = 64  # runs to train that need no --yes


@dataclass(frozen=True)
class Factor:
    """A field and the values it takes, as texts; ``baseline`` is the level that the others are compared with."""

    name: str
    levels: tuple[str, ...]
    baseline: str


@dataclass(frozen=True)
class Arm:
    """One setting of the method; ``levels`` has a text per factor, ``stage`` the resolved hyper-parameters."""

    name: str  # for people: "default", "demo_coef=0, schedule=staged", "r3"
    method: str  # label of its runs
    stage: Stage
    levels: Mapping[str, str] = field(default_factory=dict)
    term: str = ""  # of a path: what changed against the arm before


@dataclass(frozen=True)
class Ablation:
    """Arms to be trained and compared; ``reference`` is the name of the arm that the others are compared with."""

    method: str
    design: str
    factors: tuple[Factor, ...]
    arms: tuple[Arm, ...]
    reference: str
    notes: tuple[str, ...] = ()


def text(value: Any) -> str:
    """A field's value as a user may write it: "0" for 0.0, "true", "0.9,0.95"."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(text, value))
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


class Subject:
    """The method under ablation: its name, variant and resolved defaults under a model's preset and ``--set``."""

    def __init__(self, method: str, presets: Mapping[str, Mapping[str, Any]], settings: Sequence[str] = ()) -> None:
        match = STAGE.fullmatch(method.strip())
        if match is None or match["share"] is not None:
            raise UserError(f"cannot ablate '{method}': expected one method or variant, for example uft or uft:stage")
        self.name, self.variant, self.presets = match["name"], match["variant"], presets
        registry.check_choice(self.name, registry.names("methods"), "method")
        given = parse_overrides(settings)
        for other in given.keys() - {self.name}:
            raise UserError(f"setting for '{other}', which is not the method ablated, {self.name}")
        self.preset = presets.get(self.name, {})
        self.plain = resolve(self.name, self.variant, self.preset, {})
        self.given = given.get(self.name, {})
        self.defaults = resolve(self.name, self.variant, self.preset, self.given)

    @property
    def label(self) -> str:
        return self.name if self.variant is None else f"{self.name}:{self.variant}"

    def value(self, name: str, given: str) -> str:
        """A level as text in its one spelling; UserError for an unknown field or a value that it cannot have."""
        fields = resolve(self.name, self.variant, self.preset, {**self.given, name: given})
        return text(fields[name])

    def arm(self, name: str, changes: Mapping[str, str], variant: str | None = None, **more: Any) -> Arm:
        """The arm with these settings; those that equal what the method has anyway leave no trace in its label."""
        variant = variant or self.variant
        plain = resolve(self.name, variant, self.preset, {})
        wanted = {k: coerce(self.name, k, v, plain.get(k)) for k, v in {**self.given, **changes}.items()}
        kept = {k: text(v) for k, v in wanted.items() if v != plain[k]}
        expression = self.name if variant is None else f"{self.name}:{variant}"
        label, (stage,) = parse_method(expression, self.presets, {self.name: kept})
        return Arm(name, label, stage, **more)

    def spellings(self, arm: Arm) -> list[str]:
        """Labels under which runs of the same hyper-parameters may be stored, the arm's own first."""
        plain = resolve(self.name, None, self.preset, {})
        labels = [arm.method]
        changed = {k: text(v) for k, v in arm.stage.fields.items() if v != plain[k]}
        module = registry.module("methods", self.name)
        if not set(changed) & set(module.FIXED):
            labels.append(parse_method(self.name, self.presets, {self.name: changed})[0])
        for variant in module.VARIANTS:
            if resolve(self.name, variant, self.preset, {}) == arm.stage.fields:
                labels.append(f"{self.name}:{variant}")
        return list(dict.fromkeys(labels))


# --- runs ----------------------------------------------------------------------------------------------------------


def arm_jobs(spec: Spec, ablation: Ablation, subjects: Sequence[Subject]) -> dict[str, list[Job]]:
    """The runs of each arm, by its name; a finished run of the same settings under another spelling is taken."""
    of = {subject.name: subject for subject in subjects}
    check_runs(len(ablation.arms) * len(spec.seeds))
    base = plan_jobs(spec)
    spellings = {arm.name: of[arm.stage.name].spellings(arm) for arm in ablation.arms}
    return {arm.name: [arm_job(spec, job, arm, spellings[arm.name]) for job in base] for arm in ablation.arms}


def arm_job(spec: Spec, job: Job, arm: Arm, spellings: Sequence[str]) -> Job:
    """One run of an arm: the base job with the arm's hyper-parameters."""
    choices = []
    for label in spellings:
        plan = job.plan.model_copy(update={"method": label, "stages": (arm.stage,)})
        choices.append(Job(plan, job.execution, spec.results / plan.directory, job.model_path, job.data))
    return next((choice for choice in choices if choice.done), choices[0])


def check_size(planned: Mapping[str, Sequence[Job]], yes: bool) -> None:
    """UserError when more than MAX_RUNS runs would have to be trained without --yes."""
    missing = sum(not job.done for arm in planned.values() for job in arm)
    if missing > MAX_RUNS and not yes:
        seeds = max(map(len, planned.values()))
        raise UserError(
            f"{len(planned)} arms x {seeds} seeds: {missing} runs to train are more than {MAX_RUNS}; "
            "give --yes to start them, fewer values, or --design one-at-a-time or fractional"
        )

"""Designs of ablations: which settings of a method become arms; one at a time, grid, leave one out, half fraction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

from bench.plan import registry
from bench.study.ablation import Ablation, Factor, Subject, text
from bench.study.jobs import check_runs
from bench.types import UserError

DESIGNS = ("one-at-a-time", "grid", "leave-one-out", "fractional")
SUITES = ("paper",)
OFF = (0, 0.0, False, "none")
DEFAULT = "default"


def factors(subject: Subject, vary: Sequence[str]) -> list[Factor]:
    """``demo_coef=0,0.001`` to factors; values of a field of several numbers are separated by semicolons."""
    chosen: list[Factor] = []
    for item in vary:
        name, equals, values = item.partition("=")
        name = name.strip().removeprefix(f"{subject.name}.")
        if not equals or not name or not values.strip():
            raise UserError(f"malformed --vary '{item}': expected FIELD=VALUE,VALUE, for example demo_coef=0,0.001")
        registry.check_choice(name, subject.defaults, f"field of {subject.name}")
        if name in [factor.name for factor in chosen]:
            raise UserError(f"--vary {name} is given twice: write its values into one, {name}=VALUE,VALUE")
        separator = ";" if isinstance(subject.defaults[name], tuple) else ","
        check_runs(values.count(separator) + 1)
        levels = tuple(dict.fromkeys(subject.value(name, v.strip()) for v in values.split(separator)))
        default = text(subject.defaults[name])
        chosen.append(Factor(name, levels, default if default in levels else levels[0]))
    return chosen


def named(levels: Mapping[str, str], defaults: Mapping[str, str]) -> str:
    """What an arm changes, for people."""
    return ", ".join(f"{k}={v}" for k, v in levels.items() if v != defaults[k]) or DEFAULT


def build_ablation(subject: Subject, vary: Sequence[str], design: str, suite: str | None = None) -> Ablation:
    """The arms of a design; UserError for one that does not fit the factors."""
    registry.check_choice(design, DESIGNS, "design")
    if suite is not None:
        registry.check_choice(suite, SUITES, "suite")
        if vary or design != DESIGNS[0]:
            raise UserError("--suite brings its own arms: give it without --vary and --design")
        return of_variants(subject)
    chosen = factors(subject, vary)
    if design == "leave-one-out":
        return leave_one_out(subject, chosen)
    if not chosen:
        raise UserError("nothing to ablate: give --vary FIELD=VALUE,VALUE or --suite paper")
    check_runs(math.prod(len(factor.levels) for factor in chosen) if design in ("grid", "fractional") else 1)
    notes: tuple[str, ...] = ()
    if design == "one-at-a-time":
        chosen = [with_default(subject, factor) for factor in chosen]
        assignments = each_alone(chosen)
    elif design == "grid":
        assignments = [dict(zip((f.name for f in chosen), levels)) for levels in product(*(f.levels for f in chosen))]
    else:
        chosen = two_levels(subject, chosen)
        assignments, notes = half_fraction(chosen)
    return assemble(subject, design, chosen, assignments, notes)


def assemble(
    subject: Subject,
    design: str,
    chosen: Sequence[Factor],
    assignments: Sequence[Mapping[str, str]],
    notes: tuple[str, ...] = (),
) -> Ablation:
    """Arms of the assignments, the one with every baseline first; UserError when there is nothing to compare."""
    defaults = {f.name: text(subject.defaults[f.name]) for f in chosen}
    base = {f.name: f.baseline for f in chosen}
    order = sorted(assignments, key=lambda levels: dict(levels) != base)
    arms = tuple(subject.arm(named(levels, defaults), levels, levels=dict(levels)) for levels in order)
    if len(arms) < 2:
        raise UserError(f"{subject.label} has these values anyway, nothing is left to compare: give other values")
    return Ablation(subject.label, design, tuple(chosen), arms, arms[0].name, notes)


def with_default(subject: Subject, factor: Factor) -> Factor:
    """The factor with the method's own value as its first level and baseline."""
    default = text(subject.defaults[factor.name])
    return Factor(factor.name, tuple(dict.fromkeys((default, *factor.levels))), default)


def each_alone(chosen: Sequence[Factor]) -> list[dict[str, str]]:
    """Every baseline, and each other value of each factor alone."""
    base = {f.name: f.baseline for f in chosen}
    return [base, *({**base, f.name: level} for f in chosen for level in f.levels if level != f.baseline)]


def leave_one_out(subject: Subject, chosen: Sequence[Factor]) -> Ablation:
    """The full method and, for each component, the method without it.

    ``--vary FIELD=OFF`` or ``FIELD=OFF,ON``: the first value switches the component off, the second is what the full
    method has, by default the method's own.  Without --vary: each field that a variant alone sets to 0, false or none.
    """
    if not chosen:
        chosen = [Factor(name, (off,), off) for name, off in off_values(subject).items()]
    if not chosen:
        raise UserError(f"{subject.label} has no variant that switches one component off: give --vary FIELD=OFF")
    for factor in chosen:
        if len(factor.levels) > 2:
            raise UserError(f"leave-one-out takes {factor.name}=OFF or {factor.name}=OFF,ON, not more values")
    full = {f.name: f.levels[1] if len(f.levels) > 1 else text(subject.defaults[f.name]) for f in chosen}
    same = [f.name for f in chosen if f.levels[0] == full[f.name]]
    if same:
        raise UserError(f"{subject.label} has {same[0]}={full[same[0]]} anyway: give FIELD=OFF,ON")
    pairs = [Factor(f.name, (full[f.name], f.levels[0]), full[f.name]) for f in chosen]
    return assemble(subject, "leave-one-out", pairs, each_alone(pairs))


def off_values(subject: Subject) -> dict[str, str]:
    """Fields that a variant of the method alone switches off."""
    alone = [change for change in registry.module("methods", subject.name).VARIANTS.values() if len(change) == 1]
    switched = {name: value for change in alone for name, value in change.items() if value in OFF}
    return {name: text(value) for name, value in switched.items() if value != subject.defaults[name]}


def two_levels(subject: Subject, chosen: Sequence[Factor]) -> list[Factor]:
    """Factors of exactly two levels, the baseline first; a single value is set against the default."""
    pairs = []
    for factor in chosen:
        pair = factor if len(factor.levels) > 1 else with_default(subject, factor)
        if len(pair.levels) != 2:
            raise UserError(f"a fractional design needs two values of {pair.name}, got {len(pair.levels)}")
        pairs.append(replace(pair, levels=tuple(sorted(pair.levels, key=lambda level: level != pair.baseline))))
    return pairs


def half_fraction(chosen: Sequence[Factor]) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    """Half of the two-level factorial, defined by I = the product of all factors; with what is aliased with what.

    With baseline = +1 the arms have an even number of changed factors, the baseline of all is one of them.
    """
    if len(chosen) < 3:
        raise UserError(f"a fractional design needs at least three factors, got {len(chosen)}: use --design grid")
    arms = []
    for signs in product((1, -1), repeat=len(chosen)):
        if math.prod(signs) == 1:
            arms.append({f.name: f.levels[0] if sign == 1 else f.levels[1] for f, sign in zip(chosen, signs)})
    names = [f.name for f in chosen]
    aliases = [f"{name} = {' x '.join(other for other in names if other != name)}" for name in names]
    return arms, (
        f"Half fraction, {len(arms)} of {2 * len(arms)} arms, defining relation I = {' x '.join(names)}, resolution "
        f"{len(names)}: each main effect is aliased with the interaction of all other factors ({'; '.join(aliases)})"
        + (", so it is that effect only if the interaction is nil." if len(names) == 3 else "."),
    )


def of_variants(subject: Subject) -> Ablation:
    """The method and each of its named variants, which are its paper's ablations."""
    if subject.variant is not None:
        raise UserError(f"--suite takes a method without a variant: {subject.name}")
    variants = registry.module("methods", subject.name).VARIANTS
    if not variants:
        raise UserError(f"{subject.name} has no variants, hence no suite: give --vary FIELD=VALUE,VALUE")
    arms = [subject.arm(DEFAULT, {}, levels={"variant": DEFAULT})]
    notes = []
    for name in variants:
        arm = subject.arm(name, {}, name, levels={"variant": name})
        same = next((other.name for other in arms if other.stage.fields == arm.stage.fields), None)
        if same is not None:
            notes.append(f"{subject.name}:{name} has the same settings as {same} here and is left out.")
        else:
            arms.append(arm)
    factor = Factor("variant", tuple(arm.name for arm in arms), DEFAULT)
    return Ablation(subject.name, "paper", (factor,), tuple(arms), DEFAULT, tuple(notes))

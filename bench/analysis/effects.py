"""What the components of an ablation do: paired contrasts between arms, with Holm's correction over all of them.

A contrast is a mean of arms minus a mean of others, item by item and seed by seed; a two-way interaction is a
difference of differences.  Differences are fractions, costs are totals of the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product

import numpy as np

from bench.analysis.runs import SHARED, RunRecord, Scores, method_scores, shared_clusters
from bench.stats.intervals import ALPHA, Difference, holm, paired_difference
from bench.stats.power import MARGIN, REFUTED, SUPPORTED, UNDERPOWERED, seeds_to_find
from bench.study.ablation import Ablation, Factor
from bench.types import UserError

COSTS = ("flops", "tokens", "rollouts", "seconds")
COMPONENT, INTERACTION, TERM = "component", "interaction", "term"


@dataclass(frozen=True)
class Contrast:
    """``scale`` times the mean of the arms ``plus`` minus that of ``minus``; names of arms."""

    name: str
    factor: str
    changed: str  # the level of the arms in plus
    kept: str  # the level of those in minus
    plus: tuple[str, ...]
    minus: tuple[str, ...]
    kind: str = COMPONENT
    scale: float = 1.0

    @property
    def arms(self) -> tuple[str, ...]:
        return (*self.plus, *self.minus)


@dataclass(frozen=True)
class Effect:
    """An estimated contrast: plain 95 % limits, limits at the level of its step in Holm's correction, the answer.

    ``costs`` maps a currency to its means in minus and plus.  ``seeds_needed`` is for planning, of
    an underpowered contrast: by effect in points the seeds that find it, see ``seeds_to_find``.
    """

    contrast: Contrast
    difference: Difference
    adjusted: float
    low: float
    high: float
    seeds: tuple[int, ...]
    verdict: str
    seeds_needed: Mapping[str, int | None] | None
    costs: Mapping[str, tuple[float, float]] = field(default_factory=dict)


# --- which contrasts -----------------------------------------------------------------------------------------------


def contrasts(ablation: Ablation) -> list[Contrast]:
    """Each level against the baseline of its factor; in a grid also the interaction of every two factors."""
    if ablation.design == "path":
        return path_steps(ablation)
    averaged = ablation.design in ("grid", "fractional")
    wanted = [
        main_effect(ablation, f, level, averaged) for f in ablation.factors for level in f.levels if level != f.baseline
    ]
    if ablation.design == "grid":
        for a, b in combinations(ablation.factors, 2):
            wanted += [
                interaction(ablation, a, b, x, y)
                for x, y in product(a.levels, b.levels)
                if x != a.baseline and y != b.baseline
            ]
    return wanted


def main_effect(ablation: Ablation, factor: Factor, level: str, averaged: bool) -> Contrast:
    """A level against the baseline: averaged over the other factors, or with their baselines alone."""
    rest = {f.name: f.baseline for f in ablation.factors}

    def chosen(value: str) -> tuple[str, ...]:
        alone = {**rest, factor.name: value}
        fits = [arm.levels[factor.name] == value if averaged else arm.levels == alone for arm in ablation.arms]
        return tuple(arm.name for arm, fit in zip(ablation.arms, fits) if fit)

    name = f"{factor.name}={level} instead of {factor.baseline}"
    if averaged and len(ablation.factors) > 1:
        name += ", mean over the other factors"
    return Contrast(name, factor.name, level, factor.baseline, chosen(level), chosen(factor.baseline))


def interaction(ablation: Ablation, a: Factor, b: Factor, x: str, y: str) -> Contrast:
    """How much more a's change does where b is changed too: a difference of differences."""

    def chosen(*pairs: tuple[str, str]) -> tuple[str, ...]:
        return tuple(arm.name for arm in ablation.arms if (arm.levels[a.name], arm.levels[b.name]) in pairs)

    # Means over two arms each: (xy + 00)/2 - (x0 + 0y)/2 is half of (xy - 0y) - (x0 - 00), hence the scale of 2.
    plus, minus = chosen((x, y), (a.baseline, b.baseline)), chosen((x, b.baseline), (a.baseline, y))
    name = f"{a.name}={x} and {b.name}={y} together"
    return Contrast(name, f"{a.name} x {b.name}", f"{x}, {y}", "", plus, minus, INTERACTION, 2.0)


def path_steps(ablation: Ablation) -> list[Contrast]:
    """Each arm of a path against the one before, then the last against the first."""
    # Each term is judged in the presence of those before it, so the order of the path is part of the answer.
    pairs = list(zip(ablation.arms, ablation.arms[1:]))
    steps = [Contrast(b.term, b.term, b.name, a.name, (b.name,), (a.name,), TERM) for a, b in pairs]
    if len(pairs) < 2:
        return steps
    first, last = ablation.arms[0].name, ablation.arms[-1].name
    return [*steps, Contrast("all terms together", "all", last, first, (last,), (first,), TERM)]


# --- what they are -------------------------------------------------------------------------------------------------


def check_comparable(records: Sequence[RunRecord]) -> None:
    """UserError when the runs differ in more than method and seed, or were judged on different items."""
    for key in SHARED:
        seen = sorted({str(getattr(r, key)) for r in records})
        if len(seen) > 1:
            raise UserError(f"these runs cannot be compared, their {key.replace('_', ' ')} differs: {', '.join(seen)}")
    if len({tuple(sorted(r.item_ids)) for r in records}) > 1:
        raise UserError("these runs cannot be compared, they were judged on different items")


def estimate_effects(
    contrasts: Sequence[Contrast], records: Mapping[str, Sequence[RunRecord]], metric: str = "accuracy"
) -> list[Effect]:
    """Effects of all contrasts whose arms have a seed in common, with Holm's correction over these."""
    check_comparable([r for runs in records.values() for r in runs])
    scores = {arm: method_scores(runs, metric) for arm, runs in records.items() if runs}
    known = [c for c in contrasts if set(c.arms) <= scores.keys() and common_seeds(c.arms, scores)]
    sides = [contrast_sides(contrast, scores) for contrast in known]
    labels = shared_clusters(*scores.values())
    tests = [paired_difference(plus, minus, clusters=labels) for plus, minus in sides]
    adjusted, levels = corrected_tests(tests)
    effects = []
    for contrast, (plus, minus), test, p, level in zip(known, sides, tests, adjusted, levels):
        # Interval and adjusted p-value then never contradict each other.
        wide = paired_difference(plus, minus, level, clusters=labels)
        verdict = judge_effect(contrast, test, p, wide)
        unsettled = verdict == UNDERPOWERED and test.decides
        alpha = 1 - level if test.correctable else ALPHA / len(tests)
        needed = seeds_to_find(plus - minus, alpha, clusters=labels, corrected=True) if unsettled else None
        costs = {} if contrast.kind == INTERACTION else contrast_costs(contrast, records)
        seeds = tuple(common_seeds(contrast.arms, scores))
        effects.append(Effect(contrast, test, p, wide.low, wide.high, seeds, verdict, needed, costs))
    return effects


def contrast_sides(contrast: Contrast, scores: Mapping[str, Scores]) -> tuple[np.ndarray, np.ndarray]:
    """Plus and minus on the seeds that all its arms have, each [common seeds, items], times the contrast's scale."""
    seeds = common_seeds(contrast.arms, scores)
    plus, minus = (contrast.scale * arms_mean(side, scores, seeds) for side in (contrast.plus, contrast.minus))
    return plus, minus


def common_seeds(arms: Sequence[str], scores: Mapping[str, Scores]) -> list[int]:
    """Seeds that every one of these arms has."""
    return sorted(set.intersection(*(set(scores[arm].seeds) for arm in arms)))


def arms_mean(arms: Sequence[str], scores: Mapping[str, Scores], seeds: Sequence[int] | None = None) -> np.ndarray:
    """Mean over arms, [seeds, items]; without ``seeds`` on those that all of the arms have."""
    # Every arm on the same seeds: an arm with one more would bring that seed's luck into the contrast.
    chosen = common_seeds(arms, scores) if seeds is None else seeds
    rows = [scores[arm].values[[scores[arm].seeds.index(seed) for seed in chosen]] for arm in arms]
    return np.asarray(np.mean(rows, axis=0))


def corrected_tests(tests: Sequence[Difference]) -> tuple[list[float], list[float]]:
    """Adjusted p-values, and the levels at which limits exclude 0 where these reject.

    A test with one or two seeds is in no family: its adjusted p is 1, and its limits have the plain level.
    """
    family = [n for n, test in enumerate(tests) if test.correctable]
    p_values = [tests[n].p_value for n in family]
    adjusted, levels = [1.0] * len(tests), [1 - ALPHA] * len(tests)
    for n, p, level in zip(family, holm(p_values), holm_levels(p_values)):
        adjusted[n], levels[n] = p, level
    return adjusted, levels


def holm_levels(p_values: Sequence[float]) -> list[float]:
    """Confidence levels at which an interval excludes 0 if and only if Holm's procedure rejects, in the order given.

    Holm's step compares the p-value of rank r = 0, 1, ... with alpha / (m - r) and stops at the first that is larger.
    So the level is 1 - alpha / (m - r) up to and including that one; all later ones share its level.
    """
    levels = [0.0] * len(p_values)
    alpha, stopped = 0.0, False
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        # Once a hypothesis is not rejected, no later one is: they keep the level at which Holm stopped.
        if not stopped:
            alpha = ALPHA / (len(p_values) - rank)
            stopped = p_values[index] > alpha
        levels[index] = 1 - alpha
    return levels


def judge_effect(contrast: Contrast, test: Difference, adjusted: float, wide: Difference) -> str:
    """Whether the tests support that the kept setting is better than the changed one.

    For an interaction or a term the question is whether there is an effect at all.  Refuted: the change is better, or
    the interval lies within MARGIN of 0.  One seed says nothing about other seeds, and two are too few for a corrected
    test.  Sides that never differ, for example because all answers are wrong, leave no variation from which an interval
    could be estimated.
    """
    if not test.decides or not test.correctable:
        return UNDERPOWERED
    if adjusted <= ALPHA:
        return SUPPORTED if contrast.kind in (INTERACTION, TERM) or test.mean < 0 else REFUTED
    return REFUTED if max(abs(wide.low), abs(wide.high)) <= MARGIN else UNDERPOWERED


def contrast_costs(contrast: Contrast, records: Mapping[str, Sequence[RunRecord]]) -> dict[str, tuple[float, float]]:
    """Mean costs of the two sides, in the currencies that every run's ledger has."""
    sides = [[r for arm in side for r in records[arm]] for side in (contrast.minus, contrast.plus)]
    shared = [key for key in COSTS if all(key in r.ledger for side in sides for r in side)]
    minus, plus = ({key: float(np.mean([r.ledger[key] for r in side])) for key in shared} for side in sides)
    return {key: (minus[key], plus[key]) for key in shared}

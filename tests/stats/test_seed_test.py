"""The test of a mean over seeds and items: against integration by scipy, Student's t, and drawn mean squares."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import integrate, stats

from bench.stats.limits import half_width
from bench.stats.seed_test import TURN, Spread, p_value
from bench.stats.variance import Variances
from benchmarks.tails import drawn_tests, p_values

LEVELS = (0.1, 0.05, 0.01, 0.05 / 28, 0.0005)


def spread(seeds: float, items: float, least: float, seed_df: int = 2, item_df: float = 499) -> Spread:
    return Spread(np.array(seeds), np.array(items), np.array(least), seed_df, item_df)


def average(size: float, s: Spread, df: int) -> float:
    """Mean over chi2 of the tail of t whose variance is the items' and (S - 1) MS_seed / chi2, or ``least``."""

    def tail(chi2: float) -> float:
        variance = max(float(s.seeds) * s.seed_df / chi2, float(s.least)) + float(s.items)
        return float(2 * stats.t.sf(size / math.sqrt(variance), s.item_df) * stats.chi2.pdf(chi2, df))

    bend = float(s.seeds) * s.seed_df / float(s.least)
    lower = integrate.quad(tail, 0, bend, limit=400, epsabs=0, epsrel=1e-9)[0]
    return float(lower + integrate.quad(tail, bend, np.inf, limit=400)[0])


@pytest.mark.parametrize(
    ("seeds", "items", "least", "seed_df", "size"),
    [(0.3, 1, 0.2, 1, 3), (3, 1, 0.2, 2, 12), (0.3, 1, 0.6, 2, 3), (5, 1, 0.5, 4, 9), (0.4, 1, 0.3, 9, 4)],
)
def test_p_is_the_stated_average(seeds: float, items: float, least: float, seed_df: int, size: float) -> None:
    s = spread(seeds, items, least, seed_df)
    cautious, hopeful = average(size, s, seed_df), average(size, s, seed_df + 2)
    hope = items / (items + seeds) * (1 - 0.5**seed_df) * cautious / (cautious + TURN)
    assert float(p_value(size, s)) == pytest.approx(cautious - hope * (cautious - hopeful), rel=1e-6)


@pytest.mark.parametrize(("seed_df", "size"), product((1, 2, 4, 9), (0.5, 3.0, 40.0)))
def test_limits_are_those_of_students_t(seed_df: int, size: float) -> None:
    seeds_alone = float(p_value(size, spread(1, 0, 0, seed_df, 1e7)))
    assert seeds_alone == pytest.approx(2 * stats.t.sf(size, seed_df), rel=1e-4)
    items_alone = float(p_value(size / 10, spread(0, 1, 0, seed_df, 20)))
    assert items_alone == pytest.approx(2 * stats.t.sf(size / 10, 20))
    assert float(p_value(size / 10, spread(0, 0.4, 0.6, seed_df, 20))) == pytest.approx(items_alone)


def test_limits_and_p_value_say_the_same_at_every_level() -> None:
    rng = np.random.default_rng(0)
    for seed_df, alpha in product((0, 1, 2, 9, 200), LEVELS):
        seeds, items, least = rng.exponential((4.0, 1.0, 0.5), (40, 3)).T * (seed_df > 0, 1, seed_df > 0)[0]
        s = Spread(seeds, items + 0.01, least, seed_df, 99)
        half = half_width(s, alpha)
        assert p_value(half, s) == pytest.approx(np.full(40, alpha), rel=1e-6)
        assert np.all(p_value(1.01 * half, s) < alpha) and np.all(p_value(half / 1.01, s) > alpha)


def test_p_falls_as_the_mean_grows() -> None:
    sizes = np.geomspace(0.01, 300, 500)
    for seed_df, seeds, items in product((1, 2, 4), (0.0, 0.1, 3.0), (0.0, 1.0)):
        found = p_value(sizes, spread(seeds, items, 0.3, seed_df).map(lambda part: np.full(500, part)))
        assert np.all(np.diff(found) <= 0) and found[0] > 0.9 and found[-1] < 0.02


def test_layouts_without_variation_and_without_knowledge() -> None:
    assert [float(p_value(x, spread(0, 0, 0))) for x in (0.0, 0.1)] == [1.0, 0.0]
    assert float(half_width(spread(0, 0, 0), 0.05)) == 0.0
    assert float(p_value(5.0, spread(0, math.inf, 0, 0, 1))) == 1.0
    assert float(half_width(spread(0, math.inf, 0, 0, 1), 0.05)) == math.inf
    both = Spread(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([0.0, 1.0]), 2, 99)
    assert half_width(both, 0.05).tolist() == [0.0, pytest.approx(float(half_width(spread(1, 1, 1, 2, 99), 0.05)))]


# Components of a difference at which the t test errs most: of seeds from none to 7 points, much and little of items.
TRUTHS = [Variances(seed, item, 0.027, 0.2) for seed, item in product((0.0, 0.0003, 0.0012, 0.005), (0.005, 0.04))]


def multiples(num_seeds: int, repetitions: int, truths: list[Variances]) -> np.ndarray:
    """Error rates as multiples of the level, [truths, LEVELS], from drawn mean squares."""
    rng = np.random.default_rng(1)
    found = [p_values(*drawn_tests(0.0, v, num_seeds, repetitions, rng), LEVELS[0]) for v in truths]
    return np.array([[np.mean(p <= level) / level for level in LEVELS] for p in found])


def test_error_rates_of_a_pair() -> None:
    for num_seeds, most in ((2, 1.4), (3, 1.25), (10, 1.2)):
        found = multiples(num_seeds, 5000, TRUTHS[4:6])[:, :2]
        assert np.all(found <= most) and np.all(found >= 0.5)  # Monte-Carlo error at 5 %: .06


@pytest.mark.parametrize(
    "num_seeds",
    [pytest.param(3, marks=pytest.mark.slow), *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (5, 10))],
)
def test_no_level_is_exceeded_by_a_third(num_seeds: int) -> None:
    """At .05 / 28 the t test errs up to 5 times too often with 3 seeds.  Monte-Carlo error there: 7 %."""
    found = multiples(num_seeds, 100_000, TRUTHS)
    assert np.all(found[:, :4] <= 1.3) and np.all(found[:, 4] <= 1.45)
    assert np.all(found[2:, :2] >= 0.6), "and 5 % is not given away where seeds differ"

"""Sizes at which the test begins to reject: scipy's root finder, many at once against one by one, both directions."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.optimize import brentq

from bench.stats.intervals import Difference, paired_difference, paired_differences
from bench.stats.limits import half_width, half_widths
from bench.stats.ratios import Ratios, ratio_intervals
from bench.stats.seed_test import Spread, p_value, p_values


def drawn_spreads() -> list[Spread]:
    """Of several degrees of freedom, with parts that are small, large and absent."""
    rng, found = np.random.default_rng(3), []
    for seed_df, item_df in product((0, 1, 2, 4), (9, 499)):
        for seeds, items, least in rng.exponential((4.0, 1.0, 0.5), (4, 3)):
            parts = (0.0, items, 0.0) if seed_df == 0 else (seeds, items * rng.choice((0.0, 1e-3, 1.0)), least)
            found.append(Spread(*(np.asarray(part) for part in parts), seed_df, item_df))
    return found


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 28])
def test_the_size_is_the_root_that_scipy_finds(alpha: float) -> None:
    for spread, half in zip(drawn_spreads(), half_widths(drawn_spreads(), alpha)):
        root = brentq(lambda x, s=spread: float(p_value(x, s)) - alpha, 1e-6, 1e5, xtol=1e-12)
        assert half == pytest.approx(root, rel=1e-8)


def test_many_at_once_are_those_one_by_one() -> None:
    spreads = drawn_spreads()[::-1]
    assert half_widths(spreads, 0.05) == pytest.approx([float(half_width(s, 0.05)) for s in spreads], rel=1e-9)
    means = np.linspace(0, 5, len(spreads))
    assert p_values(means, spreads).tolist() == [float(p_value(m, s)) for m, s in zip(means, spreads)]
    assert half_widths([], 0.05).size == 0
    flat = Spread(np.zeros(()), np.zeros(()), np.zeros(()), 2, 99)
    assert half_widths([flat, spreads[0]], 0.05)[0] == 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_of_what_is_no_number_nothing_is_known(value: float) -> None:
    for part in range(3):
        spread = Spread(*(np.array(value if part == n else 1.0) for n in range(3)), 2, 99)
        assert half_width(spread, 0.05) == np.inf and p_value(3.0, spread) == 1.0


def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(1)
    few = np.zeros((3, 40))
    few[0, 3], few[1, 7] = 1.0, -0.5
    usual = [(rng.random((n, 40)), rng.random((n, 40))) for n in (1, 3, 3)]
    return [*usual, (few, np.zeros((3, 40))), (np.ones((2, 8)), np.zeros((2, 8))), (few, few), (few[:, :1], few[:, :1])]


def test_differences_at_once_and_the_other_way_round() -> None:
    alone = [paired_difference(a, b) for a, b in pairs()]
    for one, other in zip(alone, paired_differences(pairs()), strict=True):
        assert figures(one) == pytest.approx(figures(other), rel=1e-9) and one.constant == other.constant
    for (a, b), one in zip(pairs(), alone):
        assert figures(one.reversed()) == pytest.approx(figures(paired_difference(b, a)), rel=1e-9)


def figures(difference: Difference) -> tuple[float, ...]:
    return difference.mean, difference.low, difference.high, difference.p_value


def test_ratios_at_once_are_those_one_by_one_and_end_where_the_test_rejects() -> None:
    rng = np.random.default_rng(5)
    bottoms = [rng.random(60), rng.random(60), np.eye(60)[0]]
    tops = [0.5 * b + 0.2 * rng.random((n, 60)) for b, n in zip(bottoms, (3, 1, 3))]
    labels = [np.repeat(np.arange(20), 3), None, None]
    ratios = [Ratios([top], [bottom], [own]) for top, bottom, own in zip(tops, bottoms, labels)]
    for one, found in zip(ratios, ratio_intervals(ratios, share=False), strict=True):
        alone = one.interval(share=False)
        assert (found.low, found.high) == pytest.approx((alone.low, alone.high), rel=1e-9)
        if np.isfinite(found.low):
            assert [one.p_value(limit) for limit in (found.low, found.high)] == pytest.approx([0.05, 0.05], rel=1e-6)

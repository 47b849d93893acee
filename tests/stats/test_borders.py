"""Limits near 0 and 1 and where nothing varies: by hand, by SciPy's binomial test, and monotone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from bench.analysis.across import draw_items, method_intervals
from bench.analysis.runs import Scores
from bench.stats.borders import constant_limits, constant_p, highest_mean
from bench.stats.intervals import crossed_interval, paired_difference
from bench.stats.pass_rates import pass_at_k


def test_one_right_sample_in_6000_does_not_narrow_the_limit() -> None:
    right = np.zeros((3, 500, 4))
    none = crossed_interval(right.mean(axis=2))
    right[0, 0, 0] = 1
    one = crossed_interval(right.mean(axis=2))
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 500)) and none.low == 0
    assert one.high >= none.high and one.low == 0


@pytest.mark.parametrize(("right", "num_items"), [(0, 500), (1, 500), (5, 500), (1, 100), (0, 20)])
def test_the_floor_is_clopper_and_pearsons_limit(right: int, num_items: int) -> None:
    exact = binomtest(right, num_items).proportion_ci(0.95, "exact")
    assert highest_mean(right, num_items, 0.95) == pytest.approx(exact.high)


@pytest.mark.parametrize("order", ["item by item", "scattered"])
@pytest.mark.parametrize("k", [1, 4])
def test_more_right_answers_never_lower_the_upper_limit(order: str, k: int) -> None:
    """Up to the share of the items for which the floor is meant, and the same for wrong ones near 1."""
    right = np.zeros((3, 500, 4), dtype=bool)
    cells = np.argwhere(~right)
    cells = np.lexsort((cells[:, 2], cells[:, 0], cells[:, 1])) if order == "item by item" else cells
    places = np.argwhere(~right)
    places = places[cells] if order == "item by item" else np.random.default_rng(0).permutation(places)
    before, after = -1.0, 2.0
    for place in places[:60]:
        right[tuple(place)] = True
        found = crossed_interval(np.stack([pass_at_k(of_run, k) for of_run in right]))
        if 500 * found.mean > 5:
            break
        mirrored = crossed_interval(1 - np.stack([pass_at_k(of_run, k) for of_run in right]))
        assert found.high >= before - 1e-9 and mirrored.low <= after + 1e-9
        assert (mirrored.low, mirrored.high) == (pytest.approx(1 - found.high), pytest.approx(1 - found.low))
        before, after = found.high, mirrored.low


def test_a_difference_that_never_varies_is_not_certain() -> None:
    """Of one seed or three: the p-value of a sign test over the items; nothing is said where there is no difference."""
    for num_seeds in (1, 3):
        same = paired_difference(np.ones((num_seeds, 8)), np.zeros((num_seeds, 8)))
        assert same.p_value == pytest.approx(binomtest(8, 8).pvalue) and same.constant
        assert same.low < same.mean == 1.0 == same.high
        none = paired_difference(np.full((num_seeds, 8), 0.3), np.full((num_seeds, 8), 0.3))
        assert (none.mean, none.p_value, none.decides) == (0.0, 1.0, False)
        assert none.high == pytest.approx(1 - 0.025 ** (1 / 8)) and none.low == -none.high
    few = paired_difference(np.full((3, 2), 0.6), np.full((3, 2), 0.5))
    assert few.p_value == 1.0 and few.low < 0 < few.high


@pytest.mark.parametrize("value", [-1.0, -0.25, 0.1, 0.5, 1.0, 2.0])
def test_limits_and_p_value_of_a_constant_agree(value: float) -> None:
    for num_items in (2, 5, 20, 100):
        p_value = constant_p(value, num_items)
        if 1e-6 < p_value < 1:
            edge = constant_limits(value, num_items, 1 - p_value)[value < 0]
            assert edge == pytest.approx(0, abs=1e-9)
        low, high = constant_limits(value, num_items, 0.95)
        assert (low > 0 or high < 0) == (p_value < 0.05)


def test_shares_of_few_runs_are_not_certain() -> None:
    """Six of six runs above a bound, and none above another: Clopper and Pearson's limits for six trials."""
    rng = np.random.default_rng(1)
    tasks = [Scores((0, 1, 2), np.clip(0.6 + 0.05 * rng.standard_normal((3, 80)), 0, 1)) for _ in range(2)]
    middle, all_above, none_above = method_intervals(tasks, [0.3, 0.9], draw_items([80, 80], rng, 200), rng)
    exact = binomtest(6, 6).proportion_ci(0.95, "exact")
    assert (all_above.low, all_above.high) == (pytest.approx(exact.low), 1.0)
    assert (none_above.low, none_above.high) == (0.0, pytest.approx(1 - exact.low))
    assert 0.55 < middle.low < 0.6 < middle.high < 0.65


def test_one_item_that_differs_does_not_make_a_difference_narrower_than_none() -> None:
    none = paired_difference(np.zeros((3, 50)), np.zeros((3, 50)))
    one = np.zeros((3, 50))
    one[0, 0] = 0.25
    for some, sign in ((one, 1), (-one, -1)):
        found = paired_difference(some, np.zeros((3, 50)))
        assert min(found.high, -found.low) > 0.06 and found.p_value == 1.0
        assert (found.high > none.high) if sign > 0 else (found.low < none.low)


def test_limits_of_rare_differences_hold_the_truth_and_agree_with_p() -> None:
    """Items that one side always and the other never solves: without the floor a quarter of the limits miss."""
    rng = np.random.default_rng(3)
    for num_seeds, num_items, truth in ((3, 500, 0.002), (5, 100, 0.01), (3, 50, 0.03)):
        missed, equal = 0, 0
        for _ in range(200):
            drawn = np.repeat((rng.random((1, num_items)) < truth).astype(float), num_seeds, axis=0)
            found = paired_difference(drawn, 0 * drawn)
            missed += not found.low <= truth <= found.high
            assert (found.low > 0 or found.high < 0) == (found.p_value <= 0.05)
            wide = paired_difference(drawn, 0 * drawn, 0.9)
            equal += max(abs(wide.low), abs(wide.high)) < 0.02
        assert missed <= 14 and (truth < 0.02 or equal <= 14)  # 5 % of 200, and two standard errors

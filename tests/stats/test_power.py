"""Variance components and what they imply for the power of a comparison: by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.stats.intervals import spread_of_mean
from bench.stats.power import TYPICAL, detectable, power_of, seeds_needed
from bench.stats.seed_test import p_value
from bench.stats.variance import Variances, decompose, most_helpful, variance_shares


def test_components_by_hand() -> None:
    # Cells' means 1, 1/2, 0 / 1, 1, 1/2; variances within 0, 1/2, 0 / 0, 0, 1/2, mean 1/6.  Mean squares of the means:
    # seeds 3 * 2 * (1/6)^2 = 1/6; items 2 * (1/3)^2 * ... as below; rest 1/24.
    correct = np.array([[[1, 1], [1, 0], [0, 0]], [[1, 1], [1, 1], [0, 1]]], dtype=bool)
    found = decompose(correct)
    # Means of the seeds 1/2, 5/6, of the items 1, 3/4, 1/4; grand mean 2/3.
    ms_seed, ms_item = 3 * 2 * (1 / 6) ** 2, 2 * ((1 / 3) ** 2 + (1 / 12) ** 2 + (5 / 12) ** 2) / 2
    ms_rest = 2 * ((1 / 6) ** 2 + 2 * (1 / 12) ** 2) / 2
    assert found.decoding == pytest.approx(1 / 6)
    assert found.seed == pytest.approx((ms_seed - ms_rest) / 3)
    assert found.item == pytest.approx((ms_item - ms_rest) / 2)
    assert found.interaction == 0.0  # ms_rest is 1/24, below decoding / 2


def test_components_are_recovered() -> None:
    rng, truth = np.random.default_rng(0), Variances(0.01, 0.05, 0.02, 0.1)
    found = []
    for _ in range(200):
        scores = math.sqrt(truth.seed) * rng.standard_normal((5, 1, 1)) + math.sqrt(truth.item) * rng.standard_normal(
            (1, 80, 1)
        )
        scores = scores + math.sqrt(truth.interaction) * rng.standard_normal((5, 80, 1))
        part = decompose(scores + math.sqrt(truth.decoding) * rng.standard_normal((5, 80, 4)))
        found.append([part.seed, part.item, part.interaction, part.decoding])
    expected = [truth.seed, truth.item, truth.interaction, truth.decoding]
    assert np.mean(found, axis=0) == pytest.approx(expected, rel=0.12)  # the seeds' error: sqrt(2/4/200) = 5 %


def test_what_cannot_be_told_is_not_claimed() -> None:
    rng = np.random.default_rng(1)
    one_seed = decompose(rng.random((1, 30, 4)) < 0.5)
    assert math.isnan(one_seed.seed) and math.isnan(one_seed.interaction) and one_seed.item >= 0
    one_sample = decompose(rng.random((3, 30, 1)) < 0.5)
    assert one_sample.decoding == 0 and one_sample.interaction > 0.1
    one_item = decompose(rng.random((3, 1, 4)) < 0.5)
    assert math.isnan(one_item.seed) and math.isnan(one_item.item)
    constant = decompose(np.ones((3, 30, 4), dtype=bool))
    assert constant == Variances(0.0, 0.0, 0.0, 0.0)
    assert variance_shares(constant.of_mean(3, 30, 4))["seed"] == 0.0 and most_helpful(constant, 3, 30, 4) is None
    assert most_helpful(one_seed, 1, 30, 4) is None
    with pytest.raises(ValueError, match="got \\(3, 30\\)"):
        decompose(np.ones((3, 30)))


def test_parts_add_up_to_the_variance_of_the_mean() -> None:
    correct = np.random.default_rng(2).random((4, 50, 3)) < np.random.default_rng(3).random((1, 50, 1))
    correct[0] |= np.random.default_rng(4).random((50, 1)) < 0.4  # a seed that differs, so that nothing is floored
    parts = decompose(correct).of_mean(4, 50, 3)
    assert min(parts.values()) > 0
    assert sum(parts.values()) == pytest.approx(float(spread_of_mean(correct.mean(axis=2)).total))
    assert sum(variance_shares(parts).values()) == pytest.approx(1)


def test_most_helpful() -> None:
    assert most_helpful(Variances(0.01, 0.01, 0.01, 0.01), 3, 500, 4) == "seeds"
    assert most_helpful(Variances(0.0, 0.1, 0.01, 0.01), 3, 500, 4) == "items"
    assert most_helpful(Variances(0.0, 0.0, 0.0, 0.1), 3, 500, 4) == "seeds"  # all three halve it: the first


@pytest.mark.parametrize(
    ("num_seeds", "num_items", "seed_variance"), [(3, 100, 0.0), (3, 500, 0.0009), (5, 500, 0.0009), (10, 100, 0.004)]
)
def test_detectable_effect_is_found_four_times_in_five(num_seeds: int, num_items: int, seed_variance: float) -> None:
    truth = Variances(seed_variance, TYPICAL.item, TYPICAL.interaction, TYPICAL.decoding)
    effect = detectable(truth, num_seeds, num_items, 4)
    rng, shape = np.random.default_rng(4), (1500, num_seeds, num_items)
    noise = math.sqrt(truth.interaction + truth.decoding / 4)
    scores = (
        effect + noise * rng.standard_normal(shape) + math.sqrt(truth.item) * rng.standard_normal((1500, 1, num_items))
    )
    scores += math.sqrt(truth.seed) * rng.standard_normal((1500, num_seeds, 1))
    found = np.mean(p_value(scores.mean(axis=(1, 2)), spread_of_mean(scores)) <= 0.05)
    assert found == pytest.approx(0.8, abs=0.035)  # Monte-Carlo error .01


def test_power_grows_with_everything() -> None:
    known = TYPICAL
    assert detectable(known, 3, 500, 4) > detectable(known, 5, 500, 4) > detectable(known, 10, 500, 4)
    assert detectable(known, 5, 100, 4) > detectable(known, 5, 500, 4) > detectable(known, 5, 500, 16)
    assert detectable(known, 5, 500, 4, power=0.9) > detectable(known, 5, 500, 4)
    assert detectable(known, 5, 500, 4, alpha=0.01) > detectable(known, 5, 500, 4)
    assert power_of(0.0, known, 5, 500, 4) == pytest.approx(0.05, abs=0.012)  # the test's own false positives


def test_seeds_needed_is_the_fewest() -> None:
    needed = seeds_needed(0.05, TYPICAL, 500, 4)
    assert needed is not None and needed > 3
    assert power_of(0.05, TYPICAL, needed, 500, 4) >= 0.8 > power_of(0.05, TYPICAL, needed - 1, 500, 4)
    assert seeds_needed(-0.05, TYPICAL, 500, 4) == needed
    assert seeds_needed(0.5, TYPICAL, 500, 4) == 2
    assert seeds_needed(0.01, TYPICAL, 500, 4) is None  # 500 items alone are too noisy


def test_one_seed_and_limits_of_power() -> None:
    unknown = Variances(math.nan, 0.1, math.nan, 0.2)
    expected = (1.9647 + 0.8416) * math.sqrt((0.1 + 0.2 / 4) / 500)  # t quantile with 499 df and normal quantile
    assert detectable(unknown, 1, 500, 4) == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match="power needs known variances"):
        detectable(unknown, 3, 500, 4)
    with pytest.raises(ValueError, match="cannot test 3 seeds x 1 items"):
        detectable(TYPICAL, 3, 1, 4)
    with pytest.raises(ValueError, match="got alpha"):
        detectable(TYPICAL, 3, 500, 4, alpha=0.9)
    assert detectable(Variances(1.0, 1.0, 1.0, 1.0), 2, 2, 1) == math.inf
    assert detectable(Variances(0.0, 0.0, 0.0, 0.0), 3, 500, 4) == pytest.approx(0, abs=1e-5)

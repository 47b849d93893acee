"""Statistics against hand-worked numbers, brute force and simulation."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from bench.analysis.runs import RunRecord, method_scores
from bench.stats.intervals import (
    Interval,
    crossed_interval,
    holm,
    mean_squares,
    pair_seeds,
    paired_difference,
    spread_of_mean,
)
from bench.stats.letters import tie_groups
from bench.stats.limits import half_width
from bench.stats.pass_rates import pass_at_k
from bench.stats.seed_test import Spread
from bench.types import UserError


def record(seed: int, correct: list[list[int]], ids: tuple[str, ...], run_id: str = "") -> RunRecord:
    bits = np.array(correct, dtype=bool)
    return RunRecord(
        run_id=run_id or f"run{seed}",
        path=f"runs/{run_id or seed}",
        method="uft",
        task="countdown",
        level="easy",
        model="tiny",
        template="compact",
        data="generated",
        seed=seed,
        budget_unit="flops",
        budget_limit=1.0,
        protocol=1,
        comparison="c",
        split="test",
        item_ids=ids,
        correct=bits,
        greedy=bits[:, 0],
        chance=0.0,
        ledger={},
    )


def test_pass_at_k_equals_enumeration_of_subsets() -> None:
    correct = np.random.default_rng(0).random((20, 6)) < 0.3
    for k in range(1, 7):
        brute = [np.mean([item[list(s)].any() for s in combinations(range(6), k)]) for item in correct]
        assert pass_at_k(correct, k) == pytest.approx(brute, abs=1e-12)


def test_pass_at_k_by_hand() -> None:
    correct = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]], dtype=bool)
    assert pass_at_k(correct, 2).tolist() == [1 - 1 / 6, 0.0, 1.0]  # 1 - C(2,2)/C(4,2); C(4,2)/C(4,2); C(1,2) = 0
    assert pass_at_k(correct, 1).tolist() == [0.5, 0.0, 0.75]
    with pytest.raises(ValueError, match="pass@5"):
        pass_at_k(correct, 5)


def test_mean_squares_by_hand() -> None:
    # mean 1/2, seeds 1/3 and 2/3, items 1, 1/2, 0.  SS: total 6/4, seeds 3 * 2/36, items 2 * 2/4, residual 1/3.
    assert mean_squares(np.array([[1, 0, 0], [1, 1, 0.0]])) == pytest.approx((1 / 6, 1 / 2, 1 / 6))


def test_crossed_interval_by_hand() -> None:
    # The same layout: variance (1/6 + (1/2 - 1/6)) / 6 = 1/12.
    scores = np.array([[1, 0, 0], [1, 1, 0.0]])
    found = crossed_interval(scores, accuracy=False)
    parts = Spread(np.array(1 / 36), np.array(1 / 18), np.array(1 / 36 / 4), 1, 2)
    half = float(half_width(parts, 0.05))
    assert found.se == pytest.approx(math.sqrt(1 / 12))
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    assert crossed_interval(scores) == Interval(0.5, 0.0, 1.0, found.se, "seeds and items")


def test_one_seed_covers_items_only() -> None:
    found = crossed_interval(np.array([[1, 0] * 5]))  # variance (10/36) / 10, se 1/6, t with 9 df 2.262157
    assert (found.mean, found.se, found.over) == (0.5, pytest.approx(1 / 6), "items only")
    assert (found.low, found.high) == pytest.approx((0.5 - 2.262157 / 6, 0.5 + 2.262157 / 6), abs=1e-6)


def test_negative_component_cannot_shrink_the_interval_to_nothing() -> None:
    # Seeds agree on the mean and contradict each other on every item: MS_seed = MS_item = 0, MS_residual = 1, a quarter
    # of which counts as MS_seed.  For a mean square of 0 nothing above it is plausible: the quantile is that of items.
    found = crossed_interval(np.array([[1, 0], [0, 1.0]]), accuracy=False)
    assert found.se == 0.25 and found.high - 0.5 == pytest.approx(stats.t.ppf(0.975, 1) / 4)
    # Seeds that agree on the mean: MS_seed = 0 counts as 1/3 / 4, MS_item - MS_residual = 0.
    scores = np.array([[1, 1, 0, 0], [1, 0, 1, 0.0]])
    ms_seed, ms_item, ms_residual = mean_squares(scores)
    assert (ms_seed, ms_item, ms_residual) == pytest.approx((0, 1 / 3, 1 / 3))
    assert crossed_interval(scores).se == pytest.approx(math.sqrt(1 / 12 / 8))


def test_perfect_scores_do_not_claim_certainty() -> None:
    zero, one = crossed_interval(np.zeros((3, 100))), crossed_interval(np.ones((1, 100)))
    bound = stats.binomtest(0, 100).proportion_ci(0.95, "exact").high  # Clopper-Pearson: 1 - .025^(1/100) = .0362
    assert (zero.low, zero.high) == (0.0, pytest.approx(bound))
    assert (one.low, one.high) == (pytest.approx(1 - bound), 1.0)


def test_one_item_has_no_interval() -> None:
    found = crossed_interval(np.array([[1.0], [0.0]]))
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)
    difference = paired_difference(np.array([[1.0]]), np.array([[0.0]]))
    assert (difference.low, difference.high, difference.p_value) == (-math.inf, math.inf, 1.0)
    with pytest.raises(ValueError, match="at least one of each"):
        crossed_interval(np.zeros((0, 5)))


def coverage(rng: np.random.Generator, seed_var: float, item_var: float, noise: float) -> tuple[float, float]:
    """Share of 1,500 simulated layouts [3, 300] whose crossed, and whose items-only, interval holds the true mean."""
    seeds, items = rng.standard_normal((1500, 3, 1)), rng.standard_normal((1500, 1, 300))
    scores = seed_var**0.5 * seeds + item_var**0.5 * items + noise**0.5 * rng.standard_normal((1500, 3, 300))
    return held(scores, 0.0), held(scores.mean(axis=1, keepdims=True), 0.0)


def held(scores: np.ndarray, truth: float) -> float:
    """Share of the layouts [..., seeds, items] whose 95 % interval holds the truth."""
    return float(np.mean(np.abs(scores.mean(axis=(1, 2)) - truth) <= half_width(spread_of_mean(scores), 0.05)))


@pytest.mark.parametrize(
    ("seed_var", "item_var", "noise", "least", "items_only_most"),
    [
        (0.0, 0.0, 0.1, 0.935, 1.0),  # noise alone
        (0.0, 0.1, 0.1, 0.94, 1.0),  # seeds equal: the items-only interval is right too
        (0.0005, 0.1, 0.1, 0.93, 0.93),  # seeds differ by 2 points
        (0.001, 0.03, 0.1, 0.93, 0.85),
        (0.01, 0.0, 0.1, 0.93, 0.4),  # 10 points
        (0.01, 0.15, 0.03, 0.93, 0.6),  # seeds about as variable as the mean of the items
        (0.1, 0.1, 0.1, 0.93, 0.25),  # 30 points: items alone cover next to nothing
    ],
)
def test_simulated_coverage(
    seed_var: float, item_var: float, noise: float, least: float, items_only_most: float
) -> None:
    crossed, items_only = coverage(np.random.default_rng(7), seed_var, item_var, noise)
    assert least <= crossed <= 0.975
    assert items_only <= items_only_most


@pytest.mark.parametrize(("uniform", "num_seeds", "least"), [(False, 3, 0.92), (True, 3, 0.87), (True, 5, 0.92)])
def test_simulated_coverage_of_sampled_accuracies(uniform: bool, num_seeds: int, least: float) -> None:
    rng = np.random.default_rng(8)
    # 4 samples of probability U(.2, .8) by item plus an effect of the seed of 4 points
    shape = (1500, num_seeds, 1)
    effect = rng.uniform(-(3**0.5), 3**0.5, shape) if uniform else rng.standard_normal(shape)
    probability = np.clip(rng.uniform(0.2, 0.8, (1500, 1, 300)) + 0.04 * effect, 0, 1)
    assert least <= held(rng.binomial(4, probability) / 4, 0.5) <= 0.99


def test_paired_difference_by_hand() -> None:
    # Differences 1, 0, 0, 1: mean 1/2, variance 1/3, se sqrt(1/12), t = sqrt(3) with 3 df, quantile 3.182446.
    found = paired_difference(np.array([[1, 1, 0, 1]]), np.array([[0, 1, 0, 0]]))
    half = 3.182446 * math.sqrt(1 / 12)
    assert (found.mean, found.over) == (0.5, "items only")
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)  # beyond 1: not clipped
    assert found.p_value == pytest.approx(stats.ttest_1samp([1, 0, 0, 1], 0).pvalue) == pytest.approx(0.18169, abs=1e-5)
    with pytest.raises(ValueError, match="share their seeds and items"):
        paired_difference(np.zeros((1, 3)), np.zeros((1, 4)))


def test_paired_difference_without_variance() -> None:
    same = np.array([[1, 0, 1.0]])
    assert paired_difference(same, same).p_value == 1.0
    assert paired_difference(np.ones((2, 3)), np.zeros((2, 3))).p_value == 0.25  # a sign test of three items


def test_pairing_cancels_items() -> None:
    rng = np.random.default_rng(1)
    items = rng.random((1, 200))
    a, b = items + 0.01 * rng.standard_normal((3, 200)) + 0.02, items + 0.01 * rng.standard_normal((3, 200))
    found = paired_difference(a, b)
    assert found.p_value < 0.002 and found.low < 0.02 < found.high
    assert crossed_interval(a).low < crossed_interval(b).high  # the two intervals overlap: unpaired, they would tie


def test_pair_seeds() -> None:
    assert pair_seeds([2, 0, 1], [0, 1, 2]) == ([1, 2, 0], [0, 1, 2])  # same seeds, by seed
    assert pair_seeds([0, 1, 2], [1, 2, 3]) == ([1, 2, 0], [0, 1, 2])  # common seeds 1 and 2, then 0 with 3
    assert pair_seeds([0, 1, 2], [9]) == ([0], [0])  # one run is one seed
    assert pair_seeds([1], [0, 1]) == ([0], [1])  # the common seed, where there is one
    assert pair_seeds([0, 1, 2, 3], [3, 7, 8]) == ([3, 0, 1], [0, 1, 2])  # the common seed first
    five, later = list(range(5)), [5, 6, 7, 8, 9]
    assert all(len(rows) == 5 for rows in pair_seeds(five, [*later, 0, 1]))  # two more runs take none away
    assert pair_seeds([0, 2, 1], [3, 4]) == ([0, 2], [0, 1])  # none in common: in order
    assert pair_seeds([0], [1]) == ([0], [0])


def test_a_corrected_p_needs_three_seeds() -> None:
    rng = np.random.default_rng(5)
    a, b = 0.5 + 0.1 * rng.random((3, 60)), 0.1 * rng.random((3, 60))
    three, two, one = (paired_difference(a[:n], b[:n]) for n in (3, 2, 1))
    assert three.correctable and three.p_to_correct == three.p_value < 0.05
    assert not two.correctable and two.p_to_correct == 1.0 and two.p_value < 0.05 and two.low > 0
    assert not one.correctable and one.p_to_correct == 1.0 and one.p_value < 1e-9


def test_p_value_agrees_with_interval() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        found = paired_difference(rng.random((3, 30)) + 0.1 * rng.random(), rng.random((3, 30)))
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)


def test_false_positives_of_the_paired_test() -> None:
    rng = np.random.default_rng(4)
    # Two equal methods whose seeds differ by 5 points.
    seeds, noise = rng.standard_normal((2, 1000, 3, 1)), rng.standard_normal((2, 1000, 3, 200))
    a, b = 0.05 * seeds + 0.2 * noise
    assert 0.02 <= 1 - held(a - b, 0.0) <= 0.07
    assert 1 - held((a - b)[:, :1], 0.0) > 0.4  # what a one-seed comparison would call significant


def test_holm_by_hand() -> None:
    # Sorted .005 x 4, .01 x 3, .03 x 2, .04 x 1, made non-decreasing: .02, .03, .06, .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == [0.8, 0.9]
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_equals_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(5).random(20) ** 3
    assert holm(list(p)) == pytest.approx(list(multitest.multipletests(p, method="holm")[1]))


def test_tie_groups_by_hand() -> None:
    chain = {("x", "y"): 0.2, ("y", "z"): 0.2, ("x", "z"): 0.01}
    assert tie_groups("xyz", chain) == {"x": "a", "y": "ab", "z": "b"}
    assert tie_groups("xyz", dict.fromkeys(chain, 0.06)) == {"x": "a", "y": "a", "z": "a"}
    assert tie_groups("xyz", dict.fromkeys(chain, 0.05)) == {"x": "a", "y": "b", "z": "c"}
    assert tie_groups(["x"], {}) == {"x": "a"}


def test_methods_share_a_letter_exactly_if_tied() -> None:
    rng = np.random.default_rng(6)
    for _ in range(50):
        methods = [f"m{n}" for n in range(8)]
        adjusted = {pair: float(rng.random() < 0.6) for pair in combinations(methods, 2)}
        letters = tie_groups(methods, adjusted)
        assert all(letters.values())
        for (a, b), p in adjusted.items():
            assert bool(set(letters[a]) & set(letters[b])) == (p > 0.05)


def test_method_scores_align_items_and_seeds() -> None:
    late = record(5, [[1, 1], [0, 1], [0, 0]], ("b", "a", "c"))
    early = record(2, [[0, 0], [1, 1], [1, 0]], ("c", "a", "b"))
    scores = method_scores([late, early, late])  # the same run found twice counts once
    assert scores.seeds == (2, 5)
    assert scores.values.tolist() == [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0]]


def test_method_scores_refuse_ambiguous_runs() -> None:
    run = record(0, [[1], [0]], ("a", "b"))
    with pytest.raises(UserError, match="two runs of uft with seed 0: runs/0 and runs/other"):
        method_scores([run, record(0, [[1], [0]], ("a", "b"), run_id="other")])
    with pytest.raises(UserError, match="different items: runs/0 and runs/1"):
        method_scores([run, record(1, [[1], [0]], ("a", "c"))])

"""Means of ratios: Fieller's formula by hand, the tests that belong to it, and the published simulation."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

from bench.stats.intervals import paired_difference
from bench.stats.ratios import Ratios
from benchmarks import coverage_shares

ROOT = Path(__file__).resolve().parents[2]


def drawn(seed: int, num_seeds: int = 3, num_items: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    bottom = rng.random(num_items)
    noise = rng.normal(0, 0.1, (num_seeds, 1)) + rng.normal(0, 0.2, (num_seeds, num_items))
    return 0.6 * bottom + 0.1 * rng.random(num_items) + noise, bottom


def test_one_seed_is_fiellers_formula() -> None:
    """The roots of (x - r y)^2 = t^2 (vxx - 2 r vxy + r^2 vyy), variances of the two means."""
    top, bottom = drawn(0, num_seeds=1)
    x, y, n = top.mean(), bottom.mean(), bottom.size
    v = np.cov(top[0], bottom) / n
    t2 = student.ppf(0.975, n - 1) ** 2
    roots = np.roots([y**2 - t2 * v[1, 1], -2 * (x * y - t2 * v[0, 1]), x**2 - t2 * v[0, 0]])
    found = Ratios([top], [bottom]).interval()
    assert (found.low, found.high) == pytest.approx(sorted(roots))
    assert found.mean == pytest.approx(x / y) and found.over == "items only"


@pytest.mark.parametrize("num_seeds", [1, 2, 3, 5])
def test_the_test_is_that_of_the_paired_difference(num_seeds: int) -> None:
    """The hypothesis that the share is v says that top and v times bottom have one mean."""
    top, bottom = drawn(num_seeds, num_seeds)
    ratios = Ratios([top], [bottom])
    for value in (0.5, 0.7, 0.9):
        other = paired_difference(top, np.broadcast_to(value * bottom, top.shape))
        assert ratios.p_value(value) == pytest.approx(other.p_value)
    limits = ratios.interval(share=False)
    for limit in (limits.low, limits.high):
        assert ratios.p_value(limit) == pytest.approx(0.05)


def test_several_ratios_have_their_mean_and_are_narrower() -> None:
    pairs = [drawn(n) for n in range(4)]
    joint = Ratios([top for top, _ in pairs], [bottom for _, bottom in pairs])
    alone = [Ratios([top], [bottom]).interval() for top, bottom in pairs]
    found = joint.interval()
    assert found.mean == pytest.approx(np.mean([i.mean for i in alone]))
    assert found.se < np.mean([i.se for i in alone]) and joint.p_value(found.low) == pytest.approx(0.05)
    shifted = Ratios(
        [top + 0.3 * s[:, None] for (top, _), s in zip(pairs, [np.array([-1.0, 0.0, 1.0])] * 4)], joint.bottoms
    )
    apart = Ratios(
        [top + 0.3 * np.roll([-1.0, 0.0, 1.0], n)[:, None] for n, (top, _) in enumerate(pairs[:3])], joint.bottoms[:3]
    )
    assert shifted.interval().se > 2 * apart.interval().se, "a seed that moves all tasks alike does not average out"


def test_a_bottom_near_0_bounds_nothing() -> None:
    bottom = np.zeros(60)
    bottom[0] = 0.25
    found = Ratios([drawn(0)[0]], [bottom]).interval()
    assert math.isinf(found.low) and math.isinf(found.high)


def test_a_difference_that_is_everywhere_the_same_is_not_tested() -> None:
    """Nothing estimates its variance; what rounding leaves of one is none."""
    for seed, value in product(range(20), (0.25, 0.5)):
        bottom = np.random.default_rng(seed).random(10)
        assert Ratios([np.full((2, 10), value)], [bottom]).p_value(0.0) == 1.0


def test_nothing_right_has_an_upper_limit_above_0() -> None:
    """One set of 100 items all wrong: the all-wrong limit of accuracy over that of base."""
    bottom = np.full(100, 0.2) + np.linspace(-0.1, 0.1, 100)
    found = Ratios([np.zeros((3, 100))], [bottom]).interval()
    assert (found.low, found.high) == (0.0, pytest.approx((1 - 0.025**0.01) / 0.2))
    assert Ratios([np.zeros((3, 100))], [bottom]).p_value(0.0) == 1.0


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_clusters_of_one_item_change_nothing(num_seeds: int) -> None:
    pairs = [drawn(n, num_seeds) for n in range(2)]
    tops, bottoms = [top for top, _ in pairs], [bottom for _, bottom in pairs]
    plain = Ratios(tops, bottoms)
    for labels in ([None, None], [range(60), range(60)], [None, range(60)]):
        same = Ratios(tops, bottoms, labels)
        assert same.interval() == plain.interval() and same.p_value(0.7) == plain.p_value(0.7)


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_items_that_are_repeated_count_once(num_seeds: int) -> None:
    pairs = [drawn(n, num_seeds) for n in range(2)]
    tops, bottoms = [top for top, _ in pairs], [bottom for _, bottom in pairs]
    thrice = [np.repeat(top, 3, axis=1) for top in tops], [np.repeat(bottom, 3) for bottom in bottoms]
    labels = [np.repeat(np.arange(60), 3)] * 2
    alone, joint = Ratios(tops, bottoms), Ratios(*thrice, labels)
    assert joint.groups == [60, 60] and joint.p_value(0.7) == pytest.approx(alone.p_value(0.7))
    found, expected = joint.interval(), alone.interval()
    assert (found.low, found.high, found.se) == pytest.approx((expected.low, expected.high, expected.se))
    assert Ratios(*thrice).interval().se < 0.999 * expected.se, "without labels they count as other items"


def test_repeated_items_without_a_right_answer_bound_no_more_than_one() -> None:
    bottom = np.full(100, 0.2) + np.linspace(-0.1, 0.1, 100)
    thrice = Ratios([np.zeros((3, 300))], [np.repeat(bottom, 3)], [np.repeat(np.arange(100), 3)])
    assert thrice.interval().high == pytest.approx((1 - 0.025**0.01) / 0.2)
    one = Ratios([np.zeros((3, 100))], [bottom], [["same"] * 100])
    assert one.p_value(0.5) == 1.0 and math.isinf(one.interval().high)


def test_clustered_items_keep_the_level() -> None:
    """Equal methods on 20 clusters of 20 items, ICC .5 of their difference, 3 seeds; labels make 5 % of 21."""
    rng = np.random.default_rng(4)
    labels, wrong = [np.repeat(np.arange(20), 20)], np.zeros(2)
    for _ in range(300):
        shared, own = np.repeat(rng.normal(size=20), 20), rng.normal(size=400)
        gain = 0.2 * (shared + own) + 0.2 * rng.normal(size=(3, 400)) + 0.02 * rng.normal(size=(3, 1))
        bottom = np.clip(0.5 + 0.2 * rng.normal(size=400), 0, 1)
        wrong += [Ratios([gain], [bottom], of).p_value(0.0) <= 0.05 for of in (None, labels)]
    assert wrong[0] > 60 and wrong[1] <= 24  # of 300: above 20 %, and at most 8 %


def lines_of(name: str) -> list[list[str]]:
    text = (ROOT / "docs" / "statistics.md").read_text()
    table = text.partition(f"<!-- {name} -->")[2].partition(f"<!-- end of {name} -->")[0]
    return [line.strip("| ").split(" | ") for line in table.splitlines() if line[2:3].isdigit()]


def test_published_coverage_of_retained_shares() -> None:
    """The whole grid of benchmarks/coverage_shares.py: the limits hold and equal methods are not told apart."""
    lines = lines_of("retained")
    assert len(lines) == 24
    for *_, holds, _, false_positives, _ in lines:  # of 500 repetitions
        assert float(holds) >= 92 and float(false_positives) <= 7


def test_published_coverage_of_rare_answers() -> None:
    lines = lines_of("rare")
    assert len(lines) == 24 and all(float(line[4]) >= 95 and float(line[6]) >= 92.5 for line in lines)


def test_cells_of_the_published_shares() -> None:
    """A few lines of both tables again; 300 draws of a share of .94 fall below .9 once in 500 times."""
    for tasks, base, kept in ((1, 0.1, 1.0), (3, 0.1, 0.5)):
        line = (
            coverage_shares.retained_line(tasks, 3, base, kept, 300, np.random.default_rng(8)).strip("| ").split(" | ")
        )
        assert float(line[4]) >= 90 and float(line[6]) <= 9
    line = coverage_shares.rare_line(3, 500, 0.002, True, 300, np.random.default_rng(8)).strip("| ").split(" | ")
    assert float(line[4]) >= 97 and float(line[5]) <= 2

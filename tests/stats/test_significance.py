"""Sign flips, McNemar's test, effect sizes, and Holm's correction over the tables of a setting."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from bench.analysis.board import leaderboard
from bench.stats.intervals import holm, paired_difference, spread_of_mean
from bench.stats.tests import cohens_h, flipped, holm_by_family, mcnemar, sign_flip
from tests.report.test_formats import simulated


def test_flips_are_those_of_the_layout() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((3, 12)) - 0.4
    seeds, items = rng.integers(0, 2, (6, 3)) * 2.0 - 1, rng.integers(0, 2, (6, 12)) * 2.0 - 1
    means, spread = flipped(values, seeds, items)
    by_seed, by_item = values.mean(axis=1)[:, None], values.mean(axis=0) - values.mean()
    rest = values - by_seed - by_item
    for n in range(6):
        layout = seeds[n][:, None] * by_seed + items[n] * by_item + np.outer(seeds[n], items[n]) * rest
        assert means[n] == pytest.approx(layout.mean())
        assert spread[n] == pytest.approx(math.sqrt(spread_of_mean(layout).total))


def test_one_seed_equals_all_flips() -> None:
    values = np.array([[0.5, 0.25, -0.25, 1.0, 0.75, 0.5, 0.0, 0.25]])
    sums = np.abs([values[0] @ signs for signs in product((-1, 1), repeat=8)])
    exact = np.mean(sums >= values.sum() - 1e-12)
    assert sign_flip(values, np.random.default_rng(1), 20000) == pytest.approx(exact, abs=0.006)
    public = stats.permutation_test(
        (values[0], np.zeros(8)), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert public.pvalue == pytest.approx(exact)  # the numerator's flips are the studentised ones, order by order


def test_degenerate_sign_flips() -> None:
    rng = np.random.default_rng(2)
    assert (
        sign_flip(np.zeros((3, 10)), rng) == sign_flip(np.zeros((1, 10)), rng) == sign_flip(np.ones((3, 1)), rng) == 1
    )
    assert sign_flip(np.ones((1, 30)), rng) == pytest.approx(1 / 2000)  # no other draw is as extreme


def test_three_seeds_that_differ_cannot_reach_five_per_cent() -> None:
    rng = np.random.default_rng(3)
    values = 1 + 0.1 * rng.standard_normal((3, 1)) + 0.01 * rng.standard_normal((3, 100))
    assert 0.1 < sign_flip(values, rng) < 0.3
    assert paired_difference(values, np.zeros_like(values)).p_value < 0.05


@pytest.mark.parametrize(
    ("num_seeds", "seed_sd", "most"), [(1, 0.0, 0.07), (3, 0.2, 0.05), (5, 0.0, 0.07), (5, 0.3, 0.07)]
)
def test_false_positives_of_sign_flips(num_seeds: int, seed_sd: float, most: float) -> None:
    rng, found = np.random.default_rng(4), 0
    for _ in range(600):
        shape = (num_seeds, 60)
        values = (
            rng.standard_normal((1, 60)) + seed_sd * rng.standard_normal((num_seeds, 1)) + rng.standard_normal(shape)
        )
        found += sign_flip(values, rng, 300) <= 0.05
    assert found / 600 <= most


def test_mcnemar_by_hand() -> None:
    a, b = np.array([1, 1, 1, 1, 1, 0, 0], dtype=bool), np.array([0, 0, 0, 0, 1, 0, 1], dtype=bool)
    assert mcnemar(a, b) == pytest.approx(2 * (1 + 5) / 2**5)  # 4 against 1: both tails of Binomial(5, 1/2)
    assert mcnemar(a, a) == 1.0
    assert mcnemar(b, a) == mcnemar(a, b)


def test_equal_to_statsmodels() -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    rng = np.random.default_rng(5)
    for _ in range(20):
        a, b = rng.random(50) < 0.5, rng.random(50) < 0.3
        counts = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(b & ~a), np.sum(~a & ~b)]]
        assert mcnemar(a, b) == pytest.approx(tables.mcnemar(counts, exact=True).pvalue, abs=1e-12)
        p, q = rng.random(2)
        assert cohens_h(p, q) == pytest.approx(proportion.proportion_effectsize(p, q), abs=1e-12)
    p_values, families = list(rng.random(12) ** 3), ["x", "y", "y"] * 4
    found = holm_by_family(families, p_values)
    for family in "xy":
        chosen = [n for n, f in enumerate(families) if f == family]
        public = multitest.multipletests([p_values[n] for n in chosen], method="holm")[1]
        assert [found[n] for n in chosen] == pytest.approx(list(public), abs=1e-12)


def test_cohens_h_by_hand() -> None:
    assert cohens_h(1.0, 0.0) == pytest.approx(math.pi)
    assert cohens_h(0.25, 0.5) == pytest.approx(2 * (math.pi / 6 - math.pi / 4))


def test_holm_runs_over_the_tables_of_a_setting() -> None:
    countdown = [simulated(m, s, a) for m, a in (("uft", 0.4), ("grpo", 0.2)) for s in (0, 1, 2)]
    other = {"task": "logic", "comparison": "beef"}
    logic = [simulated(m, s, a, **other) for m, a in (("uft", 0.4), ("grpo", 0.38), ("sft", 0.36)) for s in (0, 1, 2)]
    alone = [leaderboard(runs).tables[0].pairs for runs in (countdown, logic)]
    assert [len(pairs) for pairs in alone] == [1, 3]
    together = [pair for table in leaderboard([*logic, *countdown]).tables for pair in table.pairs]
    p_values = [pair.difference.p_value for pairs in alone for pair in pairs]
    assert [pair.adjusted for pair in together] == pytest.approx(holm(p_values))
    assert together[0].adjusted == pytest.approx(4 * p_values[0]) and alone[0][0].adjusted == p_values[0] > 0
    elsewhere = [simulated(r.method, r.seed, 0.3, model="big", comparison="f00d") for r in countdown]
    apart = leaderboard([*logic, *countdown, *elsewhere]).tables  # another model is another question
    assert [pair.adjusted for table in apart if table.record.model == "tiny" for pair in table.pairs] == [
        pair.adjusted for pair in together
    ]

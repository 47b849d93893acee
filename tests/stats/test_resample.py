"""Two-level resampling and summaries across tasks: against closed forms, scipy, rliable and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bench.analysis.across import (
    draw_items,
    improvement_interval,
    method_intervals,
    middle_half,
    performance_profile,
    wins,
)
from bench.analysis.runs import Scores
from bench.stats.intervals import crossed_interval, paired_difference
from bench.stats.pass_rates import pass_at_k
from bench.stats.resample import drawn_means, item_weights
from benchmarks.coverage import two_level


def layout(seed: int, num_seeds: int = 4, num_items: int = 60, spread: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random(num_items) + spread * rng.standard_normal((num_seeds, 1)) + rng.random((num_seeds, num_items))


def scores(seed: int, num_seeds: int = 3) -> Scores:
    return Scores(tuple(range(num_seeds)), np.clip(layout(seed, num_seeds, spread=0.1) / 2, 0, 1))


@pytest.mark.parametrize("spread", [0.0, 0.02, 0.3])
def test_the_mean_has_the_crossed_interval(spread: float) -> None:
    values = layout(0, spread=spread)
    drawn, exact = two_level(values, np.mean, 4000, np.random.default_rng(1)), crossed_interval(values, accuracy=False)
    assert drawn.mean == pytest.approx(exact.mean) and drawn.over == "seeds and items"
    assert drawn.se == pytest.approx(exact.se, rel=0.05)  # relative Monte-Carlo error of a deviation: 1/sqrt(8000)
    assert drawn.high - drawn.mean == pytest.approx(exact.high - exact.mean, rel=0.1)


def test_one_seed_equals_scipys_bootstrap() -> None:
    values = layout(2, num_seeds=1)
    found = two_level(values, np.mean, 5000, np.random.default_rng(1))
    public = stats.bootstrap((values[0],), np.mean, n_resamples=5000, rng=np.random.default_rng(2))
    assert found.over == "items only"
    assert found.se == pytest.approx(public.standard_error * math.sqrt(60 / 59), rel=0.04)
    half = (public.confidence_interval.high - public.confidence_interval.low) / 2
    assert found.high - found.mean == pytest.approx(half * stats.t.ppf(0.975, 59) / 1.96 * math.sqrt(60 / 59), rel=0.06)


def test_methods_are_resampled_together() -> None:
    a, b = layout(3), layout(4)
    both = two_level([a, b], lambda pair: pair[0].mean() - pair[1].mean(), 4000, np.random.default_rng(1))
    exact = paired_difference(a, b)
    assert both.mean == pytest.approx(exact.mean)
    assert both.high - both.low == pytest.approx(exact.high - exact.low, rel=0.1)
    same = two_level([a, a], lambda pair: pair[0].mean() - pair[1].mean(), 50, np.random.default_rng(1))
    assert (same.low, same.high) == (0.0, 0.0)


def test_further_axes_stay_whole() -> None:
    correct = np.random.default_rng(5).random((3, 40, 4)) < np.random.default_rng(6).random((1, 40, 1))
    found = two_level(
        correct, lambda c: np.mean([pass_at_k(run, 2).mean() for run in c]), 3000, np.random.default_rng(1)
    )
    exact = crossed_interval(np.stack([pass_at_k(run, 2) for run in correct]), accuracy=False)
    assert (found.mean, found.se) == (pytest.approx(exact.mean), pytest.approx(exact.se, rel=0.06))


def test_draws_repeat_and_degenerate_layouts_are_named() -> None:
    values = layout(7)
    first = two_level(values, np.median, 50, np.random.default_rng(3))
    assert first == two_level(values, np.median, 50, np.random.default_rng(3))
    assert first != two_level(values, np.median, 50, np.random.default_rng(4))
    assert two_level(values[:, :1], np.mean, 50, np.random.default_rng(3)).high == math.inf
    with pytest.raises(ValueError, match=r"share seeds and items, got shapes \[\(3, 60\), \(4, 60\)\]"):
        two_level([values, values[:3]], np.mean, 50, np.random.default_rng(3))
    with pytest.raises(ValueError, match="at least 2 draws"):
        two_level(values, np.mean, 1, np.random.default_rng(3))


def test_coverage_of_an_interquartile_mean() -> None:
    """A statistic without closed form: the mean of the middle half of the items' means, 3 seeds that differ."""
    rng, held = np.random.default_rng(8), 0
    for _ in range(400):
        values = rng.standard_normal((1, 80)) + 0.15 * rng.standard_normal((3, 1)) + rng.standard_normal((3, 80))
        found = two_level(values, lambda v: np.sort(v.mean(axis=0))[20:60].mean(), 100, rng)
        held += found.low <= 0 <= found.high
    assert 0.92 <= held / 400 <= 0.985


def test_drawn_means_are_draws_of_means() -> None:
    values = np.stack([layout(9), layout(10)], axis=2)
    whole, by_seed, by_item, by_both = drawn_means(
        values, item_weights(60, 3000, np.random.default_rng(1)), np.random.default_rng(0)
    )
    assert whole[0] == pytest.approx(values.mean(axis=1))
    means = values.mean(axis=1)
    assert all(any(row == pytest.approx(m) for m in means) for row in by_seed[0])
    assert by_item.std(axis=0) == pytest.approx(values.std(axis=1) / math.sqrt(60), rel=0.06)
    assert by_item.mean(axis=0) == pytest.approx(means, abs=0.005)
    matched = [[any(np.array_equal(run, of) for of in items) for run in runs] for runs, items in zip(by_both, by_item)]
    assert np.all(matched)  # the joint draw takes runs of the same draw of items


def iqm(scores: np.ndarray) -> float:
    """Of all scores [runs, tasks] together."""
    return float(middle_half(scores.reshape(1, -1).astype(float))[0])


def probability_of_improvement(a: np.ndarray, b: np.ndarray) -> float:
    """Of a run of a over one of b, mean over the tasks of [runs, tasks]."""
    return float(np.mean([wins(a[None, :, t], b[None, :, t])[0] for t in range(a.shape[1])]))


def test_interquartile_mean_by_hand() -> None:
    assert iqm(np.array([[0, 1, 2, 3], [4, 5, 6, 100.0]])) == (2 + 3 + 4 + 5) / 4
    assert iqm(np.array([[1.0, 2.0, 9.0]])) == 4  # a quarter of three, rounded down, is none


def test_probability_of_improvement_by_hand() -> None:
    a, b = np.array([[0.3, 0.5], [0.1, 0.5]]), np.array([[0.2, 0.5]])
    assert probability_of_improvement(a, b) == (1 / 2 + 1 / 2) / 2
    assert probability_of_improvement(b, a) == 1 / 2
    assert probability_of_improvement(a[:, :1], b[:, :1] - 1) == 1.0


def test_equal_to_rliable() -> None:
    metrics = pytest.importorskip("rliable.metrics")
    rng = np.random.default_rng(11)
    for num_runs, num_tasks in ((3, 2), (5, 7), (4, 1), (10, 3)):
        a, b = rng.integers(0, 20, (num_runs, num_tasks)) / 20, rng.integers(0, 20, (num_runs + 1, num_tasks)) / 20
        assert iqm(a) == pytest.approx(metrics.aggregate_iqm(a), abs=1e-12)
        assert probability_of_improvement(a, b) == pytest.approx(metrics.probability_of_improvement(a, b), abs=1e-12)


def test_performance_profile_by_hand() -> None:
    found = performance_profile(np.array([[0.0, 0.5], [0.25, 1.0]]), [0.0, 0.25, 0.5, 0.9, 1.0])
    assert found.tolist() == [0.75, 0.5, 0.25, 0.25, 0.0]  # above, not at


def test_profiles_equal_rliables_library() -> None:
    """Needs rliable with its dependencies (arch 8 goes with this pandas); the others need ``--no-deps`` only."""
    library = pytest.importorskip("rliable.library", exc_type=ImportError)
    a = np.random.default_rng(12).random((5, 4))
    taus = np.linspace(0, 1, 11)
    assert performance_profile(a, list(taus)) == pytest.approx(library.score_distributions(a, taus), abs=1e-12)


def test_intervals_across_tasks() -> None:
    a, b, rng = [scores(1), scores(2)], [scores(3), scores(4)], np.random.default_rng
    runs = np.stack([task.values.mean(axis=1) for task in a], axis=1)
    others = np.stack([task.values.mean(axis=1) for task in b], axis=1)
    weights = draw_items([task.values.shape[1] for task in a], rng(0))
    middle, above = method_intervals(a, [0.5], weights, rng(1))
    assert middle.mean == pytest.approx(iqm(runs)) and 0 <= middle.low < middle.mean < middle.high <= 1
    better = improvement_interval(a, b, weights, rng(1))
    assert (
        better.mean == pytest.approx(probability_of_improvement(runs, others)) and 0 <= better.low <= better.high <= 1
    )
    assert above.mean == pytest.approx(performance_profile(runs, [0.5])[0]) and above.low < above.high
    base = [Scores((7,), task.values[:1], control=True) for task in b]
    assert improvement_interval(a, base, weights, rng(1)).over == "seeds and items"
    single = [Scores((7,), task.values[:1]) for task in a]
    controls = [Scores(task.seeds, task.values, control=True) for task in b]
    assert improvement_interval(single, controls, weights, rng(1)).over == "items only"
    assert method_intervals(base, [], weights, rng(1))[0].over == "items only"


def test_interval_of_one_task_is_that_of_its_mean() -> None:
    """With three runs nothing is cut off, so that the interquartile mean is the mean."""
    task = scores(5)
    weights = draw_items([task.values.shape[1]], np.random.default_rng(0), 5000)
    (found,), exact = method_intervals([task], [], weights, np.random.default_rng(1)), crossed_interval(task.values)
    assert found.mean == pytest.approx(exact.mean)
    assert found.se == pytest.approx(exact.se, rel=0.05)

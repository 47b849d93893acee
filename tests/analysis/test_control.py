"""The untrained model is one model: its runs are pooled, and its noise is that of sampling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.analysis.runs import Scores, paired_values, scores_interval
from bench.stats.intervals import crossed_interval, paired_difference, spread_of_mean


def test_the_mean_of_the_control_stands_against_every_run() -> None:
    rng = np.random.default_rng(2)
    a, one = rng.random((3, 40)), rng.random((1, 40))
    three, single = Scores((0, 1, 2), a), Scores((5,), one)
    control = replace(single, control=True)
    for left, right, rows_a, rows_b in (
        (three, control, a, np.repeat(one, 3, axis=0)),
        (control, three, np.repeat(one, 3, axis=0), a),
        (three, single, a[:1], one),
        (single, three, one, a[:1]),
        (replace(three, control=True), single, a.mean(axis=0, keepdims=True), one),  # the trained side has the one seed
        (replace(three, control=True), replace(three, seeds=(1, 2, 3)), np.repeat([a.mean(axis=0)], 3, axis=0), a),
        (three, replace(three, seeds=(2, 3, 4)), a[[2, 0, 1]], a),  # the common one first
        (three, replace(three, seeds=(1, 2, 3)), a[[1, 2, 0]], a),
    ):
        found = paired_values(left, right)
        assert all(np.array_equal(values, rows) for values, rows in zip(found, (rows_a, rows_b), strict=True))
    with pytest.raises(ValueError, match="share their seeds and items"):
        paired_difference(a, one)
    own = scores_interval(replace(three, control=True))
    assert own == replace(crossed_interval(a.mean(axis=0, keepdims=True)), over="sampling and items")


def test_the_noise_of_a_control_is_in_the_difference() -> None:
    """Var(mean a - mean control) = var_seed/S + residual/(S I) + noise of the control/(R I), here items are alike."""
    rng = np.random.default_rng(4)
    seeds, items, runs, estimates, means = 5, 50, 2, [], []
    for _ in range(2000):
        a = 0.02 * rng.standard_normal((seeds, 1)) + 0.2 * rng.standard_normal((seeds, items))
        b = 0.3 * rng.standard_normal((runs, items))
        values, of_control = paired_values(Scores((0, 1, 2, 3, 4), a), Scores((0, 1), b, control=True))
        estimates.append(float(spread_of_mean(values - of_control).total))
        means.append(float((values - of_control).mean()))
    truth = 0.02**2 / seeds + 0.2**2 / (seeds * items) + 0.3**2 / (runs * items)
    assert np.var(means) == pytest.approx(truth, rel=0.1) and np.mean(estimates) == pytest.approx(truth, rel=0.1)

"""Letters of tables at an equal amount, where a pair stands the other way round at its own amount."""

from __future__ import annotations

import numpy as np

from bench.analysis.equal_currency import Comparison, pair_scores
from bench.analysis.run_curves import RunCurve
from bench.analysis.runs import compare
from bench.report.equal_tables import render_shown, show_equal
from tests.analysis.test_currency import curve, equalised
from tests.report.test_formats import record

ITEMS = tuple(f"i{n}" for n in range(60))


def near(*heights: float, seed: int) -> np.ndarray:
    """Validations [points, items] about these heights."""
    return np.array(heights)[:, None] + np.random.default_rng(seed).normal(0, 0.002, (len(heights), len(ITEMS)))


def three() -> dict[str, list[RunCurve]]:
    """a is flat at 40 %, b has 30 % at 10 tokens and 60 % at 100, c ends at 12 tokens."""
    at = {"a": ([10.0, 100.0], (0.4, 0.4)), "b": ([10.0, 100.0], (0.3, 0.6)), "c": ([10.0, 12.0], (0.1, 0.1))}
    return {
        method: [curve(method, {"tokens": spent}, near(*heights, seed=10 * n + seed), seed, ITEMS) for seed in range(3)]
        for n, (method, (spent, heights)) in enumerate(at.items())
    }


def test_letters_never_separate_against_the_order_that_is_shown() -> None:
    curves = three()
    table = equalised(curves, "tokens")
    assert table.amount == 12 and [row.method for row in table.rows] == ["a", "b", "c"]
    assert {row.method: row.ties for row in table.rows} == {"a": "a", "b": "a", "c": "b"}
    shown, a_c, b_c = table.pairs
    assert (shown.first, shown.second, shown.adjusted, shown.tie) == ("a", "b", 1.0, True)
    assert shown.difference.mean < -0.19 and shown.difference.p_value < 0.01, "at 100 tokens b is far ahead"
    assert not a_c.tie and not b_c.tie and a_c.difference.mean > 0 < b_c.difference.mean
    text = render_shown(show_equal([Comparison(record("a", 0, [[1]]), curves)], "tokens"), "table")
    assert "the best is a; not shown to differ from it: b." in text
    assert "Letters come from each pair at the smaller of its own two totals" in " ".join(text.split())


def test_without_the_third_method_the_pair_is_separated() -> None:
    table = equalised({m: runs for m, runs in three().items() if m != "c"}, "tokens")
    assert table.amount == 100 and [(row.method, row.ties) for row in table.rows] == [("b", "a"), ("a", "b")]
    (pair,) = table.pairs
    assert (pair.first, pair.second) == ("b", "a") and pair.difference.mean > 0.19 and not pair.tie
    curves = three()
    assert pair.difference == compare(*pair_scores(curves["b"], curves["a"], "tokens")), "as a claim tests it"

"""Methods at equal amounts: interpolation, common amounts, marks and areas on curves small enough to work by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.analysis.equal_currency import (
    Comparison,
    EqualTable,
    area_under,
    at_equal,
    budget_to_reach,
    common_amount,
    crossing,
    curve_summaries,
)
from bench.analysis.run_curves import CURRENCIES, RunCurve, begun
from bench.report.equal_tables import render_shown, show_curves, show_equal
from bench.stats.intervals import Interval, crossed_interval, holm
from bench.types import UserError
from tests.report.test_formats import record

ITEMS = ("a", "b", "c", "d")


def curve(
    method: str, spent: dict[str, list[float]], scores: Any, seed: int = 0, items: tuple[str, ...] = ITEMS
) -> RunCurve:
    """A run whose ledgers hold these amounts (others 0) and whose validations have these scores per item."""
    values = np.asarray(scores, dtype=float)
    ledgers = tuple({key: float(spent.get(key, [0] * 9)[n]) for key in CURRENCIES.values()} for n in range(len(values)))
    fractions = tuple((n + 1) / len(values) for n in range(len(values)))
    return RunCurve(method, seed, f"runs/{method}-{seed}", items, fractions, ledgers, values)


def flat(*heights: float) -> list[list[float]]:
    return [[h] * 4 for h in heights]


BASE = curve("base", {}, [[0, 0, 0, 0.4]])
UFT = begun(curve("uft", {"flops": [100, 200], "rollouts": [10, 20]}, [[0.2, 0, 0, 0.6], [1, 0, 0, 1]]), [BASE])
GRPO = begun(curve("grpo", {"flops": [100, 160], "rollouts": [40, 80]}, flat(0.1, 0.3)), [BASE])
SFT = begun(curve("sft", {"flops": [100, 200], "distinct_demonstrations": [50, 50]}, flat(0.5, 0.9)), [BASE])
ALL = {"base": [BASE], "uft": [UFT], "grpo": [GRPO], "sft": [SFT]}


def equalised(curves: dict[str, list[RunCurve]], currency: str) -> EqualTable:
    """The table of one comparison alone."""
    return at_equal([Comparison(record("uft", 0, [[1]]), curves)], currency)[0]


def test_interpolation_is_per_item_and_linear() -> None:
    assert UFT.at("flops", 150).tolist() == pytest.approx([0.6, 0, 0, 0.8])
    assert UFT.at("flops", 50).tolist() == pytest.approx([0.1, 0, 0, 0.5])  # halfway from base to the first validation
    assert UFT.at("flops", 100).tolist() == pytest.approx([0.2, 0, 0, 0.6])
    assert UFT.at("flops", 999).tolist() == [1, 0, 0, 1]  # never beyond the end
    assert curve("uft", {"flops": [100, 200]}, flat(0, 1)).at("flops", 99) is None  # nor before the first validation


def test_of_validations_at_one_amount_the_last_counts() -> None:
    assert SFT.at("demonstrations", 50).tolist() == [0.9] * 4
    assert SFT.at("demonstrations", 25).tolist() == pytest.approx([0.25, 0.25, 0.25, 0.45])  # towards the first of them
    pipeline = begun(curve("sft+grpo", {"rollouts": [0, 0, 30]}, flat(0.2, 0.4, 0.8)), [BASE])
    assert pipeline.at("rollouts", 15).tolist() == pytest.approx([0.6] * 4)  # from where sampling began


def test_the_common_amount_is_the_least_end_of_those_who_use_it() -> None:
    assert common_amount(ALL, "flops") == 160
    assert common_amount(ALL, "rollouts") == 20  # of uft; sft samples nothing
    assert common_amount({"base": [BASE]}, "flops") is None
    later = curve("uft", {"flops": [10, 20]}, flat(0, 1), seed=1)
    assert common_amount({**ALL, "uft": [UFT, later]}, "flops") == 20  # of all its runs: none is extrapolated


def test_ranks_depend_on_what_is_equal() -> None:
    flops, rollouts, demos = (equalised(ALL, name) for name in ("flops", "rollouts", "demonstrations"))
    means = {row.method: round(row.score.mean, 6) for row in flops.rows}
    # uft at 160: 0.2+.6*.8, 0, 0, .6+.6*.4; sft: .5+.6*.4; grpo at its end; base as it is.
    assert means == {"sft": 0.74, "uft": round((0.68 + 0.84) / 4, 6), "grpo": 0.3, "base": 0.1}
    assert [row.method for row in flops.rows] == ["sft", "uft", "grpo", "base"]
    at = {row.method: (row.state, round(row.score.mean, 6)) for row in rollouts.rows if row.score}
    assert at["sft"] == ("not limited", 0.9) and at["uft"] == ("measured", 0.5)
    assert "grpo" not in at  # 20 of the 40 of its first validation: never measured
    assert (rollouts.rows[-1].method, rollouts.rows[-1].state, rollouts.rows[-1].ties) == ("grpo", "not measured", "")
    assert {row.method: row.state for row in demos.rows}["grpo"] == "not limited" and demos.amount == 50
    # sft and uft are tested at the 200 that both reach, not at the 160 of grpo.
    assert flops.pairs[0].first == "sft" and flops.pairs[0].difference.mean == pytest.approx(0.9 - 0.5)


def test_without_base_a_late_curve_is_not_ranked() -> None:
    late = curve("grpo", {"rollouts": [40, 80]}, flat(0.9, 0.9))
    early = curve("uft", {"rollouts": [10, 20]}, flat(0.1, 0.2))
    table = equalised({"grpo": [late], "uft": [early]}, "rollouts")
    assert [(r.method, r.state, r.score is None) for r in table.rows] == [
        ("uft", "measured", False),
        ("grpo", "not measured", True),
    ]
    assert table.pairs == ()


def test_intervals_and_tests_are_those_of_the_interpolated_scores() -> None:
    rng = np.random.default_rng(0)
    runs = [curve("uft", {"flops": [10, 20]}, rng.random((2, 4)), seed) for seed in range(3)]
    other = [curve("sft", {"flops": [10, 15]}, rng.random((2, 4)), seed) for seed in range(3)]
    table = equalised({"uft": runs, "sft": other}, "flops")
    by_hand = np.stack([(run.scores[0] + run.scores[1]) / 2 for run in runs])
    assert next(r.score for r in table.rows if r.method == "uft") == crossed_interval(by_hand)
    assert table.amount == 15 and table.rows[0].num_seeds == 3


def test_faults_are_named() -> None:
    twin = replace(UFT, path="elsewhere")
    with pytest.raises(UserError, match="two runs of uft with seed 0"):
        equalised({"uft": [UFT, twin]}, "flops")
    strange = curve("uft", {"flops": [100, 200]}, flat(0, 1), seed=1, items=("e", "f", "g", "h"))
    with pytest.raises(UserError, match="different items"):
        equalised({"uft": [UFT, strange]}, "flops")


def simulated_curves(methods: tuple[str, ...], rng: np.random.Generator) -> dict[str, list[RunCurve]]:
    """Three runs of each method on the same items, with scores that differ between methods and seeds."""
    return {
        method: [
            curve(method, {"flops": [10, 20], "rollouts": [5, 10]}, rng.random((2, 4)) + 0.2 * n, seed)
            for seed in range(3)
        ]
        for n, method in enumerate(methods)
    }


def test_holm_runs_over_the_tasks_of_a_setting_within_a_currency() -> None:
    rng = np.random.default_rng(3)
    curves = [simulated_curves(methods, rng) for methods in (("base", "uft", "sft"), ("base", "uft", "sft", "grpo"))]
    countdown = Comparison(record("uft", 0, [[1]], split="val"), curves[0])
    logic = Comparison(record("uft", 0, [[1]], split="val", task="logic", comparison="beef"), curves[1])
    elsewhere = Comparison(record("uft", 0, [[1]], split="val", model="big", comparison="f00d"), curves[0])
    for currency in ("flops", "rollouts"):
        tables = at_equal([countdown, logic, elsewhere], currency)
        by_family: dict[bool, list[float]] = {True: [], False: []}
        adjusted: dict[bool, list[float]] = {True: [], False: []}
        for table in tables[:2]:
            for pair in table.pairs:
                family = "base" in (pair.first, pair.second)
                by_family[family].append(pair.difference.p_value)
                adjusted[family].append(pair.adjusted)
        assert [len(by_family[family]) for family in (True, False)] == [2 + 3, 1 + 3]
        for family, p_values in by_family.items():
            assert adjusted[family] == pytest.approx(holm(p_values)) and adjusted[family] != p_values
        assert tables[2].pairs == at_equal([elsewhere], currency)[0].pairs  # another model is another question


def test_choosing_a_task_changes_no_row(comparison: Comparison) -> None:
    other = Comparison(
        replace(comparison.record, task="logic", comparison="beef"),
        simulated_curves(("uft", "sft"), np.random.default_rng(0)),
    )
    every = show_equal([comparison, other], "flops")
    for task in ("countdown", "logic"):
        chosen = show_equal([comparison, other], "flops", [task])
        assert chosen.rows == [row for row in every.rows if row["task"] == task] != []
        assert len(chosen.grids) == 1


def test_one_seed_separates_nothing_at_an_equal_amount() -> None:
    """base, whose single run is the control's, stands against all three runs of sft; that of grpo does not."""
    curves = {
        "base": [BASE],
        "sft": [replace(SFT, seed=s, scores=SFT.scores - 0.01 * s) for s in range(3)],
        "grpo": [replace(GRPO, seed=2)],
    }
    table = equalised(curves, "flops")
    tests = {(p.first, p.second): (p.difference.num_seeds, p.adjusted) for p in table.pairs}
    assert tests["sft", "grpo"] == tests["grpo", "base"] == (1, 1.0)
    assert tests["sft", "base"][0] == 3 and tests["sft", "base"][1] < 0.05
    shown = render_shown(show_equal([Comparison(record("uft", 0, [[1]]), curves)], "flops"), "table")
    assert "One seed of grpo: intervals and differences cover items only" in " ".join(shown.split())


def test_base_of_the_same_seed_begins_a_curve_else_the_mean() -> None:
    bases = [BASE, curve("base", {}, flat(0.8), seed=1)]
    first = begun(curve("uft", {"flops": [1]}, flat(1), seed=1), bases)
    assert first.scores[0].tolist() == [0.8] * 4 and first.spent("flops").tolist() == [0, 1]
    third = begun(curve("uft", {"flops": [1]}, flat(1), seed=3), bases)
    assert third.scores[0].tolist() == pytest.approx([0.4, 0.4, 0.4, 0.6])
    unlike = curve("uft", {"flops": [1]}, flat(1), items=("x", "y", "z", "w"))
    assert begun(unlike, bases) is unlike


def test_a_level_is_reached_where_the_line_crosses_it() -> None:
    assert crossing([0, 10, 20], [0.1, 0.3, 0.2], 0.2) == pytest.approx(5)
    assert crossing([0, 10], [0.1, 0.3], 0.05) == 0
    assert crossing([0, 10], [0.1, 0.3], 0.4) is None
    points = [(0.0, Interval(0.1, 0.0, 0.2, 1, "")), (10.0, Interval(0.3, 0.2, 0.4, 1, ""))]
    reached = budget_to_reach(points, 0.2)
    assert (reached.amount, reached.earliest, reached.latest) == pytest.approx((5, 0, 10))


def test_area_by_hand() -> None:
    line = curve("uft", {"flops": [0, 10, 20]}, flat(0, 0.4, 0.4))
    assert area_under([line], "flops", 0, 20).mean == pytest.approx((2 + 4) / 20)
    assert area_under([line], "flops", 0, 15).mean == pytest.approx((2 + 2) / 15)
    assert area_under([line], "flops", 5, 10).mean == pytest.approx(0.3)
    step = curve("uft", {"flops": [0, 10, 10, 20]}, flat(0, 0.4, 0.8, 0.8))  # a jump without spending
    assert area_under([step], "flops", 0, 20).mean == pytest.approx((2 + 8) / 20)
    assert area_under([step], "flops", 0, 10).mean == pytest.approx(0.2)  # the jump at the end has no width
    assert area_under([line], "flops", 0, 30) is None and area_under([line], "flops", 5, 5) is None


def test_summaries_order_by_area_and_default_to_the_lowest_end() -> None:
    found, level, low, high = curve_summaries(ALL, "flops")
    assert [s.method for s in found] == ["sft", "uft", "grpo"] and (level, low, high) == (0.3, 0, 160)
    assert found[2].reached.amount == 160
    assert found[0].points[0][0] == 0 and found[0].points[0][1].mean == pytest.approx(0.1)


@pytest.fixture()
def comparison() -> Comparison:
    return Comparison(record("uft", 0, [[1], [0], [0], [1]]), ALL, "accuracy")


def test_who_wins_depends_on_what_is_equal(comparison: Comparison) -> None:
    text = render_shown(show_equal([comparison], "all"), "table")
    assert "Who wins depends on what is equal: countdown" in text
    assert "At 160 FLOPs the best is sft" in text and "At 20 rollouts the best is sft" in text
    assert "No method uses tokens: all stand at their ends." in text
    assert "uses none of it, so it is not limited by it: shown at its end" in " ".join(text.split())
    rows = json.loads(render_shown(show_equal([comparison], "all"), "json"))
    assert len(rows) == 5 * 4 and {r["currency"] for r in rows} == {
        *("flops", "tokens", "seconds", "rollouts", "demonstrations")
    }
    demo = next(r for r in rows if r["currency"] == "demonstrations" and r["method"] == "sft")
    assert (demo["ledger"], demo["amount"], demo["score"], demo["runs"]) == (
        *("distinct_demonstrations", 50, 0.9),
        ["runs/sft-0"],
    )


@pytest.mark.parametrize("format", ["table", "markdown", "csv", "latex", "html", "json"])
def test_every_format_names_every_method(comparison: Comparison, format: str) -> None:
    for shown in (show_equal([comparison], "flops"), show_curves([comparison], None, 0.2)):
        text = render_shown(shown, format)
        assert all(name in text for name in ("uft", "grpo", "sft")) and text.endswith("\n")
    assert "[" in render_shown(show_equal([], "flops"), "json") and "no finished runs" in render_shown(
        show_equal([], "flops"), "table"
    )


def test_no_third_method_changes_the_test_of_a_pair() -> None:
    """Whatever else stands in the table, even a method that ends first: the same numbers to the bit."""
    rng = np.random.default_rng(5)
    curves = simulated_curves(("sft", "uft", "dft", "grpo"), rng)
    curves["grpo"] = [
        replace(run, ledgers=tuple({k: v * 0.6 for k, v in e.items()} for e in run.ledgers)) for run in curves["grpo"]
    ]
    few = [curve("luffy", {"flops": [1, 2]}, flat(0.1, 0.2), seed) for seed in range(3)]
    for currency in ("flops", "rollouts"):
        tests = {}
        for others in ((), ("dft",), ("grpo",), ("dft", "grpo")):
            table = equalised({m: curves[m] for m in ("sft", "uft", *others)}, currency)
            found = next(p for p in table.pairs if {p.first, p.second} == {"sft", "uft"})
            tests[others] = (found.difference.mean * (1 if found.first == "sft" else -1), found.difference.p_value)
        assert len(set(tests.values())) == 1, tests
    late = equalised({**{m: curves[m] for m in ("sft", "uft")}, "luffy": few}, "flops")
    assert late.amount == 2 and [row.state for row in late.rows] == ["measured", "not measured", "not measured"]
    assert late.pairs == () and late.rows[0].method == "luffy"


def test_an_unmeasured_method_is_said_to_be_so_and_why() -> None:
    late = curve("grpo", {"distinct_demonstrations": [40, 80]}, flat(0.9, 0.9))
    early = curve("uft", {"distinct_demonstrations": [10, 20]}, flat(0.1, 0.2))
    comparison = Comparison(record("uft", 0, [[1]]), {"grpo": [begun(late, [BASE])], "uft": [early], "base": [BASE]})
    for asked in ("demonstrations", "all"):
        text = " ".join(render_shown(show_equal([comparison], asked), "table").split())
        assert "not measured: its first validation had spent more, so it has no rank and no letter; " in text
        assert "answered by runs with --train-size" in text and "from base" not in text

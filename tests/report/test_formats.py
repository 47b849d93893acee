"""Leaderboard rows, sentences and formats on examples small enough to work by hand."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.board import leaderboard, rows_as_dicts
from bench.analysis.runs import RunRecord
from bench.analysis.sentences import ONE_SEED, TWO_SEEDS, signed_points
from bench.analysis.table import Board
from bench.report.curves import plot_accuracy
from bench.report.formats import FORMATS, render_board
from bench.report.table_cells import amount
from bench.report.table_writers import csv_table, latex_escape
from bench.types import UserError

ITEMS = ("a", "b", "c", "d")


def record(method: str, seed: int, correct: Any, **changes: Any) -> RunRecord:
    """A run on the items of ``correct`` [items, samples]; greedy is the first sample."""
    bits = np.array(correct, dtype=bool)
    ledger = dict.fromkeys(("flops", "tokens", "rollouts", "demonstrations", "distinct_demonstrations", "seconds"), 0.0)
    if method != "base":
        ledger |= {"flops": 3.9e12, "tokens": 1234567.0, "rollouts": 4096.0, "seconds": 100.0 + seed}
    values: dict[str, Any] = {
        **{"run_id": f"{method}-{seed}", "path": f"runs/{method}-{seed}", "method": method, "task": "countdown"},
        **{"level": "easy", "model": "tiny", "template": "compact", "data": "generated", "seed": seed},
        **{"budget_unit": "flops", "budget_limit": 4e12, "protocol": 1, "comparison": "cafe0123456789"},
        **{"split": "test", "item_ids": tuple(f"i{n:04}" for n in range(len(bits))), "correct": bits},
        **{"greedy": bits[:, 0], "chance": 0.125, "ledger": ledger, "passport": "passed"},
    }
    return RunRecord(**{**values, **changes})


def simulated(method: str, seed: int, accuracy: float, num_items: int = 200, **changes: Any) -> RunRecord:
    """Items of shared difficulty; the first ``accuracy`` share of them, shifted a little by the seed, is right."""
    rank = np.arange(num_items)
    right = rank < round(accuracy * num_items) + (seed % 3 - 1 if method != "base" else 0)
    return record(method, seed, np.stack([right, right], axis=1), **changes)


@pytest.fixture()
def small() -> Board:
    base = record("base", 0, [[1, 0], [0, 0], [0, 0], [0, 0]])
    return leaderboard([base, *(record("uft", s, [[1, 1], [1, 1], [1, 0], [0, s]]) for s in (0, 1))])


@pytest.fixture()
def board() -> Board:
    runs = [simulated(m, s, a) for m, a in (("uft", 0.5), ("sft@0.3+grpo", 0.5), ("grpo", 0.3)) for s in (0, 1, 2)]
    return leaderboard([*runs, simulated("base", 0, 0.2)])


def test_row_by_hand(small: Board) -> None:
    uft, base = small.tables[0].rows
    # Items' means 1, 1, 1/2, and 0 or 1/2: seeds 5/8 and 6/8.  Base: 1/2, 0, 0, 0.
    assert (uft.method, uft.accuracy.mean, uft.greedy) == ("uft", 11 / 16, 3 / 4)
    assert (base.method, base.accuracy.mean, base.greedy) == ("base", 1 / 8, 1 / 4)
    assert (uft.pass_at_k, base.pass_at_k) == ({2: (3 / 4 + 4 / 4) / 2}, {2: 1 / 4})
    assert uft.gain is not None and uft.gain.mean == 11 / 16 - 1 / 8
    assert (base.gain, base.gain_adjusted) == (None, None)
    assert (uft.spent, uft.unspent_share) == (3.9e12, pytest.approx(0.025))
    assert uft.ledger["seconds"] == 100.5
    assert (uft.accuracy.over, base.accuracy.over) == ("seeds and items", "sampling and items")


def test_rows_as_dicts(small: Board) -> None:
    uft, base = rows_as_dicts(small)
    assert uft["task"] == "countdown" and uft["split"] == "test" and uft["model"] == "tiny"
    assert (uft["num_seeds"], uft["num_items"], base["num_seeds"]) == (2, 4, 1)
    assert (uft["spent_flops"], uft["limit"], uft["unit"]) == (3.9e12, 4e12, "flops")
    assert (uft["gain_points"], base["gain_points"]) == (56.25, None)
    assert uft["accuracy_low"] < uft["accuracy"] == 0.6875 < uft["accuracy_high"] <= 1
    assert (uft["pass_at_2"], uft["chance"], uft["protocol"]) == (0.875, 0.125, 1)
    assert (uft["rollouts"], uft["verifier_calls"]) == (4096, None)  # unknown is null, not 0


def test_sorted_by_accuracy_with_ties_and_gains(board: Board) -> None:
    rows = board.tables[0].rows
    assert [r.method for r in rows] == ["sft@0.3+grpo", "uft", "grpo", "base"]
    assert [r.ties for r in rows] == ["a", "a", "b", "c"]
    assert [round(r.accuracy.mean, 3) for r in rows] == [0.5, 0.5, 0.3, 0.2]
    assert board.tables[0].seeds == "3 seeds"


def test_sentences(board: Board) -> None:
    sentences = board.tables[0].sentences
    assert sentences[0].startswith("Better than base: sft@0.3+grpo (difference +30.0 points, 95 % interval +23.")
    assert "; grpo (difference +10.0 points, 95 % interval +5." in sentences[0]
    assert sentences[1:] == (
        "sft@0.3+grpo and uft: tie (difference +0.0 points, 95 % interval -1.8 to +1.8, 3 seeds x 200 items, "
        "Holm-adjusted p 1.000).",
        "All other pairs of trained methods differ (Holm-adjusted p <= 0.05).",
        "Chance (a random valid answer): 12.5 %.",
    )


def test_sentences_when_nothing_beats_base_or_chance() -> None:
    runs = [simulated("uft", s, 0.1) for s in (0, 1, 2)] + [simulated("base", 0, 0.105)]
    sentences = leaderboard(runs).tables[0].sentences
    assert sentences[0] == "No method beats base."
    assert sentences[1].startswith("Tie with base: uft (difference -0.5 points, 95 % interval -2.")
    assert sentences[-1] == "Chance (a random valid answer): 12.5 %; the interval of base and uft includes it."
    worse = leaderboard([simulated("uft", s, 0.3) for s in (0, 1, 2)] + [simulated("base", 0, 0.6)]).tables[0].sentences
    assert worse[0] == "No method beats base."
    assert worse[1].startswith("Worse than base: uft (difference -30.0 points")


def test_notes_on_few_seeds() -> None:
    single = leaderboard([simulated("uft", 0, 0.5), simulated("grpo", 0, 0.3)]).tables[0]
    assert single.sentences[0] == "No base run here: gains are not shown."
    assert single.sentences[-1] == ONE_SEED
    assert single.seeds == "1 seed"
    mixed = leaderboard([simulated("uft", 0, 0.5), *(simulated("grpo", s, 0.3) for s in (0, 1))]).tables[0]
    assert mixed.sentences[-2] == (
        "One seed of uft: intervals and differences cover items only, not the variation between seeds; hence a letter "
        "shared with all."
    )
    assert mixed.sentences[-1] == (
        "Two seeds of grpo: differences, their intervals and uncorrected p-values stand, a corrected test takes 3; "
        "hence a letter shared with all."
    )
    assert mixed.seeds == "1 to 2 seeds"
    pair = leaderboard([simulated(m, s, x) for m, x in (("uft", 0.5), ("grpo", 0.1)) for s in (0, 1)]).tables[0]
    assert pair.sentences[-1] == TWO_SEEDS and pair.seeds == "2 seeds"
    alone = leaderboard([simulated("base", 0, 0.5)]).tables[0]
    assert alone.sentences == ("Chance (a random valid answer): 12.5 %.",)


def test_one_seed_separates_nothing_and_is_in_no_family() -> None:
    """uft is 20 points ahead of all others; grpo and sft differ as if it were not there, and base needs one run."""
    several = [simulated(m, s, a) for m, a in (("grpo", 0.3), ("sft", 0.325)) for s in (0, 1, 2)]
    control = simulated("base", 0, 0.2)
    table = leaderboard([*several, control, simulated("uft", 1, 0.525)]).tables[0]
    others = leaderboard([*several, control]).tables[0]
    pairs = {(p.first, p.second): p for p in table.pairs}
    own = [pair for names, pair in pairs.items() if "uft" in names]
    assert [(p.adjusted, p.difference.num_seeds, p.difference.over) for p in own] == [(1.0, 1, "items only")] * 3
    assert max(p.difference.p_value for p in own) < 1e-6
    assert [p for names, p in pairs.items() if "uft" not in names] == list(others.pairs)
    letters = {row.method: set(row.ties) for row in table.rows}
    assert all(letters["uft"] & letters[method] for method in ("sft", "grpo", "base"))
    assert not letters["grpo"] & letters["base"], "one run of the control stands against three"
    tie = next(s for s in table.sentences if s.startswith("Tie with base: uft"))
    assert tie.endswith("1 seed x 200 items, not tested for other seeds).")


def test_two_seeds_get_no_corrected_letter_and_are_in_no_family() -> None:
    several = [simulated(m, s, a) for m, a in (("grpo", 0.3), ("sft", 0.325)) for s in (0, 1, 2)]
    control = simulated("base", 0, 0.2)
    table = leaderboard([*several, control, *(simulated("uft", s, 0.525) for s in (0, 1))]).tables[0]
    pairs = {(p.first, p.second): p for p in table.pairs}
    own = [pair for names, pair in pairs.items() if "uft" in names]
    assert [(p.adjusted, p.difference.num_seeds, p.difference.over) for p in own] == [(1.0, 2, "seeds and items")] * 3
    assert max(p.difference.p_value for p in own) < 0.05 and min(p.difference.low for p in own) > 0
    others = leaderboard([*several, control]).tables[0]
    assert [p for names, p in pairs.items() if "uft" not in names] == list(others.pairs)
    letters = {row.method: set(row.ties) for row in table.rows}
    assert all(letters["uft"] & letters[method] for method in ("sft", "grpo", "base"))
    tie = next(s for s in table.sentences if s.startswith("Tie with base: uft"))
    assert tie.endswith(", too few seeds for a corrected test).") and ", uncorrected p " in tie


def test_many_ties_are_counted_not_listed() -> None:
    sentences = leaderboard([simulated(f"m{n}", 0, 0.5) for n in range(6)]).tables[0].sentences  # 15 pairs
    assert sum("tie (difference" in s for s in sentences) == 10
    assert "5 more ties: methods that share a letter." in sentences


def test_a_tie_only_by_the_correction_says_so() -> None:
    # Three equal runs, 6 of 200 items gained: MS_item alone, t = 6 / sqrt(200 * (6 - 36 / 200) / 199) = 2.481 with 199
    # degrees of freedom, p = .01393; Holm makes it .056 over the four pairs with base.
    levels = {"uft": 0.53, "grpo": 0.5, "sft": 0.5, "dft": 0.5}
    runs = [simulated(m, s, x) for m, x in levels.items() for s in (1, 4, 7)] + [simulated("base", 0, 0.5)]
    assert "Holm-adjusted p 0.056, uncorrected 0.014" in leaderboard(runs).tables[0].sentences[1]


def test_comparisons_and_protocols_stay_apart() -> None:
    runs = [simulated("uft", 0, 0.5), simulated("uft", 0, 0.5, comparison="beef"), simulated("uft", 0, 0.5, protocol=2)]
    tables = leaderboard(runs).tables
    assert [(t.record.comparison[:4], t.record.protocol, len(t.rows)) for t in tables] == [
        ("beef", 1, 1),
        ("cafe", 1, 1),
        ("cafe", 2, 1),
    ]


def test_items_are_matched_by_id_not_by_position() -> None:
    base = record("base", 0, [[1], [1], [0], [0]], item_ids=ITEMS)
    same = record("uft", 0, [[0], [0], [1], [1]], item_ids=ITEMS[::-1])
    gain = next(r.gain for r in leaderboard([base, same]).tables[0].rows if r.method == "uft")
    assert gain is not None and (gain.mean, gain.p_value, gain.decides) == (0, 1, False)


def test_ambiguous_input_is_refused() -> None:
    run = record("uft", 0, [[1], [0]])
    with pytest.raises(UserError, match="different items: runs/uft-0 and runs/sft-0"):
        leaderboard([run, record("sft", 0, [[1], [0], [0]])])
    with pytest.raises(UserError, match="two runs of uft with seed 0"):
        leaderboard([run, record("uft", 0, [[1], [0]], run_id="other")])
    assert leaderboard([run, run]).tables[0].rows[0].scores.seeds == (0,)


def test_budget_in_another_unit() -> None:
    run = record("uft", 0, [[1], [0]], budget_unit="seconds", budget_limit=400.0)
    board = leaderboard([run])
    assert (board.tables[0].rows[0].spent, board.tables[0].rows[0].unspent_share) == (100.0, 0.75)
    assert "budget 400 seconds" in render_board(board, "markdown") and "100 (25.0 %)" in render_board(board, "markdown")


def test_table_fits_and_shows_every_figure(board: Board) -> None:
    text = render_board(board, "table")
    assert max(map(len, text.splitlines())) <= 100
    lines = text.splitlines()
    row = next(n for n, line in enumerate(lines) if line.startswith(" uft"))
    assert lines[row].split() == ["uft", "50.0", "50.0", "+30.0", "a", "3.9e12", "1.2M", "0", "101"]
    assert re.fullmatch(r"\[4\d\.\d,5\d\.\d\]50\.0\[\+23\.\d,\+36\.\d\]97\.5%4\.1k03", "".join(lines[row + 1].split()))
    assert text.count("uft: tie") == 1 and "Chance" in text


def test_table_fits_with_long_names_and_ten_methods() -> None:
    runs = [simulated(f"chord:no-phi-{n}@0.25+prefix_rft:r3", s, 0.1 * n) for n in range(10) for s in (0, 1)]
    assert max(map(len, render_board(leaderboard(runs), "table").splitlines())) <= 100


def test_markdown(small: Board) -> None:
    lines = render_board(small, "markdown").splitlines()
    assert lines[0] == (
        "**countdown, level easy, model tiny, template compact, data generated, test split of 4 items, "
        "budget 4.0e12 FLOPs, protocol 1, comparison cafe0123**"
    )
    assert lines[2] == (
        "| method | accuracy % | greedy % | pass@2 % | gain over base | ties | FLOPs spent | tokens | rollouts | demos "
        "| seconds | seeds |"
    )
    # Differences 1/2, 1, 1/2, and 0 or 1/2: mean squares 1/32, 19/96, 1/32.  Limits by the integral over chi2.
    assert lines[4] == (
        "| uft | 68.8 [0.0, 100.0] | 75.0 | 87.5 | +56.2 [-32.1, +144.6] | a | 3.9e12 (97.5 %) | 1.2M | 4.1k | 0 "
        "| 100 | 2 |"
    )
    assert lines[5] == "| base | 12.5 [0.0, 61.3] | 25.0 | 25.0 | - | a | - | 0 | 0 | 0 | 0 | 1 |"
    assert lines[6].startswith("| (chance) | 12.5 | ")
    assert all(line.count("|") == 13 for line in lines[2:7])
    assert lines[8].startswith("- ")


def test_csv_and_json_agree(board: Board) -> None:
    rows = json.loads(render_board(board, "json"))
    table = list(csv.DictReader(io.StringIO(render_board(board, "csv"))))
    needed = "task method model split accuracy accuracy_low accuracy_high num_seeds num_items spent_flops limit"
    assert len(rows) == len(table) == 4
    for row, line in zip(rows, table):
        assert set(needed.split()) <= set(row) == set(line)
        assert float(line["accuracy"]) == row["accuracy"]
        assert line["method"] == row["method"]
    assert (rows[-1]["gain_points"], table[-1]["gain_points"]) == (None, "")


def test_json_has_no_infinities() -> None:
    rows = json.loads(render_board(leaderboard([record("uft", 0, [[1]]), record("base", 0, [[0]])]), "json"))
    assert (rows[0]["gain_points"], rows[0]["gain_points_low"]) == (100, None)


def test_latex(board: Board) -> None:
    text = render_board(board, "latex")
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert columns is not None
    assert all(line.count(" & ") == len(columns[1]) - 1 and line.endswith(r" \\") for line in body)
    assert [r"\textbf{" in line for line in body] == [True, True, False, False, False]  # best, tie, two, chance
    caption = text[text.index(r"\caption") : text.index(r"\begin{tabular}")]
    assert "200 items" in caption and "3 seeds" in caption
    assert not re.search(r"(?<!\\)%", text)


def test_latex_escapes() -> None:
    assert latex_escape(r"a_b & 5 % \ {x} #$ ~^") == (
        r"a\_b \& 5 \% \textbackslash{} \{x\} \#\$ \textasciitilde{}\textasciicircum{}"
    )
    text = render_board(leaderboard([record("prefix_rft", 0, [[1], [0]], data="my_data.parquet")]), "latex")
    assert r"prefix\_rft & " in text and r"my\_data.parquet" in text


def test_hostile_names_are_text() -> None:
    text = render_board(leaderboard([record("[red]x|y", 0, [[1], [0]])]), "table")
    assert "[red]x|y" in text
    assert r"| [red]x\|y |" in render_board(leaderboard([record("[red]x|y", 0, [[1], [0]])]), "markdown")


def test_empty_board_and_unknown_format() -> None:
    assert {f: render_board(leaderboard([]), f) for f in FORMATS if f != "html"} == {
        "table": "no finished runs to compare\n",
        "markdown": "no finished runs to compare\n",
        "csv": "\n",
        "json": "[]\n",
        "latex": "% no finished runs to compare\n",
    }
    with pytest.raises(UserError, match="unknown format 'htm': choose from table, markdown, csv, json, latex, html"):
        render_board(leaderboard([]), "htm")


def test_human_numbers() -> None:
    figures = [0, 7, 12.34, 999, 1000, 12345, 999_999, 4.5e6, 2e9, 4e12, 3.947e14, float("nan"), None]
    assert [amount(x) for x in figures] == (
        ["0", "7", "12.3", "999", "1.0k", "12.3k", "1.0M", "4.5M", "2.0G", "4.0e12", "3.9e14", "-", "-"]
    )
    assert [signed_points(x) for x in (0.0131, -0.02, -0.0001, 0.0)] == ["+1.3", "-2.0", "+0.0", "+0.0"]


def test_plot_is_written_and_repeatable(tmp_path: Path) -> None:
    curves = {
        "uft": [(0.5, 0.3, 0.2, 0.4), (0.0, 0.1, 0.05, 0.15), (1.0, 0.5, 0.4, 0.6)],
        "sft": [(1.0, 0.2, 0.1, 0.3)],
    }
    for name in ("one.svg", "two.svg", "one.pdf", "two.pdf", "plot.png"):
        plot_accuracy(curves, tmp_path / name)
    for suffix in ("svg", "pdf"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match=r"use \.svg, \.pdf or \.png"):
        plot_accuracy(curves, tmp_path / "plot.gif")


def test_import_is_light() -> None:
    heavy = "{'scipy', 'pandas', 'matplotlib', 'seaborn', 'rich', 'torch'}"
    code = f"import sys, bench.report.formats; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"])
def test_no_text_of_a_csv_cell_is_a_formula(text: str) -> None:
    """The beginnings that OWASP lists; also of column names, and of the first of several texts in a cell."""
    rows = list(csv.reader(io.StringIO(csv_table([{text: text, "list": [text, "b"]}]), newline="")))
    shown = text.replace("\t", "\\t").replace("\r", "\\r")
    assert rows == [[f"'{shown}", "list"], [f"'{shown}", f"'{shown} b"]]


def test_no_text_begins_a_row_of_a_csv() -> None:
    assert csv_table([{"x": "a\r=1"}]) == "x\na\\r=1\n"


@pytest.mark.parametrize(
    "value", [-1.5, -3, 0.0, 1e-9, -1e-9, "-1.5", "+2", "-1e-05", [-1.5, 2], ["-1.5", "-2"], "a=b", True]
)
def test_numbers_of_csv_cells_stay_numbers(value: Any) -> None:
    (row,) = csv.DictReader(io.StringIO(csv_table([{"x": value}])))
    assert row["x"] == (" ".join(map(str, value)) if isinstance(value, list) else str(value))

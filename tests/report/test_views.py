"""Tables of variation, of pairs and across tasks: from records by hand, and from the command line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.board import leaderboard
from bench.analysis.runs import RunRecord
from bench.analysis.table import Board
from bench.report.formats import FORMATS, render_board, render_view
from bench.stats.intervals import paired_difference
from bench.stats.tests import cohens_h, mcnemar, sign_flip
from bench.stats.variance import decompose
from bench.types import UserError
from tests.helpers.commands import call
from tests.report.test_formats import record


def drawn(method: str, seed: int, accuracy: float, **changes: Any) -> RunRecord:
    """Verdicts of 60 items x 4 samples, drawn with the items' difficulties in common."""
    rng = np.random.default_rng([seed, *method.encode(), *changes.get("task", "").encode()])
    difficulty = np.random.default_rng(7).random((60, 1))
    return record(method, seed, rng.random((60, 4)) < np.clip(accuracy + difficulty - 0.5, 0, 1), **changes)


def runs(**changes: Any) -> list[RunRecord]:
    methods = (("uft", 0.6), ("grpo", 0.4))
    return [drawn("base", 0, 0.2, **changes), *(drawn(m, s, a, **changes) for m, a in methods for s in (0, 1, 2))]


@pytest.fixture(scope="module")
def board() -> Board:
    return leaderboard([*runs(), *runs(task="logic", comparison="beef")])


def test_variation_is_that_of_the_verdicts(board: Board) -> None:
    rows = json.loads(render_view(board, "variance", "json"))
    assert [(r["task"], r["method"]) for r in rows] == [
        (t, m) for t in ("countdown", "logic") for m in ("uft", "grpo", "base")
    ]
    found = decompose(np.stack([drawn("uft", s, 0.6).correct for s in (0, 1, 2)]))
    assert rows[0]["variance_item"] == pytest.approx(found.item) and rows[0]["variance_decoding"] == found.decoding
    assert sum(rows[0][f"share_{name}"] for name in ("seed", "item", "interaction", "decoding")) == pytest.approx(1)
    assert rows[0]["doubling_helps"] in ("seeds", "items", "samples")
    assert (rows[2]["variance_seed"], rows[2]["doubling_helps"]) == (None, None)  # base has one run


def test_different_numbers_of_samples_have_no_variation() -> None:
    mixed = [drawn("uft", 0, 0.5), record("uft", 1, drawn("uft", 1, 0.5).correct[:, :2])]
    (row,) = json.loads(render_view(leaderboard(mixed), "variance", "json"))
    assert row["method"] == "uft" and "variance_item" not in row
    assert " uft " in render_view(leaderboard(mixed), "variance", "table").replace("\n", " \n")


def test_pairs_have_every_test(board: Board) -> None:
    rows = json.loads(render_view(board, "pairs", "json"))
    assert len(rows) == 6 and all(row["p_mcnemar"] is None for row in rows)  # base has one run, the others three
    first = rows[0]
    a, b = (
        np.stack([drawn(m, s, x).correct.mean(axis=1) for s in (0, 1, 2)]) for m, x in (("uft", 0.6), ("grpo", 0.4))
    )
    exact = paired_difference(a, b)
    assert (first["first"], first["second"], first["p"]) == ("uft", "grpo", pytest.approx(exact.p_value))
    assert first["difference"] == pytest.approx(100 * exact.mean) and first["high"] == pytest.approx(100 * exact.high)
    assert first["p_sign_flip"] == sign_flip(a - b, np.random.default_rng(0))
    assert first["p_holm"] == board.tables[0].pairs[0].adjusted >= first["p"] and first["p_mcnemar"] is None
    assert first["cohens_h"] > 0.2


def test_mcnemar_between_two_single_runs() -> None:
    one, other = drawn("uft", 0, 0.6), drawn("grpo", 0, 0.4)
    (row,) = json.loads(render_view(leaderboard([one, other]), "pairs", "json"))
    assert row["p_mcnemar"] == pytest.approx(mcnemar(one.greedy, other.greedy)) and row["interval_over"] == "items only"


def test_pairs_of_unequal_numbers_of_seeds() -> None:
    several = [drawn("uft", s, 0.6) for s in (0, 1, 2)]
    one, mine = drawn("grpo", 1, 0.4), drawn("uft", 1, 0.6)
    board = leaderboard([*several, one])
    (row,) = json.loads(render_view(board, "pairs", "json"))
    values = (mine.correct.mean(axis=1) - one.correct.mean(axis=1))[None]
    assert (row["num_seeds"], row["interval_over"], row["p_holm"]) == (1, "items only", 1)
    assert row["difference"] == pytest.approx(100 * values.mean()) and row["p"] < 0.001
    assert row["p_sign_flip"] == sign_flip(values, np.random.default_rng(0)) and row["p_mcnemar"] is None
    assert row["cohens_h"] == pytest.approx(cohens_h(mine.correct.mean(), one.correct.mean()))
    assert "One seed of grpo" in " ".join(render_view(board, "pairs", "table").split())


def test_views_in_every_format(board: Board) -> None:
    for view in ("variance", "pairs"):
        table = render_view(board, view, "table")
        assert max(map(len, table.splitlines())) <= 100
        rows = list(csv.DictReader(io.StringIO(render_view(board, view, "csv"))))
        assert len(rows) == len(json.loads(render_view(board, view, "json"))) == 6
        assert render_view(board, view, "markdown").count("| --- |") == 2
        assert render_view(board, view, "html").count("<table") == 2
        assert render_view(board, view, "latex").count(r"\begin{tabular}") == 2
    assert "uft - grpo" in table and "no finished runs" in render_view(leaderboard([]), "pairs", "table")
    assert set(FORMATS) == {"table", "markdown", "csv", "json", "latex", "html"}
    with pytest.raises(UserError, match="unknown view 'pears': choose from overview, variance, pairs"):
        render_view(board, "pears", "table")


def test_across_tasks_only_where_there_are_several(board: Board) -> None:
    text = render_board(board, "table")
    assert max(map(len, text.splitlines())) <= 100
    across = text[text.index("Across 2 tasks, model tiny") :]
    names = [line.split()[0] for line in across.splitlines() if line.startswith((" uft ", " grpo ", " base "))]
    assert names == ["uft", "grpo", "base"]
    assert "a few tasks say little about others" in across.replace("\n  ", " ")
    line = next(line for line in across.splitlines() if line.startswith(" uft "))
    assert "100.0" in line  # every run of uft is above every run of base
    assert "Across" not in render_board(leaderboard(runs()), "table")
    partly = leaderboard([*runs(), *runs(task="logic", comparison="beef"), drawn("dft", 0, 0.5)])
    assert " dft " not in render_board(partly, "table")[render_board(partly, "table").index("Across 2 tasks") :]


def test_command_line_views(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "leaderboard", "--results", tmp_path, "--variance") == (0, "no finished runs to compare\n", "")
    assert call(capsys, "leaderboard", "--results", tmp_path, "--pairs", "--json")[:2] == (0, "[]\n")
    code, out, err = call(capsys, "leaderboard", "--results", tmp_path, "--variance", "--pairs")
    assert (code, out) == (2, "") and err == "error: --variance and --pairs are two tables: expected one of them\n"

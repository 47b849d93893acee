"""The table over several tasks on its own: rows for programs, and the same tables as under the leaderboards."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from bench.analysis.board import leaderboard
from bench.analysis.runs import Judged
from bench.report.formats import render_board, render_view
from bench.types import UserError
from tests.helpers.commands import call
from tests.report.test_formats import record

KEYS = ("accuracy", "ood", "retained", "retained_skills", "retained_format")


def judged(right, formatted=None):
    return Judged(tuple(f"o{n}" for n in range(4)), np.arange(4)[:, None] < right, formatted)


@pytest.fixture()
def board():
    """Base and sft on two tasks; uft on one of them; sft on a third level under another budget."""
    found = []
    for task, other in (("countdown", "logic"), ("logic", "countdown")):
        for method, right in (("base", 4), ("sft", 2)):
            splits = {"ood": judged(right), f"other:{other}": judged(right, right / 4)}
            splits["skill:copying"] = judged(right - 1)
            correct = [[1, 0], [right == 2, 0]]
            found.append(record(method, 0, correct, elsewhere=splits, task=task, comparison=f"{task}-x"))
    found.append(record("uft", 0, [[1, 1], [1, 1]], comparison="countdown-x"))
    return leaderboard([*found, record("sft", 0, [[1, 1]], budget_limit=1e9, comparison="small")])


def test_rows_by_hand(board):
    rows = json.loads(render_view(board, "overview", "json"))
    assert [r["method"] for r in rows] == ["sft", "base", "uft"]  # uft lacks a task and comes last
    assert {
        (r["model"], r["template"], r["data"], r["budget_unit"], r["budget_limit"], r["protocol"]) for r in rows
    } == {("tiny", "compact", "generated", "flops", 4e12, 1)}
    assert [(r["num_tasks"], r["mean_accuracy"]) for r in rows] == [(2, 0.5), (2, 0.25), (1, 1.0)]
    sft, _, uft = rows
    assert [sft[f"countdown {key}"] for key in KEYS] == [0.5, 0.5, 0.5, pytest.approx(1 / 3), 0.5]
    assert [uft[f"countdown {key}"] for key in KEYS] == [1.0, None, None, None, None]
    assert [uft[f"logic {key}"] for key in KEYS] == [None] * 5
    lines = list(csv.DictReader(io.StringIO(render_view(board, "overview", "csv"))))
    assert list(lines[0]) == list(sft) and lines[0]["logic retained"] == "0.5" and lines[2]["logic accuracy"] == ""


def test_tables_are_those_under_the_leaderboards(board):
    for format in ("table", "markdown", "latex"):
        text = render_view(board, "overview", format)
        assert text.rstrip() in render_board(board, format) and text.count("All tasks, model tiny") == 1
        assert "Elsewhere" not in text
    with pytest.raises(UserError, match="unknown format 'text': choose from table"):
        render_view(board, "overview", "text")


def test_two_levels_of_a_task_have_names_of_their_own(board):
    runs = [record("sft", 0, [[1]], task=t, level=v, comparison=f"{v}{t}") for t, v in (("logic", "3"), ("logic", "5"))]
    rows = json.loads(render_view(leaderboard([*runs, record("sft", 0, [[0]], task="math")]), "overview", "json"))
    assert [k for k in rows[0] if k.endswith(" accuracy")] == [
        "logic 3 3log accuracy",
        "logic 5 5log accuracy",
        "math accuracy",
    ]


def test_one_task_has_no_overview():
    board = leaderboard([record("sft", 0, [[1, 0]])])
    assert json.loads(render_view(board, "overview", "json")) == []
    assert render_view(board, "overview", "table") == "no setting with finished runs of more than one task\n"
    assert render_view(board, "overview", "latex").startswith("% no setting")


def test_the_command(tmp_path, capsys):
    assert call(capsys, "leaderboard", "--results", tmp_path, "--overview", "--json") == (0, "[]\n", "")
    code, out, err = call(capsys, "leaderboard", "--results", tmp_path, "--overview", "--split", "ood")
    assert (code, out, err) == (2, "", "error: --overview is of the test split, not of 'ood': leave --split out\n")
    missing = call(capsys, "leaderboard", "--results", tmp_path / "none", "--overview")
    assert missing[0] == 2 and "does not exist" in missing[2]

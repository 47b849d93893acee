"""Leaderboards by other metrics, marks of rows, and the HTML table."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import numpy as np
import pytest

from bench.analysis.board import leaderboard, rows_as_dicts
from bench.analysis.metrics import check_metric, item_scores
from bench.report.formats import render_board
from bench.stats.intervals import crossed_interval, paired_difference
from bench.types import UserError
from tests.report.test_formats import record

BITS = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]], dtype=bool)


def test_item_scores_by_hand() -> None:
    greedy = BITS[:, 0]
    assert item_scores("accuracy", BITS, greedy).tolist() == [0.5, 0, 0.75]
    assert item_scores("greedy", BITS, greedy).tolist() == [1, 0, 0]
    assert item_scores("pass@2", BITS, greedy).tolist() == [1 - 1 / 6, 0, 1]
    with pytest.raises(UserError, match="these runs have 4 samples per item, expected at least 8"):
        item_scores("pass@8", BITS, greedy)
    for wrong in ("pass@0", "gredy", "pass", "pass@"):
        with pytest.raises(UserError, match=r"unknown metric .*expected one of accuracy, greedy"):
            check_metric(wrong)


def two() -> list:
    """By samples ``wide`` is ahead, by greedy decoding ``sharp``."""
    wide, sharp = [[0, 1, 1, 1]] * 4, [[1, 0, 0, 1]] * 4
    return [record(m, s, bits) for m, bits in (("wide", wide), ("sharp", sharp)) for s in (0, 1)]


def test_metric_ranks_and_tests() -> None:
    assert [r.method for r in leaderboard(two()).tables[0].rows] == ["wide", "sharp"]
    table = leaderboard(two(), "greedy").tables[0]
    assert [(r.method, r.ranked.mean, r.accuracy.mean) for r in table.rows] == [("sharp", 1, 0.5), ("wide", 0, 0.75)]
    by_hand = paired_difference(np.ones((2, 4)), np.zeros((2, 4)))
    assert table.pairs[0].difference == by_hand and table.rows[0].ranked == crossed_interval(np.ones((2, 4)))
    row = rows_as_dicts(leaderboard(two(), "greedy"))[0]
    assert (row["metric"], row["score"], row["accuracy"], row["greedy"]) == ("greedy", 1, 0.5, 1)
    assert row["runs"] == ["runs/sharp-0", "runs/sharp-1"]


def test_the_metric_is_named_in_tables() -> None:
    text = render_board(leaderboard(two(), "greedy"), "markdown")
    assert "| method | greedy % | accuracy % | pass@4 % |" in text and "solved by greedy decoding" in text
    passed = render_board(leaderboard(two(), "pass@2"), "markdown")
    assert "| method | pass@2 % | greedy % |" in passed and "chance that one of 2 samples is right" in passed
    assert "| (chance) | - |" in passed and "Chance (a random" not in passed  # unknown for pass@k
    assert "| (chance) | 12.5 |" in text


def test_rows_with_fewer_seeds_are_marked() -> None:
    runs = [record("uft", s, [[1], [0]]) for s in (0, 1, 2)] + [record("sft", s, [[1], [0]]) for s in (0, 1)]
    text = render_board(leaderboard([*runs, record("base", 0, [[0], [0]])]), "markdown")
    assert "| sft # |" in text and "| uft |" in text and "| base |" in text  # base need not be repeated
    assert "# runs are missing or failed: sft (2 of 3 seeds)." in text


def test_concerns_are_marked_and_said() -> None:
    runs = [record(m, 0, [[1], [0]]) for m in ("uft", "sft")]
    known = {("cafe0123456789", 1, "sft"): [("undeclared", "version of torch 1.0"), ("missing", "seed 1 unfinished")]}
    board = leaderboard(runs, concerns=known)
    text = render_board(board, "markdown")
    assert "| sft # ^ |" in text and "| uft |" in text
    assert "('bench diff' shows all): sft (version of torch 1.0)." in text
    rows = {r["method"]: r for r in rows_as_dicts(board)}
    assert (rows["sft"]["undeclared"], rows["sft"]["missing"]) == ("version of torch 1.0", "seed 1 unfinished")
    assert (rows["uft"]["undeclared"], rows["uft"]["missing"]) == (None, None)


def test_protocols_are_never_mixed() -> None:
    runs = [record("uft", 0, [[1], [0]]), record("sft", 0, [[1], [1]], protocol=2)]
    tables = leaderboard(runs).tables
    assert [[r.method for r in t.rows] for t in tables] == [["uft"], ["sft"]]
    assert [t.record.protocol for t in tables] == [1, 2]


class Tags(HTMLParser):
    """Names of tags and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_escaped_and_needs_nothing_else() -> None:
    evil = "<script>alert(1)</script>&"
    runs = [record(evil, s, [[1], [0]], path=f"runs/'{evil}'", data="</table>") for s in (0, 1)]
    page = render_board(leaderboard([*runs, record("base", 0, [[0], [0]])]), "html")
    parsed = Tags()
    parsed.feed(page)
    assert not {"script", "img", "link"} & set(parsed.tags) and parsed.tags.count("table") == 1
    assert evil in parsed.text and "</table>" in parsed.text and "default-src 'none'" in page
    assert page.startswith("<!doctype html>") and 'scope="row"' in page
    assert "no finished runs" in render_board(leaderboard([]), "html")


def test_csv_holds_the_runs() -> None:
    assert '"runs": [' in json.dumps(rows_as_dicts(leaderboard(two()))) and "runs/wide-0 runs/wide-1" in render_board(
        leaderboard(two()), "csv"
    )

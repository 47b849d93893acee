"""What labels of near duplicates would do to the published table, whose runs were made before there were any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.analysis.board import leaderboard
from bench.analysis.records import load_results
from bench.analysis.runs import RunRecord
from bench.plan import registry
from tasks._near import Grouped
from tasks.common import load_examples

NINE = Path(__file__).resolve().parents[2] / "results" / "published" / "nine"


def labelled(records: list[RunRecord]) -> list[RunRecord]:
    """The records with the labels of their test problems, made again from the task."""
    task = registry.task("countdown")
    assert isinstance(task, Grouped)
    labels = {e.id: task.cluster(e.problem) for e in load_examples(task, "test", 500, "3", "compact")}
    return [replace(r, clusters=tuple(labels[id] for id in r.item_ids)) for r in records]


def test_no_tie_changes_and_no_limit_moves_far() -> None:
    """477 sets of numbers among 500 problems: what docs/statistics.md says of the published runs."""
    records, bad = load_results(NINE)
    assert not bad and {r.clusters for r in records} == {None}
    (plain,), (table,) = leaderboard(records).tables, leaderboard(labelled(records)).tables
    assert {row.ties for row in table.rows} and len(set(table.rows[0].scores.clusters or ())) == 477
    moved = 0.0
    for old, new in zip(plain.rows, table.rows):
        assert (old.method, old.ties, old.accuracy.mean) == (new.method, new.ties, new.accuracy.mean)
        moved = max(moved, abs(old.accuracy.low - new.accuracy.low), abs(old.accuracy.high - new.accuracy.high))
    assert 0 < moved <= 0.0005


def test_one_labelled_run_labels_its_table() -> None:
    records = [r for r in load_results(NINE)[0] if r.method in ("uft", "sft")]
    new = labelled(records[-1:])
    mixed, full = leaderboard([*records[:-1], *new]), leaderboard(labelled(records))
    first, second = (board.tables[0].pairs[0].difference for board in (mixed, full))
    assert first == second
    assert first.low != pytest.approx(leaderboard(records).tables[0].pairs[0].difference.low, abs=1e-12)

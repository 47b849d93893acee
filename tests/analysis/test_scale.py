"""Large results folders: the work grows with the number of runs and not faster, and no table reads completions."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.board import leaderboard
from bench.analysis.records import load_results
from bench.cli import running
from bench.plan import registry
from bench.report.formats import render_board
from bench.store import run_folder
from bench.store.job import Job
from benchmarks import scale
from tests.helpers.commands import call

TABLE = len(scale.METHODS) * scale.NUM_SEEDS


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[int, tuple[Path, list[Job]]]:
    """Results folders of 2, 4 and 8 tables."""
    found = {}
    for number in (2, 4, 8):
        results = tmp_path_factory.mktemp("stores") / "runs"
        jobs = scale.planned(number * TABLE, results)
        scale.make(jobs, results)
        found[number] = (results, jobs)
    return found


def calls(work: Callable[[], Any]) -> int:
    """Function calls of some work, done once before: a measure of time that other processes do not touch."""
    work()
    profile = cProfile.Profile()
    profile.runcall(work)
    return pstats.Stats(profile).total_calls  # type: ignore[attr-defined]


def test_tables_take_work_in_proportion_to_the_runs(stores):
    def tables(results: Path) -> str:
        records, bad = load_results(results)
        assert not bad
        return render_board(leaderboard(records), "json")

    counts = [calls(lambda n=n: tables(stores[n][0])) for n in (2, 4, 8)]
    assert counts[2] - counts[1] < 2.3 * (counts[1] - counts[0]), counts
    assert counts[2] < 15_000 * 8 * TABLE, counts


def test_the_scan_takes_work_in_proportion_to_the_runs(stores):
    counts = [calls(lambda n=n: running.check_corrupt(stores[n][1])) for n in (2, 4, 8)]
    assert counts[2] - counts[1] < 2.3 * (counts[1] - counts[0]), counts
    assert counts[2] < 200 * 8 * TABLE, counts


def test_the_made_up_store_is_a_results_folder(stores, capsys, monkeypatch):
    results, jobs = stores[2]
    assert run_folder.finished_runs(results) == (sorted(job.path for job in jobs), [])
    monkeypatch.setattr(run_folder, "read_lines", lambda path: pytest.fail(f"{path} was read"))
    records, bad = load_results(results)
    assert not bad and {r.passport for r in records} == {"passed"}
    tables = leaderboard(records).tables
    assert [(t.record.task, len(t.rows), t.num_items) for t in tables] == [("countdown", 8, 500), ("logic", 8, 500)]
    assert all(row.selected and row.elsewhere.ood and len(row.scores.seeds) == 5 for t in tables for row in t.rows)
    assert call(capsys, "leaderboard", "--results", results)[::2] == (0, "")
    assert scale.leaderboard(results, "--verify")[0] > 0


def test_no_benchmark_hides_a_package():
    """The folder of a script that is started by its path comes before all others where Python looks for modules."""
    hidden = {path.stem for path in (registry.ROOT / "benchmarks").glob("*.py")}
    assert not hidden & {"bench", "methods", "tasks", "tests"} and "scale" in hidden

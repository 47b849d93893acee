"""The simulation behind the intervals: its published table, and a part of it again."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_published_coverage_keeps_its_promise() -> None:
    """The table that benchmarks/coverage.py wrote: every line of its grid."""
    text = (ROOT / "docs" / "statistics.md").read_text()
    table = text.partition("<!-- coverage -->")[2].partition("<!-- end of coverage -->")[0]
    lines = [[float(c) for c in line.strip("| ").split("|")] for line in table.splitlines() if line[2:3].isdigit()]
    assert {(line[0], line[1]) for line in lines} == {(s, i) for s in (3, 5) for i in (100, 500)} and len(lines) == 16
    for _, _, points, accuracy, naive, resampled, difference, _, false_positives, naive_false, _ in lines:
        assert 93 <= accuracy <= 97 and 93 <= difference <= 97 and 92 <= resampled <= 98  # resampled: fewer repetitions
        assert 3.5 <= false_positives <= 6.5
        assert points < 5 or (naive < 90 and naive_false > 20)


@pytest.mark.parametrize(("num_seeds", "num_items", "points"), [(3, 100, 2.5), (5, 500, 0.0)])
def test_cells_of_the_published_coverage(num_seeds: int, num_items: int, points: float) -> None:
    coverage = load_benchmark("coverage")
    coverage.SLOW = 20
    line = coverage.cell(num_seeds, num_items, points, 500, np.random.default_rng(9))
    assert 92 <= float(line[3]) <= 98.5 and 92 <= float(line[6]) <= 98.5 and 1.5 <= float(line[8]) <= 8


def test_published_claims_of_unequal_seeds() -> None:
    """The second table of benchmarks/coverage.py: its whole grid, one seed decides nothing, two are known to be few."""
    text = (ROOT / "docs" / "statistics.md").read_text()
    table = text.partition("<!-- claims -->")[2].partition("<!-- end of claims -->")[0]
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line[2:3].isdigit()]
    coverage = load_benchmark("coverage")
    labels = [(str(a), str(b)) for a, b in coverage.UNEQUAL]
    labels += [(str(a), f"control, {b} run{'s' if b > 1 else ''}") for a, b in coverage.CONTROLLED]
    assert [(a, b) for a, b, *_ in lines] == labels
    for _, other, *shares in lines:
        low, high = {"1": (0.0, 0.0), "2": (2.5, 10.0)}.get(other, (2.5, 6.5))
        assert all(low <= float(share) <= high for share in shares) and len(shares) == len(coverage.CLAIM_POINTS)


@pytest.mark.parametrize(("num_a", "num_b"), [(3, 1), (5, 1), (5, 2), (10, 3)])
def test_claims_of_unequal_seeds_find_nothing_where_nothing_is(num_a: int, num_b: int) -> None:
    """With a run counted once per run of the other side 3 against 1 decides 17 % of these, 5 against 1 more."""
    coverage = load_benchmark("coverage")
    for sides in ((num_a, num_b), (num_b, num_a)):
        share = coverage.decided(*sides, 5.0, 400, np.random.default_rng(11))
        # 400 draws of a share of .065 (two seeds: .09) exceed these bounds once in 200 times.
        assert share == 0 if num_b == 1 else 0.02 <= share <= (0.13 if num_b == 2 else 0.1)


def load_benchmark(name: str) -> Any:
    path = ROOT / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""The simulation behind the intervals: its published table, and a part of it again."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def test_published_coverage_keeps_its_promise() -> None:
    """The table that benchmarks/coverage.py wrote: every line of its grid."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "statistics.md").read_text()
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


def load_benchmark(name: str) -> Any:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""Performance profiles: for every setting with several tasks, the share of a method's runs above each accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bench.analysis.across import performance_profile
from bench.analysis.table import Board, Table
from bench.report.html.charts import Chart, Point, make_chart
from bench.report.overview import tables_by_setting

AXES = ("accuracy above (%)", "share of runs (%)")
STEPS = 50  # thresholds between 0 and the highest accuracy


def profiles(board: Board, styles: Mapping[str, int]) -> tuple[Chart, ...]:
    """One chart for each setting with several tasks."""
    return tuple(
        make_chart(lines, styles, (name, *AXES), unit=" %", top=100.0, dotted=False)
        for name, lines in profile_sets(board)
    )


def profile_sets(board: Board) -> list[tuple[str, dict[str, list[Point]]]]:
    """Titles and lines of the charts; settings in which no method has every task are left out."""
    sets = [(tables, profile_lines(tables)) for tables in tables_by_setting(board)]
    return [
        (f"Performance profiles over {len(tables)} tasks, model {tables[0].record.model}", lines)
        for tables, lines in sets
        if lines
    ]


def profile_lines(tables: list[Table]) -> dict[str, list[Point]]:
    """Points in % of each method that has every task, over the seeds that it has on all of them; no intervals."""
    by_table = [{row.method: row.scores for row in table.rows} for table in tables]
    methods = [m for m in by_table[0] if all(m in rows for rows in by_table)]
    lines = {}
    for method in methods:
        scores = [rows[method] for rows in by_table]
        num = min(len(s.seeds) for s in scores)
        lines[method] = np.stack([s.values.mean(axis=1)[:num] for s in scores], axis=1)
    highest = max((float(values.max()) for values in lines.values()), default=0.0)
    thresholds = np.linspace(0, min(1.0, 1.05 * highest), STEPS + 1)
    return {
        method: [
            (100 * float(t), 100 * float(share), math.nan, math.nan)
            for t, share in zip(thresholds, performance_profile(values, thresholds.tolist()))
        ]
        for method, values in lines.items()
    }

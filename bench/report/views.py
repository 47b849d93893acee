"""Further tables of a board: where the variation comes from, every pair's tests, and methods across tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from bench.analysis.across import draw_items, improvement_interval, method_intervals
from bench.analysis.contests import Pair
from bench.analysis.runs import Scores, paired_values, shared_clusters
from bench.analysis.sentences import point_limits, say_few_seeds, signed_points
from bench.analysis.table import Board, Row, Table
from bench.report.grids import Grid, interval_cell, percent
from bench.report.overview import overview_grids, overview_rows, tables_by_setting
from bench.stats.intervals import Interval
from bench.stats.tests import cohens_h, mcnemar, sign_flip
from bench.stats.variance import SOURCES, decompose, most_helpful, variance_shares

THRESHOLDS = (0.25, 0.5, 0.75)
VARIANCE_NOTE = (
    "Standard deviations of one verdict's components, in points: training seed, item, seed x item, and sampling one "
    "model's completion (method of moments; 0: none found). In brackets the share of the variance of the accuracy "
    "above; doubling what the last column names lowers that variance most. Comparisons are paired by item, which "
    "removes what two methods find hard alike. -: cannot be estimated, from one seed for instance."
)
PAIRS_NOTE = (
    "Difference: points, first minus second, with its 95 % interval. p: the test over seeds and items that "
    "belongs to it (of one seed: over items only); after Holm's correction it decides the ties, where both methods "
    "have three seeds. Sign flips: p of the permutation test, which with 3 to "
    "5 seeds that differ cannot become small. McNemar: exact, on greedy verdicts, only between two single runs. h: "
    "Cohen's effect size."
)
ACROSS_NOTE = (
    "IQM: interquartile mean of all runs' accuracies; beats base: probability that a run has a higher accuracy than "
    "base, whose runs are one model; then the share of runs above an accuracy. In %, with 95 % intervals over seeds "
    "and items, where a method has one seed over items only. They hold "
    "for these tasks: a few tasks say little about others. Methods that lack a task are left out."
)


def summary_grids(board: Board) -> list[Grid]:
    """What stands under all tables: the overview over the tasks, then the summaries across them."""
    return [*overview_grids(board), *across_grids(board)]


def variance_fields(row: Row) -> dict[str, Any]:
    """Variance components of a row's verdicts (fractions squared), their shares, what to double; NaN if unknown."""
    correct = row.scores.correct
    if correct is None:
        return {}
    components, shape = decompose(correct, row.scores.clusters), (correct.shape[0], correct.shape[1], correct.shape[2])
    parts = variance_shares(components.of_mean(*shape))
    return {
        **{f"variance_{name}": getattr(components, name) for name in SOURCES},
        **{f"share_{name}": parts[name] for name in SOURCES},
        "doubling_helps": most_helpful(components, *shape),
    }


def variance_records(board: Board) -> list[dict[str, Any]]:
    """One flat row per method and table."""
    return [
        {**table_fields(table), "method": row.method, **variance_fields(row)}
        for table in board.tables
        for row in table.rows
    ]


def table_fields(table: Table) -> dict[str, Any]:
    """The fields by which the tables of a board differ."""
    return {key: getattr(table.record, key) for key in ("task", "level", "model", "split", "protocol", "comparison")}


def variance_grids(board: Board) -> list[Grid]:
    """Where the variation of each method's accuracy comes from, one table per comparison."""
    head = [("method", ""), ("seed", "sd"), ("item", "sd"), ("seed x item", "sd"), ("sampling", "sd"), ("double", "")]
    grids = []
    for table in board.tables:
        body = []
        for row in table.rows:
            fields = variance_fields(row)
            cells = [variance_cell(fields, name) for name in SOURCES]
            body.append([(row.method, ""), *cells, (fields.get("doubling_helps") or "-", "")])
        grids.append(Grid(f"Variation: {table_heading(table)}", head, body, VARIANCE_NOTE))
    return grids


def variance_cell(fields: Mapping[str, Any], name: str) -> tuple[str, str]:
    variance, share = fields.get(f"variance_{name}", math.nan), fields.get(f"share_{name}", math.nan)
    return ("-", "") if math.isnan(variance) else (percent(math.sqrt(variance)), f"({round(100 * share)} %)")


def table_heading(table: Table) -> str:
    r = table.record
    return f"{r.task}, level {r.level}, model {r.model}, {r.split} split, {table.seeds} x {table.num_items} items"


def pair_fields(table: Table, pair: Pair) -> dict[str, Any]:
    """All tests of one pair; differences in points, limits infinite where nothing bounds them.

    Sign flips are drawn from a fixed generator.
    """
    scores = {row.method: row.scores for row in table.rows}
    a, b, test = scores[pair.first], scores[pair.second], pair.difference
    values_a, values_b = paired_values(a, b)
    flips = sign_flip(values_a - values_b, np.random.default_rng(0), clusters=shared_clusters(a, b))
    return {
        **{"first": pair.first, "second": pair.second},
        **{"difference": 100 * test.mean, "low": 100 * test.low, "high": 100 * test.high},
        **{"p": test.p_value, "p_holm": pair.adjusted, "p_sign_flip": flips},
        "p_mcnemar": mcnemar_of_greedy(a, b),
        "cohens_h": cohens_h(float(values_a.mean()), float(values_b.mean())),
        **{"num_seeds": test.num_seeds, "num_items": test.num_items, "interval_over": test.over},
    }


def mcnemar_of_greedy(a: Scores, b: Scores) -> float | None:
    """McNemar's p between two single runs; None for several seeds, because the test ignores variation between them."""
    if len(a.seeds) != 1 or len(b.seeds) != 1 or a.greedy is None or b.greedy is None:
        return None
    return mcnemar(a.greedy[0], b.greedy[0])


def pair_records(board: Board) -> list[dict[str, Any]]:
    """One flat row per pair and table."""
    return [{**table_fields(table), **pair_fields(table, pair)} for table in board.tables for pair in table.pairs]


def pair_grids(board: Board) -> list[Grid]:
    """Every pair of methods with its tests, one table per comparison."""
    tests = ("", "Holm", "sign flips", "McNemar")
    head = [("pair", ""), ("difference", ""), *(("p", test) for test in tests), ("h", "")]
    grids = []
    for table in board.tables:
        body = []
        for pair in table.pairs:
            fields = pair_fields(table, pair)
            gap = signed_points(pair.difference.mean), point_limits(pair.difference.low, pair.difference.high)
            p_values = [fields[key] for key in ("p", "p_holm", "p_sign_flip", "p_mcnemar")]
            p_cells = [("-" if p is None else f"{p:.3f}", "") for p in p_values]
            body.append([(f"{pair.first} - {pair.second}", ""), gap, *p_cells, (f"{fields['cohens_h']:+.2f}", "")])
        few = say_few_seeds({row.method: len(row.scores.seeds) for row in table.rows})
        grids.append(Grid(f"Pairs: {table_heading(table)}", head, body, " ".join([PAIRS_NOTE, *few])))
    return grids


def across_grids(board: Board) -> list[Grid]:
    """Summaries across tasks for every setting with more than one, best interquartile mean first."""
    return [grid for tables in tables_by_setting(board) if (grid := across_grid(tables)) is not None]


@lru_cache(maxsize=8)
def item_draws(sizes: tuple[int, ...], labels: tuple[tuple[str, ...] | None, ...]) -> list[np.ndarray]:
    """Draws of items for tasks of these sizes, with these labels; settings with the same ones share them."""
    return draw_items(sizes, np.random.default_rng(0), labels=labels)


def across_grid(tables: Sequence[Table]) -> Grid | None:
    """One setting's summaries, of the methods that have every task; None if no method has."""
    by_table = [{row.method: row.scores for row in table.rows} for table in tables]
    common = set.intersection(*(set(rows) for rows in by_table))
    if not common:
        return None
    labels = tuple(shared_clusters(*rows.values()) for rows in by_table)
    weights = item_draws(tuple(table.num_items for table in tables), labels)
    lines = []
    for method in common:
        tasks, rng = [rows[method] for rows in by_table], np.random.default_rng(1)
        middle, *above = method_intervals(tasks, THRESHOLDS, weights, rng)
        better: Interval | None = None
        if method != "base" and "base" in common:
            better = improvement_interval(tasks, [rows["base"] for rows in by_table], weights, rng)
        lines.append((-middle.mean, method, [(method, ""), *map(interval_cell, (middle, better, *above))]))
    head = [("method", ""), ("IQM", ""), ("beats", "base"), *(("runs above", f"{percent(t)} %") for t in THRESHOLDS)]
    body = [line for _, _, line in sorted(lines, key=lambda line: line[:2])]
    return Grid(f"Across {len(tables)} tasks, model {tables[0].record.model}", head, body, ACROSS_NOTE)


VIEWS: dict[str, tuple[Callable[[Board], list[Grid]], Callable[[Board], list[dict[str, Any]]]]] = {
    "overview": (overview_grids, overview_rows),
    "variance": (variance_grids, variance_records),
    "pairs": (pair_grids, pair_records),
}

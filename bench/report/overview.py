"""All tasks at a glance: a table of methods by tasks for every setting with runs of several tasks."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from bench.analysis.contests import board_setting
from bench.analysis.table import Board, Row, Table
from bench.report.grids import Grid, interval_cell, percent, share_cell
from bench.stats.intervals import interval_fields

ABREAST = 4  # tasks side by side that a terminal can show
SETTING = ("model", "template", "data", "budget_unit", "budget_limit", "protocol")
NOTE = "Each cell: in-distribution / out-of-distribution / retained share of base's ability on the other tasks, in %."


def tables_by_setting(board: Board) -> list[list[Table]]:
    """The tables of the test split of every setting that has more than one task."""
    groups: dict[tuple[object, ...], list[Table]] = defaultdict(list)
    for table in board.tables:
        if table.record.split == "test":
            groups[board_setting(table.record)].append(table)
    return [tables for tables in groups.values() if len({t.record.task for t in tables}) > 1]


def overview_grids(board: Board) -> list[Grid]:
    """One table over several tasks for every setting, or more where the tasks do not fit side by side."""
    return [overview_grid(ts[n : n + ABREAST]) for ts in tables_by_setting(board) for n in range(0, len(ts), ABREAST)]


def names_of(tables: list[Table]) -> list[str]:
    """Names of the tasks, with level and comparison where a task occurs twice."""
    records = [t.record for t in tables]
    names = [r.task for r in records]
    return [r.task if names.count(r.task) == 1 else f"{r.task} {r.level} {r.comparison[:4]}" for r in records]


def ordered_methods(rows: list[dict[str, Row]]) -> list[str]:
    """The methods of these tables, best mean accuracy first; those that lack a task come last."""

    def order(method: str) -> tuple[int, float, str]:
        means = [table[method].accuracy.mean for table in rows if method in table]
        return len(rows) - len(means), -sum(means) / len(means), method

    return sorted({method for table in rows for method in table}, key=order)


def rows_by_method(tables: list[Table]) -> list[dict[str, Row]]:
    return [{row.method: row for row in table.rows} for table in tables]


def overview_grid(tables: list[Table]) -> Grid:
    """Methods by tasks."""
    rows = rows_by_method(tables)
    body = [[(method, ""), *((triple(of.get(method)), "") for of in rows)] for method in ordered_methods(rows)]
    head = [("method", ""), *((name, "in / out / retained") for name in names_of(tables))]
    return Grid(f"All tasks, model {tables[0].record.model}", head, body, NOTE)


def triple(row: Row | None) -> str:
    """``31.0 / 12.5 / 84.2``"""
    if row is None:
        return "-"
    return " / ".join(
        (percent(row.accuracy.mean), interval_cell(row.elsewhere.ood)[0], share_cell(row.elsewhere.retained)[0])
    )


def overview_rows(board: Board) -> list[dict[str, Any]]:
    """Flat rows for JSON and CSV, one per setting and method: its figures on every task as fractions or None.

    ``mean_accuracy`` is over the ``num_tasks`` that the method was run on.
    """
    lines = []
    for tables in tables_by_setting(board):
        rows, names = rows_by_method(tables), names_of(tables)
        shared = {name: getattr(tables[0].record, name) for name in SETTING}
        for method in ordered_methods(rows):
            means = [of[method].accuracy.mean for of in rows if method in of]
            line = {**shared, "method": method, "num_tasks": len(means), "mean_accuracy": sum(means) / len(means)}
            for name, of in zip(names, rows):
                line |= {f"{name} {key}": value for key, value in row_figures(of.get(method)).items()}
            lines.append(line)
    return lines


def row_figures(row: Row | None) -> dict[str, float | None]:
    """A method's figures on one task, retained shares with their limits."""
    if row is None:
        shares = {**interval_fields("retained", None), **interval_fields("retained_skills", None)}
        return {"accuracy": None, "ood": None, **shares, "retained_format": None}
    far = row.elsewhere
    shares = {**interval_fields("retained", far.retained), **interval_fields("retained_skills", far.retained_skills)}
    ood = far.ood.mean if far.ood else None
    return {"accuracy": row.accuracy.mean, "ood": ood, **shares, "retained_format": far.retained_format}

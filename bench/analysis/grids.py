"""Tables besides the leaderboards, as cells of text: what a method can do elsewhere, and all tasks at a glance."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from bench.analysis.board import Board, Row, Table
from bench.analysis.inference import Interval
from bench.analysis.marks import signs

MARKS = {"passed": "", "none": " ?", "failed": " !", "other methods": " ~"}  # by the state of a row's passport
ABREAST = 4  # tasks side by side that a terminal can show
READING = (
    "Out of distribution: problems of a harder level. Reworded: test problems under other prompts. Other tasks: in "
    "the prompt format of the run, at their default levels, not trained on here. Retained: accuracy on the other tasks "
    "as a share of base's, mean over the tasks; above 100 %: better than base. All in %, with 95 % intervals as above."
)


@dataclass(frozen=True)
class Grid:
    """A table whose cells are a figure and what stands small beside or under it; the first column is the method."""

    title: str
    head: list[tuple[str, str]]
    body: list[list[tuple[str, str]]]
    note: str


def percent(x: float) -> str:
    """A fraction as a percentage with one decimal, without its sign %; "-" if unknown."""
    return f"{100 * x:.1f}" if math.isfinite(x) else "-"


def label(row: Row) -> str:
    """The method's name with its marks."""
    return row.method + MARKS[row.passport] + signs(row.concerns)


def cell(interval: Interval | None) -> tuple[str, str]:
    if interval is None:
        return "-", ""
    return percent(interval.mean), f"[{percent(interval.low)}, {percent(interval.high)}]"


def share(row: Row) -> str:
    """Retained share of base's ability in %, "-" if unknown."""
    kept = row.elsewhere.retained
    return "-" if kept is None else percent(kept)


def elsewhere(table: Table) -> Grid | None:
    """What the methods of a table can do elsewhere, in the table's order; None if no run was judged there."""
    if not any(row.elsewhere for row in table.rows):
        return None
    tasks = sorted({task for row in table.rows for task in row.elsewhere.others})
    record = table.record
    head = [("method", ""), ("in", "distribution"), ("out of", "distribution"), ("reworded", "prompts")]
    head += [*(("on", task) for task in tasks), ("retained", "of base")]
    body = []
    for row in table.rows:
        found = row.elsewhere
        cells = [row.accuracy, found.ood, found.reworded, *(found.others.get(task) for task in tasks)]
        body.append([(label(row), ""), *map(cell, cells), (share(row), "")])
    harder = f"level {record.ood_level}" if record.ood_level else "no harder level"
    title = f"Elsewhere: trained on {record.task}, level {record.level}; out of distribution: {harder}"
    return Grid(title, head, body, READING)


def overviews(board: Board) -> list[Grid]:
    """One table over several tasks for every setting (model, template, data, budget, protocol) with more than one."""
    groups: dict[tuple[object, ...], list[Table]] = defaultdict(list)
    for table in board.tables:
        r = table.record
        if r.split == "test":
            groups[r.model, r.template, r.data, r.budget_unit, r.budget_limit, r.protocol].append(table)
    several = [tables for tables in groups.values() if len({t.record.task for t in tables}) > 1]
    return [overview(tables[n : n + ABREAST]) for tables in several for n in range(0, len(tables), ABREAST)]


def overview(tables: list[Table]) -> Grid:
    """Methods by tasks, best mean accuracy first; methods that lack a task come last."""
    rows = [{row.method: row for row in table.rows} for table in tables]
    names = [t.record.task for t in tables]
    heads = [
        n if names.count(n) == 1 else f"{n} {t.record.level} {t.record.comparison[:4]}" for n, t in zip(names, tables)
    ]

    def order(method: str) -> tuple[int, float, str]:
        found = [by_method[method].accuracy.mean for by_method in rows if method in by_method]
        return len(rows) - len(found), -sum(found) / len(found), method

    body = []
    for method in sorted({m for by_method in rows for m in by_method}, key=order):
        body.append([(method, ""), *((triple(by_method.get(method)), "") for by_method in rows)])
    head = [("method", ""), *((name, "in / out / retained") for name in heads)]
    note = (
        "Each cell: in-distribution / out-of-distribution / retained share of base's ability on the other tasks, in %."
    )
    return Grid(f"All tasks, model {tables[0].record.model}", head, body, note)


def triple(row: Row | None) -> str:
    """``31.0 / 12.5 / 84.2``"""
    if row is None:
        return "-"
    return " / ".join((percent(row.accuracy.mean), cell(row.elsewhere.ood)[0], share(row)))

"""Tables under the leaderboards, as cells of text: what a method can do elsewhere, and what it kept of base."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.analysis.concerns import signs
from bench.analysis.table import Row, Table
from bench.stats.intervals import Interval

MARKS = {"passed": "", "none": " ?", "failed": " !", "other methods": " ~"}  # by the state of a row's passport
READING = (
    "Out of distribution: problems of a harder level. Reworded: test problems under other prompts. Other tasks: in "
    "the prompt format of the run, at their default levels, not trained on here. Retained: accuracy on the other tasks "
    "as a share of base's, mean over the tasks; above 100 %: better than base; unbounded: base's own figure is "
    "too near 0 for limits. All in %, with 95 % intervals as above."
)
READING_KEPT = (
    "Retained, as shares of base's figures: accuracy on the other tasks (as above), accuracy on the base skills, and "
    "share of completions on the other tasks whose answer could be read; means over what base can do at all. Then the "
    "parts: accuracy on each skill, and the share that could be read, by task. All in %, with 95 % intervals but for "
    "what could be read."
)


@dataclass(frozen=True)
class Grid:
    """A table of cells (figure, small text beside or under it); the first column names the method."""

    title: str
    head: list[tuple[str, str]]
    body: list[list[tuple[str, str]]]
    note: str


def percent(x: float | None) -> str:
    """A fraction in percent with one decimal and no sign %; "-" if unknown."""
    return "-" if x is None or not math.isfinite(x) else f"{100 * x:.1f}"


def row_label(row: Row) -> str:
    """The method's name with its marks."""
    return row.method + MARKS[row.passport] + signs(row.concerns)


def percent_limits(interval: Interval) -> str:
    return f"[{percent(interval.low)}, {percent(interval.high)}]"


def interval_cell(interval: Interval | None) -> tuple[str, str]:
    return ("-", "") if interval is None else (percent(interval.mean), percent_limits(interval))


def share_cell(interval: Interval | None) -> tuple[str, str]:
    """A retained share; base's own is 1 by definition, and infinite limits are said in words."""
    if interval is None:
        return "-", ""
    if interval.low == interval.high:
        return percent(interval.mean), ""
    return percent(interval.mean), percent_limits(interval) if math.isfinite(interval.high) else "unbounded"


def elsewhere_grid(table: Table) -> Grid | None:
    """What the methods of a table can do elsewhere, in the table's order; None if no run was judged there."""
    if not any(row.elsewhere for row in table.rows):
        return None
    tasks = sorted({task for row in table.rows for task in row.elsewhere.others})
    record = table.record
    head = [("method", ""), ("in", "distribution"), ("out of", "distribution"), ("reworded", "prompts")]
    head += [*(("on", task) for task in tasks), ("retained", "of base")]
    body = []
    for row in table.rows:
        figures = row.elsewhere
        cells = [row.accuracy, figures.ood, figures.reworded, *(figures.others.get(task) for task in tasks)]
        body.append([(row_label(row), ""), *map(interval_cell, cells), share_cell(figures.retained)])
    harder = f"level {record.ood_level}" if record.ood_level else "no harder level"
    title = f"Elsewhere: trained on {record.task}, level {record.level}; out of distribution: {harder}"
    return Grid(title, head, body, READING)


def kept_grid(table: Table) -> Grid | None:
    """What is left of base's abilities after training; None if neither skills nor formats are known."""
    rows = [(row, row.elsewhere) for row in table.rows]
    skills = sorted({skill for _, figures in rows for skill in figures.skills})
    tasks = sorted({task for _, figures in rows for task in figures.formats})
    if not skills and not tasks:
        return None
    head = [("method", ""), ("retained", "other tasks"), ("retained", "skills"), ("retained", "format")]
    head += [*(("skill", skill) for skill in skills), *(("readable", task) for task in tasks)]
    body = []
    for row, figures in rows:
        means = [share_cell(figures.retained), share_cell(figures.retained_skills)]
        means.append((percent(figures.retained_format), ""))
        accuracies = [interval_cell(figures.skills.get(skill)) for skill in skills]
        readable = [(percent(figures.formats.get(task)), "") for task in tasks]
        body.append([(row_label(row), ""), *means, *accuracies, *readable])
    return Grid(
        f"Base abilities after training on {table.record.task}, level {table.record.level}", head, body, READING_KEPT
    )


def table_grids(table: Table) -> list[Grid]:
    """What stands under a table: what its methods can do elsewhere, and what is left of base's abilities."""
    return [grid for grid in (elsewhere_grid(table), kept_grid(table)) if grid is not None]

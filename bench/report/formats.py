"""A Board, or tables made from it, in every format: terminal, markdown, LaTeX, CSV, JSON and HTML."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from bench.analysis.board import rows_as_dicts
from bench.analysis.contests import ties_below
from bench.analysis.metrics import metric_chance
from bench.analysis.table import Board, Table
from bench.report.grids import Grid, interval_cell, percent, row_label, table_grids
from bench.report.table_cells import (
    EMPTY,
    UNITS,
    board_columns,
    metric_headings,
    table_legend,
    table_remarks,
    table_title,
    terminal_cells,
)
from bench.report.table_writers import csv_table, json_text, latex_escape, latex_table, markdown_table
from bench.report.terminal_table import terminal_table
from bench.report.views import VIEWS, summary_grids
from bench.types import UserError

FORMATS = ("table", "markdown", "csv", "json", "latex", "html")
ALONE = "no setting with finished runs of more than one task"


def render_board(board: Board, format: str) -> str:
    """The board in one of FORMATS, ending with a newline; raises UserError for another format."""
    check_known("format", format, FORMATS)
    if format == "json":
        return json_text(rows_as_dicts(board)) + "\n"
    if format == "csv":
        return csv_table(rows_as_dicts(board)).rstrip() + "\n"
    if format == "html":
        from bench.report.html.leaderboard_page import board_page

        return board_page(board)
    write_table, write_grid = WRITERS[format]
    parts = []
    for table in board.tables:
        parts += [write_table(table), *map(write_grid, table_grids(table))]
    return join_parts([*parts, *map(write_grid, summary_grids(board))], format, EMPTY)


def render_view(board: Board, view: str, format: str) -> str:
    """One of VIEWS of a board in one of FORMATS, ending with a newline; UserError for other names."""
    check_known("view", view, VIEWS)
    view_grids, records = VIEWS[view]
    nothing = ALONE if view == "overview" else EMPTY
    return render_grids(lambda: view_grids(board), lambda: records(board), format, nothing)


def render_grids(
    grids: Callable[[], Sequence[Grid]],
    rows: Callable[[], Sequence[dict[str, Any]]],
    format: str,
    nothing: str = EMPTY,
) -> str:
    """Tables in one of FORMATS: grids for people, flat rows for CSV and JSON; only what the format needs is made."""
    check_known("format", format, FORMATS)
    if format == "json":
        return json_text(rows()) + "\n"
    if format == "csv":
        return csv_table(rows())
    if format == "html":
        from bench.report.html.leaderboard_page import render_sections

        return render_sections([(grid, {}) for grid in grids()])
    _, write_grid = WRITERS[format]
    return join_parts(list(map(write_grid, grids())), format, nothing)


def check_known(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise UserError(f"unknown {what} '{name}': choose from {', '.join(known)}")


def join_parts(parts: Sequence[str], format: str, nothing: str) -> str:
    """The parts with an empty line between them.  Without parts: why there is nothing, in LaTeX as a comment."""
    return ("\n\n".join(parts) or (f"% {nothing}" if format == "latex" else nothing)).rstrip() + "\n"


# --- terminal: two lines per method, the second for intervals and shares ---------------------------------------------


def terminal_board(table: Table) -> str:
    unit = table.record.budget_unit
    first, beside, k = metric_headings(table)
    heads = [
        "method",
        f"{first}\n95 % interval",
        beside + (f"\npass@{k}" if k > 1 else ""),
        "gain\nover base",
        "ties",
        f"{UNITS.get(unit, unit)}\nspent",
        "tokens\nrollouts",
        "demos\ndistinct",
        "seconds\nseeds",
    ]
    rows = [[row_label(row), *terminal_cells(table, row)] for row in table.rows]
    rows.append(["(chance)", percent(metric_chance(table.metric, table.record.chance))])
    return terminal_table(table_title(table), heads, rows, [*table_remarks(table), table_legend(table)])


def terminal_grid(grid: Grid) -> str:
    """Small parts stand under their figures.  Intervals lose their blank, so that six of them fit beside the names."""
    body = [[(figure, small.replace(", ", ",")) for figure, small in line] for line in grid.body]
    head, *rows = [["\n".join(filter(None, cell)) for cell in line] for line in (grid.head, *body)]
    return terminal_table(grid.title, head, rows, grid.note.splitlines())


# --- markdown: one line per method, the sentences as a list under the table ------------------------------------------


def markdown_board(table: Table) -> str:
    sentences = "\n".join(f"- {s}" for s in table_remarks(table))
    return (
        f"**{table_title(table)}**\n\n{markdown_table(*board_columns(table))}\n\n{sentences}\n\n{table_legend(table)}"
    )


def markdown_grid(grid: Grid) -> str:
    head, *body = [[" ".join(filter(None, cell)) for cell in line] for line in (grid.head, *grid.body)]
    return f"**{grid.title}**\n\n{markdown_table(head, body)}\n\n" + "\n\n".join(grid.note.splitlines())


# --- LaTeX: the same line, bold: the best and all that tie with it ---------------------------------------------------


def latex_board(table: Table) -> str:
    head, body = board_columns(table)
    best = {table.rows[0].method, *ties_below(table.rows[0].method, table.pairs)}
    for row, line in zip(table.rows, body):
        mean, limits = interval_cell(row.ranked)
        line[:] = [latex_escape(c) for c in line]
        line[1] = (rf"\textbf{{{mean}}}" if row.method in best else mean) + rf" {{\scriptsize {limits}}}"
    heads = [latex_escape(h) + (r" $\uparrow$" if "%" in h else "") for h in head]
    caption = f"{table_title(table)}; {table.seeds}. {table_legend(table)} Bold: the best and its ties."
    return latex_table(caption, heads, body, " ".join(table_remarks(table)))


def latex_grid(grid: Grid) -> str:
    heads = [latex_escape(" ".join(filter(None, cell))) for cell in grid.head]
    body = [
        [latex_escape(figure) + (rf" {{\scriptsize {latex_escape(small)}}}" if small else "") for figure, small in line]
        for line in grid.body
    ]
    return latex_table(grid.title, heads, body, grid.note)


WRITERS: dict[str, tuple[Callable[[Table], str], Callable[[Grid], str]]] = {
    "table": (terminal_board, terminal_grid),
    "markdown": (markdown_board, markdown_grid),
    "latex": (latex_board, latex_grid),
}

"""A Board as text: rich table for terminals, markdown, LaTeX, CSV, JSON and HTML."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any
from unicodedata import decomposition

from bench.analysis.board import rows_as_dicts
from bench.analysis.contests import ties_below
from bench.analysis.metrics import chance
from bench.analysis.table import Board
from bench.report.grids import Grid, grids, label, percent
from bench.report.table_cells import EMPTY, UNITS, cells, columns, headings, legend, limits, remarks, title
from bench.report.terminal_table import drawn
from bench.report.views import VIEWS, summaries
from bench.types import UserError

ALONE = "no setting with finished runs of more than one task"
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"}
LATEX |= {">": r"\textgreater{}"} | {c: f"\\{c}" for c in "&%$#_{}"}


def render(board: Board, format: str) -> str:
    """The board in one of FORMATS, ending with a newline; raises UserError for another format."""
    if format not in FORMATS:
        raise UserError(f"unknown format '{format}': choose from {', '.join(FORMATS)}")
    return FORMATS[format](board).rstrip() + "\n"


def render_view(board: Board, view: str, format: str) -> str:
    """One of VIEWS of a board in one of FORMATS, ending with a newline; UserError for other names."""
    for name, known in ((view, VIEWS), (format, FORMATS)):
        if name not in known:
            raise UserError(f"unknown '{name}': choose from {', '.join(known)}")
    grids, records = VIEWS[view]
    if format == "json":
        return json.dumps(records(board), indent=1, allow_nan=False) + "\n"
    if format == "csv":
        return separated(records(board))
    if format == "html":
        from bench.report.html.leaderboard_page import of_grids

        return of_grids(grids(board))
    shape = {"table": drawn_grid, "markdown": piped_grid, "latex": typeset_grid}[format]
    nothing = ALONE if view == "overview" else EMPTY
    return ("\n\n".join(map(shape, grids(board))) or (f"% {nothing}" if format == "latex" else nothing)) + "\n"


def to_table(board: Board) -> str:
    """Tables for a terminal of 100 columns: two lines per method, the second for intervals and shares."""
    parts = []
    for table in board.tables:
        unit = table.record.budget_unit
        first, beside, k = headings(table)
        heads = [
            f"{first}\n95 % interval",
            beside + (f"\npass@{k}" if k > 1 else ""),
            "gain\nover base",
            "ties",
            f"{UNITS.get(unit, unit)}\nspent",
        ]
        heads += ["tokens\nrollouts", "demos\ndistinct", "seconds\nseeds"]
        rows = [[label(row), *cells(table, row)] for row in table.rows]
        rows.append(["(chance)", percent(chance(table.metric, table.record.chance))])
        parts.append(drawn(title(table), ["method", *heads], rows, [*remarks(table), legend(table)]))
        parts += [drawn_grid(grid) for grid in grids(table)]
    parts += [drawn_grid(grid) for grid in summaries(board)]
    return "\n\n".join(parts) or EMPTY


def drawn_grid(grid: Grid) -> str:
    """The small parts stand under the figures, intervals without their blank: six of them fit beside the names."""
    body = [[(figure, small.replace(", ", ",")) for figure, small in line] for line in grid.body]
    stacked = [["\n".join(filter(None, cell)) for cell in line] for line in (grid.head, *body)]
    return drawn(grid.title, stacked[0], stacked[1:], grid.note.splitlines())


def to_markdown(board: Board) -> str:
    """One GitHub table per comparison, the sentences as a list under it."""
    parts = []
    for table in board.tables:
        head, body = columns(table)
        sentences = "\n".join(f"- {s}" for s in remarks(table))
        parts.append(f"**{title(table)}**\n\n{piped(head, body)}\n\n{sentences}\n\n{legend(table)}")
        parts += [piped_grid(grid) for grid in grids(table)]
    parts += [piped_grid(grid) for grid in summaries(board)]
    return "\n\n".join(parts) or EMPTY


def piped(head: list[str], body: list[list[str]]) -> str:
    """A GitHub table."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines)


def piped_grid(grid: Grid) -> str:
    head, *body = [[" ".join(filter(None, cell)) for cell in line] for line in (grid.head, *grid.body)]
    return f"**{grid.title}**\n\n{piped(head, body)}\n\n" + "\n\n".join(grid.note.splitlines())


def escape(text: str) -> str:
    """Text with LaTeX's special characters made literal; characters that its plain fonts lack become their numbers."""
    return "".join(LATEX.get(c, c if typesettable(c) else f"[U+{ord(c):04X}]") for c in text)


def typesettable(c: str) -> bool:
    """Printable ASCII, line breaks, and letters of Latin-1 that are ASCII ones with an accent."""
    return c in "\n\t" or (c.isprintable() and (c.isascii() or (ord(c) < 0x100 and decomposition(c)[:2] == "00")))


def to_latex(board: Board) -> str:
    """One booktabs table per comparison (needs \\usepackage{booktabs}); bold: the best and all that tie with it."""
    parts = []
    for table in board.tables:
        head, body = columns(table)
        top = table.rows[0].method
        best = {top, *ties_below(top, table.pairs)}
        for row, line in zip(table.rows, body):
            mean = percent(row.ranked.mean)
            line[:] = [escape(c) for c in line]
            line[1] = (rf"\textbf{{{mean}}}" if row.method in best else mean) + rf" {{\scriptsize {limits(row)}}}"
        heads = [escape(h) for h in head]
        heads = [rf"{h} $\uparrow$" if "%" in h else h for h in heads]
        caption = f"{title(table)}; {table.seeds}. {legend(table)} Bold: the best and its ties."
        parts.append(typeset(caption, heads, body, " ".join(remarks(table))))
        parts += [typeset_grid(grid) for grid in grids(table)]
    parts += [typeset_grid(grid) for grid in summaries(board)]
    return "\n\n".join(parts) or f"% {EMPTY}"


def typeset(caption: str, heads: list[str], body: list[list[str]], below: str) -> str:
    """A LaTeX table; heads and cells are LaTeX already, the other texts are not."""
    lines = "\n".join(" & ".join(line) + r" \\" for line in body)
    return (
        "\\begin{table*}\n\\centering\n\\footnotesize\n\\setlength{\\tabcolsep}{3pt}\n"
        f"\\caption{{{escape(caption)}}}\n"
        f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}\n\\toprule\n"
        f"{' & '.join(heads)} \\\\\n\\midrule\n{lines}\n\\bottomrule\n\\end{{tabular}}\n\n"
        f"\\smallskip\n\\raggedright {escape(below)}\n\\end{{table*}}"
    )


def typeset_grid(grid: Grid) -> str:
    heads = [escape(" ".join(filter(None, cell))) for cell in grid.head]
    small = [[escape(a) + (rf" {{\scriptsize {escape(b)}}}" if b else "") for a, b in line] for line in grid.body]
    return typeset(grid.title, heads, small, grid.note)


def to_csv(board: Board) -> str:
    """One line per row with the columns of ``rows_as_dicts``; empty where a value is absent."""
    return separated(rows_as_dicts(board))


def separated(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV with a column for every name that one of them has; the parts of a list are joined by a blank."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in row.items()} for row in rows)
    return out.getvalue()


def to_json(board: Board) -> str:
    """A list of row objects; absent values are null."""
    return json.dumps(rows_as_dicts(board), indent=1, allow_nan=False)


def to_html(board: Board) -> str:
    """One page that needs nothing beside it."""
    from bench.report.html.leaderboard_page import of_board

    return of_board(board)


FORMATS: dict[str, Callable[[Board], str]] = {
    "table": to_table,
    "markdown": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "latex": to_latex,
    "html": to_html,
}

"""Tables as one HTML page that opens from disk and loads nothing; every text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.analysis.table import Board
from bench.report.grids import Grid, table_grids
from bench.report.html.page import FOLDER, templates
from bench.report.table_cells import EMPTY, board_columns, table_legend, table_remarks, table_title
from bench.report.views import summary_grids

Runs = Mapping[str, Sequence[str]]  # by method the directories behind its row


def board_page(board: Board) -> str:
    """The page of a leaderboard: its tables, what methods can do elsewhere, and all tasks at a glance."""
    sections: list[tuple[Grid, Runs]] = []
    for table in board.tables:
        head, body = board_columns(table)
        cells = [[(text, "") for text in line] for line in (head, *body)]
        grid = Grid(table_title(table), cells[0], cells[1:], "\n".join([*table_remarks(table), table_legend(table)]))
        sections += [(grid, {row.method: row.runs for row in table.rows}), *((g, {}) for g in table_grids(table))]
    return render_sections([*sections, *((grid, {}) for grid in summary_grids(board))])


def render_sections(sections: Sequence[tuple[Grid, Runs]]) -> str:
    """A whole document; its policy forbids scripts and everything from elsewhere."""
    from markupsafe import Markup

    style = Markup((FOLDER / "leaderboard.css").read_text(encoding="utf-8"))
    page = templates().get_template("leaderboard.html").render(sections=sections, style=style, nothing=EMPTY)
    return f"{page}\n"

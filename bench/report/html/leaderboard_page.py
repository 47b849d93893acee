"""Tables as one HTML page that opens from disk and loads nothing; every text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.analysis.table import Board
from bench.report.grids import Grid, grids
from bench.report.html.page import FOLDER, environment
from bench.report.table_cells import EMPTY, board_columns, legend, remarks, table_title
from bench.report.views import summaries

Runs = Mapping[str, Sequence[str]]  # by method the directories behind its row


def board_page(board: Board) -> str:
    """The page of a leaderboard: its tables, what methods do elsewhere, and all tasks at a glance."""
    sections: list[tuple[Grid, Runs]] = []
    for table in board.tables:
        head, body = board_columns(table)
        cells = [[(text, "") for text in line] for line in (head, *body)]
        grid = Grid(table_title(table), cells[0], cells[1:], "\n".join([*remarks(table), legend(table)]))
        sections += [(grid, {row.method: row.runs for row in table.rows}), *((g, {}) for g in grids(table))]
    return page([*sections, *((grid, {}) for grid in summaries(board))])


def grids_page(grids: Sequence[Grid]) -> str:
    return page([(grid, {}) for grid in grids])


def page(sections: Sequence[tuple[Grid, Runs]]) -> str:
    """A whole document; its policy forbids scripts and everything from elsewhere."""
    from markupsafe import Markup

    style = Markup((FOLDER / "leaderboard.css").read_text(encoding="utf-8"))
    return str(environment().get_template("leaderboard.html").render(sections=sections, style=style, nothing=EMPTY))

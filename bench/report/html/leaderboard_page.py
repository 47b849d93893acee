"""Tables as one HTML page that opens from disk and loads nothing; every text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from bench.analysis.table import Board
from bench.report.grids import Grid, grids
from bench.report.table_cells import EMPTY, columns, legend, remarks, title
from bench.report.views import summaries

STYLE = """
:root { color-scheme: light dark; --line: #bbb; --soft: #666; }
@media (prefers-color-scheme: dark) { :root { --line: #555; --soft: #aaa; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; padding: 0 1rem; max-width: 75rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
caption { caption-side: top; text-align: left; font-weight: 600; padding: .4rem 0; overflow-wrap: anywhere; }
th, td { padding: .2rem .7rem .2rem 0; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child { text-align: left; }
thead th { border-bottom: 1px solid var(--line); }
tbody th { font-weight: 500; }
small, p { color: var(--soft); }
small { display: block; }
section { margin-bottom: 2.5rem; }
@media print { body { max-width: none; font-size: 11px; } .wide { overflow: visible; } }
""".strip()

Cell = tuple[str, str]  # a figure and what stands small under it


def of_board(board: Board) -> str:
    """The page of a leaderboard: its tables, what methods do elsewhere, and all tasks at a glance."""
    sections = []
    for table in board.tables:
        head, body = columns(table)
        cells = [[(text, "") for text in line] for line in body]
        runs = {row.method: row.runs for row in table.rows}
        sections.append(section(title(table), [(h, "") for h in head], cells, [*remarks(table), legend(table)], runs))
        sections += [of_grid(grid) for grid in grids(table)]
    sections += [of_grid(grid) for grid in summaries(board)]
    return page(sections)


def of_grids(grids: Sequence[Grid]) -> str:
    return page([of_grid(grid) for grid in grids])


def of_grid(grid: Grid) -> str:
    return section(grid.title, grid.head, grid.body, grid.note.splitlines())


def section(
    caption: str,
    head: Sequence[Cell],
    body: Sequence[Sequence[Cell]],
    notes: Sequence[str],
    runs: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """One table with its caption above and paragraphs below; the first cell of each line is its heading.

    ``runs``: the directories behind the rows, by method.
    """
    heads = "".join(f'<th scope="col">{shown(cell)}</th>' for cell in head)
    lines = "\n".join(
        f'<tr><th scope="row">{shown(line[0])}</th>{"".join(f"<td>{shown(cell)}</td>" for cell in line[1:])}</tr>'
        for line in body
    )
    below = "\n".join(f"<p>{escape(note)}</p>" for note in notes)
    if runs:
        told = "".join(f"<li>{escape(method)}: {escape(', '.join(paths))}</li>" for method, paths in runs.items())
        below += f"\n<details><summary>Runs behind the rows ('bench show RUN')</summary><ul>{told}</ul></details>"
    return (
        f'<section>\n<div class="wide"><table>\n<caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table></div>\n{below}\n</section>"
    )


def shown(cell: Cell) -> str:
    figure, small = cell
    return escape(figure) + (f"<small>{escape(small)}</small>" if small else "")


def page(sections: Sequence[str]) -> str:
    """A whole document; its policy forbids scripts and everything from elsewhere."""
    content = "\n".join(sections) or f"<p>{EMPTY}</p>"
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>bench: leaderboard</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n{content}\n</body>\n</html>\n"
    )

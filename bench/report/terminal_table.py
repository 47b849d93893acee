"""Tables of text for a terminal, cells of one or more lines."""

from __future__ import annotations

import io
import textwrap

from bench.foreign import neutral

WIDTH = 100
NARROWEST = 3  # characters of a folded first column
LEFT = {"ties", "paper", "needs", "evidence"}  # columns besides the first that are not aligned to the right


def terminal_table(title: str, head: list[str], rows: list[list[str]], sentences: list[str]) -> str:
    """A table with its title above and sentences below; the first column is folded where it is too wide."""
    rows = [list(map(neutral, row)) for row in rows]
    table = aligned(head, rows) or fitted(head, rows)
    below = [textwrap.fill(s, WIDTH, subsequent_indent="  ", break_on_hyphens=False) for s in sentences]
    return "\n".join([textwrap.fill(title, WIDTH), *(line.rstrip() for line in table), *below])


def aligned(head: list[str], rows: list[list[str]]) -> list[str] | None:
    """The lines of a table that fits, at most with words of its first column folded; None otherwise.

    They are the lines that ``fitted`` gives, some twenty times as fast: a board has hundreds of tables.
    """
    cells = [[cell.split("\n") for cell in row] + [[""]] * (len(head) - len(row)) for row in (head, *rows)]
    if not all(line.isascii() for row in cells for cell in row for line in cell):
        return None  # characters of other widths
    widths = [max(len(line) for row in cells for line in row[n]) for n in range(len(head))]
    total = sum(widths) + 2 * (len(widths) - 1)
    if (over := total + 2 - WIDTH) > 0:
        if widths[0] - over < NARROWEST or any(" " in line for row in cells for line in row[0]):
            return None
        widths[0], total = widths[0] - over, total - over
        cells = [[[part for line in row[0] for part in folded(line, widths[0])], *row[1:]] for row in cells]
    to_left = [n == 0 or name in LEFT for n, name in enumerate(head)]

    def row_lines(row: list[list[str]], to_bottom: bool = False) -> list[str]:
        height = max(map(len, row))
        spare = [[""] * (height - len(cell)) for cell in row]
        whole = [blank + cell if to_bottom else cell + blank for cell, blank in zip(row, spare)]
        return [
            " " + "  ".join(t.ljust(w) if left else t.rjust(w) for t, w, left in zip(texts, widths, to_left))
            for texts in zip(*whole)
        ]

    body = [line for row in cells[1:] for line in row_lines(row)]
    return ["", *row_lines(cells[0], to_bottom=True), " " + "\u2500" * total, *body, ""]


def folded(line: str, width: int) -> list[str]:
    """A word in pieces of this many characters."""
    return [line[n : n + width] for n in range(0, max(len(line), 1), width)]


def fitted(head: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table that rich makes fit."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    out = io.StringIO()
    console = Console(file=out, width=WIDTH, color_system=None, markup=False, emoji=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(head[0], overflow="fold")
    for name in head[1:]:
        table.add_column(name, justify="left" if name in LEFT else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    return out.getvalue().splitlines()

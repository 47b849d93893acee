"""Text of models and files for a terminal: it cannot move the cursor, change colours or turn the line around."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 100


def neutral(text: str) -> str:
    """The text with every character but line breaks and printable ones as its escape, such as \\x1b or \\u202e."""
    return "".join(c if c == "\n" or c.isprintable() else escape(c) for c in text)


def escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def wrapped(text: str, width: int) -> list[str]:
    """Neutral lines of at most ``width`` cells of a terminal, broken anywhere; no line for an empty text."""
    from rich.cells import chop_cells

    return [part for line in neutral(text).split("\n") for part in (chop_cells(line, width) or [""])] if text else []


def folded(text: str, width: int) -> list[str]:
    """The same, broken between words where that is possible."""
    lines = [textwrap.wrap(line, width, break_on_hyphens=False) or [""] for line in neutral(text).split("\n")]
    return [part for line in lines for words in line for part in (wrapped(words, width) or [""])] if text else []


def quoted(text: str, width: int, sign: str = "| ") -> list[str]:
    """The same with a sign before every line, so that no line can pass for one of ours."""
    return [f"{sign}{line}" for line in wrapped(text, width - len(sign))]


def beside(columns: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """Columns of lines next to each other, each padded to its width in cells."""
    from rich.cells import set_cell_size

    height = max(map(len, columns), default=0)
    lines = [[column[n] if n < len(column) else "" for column in columns] for n in range(height)]
    return ["  ".join(map(set_cell_size, line, widths)).rstrip() for line in lines]


def row(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """One row of a table: each cell wrapped in its column, "-" for an empty one."""
    return beside([folded(cell, width) or ["-"] for cell, width in zip(cells, widths, strict=True)], widths)


def facts(rows: Sequence[tuple[str, Sequence[str]]], width: int = WIDTH) -> list[str]:
    """Lines ``name  value [value]``, long values wrapped in their column."""
    if not rows:
        return []
    first = max(len(name) for name, _ in rows)
    count = max(len(values) for _, values in rows)
    widths = [first, *[(width - first - 2 * count) // count] * count]
    return [line for name, values in rows for line in row([name, *values], widths)]

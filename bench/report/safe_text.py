"""Foreign text made fit to be shown: completions, prompts and names may hold anything.

Characters that a reader could not see, or that would change how other text is drawn, are written out.  A page and a
terminal need different ones: ``visible`` keeps what HTML draws safely, and the template engine escapes the rest;
``bench.foreign.neutral`` keeps only printable characters, since a terminal would obey all others.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from bench.foreign import neutral

WIDTH = 100  # cells of a terminal
HEAD, TAIL = 3000, 1000  # characters kept of a long text: the answer usually stands at its end
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


# --- for a page ------------------------------------------------------------------------------------------------------


def visible(text: str) -> str:
    """The text with control, direction and other unseen characters written out: NUL is U+2400, others "<U+202E>".

    Line feeds and tabs stay; carriage returns do not, as a terminal would overwrite the line.
    """
    return UNSEEN.sub(lambda match: visible_name(ord(match[0])), text)


def visible_name(code: int) -> str:
    """The picture of an ASCII control character, the number of any other character."""
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\u27e8U+{code:04X}\u27e9"


def bounded(text: str) -> tuple[str, str, int]:
    """Beginning and end of a text, both visible, and how many characters were cut between them."""
    cut = len(text) - HEAD - TAIL
    if cut <= 0:
        return visible(text), "", 0
    return visible(text[:HEAD]), visible(text[-TAIL:]), cut


def json_block(value: Any) -> str:
    """JSON that may stand inside a script element of any page: ASCII without <, > and &."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# --- for a terminal: it cannot move the cursor, change colours or turn the line around --------------------------------


def wrapped(text: str, width: int) -> list[str]:
    """Neutral lines of at most ``width`` cells, broken anywhere; no line for an empty text."""
    from rich.cells import chop_cells

    return [part for line in neutral(text).split("\n") for part in (chop_cells(line, width) or [""])] if text else []


def folded(text: str, width: int) -> list[str]:
    """Neutral lines of at most ``width`` cells, broken between words where that is possible."""
    lines = [textwrap.wrap(line, width, break_on_hyphens=False) or [""] for line in neutral(text).split("\n")]
    return [part for line in lines for words in line for part in (wrapped(words, width) or [""])] if text else []


def quoted(text: str, width: int, sign: str = "| ") -> list[str]:
    """Neutral lines with a sign before each, so that none can pass for a line of this program."""
    return [f"{sign}{line}" for line in wrapped(text, width - len(sign))]


def beside(columns: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """Columns of lines next to each other, each padded to its width in cells."""
    from rich.cells import set_cell_size

    height = max(map(len, columns), default=0)
    lines = [[column[n] if n < len(column) else "" for column in columns] for n in range(height)]
    return ["  ".join(map(set_cell_size, line, widths)).rstrip() for line in lines]


def wrapped_row(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """One row of a table: each cell wrapped in its column, "-" for an empty one."""
    return beside([folded(cell, width) or ["-"] for cell, width in zip(cells, widths, strict=True)], widths)


def fact_lines(rows: Sequence[tuple[str, Sequence[str]]], width: int = WIDTH) -> list[str]:
    """Lines ``name  value [value]``, long values wrapped in their column."""
    if not rows:
        return []
    first = max(len(name) for name, _ in rows)
    count = max(len(values) for _, values in rows)
    widths = [first, *[(width - first - 2 * count) // count] * count]
    return [line for name, values in rows for line in wrapped_row([name, *values], widths)]

r"""How an answered Sudoku grid is read: rows of digits, whatever is drawn around and between them.

Rows are joined by slashes, by line breaks (with or without drawings), by white space or commas, or are lists in a list;
or all cells stand in one line, row by row.  Between the cells of a row there may be blanks, commas, bars or ``&``.
"""

from __future__ import annotations

import re

from tasks._answers.markup import unmarked, unwrapped
from tasks._sudoku.grid import DIGITS

BORDER = frozenset("|-+=: \t\r")  # characters of lines without digits: of drawings and of tables
BARS, LINES = "│┃║╎┆┊╏┇┋", "─━═╌┄┈╍┅┉—–"
DRAWN = dict.fromkeys(range(9472, 9600), "+") | {ord(c): "|" for c in BARS} | {ord(c): "-" for c in LINES}
LATEX = (
    (re.compile(r"\\(?:begin|end)\{(?:array|tabular|[bpvBV]?matrix)\}(?:\{[lcr| ]*\})?|\\hline(?![A-Za-z])"), " "),
    (re.compile(r"\\\\"), "\n"),
    (re.compile("&"), "|"),
)
DROPPED = str.maketrans("", "", "|, \t\r")  # what may stand between the digits of a row
# With commas, every cell is apart from the next, or none is.
COMMAS = re.compile(r"[| ]*(?:[0-9](?:[ \t]*[,|][ \t]*[0-9])*|[0-9]+)[ \t]*,?[| \t\r]*")
LISTS = re.compile(r"\[\s*(?:\[[^\[\]]*\]\s*,\s*)*\[[^\[\]]*\]\s*,?\s*\]")
LISTED = re.compile(r"""\s*(?:(["']?)[0-9]\1\s*,\s*)*(["']?)[0-9]\2\s*""")


def read_grid(answer: str, size: int) -> list[str] | None:
    """Rows of an answered grid, None if it is none; ``answer`` is of bounded length."""
    text = unmarked(unwrapped(answer.translate(DRAWN)))
    if "\\" in text:
        for pattern, plain in LATEX:
            text = pattern.sub(plain, text)
    rows = listed_rows(text) if text.startswith("[") else joined_rows(text, size)
    digits = set(DIGITS[:size])
    if len(rows) != size or any(len(row) != size or not digits.issuperset(row) for row in rows):
        return None
    return rows


def listed_rows(text: str) -> list[str]:
    """Rows of a list of lists of digits; none if it is another text."""
    rows = re.findall(r"\[([^\[\]]*)\]", text) if LISTS.fullmatch(text) else []
    return [re.sub("[^0-9]", "", row) for row in rows] if all(LISTED.fullmatch(row) for row in rows) else []


def joined_rows(text: str, size: int) -> list[str]:
    """What stands in the rows of a text: digits only, if it is a grid."""
    if "/" in text:
        return [plain_row(row) if "," in row else "".join(row.split()) for row in text.split("/")]
    lines = [line for line in text.split("\n") if not BORDER.issuperset(line)]
    if len(lines) != 1:
        return [plain_row(line) for line in lines]
    parts = [part.translate(DROPPED) for part in lines[0].replace(",", " ").split()]
    # Whole rows, or cells of which nothing but their number says where a row ends.
    if len(parts) not in (1, size * size):
        return parts
    cells = "".join(parts)
    return [cells[start : start + size] for start in range(0, len(cells), size)]


def plain_row(row: str) -> str:
    """A row without what stands between its digits; as it is where commas leave open which digits are cells."""
    return row.translate(DROPPED) if "," not in row or COMMAS.fullmatch(row) else row

"""One writer for each kind of file: markdown, LaTeX, CSV, JSON; ``terminal_table`` writes for a terminal."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import decomposition

from bench.foreign import ascii_json, neutral

LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"}
LATEX |= {">": r"\textgreater{}"} | {c: f"\\{c}" for c in "&%$#_{}"}


# Tab and return are dropped before a spreadsheet looks at a cell; the last ones are the full-width forms of the first.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]], align: str = "---:") -> str:
    """A GitHub table; ``align`` is the rule under every column but the first."""
    lines = [head, ["---", *[align] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def latex_escape(text: str) -> str:
    """Text with LaTeX's special characters made literal.  Characters that its plain fonts lack become their numbers."""
    return "".join(LATEX.get(c, c if typesettable(c) else f"[U+{ord(c):04X}]") for c in text)


def typesettable(c: str) -> bool:
    """Printable ASCII, line breaks, and letters of Latin-1 that are ASCII ones with an accent."""
    return c in "\n\t" or (c.isprintable() and (c.isascii() or (ord(c) < 0x100 and decomposition(c)[:2] == "00")))


def latex_table(caption: str, heads: Sequence[str], body: Sequence[Sequence[str]], below: str) -> str:
    """A booktabs table (needs \\usepackage{booktabs}); heads and cells are LaTeX already, the other texts are not."""
    lines = "\n".join(" & ".join(line) + r" \\" for line in body)
    return (
        "\\begin{table*}\n\\centering\n\\footnotesize\n\\setlength{\\tabcolsep}{3pt}\n"
        f"\\caption{{{latex_escape(caption)}}}\n"
        f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}\n\\toprule\n"
        f"{' & '.join(heads)} \\\\\n\\midrule\n{lines}\n\\bottomrule\n\\end{{tabular}}\n\n"
        f"\\smallskip\n\\raggedright {latex_escape(below)}\n\\end{{table*}}"
    )


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV with a column for every name that any of them has.

    The parts of a list are joined by blanks.  Absent values and numbers that are not finite are empty.  A text that a
    spreadsheet would take for a formula gets an apostrophe before it; numbers stay as they are.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(csv_cell, names))
    for row in map(finite_json, rows):
        writer.writerow([csv_cell(row.get(name)) for name in names])
    return out.getvalue()


def csv_cell(value: Any) -> Any:
    """A value as a cell: no text begins with what makes a spreadsheet run it as a formula (OWASP, "CSV injection").

    Control characters are written out: a bare carriage return would begin a new row.
    """
    text = " ".join(map(str, value)) if isinstance(value, list) else value
    if not isinstance(text, str):
        return text
    numbers = all(map(is_number, text.split(" ")))
    return f"'{neutral(text)}" if text.startswith(FORMULA) and not numbers else neutral(text)


def is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", text, flags=re.ASCII) is not None


def json_text(value: Any) -> str:
    """Any record as JSON; infinite numbers and those that are not numbers become null."""
    return ascii_json(finite_json(value), allow_nan=False)


def finite_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: finite_json(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""docs/methods.md: one page per method, written from the same facts as `bench methods NAME`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.plan import registry
from bench.report.catalogue import facts, method_sheet
from bench.report.method_table import HEAD as COLUMNS
from bench.report.method_table import cells, notes, table_row
from bench.report.table_writers import markdown_table

HEAD = """\
# Methods

Written by `make docs` from the files in `methods/` and from the stored comparisons in `results/published/parity/`; a
test fails when it is stale. The same facts: `bench methods NAME`, `bench methods --json`.

Fields name the paper's symbol and where the default comes from. "This project's choice" means that neither paper nor
code says it, or that all methods are given the same. The published figures come from the papers' own settings: they are
not comparable with each other or with the tables made here.
"""


def all_pages() -> str:
    """The whole document: an index and one page per method built into this project."""
    names = registry.built_in("methods")
    index = [f"- [`{n}`](#{n}): {markdown_escape(registry.module_summary('methods', n))}" for n in names]
    rows = [table_row(n) for n in names]
    table = ["Needs, costs and length of each:", "", left_table(COLUMNS, [linked(cells(row)) for row in rows]), ""]
    table += [f"- {note}" for note in notes(rows)]
    return "\n".join([HEAD, *index, "", *table, "", *(method_page(method_sheet(n)) for n in names)])


def linked(row: Sequence[str]) -> list[str]:
    """The cells of a row with the paper's number as a link."""
    name, paper, *rest = row
    return [f"`{name}`", paper if paper == "-" else f"[{paper}](https://arxiv.org/abs/{paper})", *rest]


def method_page(sheet: Mapping[str, Any]) -> str:
    """One method as markdown."""
    lines = [f"## {sheet['name']}", "", sheet["documentation"], "", f"Evidence: {sheet['evidence']}.", ""]
    lines += [part for fact in facts(sheet) for part in (f"{fact}.", "")]
    lines += ["Equation:", "", *text_block(sheet["equation"]), ""]
    lines += ["Data flow:", "", *text_block(sheet["data_flow"]), ""]
    fields = [(f"`{f['name']}`", str(f["default"]), f["source"]) for f in sheet["fields"]]
    lines += [left_table(("field", "default", "symbol; source"), fields), ""]
    if sheet["fixed"]:
        lines += ["Fixed: " + ", ".join(f"`{name}` {value}" for name, value in sheet["fixed"].items()) + ".", ""]
    if sheet["variants"]:
        rows = [
            (f"`{sheet['name']}:{name}`", ", ".join(f"{key}={value}" for key, value in values.items()))
            for name, values in sheet["variants"].items()
        ]
        lines += [left_table(("variant", "settings"), rows), ""]
    lines += list_section("Published figures", sheet["published"])
    lines += list_section("Parity with a referee", sheet["parity"])
    return "\n".join(lines).rstrip() + "\n"


def list_section(title: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return [f"{title}: none.", ""]
    return [f"{title}:", "", *(f"- {markdown_escape(entry)}" for entry in entries), ""]


def text_block(text: str) -> list[str]:
    return ["```text", *text.splitlines(), "```"]


def left_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(titles, [[cell.replace("<", "&lt;") for cell in row] for row in rows], align="---")


def markdown_escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")

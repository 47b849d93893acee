"""`bench methods`."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli.options import Json, emit
from bench.foreign import say
from bench.plan import registry


def show_methods(
    name: Annotated[str | None, typer.Argument(help="One method, in full.")] = None,
    as_json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The page of docs/methods.md; all without NAME.")
    ] = False,
) -> None:
    """List the methods with papers, needs and measured costs, or show one: equation, fields, defaults, variants.

    --json without NAME gives the sheets of all methods.
    """
    from bench.report import catalogue
    from bench.report.method_table import methods_table, table_row

    if markdown:
        from bench.report.method_pages import all_pages, method_page

        say(method_page(catalogue.method_sheet(name)) if name else all_pages(), end="")
        return
    if name is not None:
        sheet = catalogue.method_sheet(name)
        emit(sheet, as_json, catalogue.method_text(sheet))
        return
    lines = [f"{n:<14} {registry.module_summary('methods', n)}" for n in registry.names("methods")]
    lines += ["", methods_table([table_row(n) for n in registry.names("methods")]), ""]
    lines += ["Join methods to a pipeline that shares the budget: sft+grpo, sft@0.3+grpo."]
    lines.append("One method in full: bench methods NAME.")
    emit(catalogue.method_sheets() if as_json else None, as_json, "\n".join(lines))

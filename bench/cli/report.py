"""`bench report`: one HTML file about a results folder, and its figures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Results, existing
from bench.store import DEFAULT_RESULTS

FIGURE_FORMATS = ("svg", "pdf", "png")


def report(
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    results: Results = DEFAULT_RESULTS,
    task: Annotated[str | None, typer.Option(help="Only these tasks, separated by commas.")] = None,
    items: Annotated[int, typer.Option(min=0, help="Items of each table whose completions are in the file.")] = 100,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each method whose completions are in the file.")] = 3,
) -> None:
    """Write one self-contained HTML file about all finished runs: it loads nothing and opens from disk."""
    from bench.report.content import Choice, load
    from bench.report.content import report as content
    from bench.report.page import write

    wanted = tuple(dict.fromkeys(name.strip() for name in (task or "").split(",") if name.strip()))
    choice = Choice(existing(results), wanted, items, seeds)
    loaded = load(choice)
    print(write(content(loaded, choice), out))

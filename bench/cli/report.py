"""`bench report`: one HTML file about a results folder, and its figures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Results, existing
from bench.store.run_folder import DEFAULT_RESULTS

FIGURE_FORMATS = ("svg", "pdf", "png")


def report(
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    results: Results = DEFAULT_RESULTS,
    task: Annotated[str | None, typer.Option(help="Only these tasks, separated by commas.")] = None,
    items: Annotated[int, typer.Option(min=0, help="Items of each table whose completions are in the file.")] = 100,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each method whose completions are in the file.")] = 3,
    ablations: Annotated[Path | None, typer.Option(help="Folder of what bench ablate --out wrote.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures as files, too.")] = None,
    figure_format: Annotated[
        str, typer.Option(help=f"Formats of these files: some of {','.join(FIGURE_FORMATS)}.")
    ] = "svg",
) -> None:
    """Write one self-contained HTML file about all finished runs: it loads nothing and opens from disk.

    It holds the tables of bench leaderboard, learning curves, every pair, settings, passports, commands, machines, and
    the completions of a choice of items side by side.
    """
    formats = listed(figure_format)
    for name in formats:
        if name not in FIGURE_FORMATS:
            from bench.plan.registry import nearest

            raise nearest(name, FIGURE_FORMATS, "figure format")
    from bench.report.html.content import Choice, load_choice
    from bench.report.html.content import make_report as content
    from bench.report.html.page import write_page

    choice = Choice(existing(results), listed(task or ""), items, seeds, ablations)
    loaded = load_choice(choice)
    print(write_page(content(loaded, choice), out))
    if figures is not None:
        from bench.report.html.figures import write_figures

        for path in write_figures(loaded, figures, formats):
            print(path)


def listed(text: str) -> tuple[str, ...]:
    """Words separated by commas, each once."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))

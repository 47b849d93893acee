"""`bench report`: one HTML file about a results folder, and its figures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Results, existing
from bench.foreign import say
from bench.plan.registry import check_choice
from bench.store.run_folder import DEFAULT_RESULTS

FIGURE_FORMATS = ("svg", "pdf", "png")


def report(
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    results: Results = DEFAULT_RESULTS,
    task: Annotated[str | None, typer.Option(help="Only these tasks, separated by commas.")] = None,
    items: Annotated[
        int, typer.Option(min=0, max=100_000, metavar="N", help="Items per table whose completions are shown.")
    ] = 100,
    seeds: Annotated[
        int, typer.Option(min=1, max=1_000, metavar="N", help="Seeds per method whose completions are shown.")
    ] = 3,
    ablations: Annotated[Path | None, typer.Option(help="Folder of what bench ablate --out wrote.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures as files, too.")] = None,
    figure_format: Annotated[
        str, typer.Option(help=f"Formats of these files: some of {','.join(FIGURE_FORMATS)}.")
    ] = "svg",
) -> None:
    """Write one self-contained HTML file about all finished runs.

    It loads nothing and opens from disk. It holds the tables of bench leaderboard, learning curves, every pair,
    settings, passports, commands, machines, and the completions of a choice of items side by side.
    """
    from bench.report.html.ablations import read_ablations
    from bench.report.html.content import Choice, load_choice, make_report
    from bench.report.html.page import write_page
    from bench.store.targets import check_file, check_folder
    from bench.study.jobs import split_names

    formats = split_names(figure_format, "figure format")
    for name in formats:
        check_choice(name, FIGURE_FORMATS, "figure format")
    check_file(out)
    if figures is not None:
        check_folder(figures)
    if ablations is not None:
        read_ablations(ablations)  # refuses what cannot be read before the long work
    choice = Choice(existing(results), tuple(split_names(task or "", "task")), items, seeds, ablations)
    loaded = load_choice(choice)
    say(write_page(make_report(loaded, choice), out))
    if figures is not None:
        from bench.report.html.figures import write_figures

        for path in write_figures(loaded, figures, formats):
            say(path)

"""`bench leaderboard` and `bench plot`: what finished runs show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Format, Json, Results, check_format, existing
from bench.store import DEFAULT_RESULTS
from bench.types import UserError


def leaderboard(
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    split: Annotated[str, typer.Option(help="test, val, ood, reworded or other:TASK.")] = "test",
    results: Results = DEFAULT_RESULTS,
    variance: Annotated[
        bool, typer.Option("--variance", help="Instead: where each method's variation is from.")
    ] = False,
    pairs: Annotated[bool, typer.Option("--pairs", help="Instead: all tests of every pair of methods.")] = False,
    format: Format = "table",
    as_json: Json = False,
) -> None:
    """Print the tables of all finished runs in a results folder."""
    shape = check_format(format, as_json)
    if variance and pairs:
        raise UserError("--variance and --pairs are two tables: expected one of them")
    view = "variance" if variance else "pairs" if pairs else None
    from bench import registry
    from bench.command import print_board
    from bench.records import load_results

    known = ("test", "val", "ood", "reworded", *(f"other:{name}" for name in registry.built_in("tasks")))
    if split not in known:
        raise registry.nearest(split, known, "split")
    records, bad = load_results(existing(results), split)
    print_board([r for r in records if task is None or r.task == task], bad, shape, view)


def plot(
    out: Annotated[Path, typer.Argument(help="Figure to write: .svg, .pdf or .png.")],
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Draw the learning curves of all finished runs: validation accuracy against the share of the budget spent."""
    from bench.analysis.curves import plot as draw
    from bench.records import load_results

    records, _ = load_results(existing(results), "val")
    for path in draw([r for r in records if task is None or r.task == task], out):
        print(path)

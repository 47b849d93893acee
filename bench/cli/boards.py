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
    split: Annotated[str, typer.Option(help="test, selected, val, ood, reworded, other:TASK or skill:NAME.")] = "test",
    results: Results = DEFAULT_RESULTS,
    verify: Annotated[bool, typer.Option("--verify", help="Compare the digests of all stored records.")] = False,
    overview: Annotated[bool, typer.Option("--overview", help="Instead: the table over several tasks.")] = False,
    variance: Annotated[
        bool, typer.Option("--variance", help="Instead: where each method's variation is from.")
    ] = False,
    pairs: Annotated[bool, typer.Option("--pairs", help="Instead: all tests of every pair of methods.")] = False,
    format: Format = "table",
    as_json: Json = False,
) -> None:
    """Print the tables of all finished runs in a results folder."""
    shape = check_format(format, as_json)
    views = [n for n, asked in (("overview", overview), ("variance", variance), ("pairs", pairs)) if asked]
    if len(views) > 1:
        raise UserError(f"--{views[0]} and --{views[1]} are two tables: expected one of them")
    from bench import registry
    from bench.command import print_board
    from bench.records import load_results
    from tasks._skills import SKILLS

    known = ("test", "selected", "val", "ood", "reworded", *(f"other:{name}" for name in registry.built_in("tasks")))
    known += tuple(f"skill:{name}" for name in SKILLS)
    if split not in known:
        raise registry.nearest(split, known, "split")
    if overview and split != "test":
        raise UserError(f"--overview is of the test split, not of '{split}': leave --split out")
    records, bad = load_results(existing(results), split, verify)
    print_board([r for r in records if task is None or r.task == task], bad, shape, *views)


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

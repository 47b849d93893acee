"""`bench leaderboard` and `bench plot`: what finished runs show."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Format, Json, Results, check_format, existing
from bench.store.run_folder import DEFAULT_RESULTS
from bench.types import UserError

if TYPE_CHECKING:
    from bench.analysis.runs import RunRecord

Task = Annotated[str | None, typer.Option(help="Only these tasks, comma-separated.")]
Metric = Annotated[str, typer.Option(help="What ranks and is tested: accuracy, greedy or pass@K.")]


def leaderboard(
    task: Task = None,
    metric: Metric = "accuracy",
    equal: Annotated[
        str | None, typer.Option(help="flops, tokens, seconds, rollouts, demonstrations, steps or all.")
    ] = None,
    curves: Annotated[bool, typer.Option("--curves", help="Area under the learning curves, cost of a level.")] = False,
    reach: Annotated[float | None, typer.Option(help="With --curves: the level in %.")] = None,
    split: Annotated[
        str | None, typer.Option(help="test, selected, val, ood, reworded, other:TASK or skill:NAME.")
    ] = None,
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
    """Print the tables of all finished runs in a results folder.

    --equal ranks again at an equal amount of a currency, read off the validations along the budget.
    """
    shape = check_format(format, as_json)
    views = [n for n, asked in (("overview", overview), ("variance", variance), ("pairs", pairs)) if asked]
    from bench.analysis.metrics import check_metric
    from bench.analysis.records import load_results
    from bench.cli.running import print_board

    check_metric(metric)
    along = equal is not None or curves
    check_along(equal, curves, reach, split)
    check_views(views, along, split)
    chosen = "val" if along else check_split(split or "test")
    folder = existing(results)
    tasks = check_tasks(task)
    records, bad = load_results(folder, chosen, verify)
    if not along:
        print_board(records, bad, shape, metric, folder, tasks, *views)
        return
    warn(bad)
    from bench.analysis.equal_currency import comparisons
    from bench.report.equal_tables import render_shown, show_curves, show_equal

    if curves:
        chosen_records = [r for r in records if not tasks or r.task in tasks]
        shown = show_curves(comparisons(chosen_records, metric), equal, None if reach is None else reach / 100)
    else:
        shown = show_equal(comparisons(records, metric), str(equal), tasks)
    print(render_shown(shown, shape), end="")


def check_along(equal: str | None, curves: bool, reach: float | None, split: str | None) -> None:
    """Refuse what does not fit curves; UserError says what was expected."""
    from bench.analysis.run_curves import CURRENCIES
    from bench.plan.registry import nearest

    choices = [*CURRENCIES, *([] if curves else ["all"])]
    if equal is not None and equal not in choices:
        raise nearest(equal, choices, "currency")
    if (equal is not None or curves) and split not in (None, "val"):
        raise UserError(f"--split {split}: learning curves are of the val split, leave --split out")
    if reach is not None and not (curves and 0 <= reach <= 100):
        raise UserError(f"--reach {reach:g}: expected a level from 0 to 100 %, together with --curves")


def check_views(views: Sequence[str], along: bool, split: str | None) -> None:
    """Refuse two tables at once; UserError names them."""
    asked = [f"--{view}" for view in views] + ["--equal or --curves"] * along
    if len(asked) > 1:
        raise UserError(f"{asked[0]} and {asked[1]} are two tables: expected one of them")
    if "overview" in views and split not in (None, "test"):
        raise UserError(f"--overview is of the test split, not of '{split}': leave --split out")


def check_split(split: str) -> str:
    """The split's name; UserError for one that no run has."""
    from bench.plan import registry
    from tasks.skills import SKILLS

    known = ("test", "selected", "val", "ood", "reworded", *(f"other:{name}" for name in registry.built_in("tasks")))
    known += tuple(f"skill:{name}" for name in SKILLS)
    if split not in known:
        raise registry.nearest(split, known, "split")
    return split


def check_tasks(text: str | None) -> list[str]:
    """Names of tasks, none without the option; UserError for one that there is not."""
    from bench.plan import registry
    from bench.study.jobs import split_names

    names = split_names(text or "")
    for name in names:
        if name not in registry.names("tasks"):
            raise registry.nearest(name, registry.names("tasks"), "task")
    return names


def warn(bad: Sequence[tuple[Path, str]]) -> None:
    """Name corrupted run directories on standard error."""
    for path, fault in bad:
        print(f"warning: run '{path}' is corrupted and was left out: {fault}", file=sys.stderr)


def plot(
    out: Annotated[Path, typer.Argument(help="Figure to write: .svg, .pdf or .png.")],
    task: Task = None,
    metric: Metric = "accuracy",
    against: Annotated[
        str, typer.Option(help="budget, flops, tokens, seconds, rollouts, demonstrations or steps.")
    ] = "budget",
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Draw the learning curves of all finished runs: validation scores against the budget or another currency."""
    from bench.analysis.metrics import check_metric
    from bench.analysis.records import load_results
    from bench.analysis.run_curves import CURRENCIES
    from bench.plan.registry import nearest
    from bench.report.curves import BUDGET
    from bench.report.curves import plot_curves as draw

    check_metric(metric)
    if against not in (BUDGET, *CURRENCIES):
        raise nearest(against, (BUDGET, *CURRENCIES), "currency")
    tasks = check_tasks(task)
    records: list[RunRecord]
    records, _ = load_results(existing(results), "val")
    for path in draw([r for r in records if not tasks or r.task in tasks], out, against, metric):
        print(path)

"""`bench leaderboard` and `bench plot`: what finished runs show."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import Format, Json, Results, check_format, existing
from bench.foreign import say
from bench.plan import registry
from bench.store.run_folder import DEFAULT_RESULTS
from bench.types import UserError

Runs, Ranking, Instead = (
    partial(typer.Option, rich_help_panel=panel)
    for panel in ("Which runs", "What is ranked", "Another table instead of the ranking")
)
Task = Annotated[str | None, Runs(help="Only these tasks, comma-separated.")]
Metric = Annotated[str, Ranking(help="What ranks and is tested: accuracy, greedy or pass@K.")]


def leaderboard(
    task: Task = None,
    split: Annotated[str | None, Runs(help="test, selected, val, ood, reworded, other:TASK or skill:NAME.")] = None,
    verify: Annotated[bool, Runs("--verify", help="Compare the digests of all stored records.")] = False,
    metric: Metric = "accuracy",
    equal: Annotated[
        str | None,
        Ranking(help="At an equal amount of flops, tokens, seconds, rollouts, demonstrations, steps, or of all."),
    ] = None,
    curves: Annotated[bool, Ranking("--curves", help="Area under the learning curves, cost of a level.")] = False,
    reach: Annotated[float | None, Ranking(help="With --curves: the level in %.")] = None,
    overview: Annotated[bool, Instead("--overview", help="All tasks together.")] = False,
    variance: Annotated[bool, Instead("--variance", help="Where each method's variation comes from.")] = False,
    pairs: Annotated[bool, Instead("--pairs", help="All tests of every pair of methods.")] = False,
    results: Results = DEFAULT_RESULTS,
    format: Format = "table",
    as_json: Json = False,
) -> None:
    """Print the tables of the finished runs in a results folder.

    --equal ranks again at an equal amount of a currency, read off the validations along the budget.
    """
    format = check_format(format, as_json)
    views = [n for n, asked in (("overview", overview), ("variance", variance), ("pairs", pairs)) if asked]
    from bench.analysis.metrics import check_metric
    from bench.analysis.records import load_results
    from bench.store.stored_run import warn_corrupt

    check_metric(metric)
    along = equal is not None or curves
    check_along(equal, curves, reach, split)
    check_views(views, along, split)
    split = "val" if along else check_split(split or "test")
    folder = existing(results)
    tasks = check_tasks(task)
    if not along:
        say(ranking(folder, split, verify, (format, metric, folder, tasks, *views)), end="")
        return
    records, bad = load_results(folder, split, verify)
    warn_corrupt(bad)
    from bench.analysis.equal_currency import comparisons
    from bench.report.equal_tables import render_shown, show_curves, show_equal

    if curves:
        chosen_records = [record for record in records if not tasks or record.task in tasks]
        tables = show_curves(comparisons(chosen_records, metric), equal, None if reach is None else reach / 100)
    else:
        tables = show_equal(comparisons(records, metric), str(equal), tasks)
    say(render_shown(tables, format), end="")


def ranking(folder: Path, split: str, verify: bool, shown: tuple[Any, ...]) -> str:
    """The tables of a folder, ``shown`` as the arguments of ``board_text`` say; kept ones where nothing has changed."""
    from bench.analysis.records import load_results
    from bench.cli.running import board_text
    from bench.report.kept_tables import keep_table, kept_table, table_key
    from bench.store.stored_run import warn_corrupt

    options = {"split": split, "shown": list(map(str, shown))}
    key = None if verify else table_key(folder, options)
    if key is not None and (text := kept_table(key)) is not None:
        return text
    records, bad = load_results(folder, split, verify)
    warn_corrupt(bad)
    text = board_text(records, bad, *shown)
    # A folder with corrupted runs has warnings besides; one that changed meanwhile is of no single state.
    if key is not None and not bad and table_key(folder, options) == key:
        keep_table(key, text)
    return text


def check_along(equal: str | None, curves: bool, reach: float | None, split: str | None) -> None:
    """UserError if the options about learning curves do not fit together."""
    from bench.analysis.run_curves import CURRENCIES

    if equal is not None:
        registry.check_choice(equal, [*CURRENCIES, *([] if curves else ["all"])], "currency")
    if (equal is not None or curves) and split not in (None, "val"):
        raise UserError(f"--split {split}: learning curves are of the val split, leave --split out")
    if reach is not None and not (curves and 0 <= reach <= 100):
        raise UserError(f"--reach {reach:g}: expected a level from 0 to 100 %, together with --curves")


def check_views(views: Sequence[str], along: bool, split: str | None) -> None:
    """UserError if two tables are asked for at once."""
    asked = [f"--{view}" for view in views] + ["--equal or --curves"] * along
    if len(asked) > 1:
        raise UserError(f"{asked[0]} and {asked[1]} are two tables: expected one of them")
    if "overview" in views and split not in (None, "test"):
        raise UserError(f"--overview is of the test split, not of '{split}': leave --split out")


def check_split(split: str) -> str:
    """The split's name; UserError if no run has such a split."""
    from tasks.skills import SKILLS

    known = ("test", "selected", "val", "ood", "reworded", *(f"other:{name}" for name in registry.built_in("tasks")))
    known += tuple(f"skill:{name}" for name in SKILLS)
    registry.check_choice(split, known, "split")
    return split


def check_tasks(text: str | None) -> list[str]:
    """The names of tasks in an option, none without it; UserError for an unknown one."""
    from bench.study.jobs import split_names

    names = split_names(text or "", "task")
    for name in names:
        registry.check_choice(name, registry.names("tasks"), "task")
    return names


def plot(
    out: Annotated[Path, typer.Argument(help="Figure to write: .svg, .pdf or .png.")],
    task: Task = None,
    metric: Metric = "accuracy",
    against: Annotated[
        str, typer.Option(help="budget, flops, tokens, seconds, rollouts, demonstrations or steps.")
    ] = "budget",
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Draw the learning curves of finished runs.

    They show the validation scores against the share of the budget spent, or against another currency.
    """
    from bench.analysis.metrics import check_metric
    from bench.analysis.records import load_results
    from bench.analysis.run_curves import CURRENCIES
    from bench.report.curves import BUDGET
    from bench.report.curves import plot_curves as draw
    from bench.report.figure_files import check_figure
    from bench.store.stored_run import warn_corrupt

    check_figure(out)
    check_metric(metric)
    registry.check_choice(against, (BUDGET, *CURRENCIES), "currency")
    tasks = check_tasks(task)
    records, bad = load_results(existing(results), "val")
    warn_corrupt(bad)
    for path in draw([r for r in records if not tasks or r.task in tasks], out, against, metric):
        say(path)

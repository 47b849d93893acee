"""`bench show` and `bench diff`: what is behind a table's rows, and what differs between two of them."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Json, Results, emit
from bench.foreign import say, say_json
from bench.store.run_folder import DEFAULT_RESULTS
from bench.types import UserError

if TYPE_CHECKING:
    from bench.analysis.fairness import Arm, Knob

WIDTHS = (20, 16, 16, 10, 30)  # of the columns of a diff, in cells


def show(
    runs: Annotated[list[str], typer.Argument(help="A run, or two: directory, name, its beginning or digest.")],
    item: Annotated[str | None, typer.Option(help="A problem: its number in the split, from 0, or its id.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Of the item: test (if left out), val, ood, reworded, other:TASK.")
    ] = None,
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Show a run, or two side by side; with --item, one problem's completions.

    Without --item it shows plan, cost, accuracies and passport.
    """
    if len(runs) > 2:
        raise UserError(f"show takes one run or two, got {len(runs)}")
    if item is None and split is not None:
        raise UserError("--split is of a problem: add --item with its number or id")
    from bench.report import item_view, run_view
    from bench.store.run_folder import CorruptRun
    from bench.store.stored_run import corrupted, locate, sense

    views = [run_view.view_run(locate(name, results)) for name in runs]
    for warning in run_view.comparison_warnings(views):
        say(f"warning: {warning}", error=True)
    if item is None:
        sheets = [run_view.run_as_dict(view) for view in views]
        emit(sheets if len(sheets) > 1 else sheets[0], as_json, "\n".join(run_view.run_lines(views)))
        return
    try:
        with sense():
            judged = item_view.judged_in(views, split or "test", item)
            problem = item_view.item_problem(judged[0])
            record, lines = item_view.item_as_dict(judged, problem), item_view.item_lines(judged, problem)
    except CorruptRun as fault:
        raise corrupted(views[0].path, fault) from None
    emit(record, as_json, "\n".join(lines))


def diff(
    a: Annotated[
        str, typer.Argument(help="A run (directory, name, its beginning or digest) or a method: all its runs.")
    ],
    b: Annotated[str, typer.Argument(help="The other side.")],
    task: Annotated[str | None, typer.Option(help="Of methods: their runs on this task.")] = None,
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """List every setting on which two runs or methods differ.

    A difference is declared by the method, tuned, or undeclared. Exit code 1 if one is undeclared, else 0.
    """
    from bench.analysis.fairness import diff_arms, reasons_apart
    from bench.store.stored_run import locate_sides, sense

    with sense():
        sides = [[sound_arm(run) for run in side] for side in locate_sides(a, b, results, task)]
    knobs, differing = diff_arms(*sides), reasons_apart(*sides)
    answer = {"a": a, "b": b, "not_comparable": differing, "knobs": [asdict(k) for k in knobs]}
    if as_json:
        say_json(answer)
    else:
        for line, undeclared in diff_lines(a, b, knobs, differing):
            say(line, red=undeclared)
    sys.exit(int(any(knob.status == "undeclared" for knob in knobs)))


def sound_arm(run: Path) -> Arm:
    """The settings of a run; UserError if they were damaged after it ended."""
    from bench.analysis.fairness import read_arm
    from bench.store.run_folder import CorruptRun, check_records, is_done
    from bench.store.stored_run import corrupted

    try:
        if is_done(run):
            check_records(run, ("plan.json", "env.json"))
        return read_arm(run)
    except CorruptRun as fault:
        raise corrupted(run, fault) from None


def diff_lines(a: str, b: str, knobs: list[Knob], differing: list[str]) -> list[tuple[str, bool]]:
    """The differences as lines of text, each with whether it is of an undeclared one."""
    from bench.report.safe_text import wrapped_row

    if not knobs:
        return [(f"{a} and {b} do not differ.", False)]
    lines = [f"These runs may not be compared: {'; '.join(differing)}.", ""] if differing else []
    lines += wrapped_row(("setting", "a", "b", "status", "why"), WIDTHS)
    rows = [(line, False) for line in lines]
    for knob in knobs:
        text = wrapped_row((knob.name, knob.a, knob.b, knob.status, knob.why), WIDTHS)
        rows += [(line, knob.status == "undeclared") for line in text]
    counts = {s: sum(k.status == s for k in knobs) for s in ("undeclared", "tuned", "declared")}
    total = f"{len(knobs)} difference{'' if len(knobs) == 1 else 's'}"
    return [*rows, ("", False), (f"{total}: {', '.join(f'{n} {s}' for s, n in counts.items())}.", False)]

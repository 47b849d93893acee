"""The work behind the commands: plan, run, show; everything heavy is imported only when it is needed."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis.records import load_all
from bench.report.progress import display
from bench.store.job import Job
from bench.store.run_folder import DEFAULT_RESULTS, CorruptRun, check_records, check_writable
from bench.study.executor import State, num_workers, run_all
from bench.study.jobs import Spec, check_data
from bench.types import UserError

if TYPE_CHECKING:
    from bench.study.estimate import Estimate


def print_board(
    records: Sequence[Any],
    bad: Sequence[tuple[Path, str]],
    format: str,
    metric: str = "accuracy",
    results: Path | None = None,
    tasks: Sequence[str] = (),
    view: str | None = None,
) -> None:
    """The leaderboard, or a view of it, on standard output; corrupted run directories are named on standard error.

    With a results folder the rows of methods whose runs there are unfinished or corrupted are marked.
    ``tasks`` chooses tables (all if empty), whose p-values stay corrected over all records.
    """
    from bench.analysis.board import leaderboard
    from bench.analysis.fairness import concerns
    from bench.analysis.table import Board
    from bench.report.formats import render, render_view

    for path, fault in bad:
        print(f"warning: run '{path}' is corrupted and was left out: {fault}", file=sys.stderr)
    board = leaderboard(records, metric, concerns(records, results, bad))
    board = Board(tuple(table for table in board.tables if not tasks or table.record.task in tasks))
    print(render_view(board, view, format) if view else render(board, format), end="")
    if format == "table" and board.tables and view is None:
        print(f"\n{deeper(board.tables[0].rows[0].runs[0])}")


def deeper(run: str) -> str:
    """How to look at the runs behind a table, by one of them."""
    path = Path(run)
    folder = os.path.relpath(path.parent)
    folder = os.path.abspath(path.parent) if folder.startswith("..") else folder
    where = "" if Path(folder) == DEFAULT_RESULTS else f" --results {shlex.quote(folder)}"
    return f"Behind the table: bench show {shlex.quote(path.name)} --item 0{where}"


def check_corrupt(jobs: Sequence[Job]) -> None:
    """Refuse to run into a corrupted directory: it is named and left untouched."""
    for job in jobs:
        try:
            if job.done:
                check_records(job.path, digests=())
        except CorruptRun as fault:
            raise UserError(
                f"run '{job.path}' is corrupted ({fault}): move it away to run it again, nothing was changed"
            ) from None


def vouch(jobs: Sequence[Job]) -> None:
    """Make the passports that open runs lack; a failed check is named, its rows will be marked, and the runs go on."""
    from bench.audit.preflight import cover, progress

    with progress() as report:
        failed = cover(jobs, report)
    for found in failed:
        print(f"warning: preflight check '{found.name}' failed on {found.task}: {found.detail}", file=sys.stderr)


def plan_and_run(
    spec: Spec, jobs: list[Job], workers: int, save_policy: bool, preflight: bool, dry_run: bool, format: str
) -> int:
    """Run what is missing, print the table; 0 when every run is finished."""
    states = run_missing(spec, jobs, workers, save_policy, preflight, dry_run, format)
    done = [state.job.path for state in states if state.status != "failed"]
    if done:
        records, bad = load_all(done)
        print_board(records, bad, format)
    return report_failures([state for state in states if state.status == "failed"], len(states))


def run_missing(
    spec: Spec, jobs: list[Job], workers: int, save_policy: bool, preflight: bool, dry_run: bool, format: str
) -> list[State]:
    """Estimate, check the stack, run what is not finished; how each job ended.

    A dry run prints the estimate and starts nothing, so no job ends.
    """
    from bench.study.estimate import print_estimate

    workers = workers or num_workers(spec.threads)
    missing = [job for job in jobs if not job.done]
    check_corrupt(jobs)
    if dry_run:
        print_estimate(expected(jobs, spec.results, save_policy), workers, format)
        return []
    expected(missing, spec.results, save_policy, write=bool(missing))
    if not missing:
        print(f"all {len(jobs)} runs finished earlier and are reused", file=sys.stderr)
    if preflight and missing:
        vouch(missing)
    with display(quiet=False) as show:
        return run_all(jobs, workers, save_policy, show)


def expected(jobs: Sequence[Job], results: Path, save_policy: bool, write: bool = False) -> list[Estimate]:
    """What these runs will cost, after a look at the data that they read; methods with coarse steps are named.

    UserError for what cannot be run: bad data, a budget smaller than one step, a folder that cannot be written.
    """
    from bench.study.estimate import coarse, estimate_runs

    check_data([job for job in jobs if not job.done])
    estimates = estimate_runs(jobs, results, save_policy)  # refuses budgets smaller than one step
    if write:
        check_writable(results)
    if warning := coarse(jobs, estimates):
        print(f"warning: {warning}", file=sys.stderr)
    return estimates


def report_failures(failed: Sequence[State], total: int) -> int:
    """Say which runs failed and what to do; the exit code is 2 when all failures are bad input, else 1."""
    if not failed:
        return 0
    for state in failed:
        print(f"error: run {state.job.path.name}: {state.message}", file=sys.stderr)
    print(
        f"{len(failed)} of {total} runs failed; their logs are log.txt in {failed[0].job.path.parent}/RUN. "
        "Give the same command again: finished runs are reused, the others resume.",
        file=sys.stderr,
    )
    return 2 if all(state.exit_code == 2 for state in failed) else 1


def pretrain_with_bar(out: Path, seed: int, scale: float) -> None:
    """Pretrain with a progress bar on standard error."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from bench.engine.pretrain import Recipe, pretrain

    torch.set_num_threads(1)  # the only setting for which the same weights are promised
    check_writable(out)
    columns = (TextColumn("stage {task.fields[stage]}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    tail = (TextColumn("loss {task.fields[loss]:.3f}"), TimeRemainingColumn())
    with Progress(*columns, *tail, console=Console(stderr=True)) as bar:
        shown = bar.add_task("pretrain", total=None, stage=1, loss=float("nan"))

        def report(state: dict[str, Any]) -> None:
            bar.update(shown, total=state["limit"], completed=state["tokens"], stage=state["stage"], loss=state["loss"])

        phases = tuple(replace(p, tokens=max(1, int(scale * p.tokens))) for p in Recipe().phases)
        pretrain(Recipe(seed=seed, phases=phases), out, report)
    print(f"model written to {out}: use it with --model {out}")

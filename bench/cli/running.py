"""The work behind the commands: plan, run, show; everything heavy is imported only when it is needed."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis.records import load_all
from bench.cli.options import Notes
from bench.cli.starting import Starting
from bench.foreign import one_line, say
from bench.report.progress import display
from bench.schedule.executor import Cluster, run_all
from bench.schedule.local import Local
from bench.schedule.states import TRY_AGAIN, State
from bench.store.files import check_writable
from bench.store.job import Job
from bench.store.run_folder import DEFAULT_RESULTS, CorruptRun, check_records
from bench.store.stored_run import warn_corrupt
from bench.study.jobs import Spec
from bench.study.slots import Slot, num_workers
from bench.types import UserError

if TYPE_CHECKING:
    from bench.study.estimate import Estimate
    from bench.study.preflight_time import Preflight


def print_board(
    records: Sequence[Any],
    bad: Sequence[tuple[Path, str]],
    format: str,
    metric: str = "accuracy",
    results: Path | None = None,
    tasks: Sequence[str] = (),
    view: str | None = None,
) -> None:
    """Print the leaderboard or a view of it; corrupted run directories are warnings on standard error.

    The other arguments are those of ``board_text``.
    """
    warn_corrupt(bad)
    say(board_text(records, bad, format, metric, results, tasks, view), end="")


def board_text(
    records: Sequence[Any],
    bad: Sequence[tuple[Path, str]],
    format: str,
    metric: str = "accuracy",
    results: Path | None = None,
    tasks: Sequence[str] = (),
    view: str | None = None,
) -> str:
    """The leaderboard or a view of it.

    With a results folder, a method with unfinished or corrupted runs there gets a mark.
    ``tasks`` chooses tables, all if empty; p-values are corrected over all records in any case.
    """
    from bench.analysis.board import leaderboard
    from bench.analysis.fairness import find_concerns
    from bench.analysis.table import Board
    from bench.report.formats import render_board, render_view

    board = leaderboard(records, metric, find_concerns(records, results, bad))
    board = Board(tuple(table for table in board.tables if not tasks or table.record.task in tasks))
    text = render_view(board, view, format) if view else render_board(board, format)
    if format == "table" and board.tables and view is None:
        text += f"\n{show_hint(board.tables[0].rows[0].runs[0])}\n"
    return text


def show_hint(run: str) -> str:
    """The command that shows a run behind a table."""
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


def make_passports(jobs: Sequence[Job], place: Local | Cluster) -> None:
    """Make the passports that these runs lack, in a process of its own, whose memory is free again for the runs.

    In a cluster that is its first job.  A failed check is a warning: the runs go on, their rows get a mark.
    """
    from bench.audit.preflight_process import cover_apart, cover_there

    for failure in cover_apart(jobs, place.slots[0]) if isinstance(place, Local) else cover_there(jobs, place):
        say(f"warning: preflight check '{failure.name}' failed on {failure.task}: {failure.detail}", error=True)


def resumable(what: str) -> AbstractContextManager[None]:
    """Ctrl-C or SIGTERM ends the command, which says that nothing is lost."""
    return stoppable(f"the same command reuses finished {what} and resumes the others")


@contextmanager
def stoppable(left: str) -> Iterator[None]:
    """Ctrl-C ends the command with exit code 130, SIGTERM with 143, and it says in what state it leaves things."""

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, stop)
    usr1 = signal.signal(signal.SIGUSR1, lambda *_: None)  # asks running runs to save; before, there is nothing to save
    try:
        yield
    except KeyboardInterrupt as request:
        word, code = ("terminated", 143) if request.args == (signal.SIGTERM,) else ("interrupted", 130)
        say(f"{word}: {left}", error=True)
        sys.exit(code)
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGUSR1, usr1)


def plan_and_run(spec: Spec, jobs: list[Job], starting: Starting, format: str) -> int:
    """Run what is missing and print the table; 0 when every run is finished."""
    states = run_missing(spec, jobs, starting, format)
    finished = [state.job.path for state in states if state.status != "failed"]
    if finished:
        records, bad = load_all(finished)
        print_board(records, bad, format)
    return report_failures(states)


def run_missing(spec: Spec, jobs: list[Job], starting: Starting, format: str) -> list[State]:
    """Estimate the cost, check the stack, run what is not finished; how each job ended.

    A dry run prints the estimate and starts nothing, so no job ends.
    """
    from bench.study.estimate import duration, parts, print_estimate, total_seconds
    from bench.study.footprint import check_space

    if spec.here and spec.threads > (cores := num_workers(1)):
        say(f"warning: --threads {spec.threads} are more than the {cores} cores of this machine", error=True)
    keep, placement = starting.policy, starting.placement()
    missing = [job for job in jobs if not job.done]
    slots = placement.slots(jobs[0], len(missing))[: max(1, len(missing))]
    check_corrupt(jobs)
    if starting.dry_run:
        estimates = checked_estimates(jobs, spec, keep, slots)
        print_estimate(estimates, len(slots), format, upcoming_preflight(missing) if starting.preflight else None)
        return []
    estimates = checked_estimates(missing, spec, keep, slots, start=True)
    if not missing:
        say(f"all {len(jobs)} runs finished earlier and are reused", error=True)
    else:
        slots = check_space(missing, estimates, slots, spec.results, starting.workers > 0, placement.is_here)
    if any(e.start_seconds for e in estimates):  # measured
        preflight = upcoming_preflight(missing) if starting.preflight else None
        time, shares = duration(total_seconds(estimates, len(slots), preflight)), parts(estimates, preflight)
        spec.tell(f"{len(missing)} runs, {len(slots)} at a time: about {time} at the measured rate ({shares})")
    place = placement.open(jobs[0], spec.results, slots) if missing else Local(slots)
    if starting.preflight and missing:
        make_passports(missing, place)
    with display(quiet=False) as show:
        return run_all(jobs, place, keep, show, {e.run: e.seconds for e in estimates})


def upcoming_preflight(missing: Sequence[Job]) -> Preflight | None:
    """The preflight before these runs.

    On CUDA nothing is said: there the device would have to be asked for its name, which takes memory of it.
    """
    if not missing or missing[0].execution.device != "cpu":
        return None
    from bench.audit.preflight import ahead

    return ahead(missing)


def checked_estimates(
    jobs: Sequence[Job], spec: Spec, keep: str, slots: Sequence[Slot], start: bool = False
) -> list[Estimate]:
    """What these runs will cost; a warning names methods whose steps are a large part of the budget.

    UserError for what cannot be run: bad data, a budget smaller than one step or, if they are to ``start``, a folder
    that cannot be written.
    """
    from bench.study.estimate import coarse, estimate_runs

    def good() -> None:
        if start and jobs:
            check_writable(spec.results)
        if isinstance(spec.tell, Notes):
            spec.tell.show()

    estimates = estimate_runs(jobs, spec.results, keep, spec.tell, slots, not start, good, spec.here)
    if warning := coarse(jobs, estimates):
        say(f"warning: {warning}", error=True)
    return estimates


def report_failures(states: Sequence[State]) -> int:
    """Say which runs failed and what to do; the exit code.

    0 if none did, 2 if all did by bad input, 75 if all may succeed another time, else 1.
    """
    failed = [state for state in states if state.status == "failed"]
    if not failed:
        return 0
    for state in failed:
        say(one_line(f"error: run {state.job.path.name}: {state.message}"), error=True)
    say(
        f"{len(failed)} of {len(states)} runs failed; their logs are log.txt in {failed[0].job.path.parent}/RUN. "
        "Give the same command again: finished runs are reused, the others resume.",
        error=True,
    )
    codes = {state.exit_code for state in failed}
    return 2 if codes == {2} else os.EX_TEMPFAIL if codes <= TRY_AGAIN else 1


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
        stage_bar = bar.add_task("pretrain", total=None, stage=1, loss=float("nan"))

        def report(state: dict[str, Any]) -> None:
            counts = {"total": state["limit"], "completed": state["tokens"]}
            bar.update(stage_bar, **counts, stage=state["stage"], loss=state["loss"])

        phases = tuple(replace(p, tokens=max(1, int(scale * p.tokens))) for p in Recipe().phases)
        pretrain(Recipe(seed=seed, phases=phases), out, report)
    say(f"model written to {out}: use it with --model {out}")

"""What the user sees while runs go on, on standard error: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from bench.foreign import neutral, say
from bench.schedule.states import State
from bench.store.job import Job
from bench.store.run_folder import CorruptRun, read_json

LINE_SECONDS = 15.0


def time_left(state: State) -> float | None:
    """Seconds that a running job still needs, from the share of its budget spent so far."""
    share = state.progress.get("share", 0.0)
    gained = share - (state.first_share or 0.0)
    if state.status != "running" or gained < 0.02:
        return None
    elapsed = time.monotonic() - state.began
    return float(elapsed * (1.0 - share) / gained)


@cache
def finished_ledger(path: Path) -> dict[str, Any]:
    """What a finished run spent."""
    return dict(read_json(path / "done.json")["ledger"])


def spent_share(job: Job) -> float | None:
    """Share of its budget that a finished run spent; below 1 if the next step might not have fitted."""
    try:
        return float(finished_ledger(job.path)[job.plan.budget_unit]) / job.plan.budget_limit
    except (CorruptRun, LookupError, TypeError, ValueError):
        return None


def state_cells(state: State) -> tuple[str, ...]:
    """Run, status, share of the budget, reward, validation accuracy, time left."""
    p = state.progress
    left = time_left(state)
    status = p.get("phase", "starting") if state.status == "running" else state.status
    status = state.message if state.status == "elsewhere" else status
    plan = state.job.plan
    share = p.get("share")
    if state.status in {"done", "reused"}:
        share = spent_share(state.job)
    return (
        f"{plan.method} {plan.task} seed {plan.seed}",
        status,
        "" if share is None else f"{100 * share:.0f} %",
        f"{p['reward']:.3f}" if "reward" in p else "",
        f"{100 * p['accuracy']:.1f} %" if "accuracy" in p else "",
        "" if left is None else f"{left:.0f} s",
    )


def live_table(states: list[State]) -> object:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in ("run", "status", "budget", "reward", "val accuracy", "left"):
        table.add_column(title, justify="left" if title in {"run", "status"} else "right")
    for state in states:
        style = {"failed": "red", "done": "green", "reused": "dim", "waiting": "dim"}.get(state.status, "")
        table.add_row(*(Text(neutral(cell)) for cell in state_cells(state)), style=style)
    return table


def line_printer() -> Callable[[list[State]], None]:
    """Lines for logs: one when a run changes its phase, otherwise one every LINE_SECONDS if there is news."""
    printed: dict[str, tuple[tuple[str, ...], float]] = {}

    def show(states: list[State]) -> None:
        for state in states:
            row = state_cells(state)
            before, when = printed.get(state.job.plan.run_id, (state_cells(State(state.job)), 0.0))
            now = time.monotonic()
            if row[1] != before[1] or (row[1:] != before[1:] and now - when > LINE_SECONDS):
                printed[state.job.plan.run_id] = (row, now)
                names = ("", "", "budget ", "reward ", "val accuracy ", "left ")
                parts = [name + value for name, value in zip(names, row) if value]
                say(", ".join(parts), error=True)

    return show


@contextmanager
def display(quiet: bool) -> Iterator[Callable[[list[State]], None]]:
    """A function to call with all states; a live table if standard error is a terminal."""
    if quiet:
        yield lambda states: None
        return
    if not sys.stderr.isatty():
        yield line_printer()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4) as live:
        yield lambda states: live.update(live_table(states))  # type: ignore[arg-type]

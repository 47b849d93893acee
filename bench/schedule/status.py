"""What has become of the runs of a folder: done, running on which machine, lost, interrupted or not begun.

Read from orders, leases, progress files and done markers alone, so that it may be asked anywhere at any time.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.schedule.states import is_number, read_progress
from bench.store import order
from bench.store.lease import FOLDER, Claim, latest
from bench.store.run_folder import CorruptRun, is_done, read_json

DONE, RUNNING, LOST, INTERRUPTED, WAITING = STATES = ("done", "running", "lost", "interrupted", "waiting")
LEAST_SHARE = 0.02  # of its budget that a run must have spent for its pace to say something


@dataclass(frozen=True)
class RunStatus:
    """One run: its state, its last owner, and seconds until it ends where that can be said.

    ``silent``: seconds since the owner's last sign of life by the clock of the file system, None if that is unknown.
    """

    run: str
    state: str
    host: str = ""
    pid: int | None = None
    device: str = ""
    batch_job: str = ""
    silent: float | None = None
    phase: str = ""
    share: float | None = None
    left: float | None = None


def examine(results: Path) -> list[RunStatus]:
    """All runs of a folder, begun or ordered, by name."""
    now = clock_of(results)
    folders = [Path(entry.path) for entry in os.scandir(results) if entry.is_dir() and not entry.name.startswith(".")]
    signs = ("plan.json", order.NAME, FOLDER)
    return [status_of(folder, now) for folder in sorted(folders) if any((folder / sign).exists() for sign in signs)]


def clock_of(folder: Path) -> float | None:
    """The time by which the file system stamps files there, in seconds; None where nothing can be written.

    A heartbeat is stamped by the same clock, whichever machine gives it.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix=".status-", dir=folder) as file:
            os.utime(file.name)
            return os.stat(file.name).st_mtime
    except OSError:
        return None


def status_of(folder: Path, now: float | None) -> RunStatus:
    """The status of one run directory."""
    claim = latest(folder)
    owner = claim.owner if claim is not None else None
    who: dict[str, Any] = {}
    if owner is not None:
        who = {"host": owner.host, "pid": owner.pid, "device": owner.device, "batch_job": owner.batch_job}
    if is_done(folder):
        return RunStatus(folder.name, DONE, **who)
    progress = read_progress(folder)
    state = state_of(claim, now, begun=bool(progress))
    if claim is not None and state in (RUNNING, LOST):
        who["silent"] = max(0.0, now - claim.beat / 1e9) if now is not None else None
    share = progress.get("share")
    return RunStatus(
        folder.name, state, **who, phase=progress.get("phase", ""), share=share, left=time_left(folder, progress)
    )


def state_of(claim: Claim | None, now: float | None, begun: bool) -> str:
    """The state of a run that is not done."""
    if claim is None or claim.released:
        return INTERRUPTED if claim is not None or begun else WAITING
    silent = now is not None and now - claim.beat / 1e9 > claim.seconds
    return LOST if claim.is_over or (silent and not claim.is_alive) else RUNNING


def time_left(folder: Path, progress: dict[str, Any]) -> float | None:
    """Seconds that a run still needs: by the pace of its training so far, else by the estimate of its order."""
    share, spent = progress.get("share", 0.0), progress.get("seconds", 0.0)
    if share >= LEAST_SHARE:
        return float(spent * (1.0 - min(share, 1.0)) / share)
    try:
        seconds: Any = read_json(folder / order.NAME).get("seconds")
    except CorruptRun:  # no order, or none that can be read
        return None
    return float(seconds) if is_number(seconds) and seconds > 0 else None


def lost_nodes(runs: Sequence[RunStatus]) -> dict[str, list[RunStatus]]:
    """Runs whose owner is lost, by the name of its machine."""
    nodes: dict[str, list[RunStatus]] = {}
    for run in runs:
        if run.state == LOST:
            nodes.setdefault(run.host or "an unknown machine", []).append(run)
    return nodes


def summary(runs: Sequence[RunStatus]) -> dict[str, Any]:
    """Numbers of runs by state, machines at work with their runs, and seconds left at this number of runs at a time."""
    counts = Counter(run.state for run in runs)
    at_work = Counter(run.host for run in runs if run.state == RUNNING)
    left = [run.left for run in runs if run.state != DONE]
    known = [seconds for seconds in left if seconds is not None]
    whole = len(known) == len(left) and at_work
    seconds = max(sum(known) / at_work.total(), *known) if whole and known else None
    return {"counts": {state: counts[state] for state in STATES}, "hosts": dict(at_work), "left": seconds}

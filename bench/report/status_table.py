"""The status of a folder of runs as text."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.terminal_table import terminal_table
from bench.schedule.status import LOST, RUNNING, RunStatus, lost_nodes, summary
from bench.study.estimate import duration

HEAD = ["run", "state", "on", "device", "budget", "left", "silent"]
FEW = 3  # runs of a lost machine that are named


def status_text(title: str, runs: Sequence[RunStatus]) -> str:
    """A table of all runs, and in sentences how many there are, what is lost and how long it will take."""
    found = summary(runs)
    counts = ", ".join(f"{number} {state}" for state, number in found["counts"].items() if number)
    sentences = [f"{len(runs)} runs: {counts}." if runs else "No run was begun or ordered here."]
    if found["hosts"]:
        at_work = ", ".join(f"{host} ({number})" for host, number in found["hosts"].items())
        left = f", about {duration(found['left'])} at this pace" if found["left"] is not None else ""
        sentences.append(f"At work: {at_work}{left}.")
    for host, lost in lost_nodes(runs).items():
        names = ", ".join(run.run for run in lost[:FEW]) + (f" and {len(lost) - FEW} more" if len(lost) > FEW else "")
        sentences.append(f"Lost: {host}, which had {names}. Any 'bench run' of these runs takes them over.")
    return terminal_table(title, HEAD, [cells(run) for run in runs], sentences)


def cells(run: RunStatus) -> list[str]:
    going = run.state in (RUNNING, LOST)
    where = f"{run.host}:{run.pid}" if run.host else ""
    return [
        run.run,
        run.phase if run.state == RUNNING and run.phase else run.state,
        where + (f" job {run.batch_job}" if run.batch_job and going else ""),
        run.device,
        "" if run.share is None else f"{100 * run.share:.0f} %",
        "" if run.left is None else duration(run.left),
        "" if run.silent is None else f"{run.silent:.0f} s",
    ]

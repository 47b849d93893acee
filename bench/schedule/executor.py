"""Makes all runs of a command at some place, the longest first; a failed run does not stop the others.

Any number of commands may do that with the same runs at once, on any machines that share the folder.  Leases decide
whose a run is (``bench/store/lease.py``): what another command makes is waited for, and taken over when its owner is
lost.  What may succeed elsewhere or later is tried again: the device was lost, memory was short, a system took the
process.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

from bench.schedule.states import Handle, State, is_others, look_elsewhere, note_end, refresh
from bench.store.job import Job
from bench.store.lease import BEATS
from bench.store.order import NAME, Order, order_for, own_name
from bench.store.owner import lease_seconds
from bench.store.run_folder import content_size

POLL_SECONDS = 0.25
MOST_READS = 200  # files of progress that are read in a second

Running = list[tuple[State, Handle]]


class Place(Protocol):
    """Where workers run: slots of this machine, a Ray cluster, a Slurm cluster."""

    def room(self, running: Sequence[Handle]) -> int:
        """How many more workers it takes now."""

    def start(self, order: Order, avoid: str | None) -> Handle:
        """Start a worker, if possible on another device than the one to be avoided; OSError if it cannot be."""

    def flush(self) -> None:
        """Send off what was started one by one and is better sent off together."""

    def stop(self, running: Sequence[Handle]) -> None:
        """End what is running, since the command ends."""


class Cluster(Place, Protocol):
    """A place on other machines."""

    def call(self, command: Sequence[str], folder: str, log: str) -> Handle:
        """Run a command in a folder there; what it prints goes to the end of a log."""


def run_all(
    jobs: Sequence[Job],
    place: Place,
    keep: str,
    show: Callable[[list[State]], None],
    seconds: Mapping[str, float] | None = None,
) -> list[State]:
    """Make every run that is not finished; ``show`` is called with all states several times a second.

    ``seconds``: how long runs will take, by the names of their directories.
    """
    states = [State(job, "reused" if job.done else "waiting") for job in jobs]
    for state in states:
        state.seconds = (seconds or {}).get(state.job.path.name, 0.0)
    longest_first = sorted(states, key=lambda state: -state.seconds)  # stable: as listed where nothing is known
    name = own_name()
    for state in states:
        if state.status == "waiting":
            with suppress(OSError):  # said when it is to be started
                write_order(state, keep, NAME)  # so that the list of runs can be seen from anywhere
    running: Running = []
    looked = time.monotonic()
    try:
        with handing_on(signal.SIGUSR1, running):
            while any(s.status in {"waiting", "running", "elsewhere"} for s in states):
                start_waiting(longest_first, place, keep, name, running)
                time.sleep(max(POLL_SECONDS, len(running) / MOST_READS))
                for entry in list(running):
                    state, handle = entry
                    refresh(state)
                    if (code := handle.poll()) is not None:
                        running.remove(entry)
                        note_end(state, code, handle.device)
                        with suppress(OSError):  # a new try gets a new one
                            (state.job.path / name).unlink()
                if time.monotonic() - looked > lease_seconds() / BEATS / 3:
                    looked = time.monotonic()
                    for state in states:
                        if state.status == "elsewhere":
                            look_elsewhere(state)
                show(states)
    finally:
        place.stop([handle for _, handle in running])
    return states


def start_waiting(states: Sequence[State], place: Place, keep: str, name: str, running: Running) -> None:
    """Start waiting runs as long as the place has room for them; ``name``: of the files with their orders."""
    room = place.room([handle for _, handle in running])
    for state in states:
        if room <= 0:
            break
        if state.status != "waiting" or time.monotonic() < state.not_before or is_others(state):
            continue
        state.status, state.began, state.log_size = "running", time.monotonic(), content_size(state.log)
        try:
            running.append((state, place.start(write_order(state, keep, name), state.failed_on)))
            room -= 1
        except OSError as error:
            state.status, state.message, state.exit_code = "failed", f"cannot start: {error}", 2
    place.flush()


def write_order(state: State, keep: str, name: str) -> Order:
    """The order of a run, written to its directory under this name."""
    order = order_for(state.job, keep, ["bench", *sys.argv[1:]], state.seconds, state.watch.seen, name)
    order.write()
    return order


@contextmanager
def handing_on(number: signal.Signals, running: Running) -> Iterator[None]:
    """A signal that this process gets goes to all workers."""

    def send(received: int, frame: object) -> None:
        for _, handle in running:
            handle.send(number)

    before = signal.signal(number, send)
    try:
        yield
    finally:
        signal.signal(number, before)

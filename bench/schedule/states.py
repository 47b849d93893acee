"""Where each run of a command stands, and what the end of its process means for it."""

from __future__ import annotations

import math
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.engine.worker import ELSEWHERE
from bench.foreign import one_line, say
from bench.store.job import Job
from bench.store.lease import Watch
from bench.store.run_folder import CorruptRun, read_json

MAX_RETRIES = 3
RETRY_SECONDS = 5.0  # before the first new try; twice as long before each further one
# Exit codes of a worker that may end otherwise another time: its own word for that, or a signal that it did not handle:
# SIGKILL comes from a system that is out of memory, the others from one that wants the machine back.
TRY_AGAIN = {os.EX_TEMPFAIL, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGUSR1, -signal.SIGUSR2}


class Handle(Protocol):
    """A worker that was started; ``device``: on which device, if that is known here."""

    device: str

    def poll(self) -> int | None:
        """Its exit code, None as long as it has none."""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if that is possible."""


@dataclass
class State:
    """Where one job stands: waiting, running, elsewhere (at another command), done, reused (from earlier), failed."""

    job: Job
    status: str = "waiting"
    message: str = ""
    exit_code: int = 0
    began: float = 0.0
    ended: float = 0.0
    seconds: float = 0.0  # what it will take by the estimate
    progress: dict[str, Any] = field(default_factory=dict)
    first_share: float | None = None  # of the budget, spent before this process: a resumed run does not start at 0
    log_size: int = 0  # bytes of the log that earlier processes wrote
    retries: int = 0
    not_before: float = 0.0  # the moment from which it may be tried again
    failed_on: str | None = None  # the device of its last try
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self.job.path)

    @property
    def log(self) -> Path:
        return self.job.path / "log.txt"


def read_progress(run: Path) -> dict[str, Any]:
    """What a worker says of its progress: its phase and numbers, no value of another kind; empty without a file."""
    try:
        said = read_json(run / "progress.json")
    except CorruptRun:
        return {}
    return {n: value for n, value in said.items() if (isinstance(value, str) if n == "phase" else is_number(value))}


def is_number(value: object) -> bool:
    """Whether a value of a JSON file is a number that can be counted with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def refresh(state: State) -> None:
    """Read the progress file that the worker rewrites."""
    if not (progress := read_progress(state.job.path)):
        return  # not written yet, or already removed: the last known progress stands
    state.progress = progress
    if state.first_share is None:
        state.first_share = state.progress.get("share", 0.0)


def look_elsewhere(state: State) -> None:
    """See what has become of a run that is another command's."""
    refresh(state)
    if state.job.done:
        state.status, state.message = "done", ""
    elif state.watch.is_free():
        claim = state.watch.claim
        state.status, state.message = "waiting", ""
        if claim is not None and not claim.released:
            how = "its process has ended" if claim.is_over else f"silent for {state.watch.silence:.0f} s"
            say(one_line(f"warning: run {state.job.path.name}: {claim} is lost ({how}): taken over"), error=True)


def is_others(state: State) -> bool:
    """Whether a waiting run need not be started here, since another command makes it or has made it."""
    if state.job.done:
        state.status = "done"
    elif not state.watch.is_free():
        state.status, state.message = "elsewhere", f"on {state.watch.claim}"
    return state.status != "waiting"


def note_end(state: State, code: int, device: str = "") -> None:
    """Note how a run's process ended, with the last progress that it wrote; what may be tried again waits for it."""
    refresh(state)
    state.ended, state.exit_code = time.monotonic(), code
    if code == 0 and state.job.done:
        state.status, state.message = "done", ""
        (state.job.path / "progress.json").unlink(missing_ok=True)
        return
    state.message = last_line(state.log, state.log_size) if code >= 0 else killed(-code)
    if code == 0:  # on another machine: a network file system may show the marker to this one a minute later
        state.message = "its worker ended well, and no done marker can be seen here"
    if code == ELSEWHERE:
        state.watch.is_free()  # to see whose it is
        state.status, state.message = "elsewhere", f"on {state.watch.claim or 'an unknown machine'}"
        return
    if code not in {0, *TRY_AGAIN} or state.retries == MAX_RETRIES:
        tries = f" (tried {state.retries + 1} times)" if state.retries else ""
        state.status, state.message = "failed", state.message + tries
        return
    wait = RETRY_SECONDS * 2**state.retries
    state.retries += 1
    state.status, state.not_before, state.failed_on = "waiting", time.monotonic() + wait, device
    where = f" on device {device}" if device else ""
    again = f"tried again in {wait:g} s ({state.retries} of {MAX_RETRIES})"
    say(one_line(f"warning: run {state.job.path.name}{where}: {state.message}; {again}"), error=True)


def last_line(path: Path, start: int = 0) -> str:
    """The last line that a log has after its first ``start`` bytes."""
    content = path.read_bytes()[start:] if path.exists() else b""
    lines = content.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "it left no message"


def killed(number: int) -> str:
    return f"killed by signal {number}" + (", perhaps because memory was short" if number == signal.SIGKILL else "")

"""Who may write into a run directory: its leases, one file for every owner that it has had.

``RUN/lease/7.json`` says who took the run as the seventh.  A finished file is linked to that name, so of several who
try one alone succeeds, and the numbers (fencing tokens) only grow: who made the highest one owns the run, all others
have lost it.  The owner touches its file again and again.  Another one may follow when it has released the run, when
its process has died on this machine, or when an observer has seen no touch for the stated time **by the observer's own
clock**: clocks of two machines are never compared.

No file system checks tokens.  A former owner that was frozen and wakes can do no harm because nothing is left for it to
act on: who takes over replaces the record files, to which the former one has open handles, and removes what it had
prepared under names with its number, which it would have renamed (``run_store.py``).
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.foreign import parse_json
from bench.store.owner import Owner, lease_seconds
from bench.types import UserError

FOLDER, DONE = "lease", "done.json"
NAME = re.compile(r"([1-9][0-9]{0,17})\.json")
BEATS = 8  # in the time without a heartbeat that makes an owner count as lost
LOOK_SECONDS = 0.25  # between two looks of one who waits for a sign of life


class Held(UserError):
    """The run is another one's."""


class LeaseLost(Exception):
    """The run was taken over: this process may write no more."""


@dataclass(frozen=True)
class Claim:
    """The newest lease of a run as it was read; ``owner`` is None where the file cannot be read."""

    token: int
    owner: Owner | None
    released: bool
    beat: int

    @property
    def seconds(self) -> float:
        return self.owner.seconds if self.owner is not None else lease_seconds()

    @property
    def is_over(self) -> bool:
        """Whether the run may be taken at once."""
        return self.released or (self.owner is not None and self.owner.is_dead)

    @property
    def is_alive(self) -> bool:
        """Whether its owner goes on for certain, be it stopped: no silence makes it lost."""
        return self.owner is not None and self.owner.is_alive

    def __str__(self) -> str:
        return str(self.owner or "an unknown machine")


def tokens(run: Path) -> list[int]:
    """Numbers of all leases that a run has had, in order."""
    try:
        names = os.listdir(run / FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(found[1]) for name in names if (found := NAME.fullmatch(name)))


def latest(run: Path) -> Claim | None:
    """The newest lease of a run; None if nobody has ever had it."""
    numbers = tokens(run)
    return read_claim(run, numbers[-1]) if numbers else None


def read_claim(run: Path, token: int) -> Claim | None:
    """The lease of this number; None without one."""
    path = run / FOLDER / f"{token}.json"
    try:
        with path.open("rb") as file:  # opened: a network file system looks again then
            text, beat = file.read(), os.fstat(file.fileno()).st_mtime_ns
    except OSError:  # it cannot be read: closed to this user, replaced at this moment, or no file
        try:
            text, beat = b"", path.lstat().st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):  # the whole folder has gone
            return None
    try:
        record = parse_json(text)
    except ValueError:  # it is being written, on a file system without links
        record = None
    return Claim(token, Owner.restore(record), isinstance(record, dict) and bool(record.get("released")), beat)


class Watch:
    """Looks at the lease of one run again and again, and says when it may be taken."""

    def __init__(self, run: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.run, self.clock = run, clock
        self.claim: Claim | None = None
        self.looked = self.since = 0.0  # when it was looked last, and from when on the claim was seen as it is
        self.heard = False  # whether its owner has given a sign of life since the first look

    def is_free(self) -> bool:
        """Whether nobody has the run, or who had it is lost."""
        before, self.claim = self.claim, latest(self.run)
        if self.claim is None or self.claim.is_over:
            return True
        if before is None or (before.token, before.beat) != (self.claim.token, self.claim.beat):
            self.since, self.heard = self.clock(), before is not None
        else:  # more than half of the time at once: this process was away, or the file server, and then the owner too
            self.since += max(0.0, self.clock() - self.looked - self.claim.seconds / 2)
        self.looked = self.clock()
        return self.silence >= self.claim.seconds and not self.claim.is_alive

    @property
    def silence(self) -> float:
        """Seconds without a sign of life since the first look, by this process's clock, as far as it has looked."""
        return self.clock() - self.since

    @property
    def seen(self) -> tuple[int, int] | None:
        """Number and heartbeat of the claim as it was last seen."""
        return (self.claim.token, self.claim.beat) if self.claim is not None else None


class Lease:
    """The right of this process to write into a run directory, as long as nobody has taken over."""

    def __init__(self, run: Path, token: int, owner: Owner) -> None:
        self.run, self.token, self.owner = run, token, owner
        self.path = run / FOLDER / f"{token}.json"

    def holds(self) -> bool:
        """Whether nobody has taken over: there would be a lease of the next number."""
        return not self.path.with_name(f"{self.token + 1}.json").exists() and self.is_there()

    def is_there(self) -> bool:
        """Whether the folder is still that of this lease: one that was put in its place has another one's, or none."""
        claim = read_claim(self.run, self.token)
        return claim is not None and claim.owner is not None and claim.owner.id == self.owner.id

    def check(self) -> None:
        """LeaseLost unless this process still owns the run."""
        if not self.holds():
            raise LeaseLost(f"run {self.run.name} was taken over by {latest(self.run) or 'who removed its lease'}")

    def beat(self) -> None:
        """Give a sign of life."""
        os.utime(self.path)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Give signs of life from a thread."""
        ended = threading.Event()

        def go_on() -> None:
            while not ended.wait(self.owner.seconds / BEATS):
                with suppress(OSError):  # a file server that is away for a moment; a lease that is gone, check sees
                    self.beat()

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def release(self) -> None:
        """Let others take the run at once.  On a full disk it stays: they see that this process has ended."""
        part = self.path.with_name(f"{self.owner.id}.part")
        with suppress(OSError):
            part.write_text(json.dumps({**asdict(self.owner), "released": True}), encoding="utf-8")
            part.replace(self.path)


def acquire(
    run: Path,
    lost: tuple[int, int] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Lease:
    """Own a run; Held if another one does, or has made it while this one waited.

    Of an owner on another machine it takes a heartbeat's time to learn that.

    ``lost``: number and heartbeat of an owner of whom this process's parent has seen no sign of life for long enough.
    """
    watch = Watch(run, clock)
    while not watch.is_free() and watch.seen != lost:
        assert watch.claim is not None
        if watch.heard or (watch.claim.owner is not None and watch.claim.owner.is_near):
            raise Held(f"run {run.name} is in progress in another process, on {watch.claim}")
        sleep(LOOK_SECONDS)
    if watch.claim is not None and (run / DONE).exists():
        raise Held(f"run {run.name} was made by another process, on {watch.claim}")
    return take(run, 1 + (watch.claim.token if watch.claim is not None else 0))


def take(run: Path, token: int) -> Lease:
    """The lease of this number; Held if another one was faster."""
    owner, folder = Owner.here(), run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    part, target = folder / f"{owner.id}.part", folder / f"{token}.json"
    content = json.dumps(asdict(owner)).encode()
    try:
        part.write_bytes(content)
        link(part, target, content)
    finally:
        part.unlink(missing_ok=True)
    claim = latest(run)
    if claim is None or claim.token != token or claim.owner is None or claim.owner.id != owner.id:
        raise Held(f"run {run.name} is in progress in another process, on {claim or 'an unknown machine'}")
    return Lease(run, token, owner)


def link(part: Path, target: Path, content: bytes) -> None:
    """Give a finished file its name unless there is one of that name; where there are no links, write it anew."""
    with suppress(FileExistsError):  # another one's, or ours if a network file system has lost its first answer
        try:
            os.link(part, target)
        except FileExistsError:
            raise
        except OSError:
            with target.open("xb") as file:
                file.write(content)

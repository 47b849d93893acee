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
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bench.foreign import parse_json
from bench.types import UserError

FOLDER, DONE = "lease", "done.json"
SECONDS = 120.0  # without a heartbeat, after which an owner on another machine counts as lost
BEATS = 8  # in that time
SETTING = "BENCH_LEASE_SECONDS"  # another time, for all who share a folder
HOST = "BENCH_HOST"  # this machine's name in leases, where several containers have one name
LOOK_SECONDS = 0.25  # between two looks of one who waits for a sign of life


class Held(UserError):
    """The run is another one's."""


class LeaseLost(Exception):
    """The run was taken over: this process may write no more."""


@dataclass(frozen=True)
class Owner:
    """A process that makes a run.

    ``machine`` tells where its process id means something, ``started`` is the system's word for when it began;
    ``seconds`` without a heartbeat make it count as lost.
    """

    id: str
    host: str
    machine: str
    pid: int
    started: str
    device: str
    batch_job: str
    seconds: float

    @staticmethod
    def here() -> Owner:
        """This process; UserError for a setting that is no number of seconds."""
        host = os.environ.get(HOST) or socket.gethostname()
        job = next((os.environ[name] for name in ("SLURM_JOB_ID", "RAY_JOB_ID") if name in os.environ), "")
        device = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        who = (secrets.token_hex(8), host, machine_id(host), os.getpid(), process_start(os.getpid()) or "")
        return Owner(*who, device, job, lease_seconds())

    @staticmethod
    def restore(record: Any) -> Owner | None:
        """The owner of a lease file; None if it is none that this version wrote."""
        names = [field.name for field in fields(Owner)]
        if not isinstance(record, dict) or not record.keys() >= set(names):
            return None
        return Owner(**{name: record[name] for name in names})

    @property
    def is_near(self) -> bool:
        """Whether its process id can be looked up here."""
        return self.machine == machine_id(os.environ.get(HOST) or socket.gethostname())

    @property
    def is_dead(self) -> bool:
        """Whether its process has ended for certain; False on another machine."""
        return self.is_near and process_start(self.pid) != self.started

    def __str__(self) -> str:
        device = f", device {self.device}" if self.device else ""
        return f"{self.host} (pid {self.pid}{device})"


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

    def __str__(self) -> str:
        return str(self.owner or "an unknown machine")


def lease_seconds() -> float:
    """Seconds without a heartbeat that make an owner count as lost; UserError for a setting that is no such number."""
    text = os.environ.get(SETTING) or str(SECONDS)
    with suppress(ValueError):
        if 0.1 <= float(text) <= 86_400:
            return float(text)
    raise UserError(f"{SETTING}='{text}': expected seconds between 0.1 and 86400, such as {SECONDS:g}")


def machine_id(host: str) -> str:
    """What processes share that see each other's ids: the machine since its last start, and the container on it."""
    parts = [host]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def process_start(pid: int) -> str | None:
    """When a process of this machine began, in the system's own units and empty if it does not say; None if it ended.

    A process id alone would not do: it is given again.
    """
    try:
        os.kill(pid, 0)
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except ProcessLookupError:
        return None
    except OSError:  # another user's process, or a system without such files
        return ""
    state, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]


def tokens(run: Path) -> list[int]:
    """Numbers of all leases that a run has had, in order."""
    try:
        names = os.listdir(run / FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdecimal())


def latest(run: Path) -> Claim | None:
    """The newest lease of a run; None if nobody has ever had it."""
    numbers = tokens(run)
    if not numbers:
        return None
    with (run / FOLDER / f"{numbers[-1]}.json").open("rb") as file:  # opened: a network file system looks again then
        text, beat = file.read(), os.fstat(file.fileno()).st_mtime_ns
    try:
        record = parse_json(text)
    except ValueError:  # it is being written, on a file system without links
        record = None
    return Claim(numbers[-1], Owner.restore(record), isinstance(record, dict) and bool(record.get("released")), beat)


class Watch:
    """Looks at the lease of one run again and again, and says when it may be taken."""

    def __init__(self, run: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.run, self.clock = run, clock
        self.claim: Claim | None = None
        self.since = 0.0  # when the claim was first seen as it is
        self.heard = False  # whether its owner has given a sign of life since the first look

    def is_free(self) -> bool:
        """Whether nobody has the run, or who had it is lost."""
        before, self.claim = self.claim, latest(self.run)
        if self.claim is None or self.claim.is_over:
            return True
        if before is None or (before.token, before.beat) != (self.claim.token, self.claim.beat):
            self.since, self.heard = self.clock(), before is not None
        return self.silence >= self.claim.seconds

    @property
    def silence(self) -> float:
        """Seconds since the last sign of life, or since the first look, by this process's clock."""
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
        return self.path.exists() and not self.path.with_name(f"{self.token + 1}.json").exists()

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
    part.write_bytes(content)
    try:
        os.link(part, target)
    except FileExistsError:  # another one's, or ours if a network file system has lost its first answer
        pass
    except OSError:  # no links there
        create(target, content)
    finally:
        part.unlink()
    claim = latest(run)
    if claim is None or claim.token != token or claim.owner is None or claim.owner.id != owner.id:
        raise Held(f"run {run.name} is in progress in another process, on {claim or 'an unknown machine'}")
    return Lease(run, token, owner)


def create(path: Path, content: bytes) -> None:
    """Write a new file, unless there is one of that name."""
    with suppress(FileExistsError), path.open("xb") as file:
        file.write(content)

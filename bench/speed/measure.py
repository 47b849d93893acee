"""The command's side of `bench speed`: starts a process for each side, gives them turns, and sums up."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from bench.models import locate
from bench.plan import machine
from bench.speed import work as works
from bench.speed.sides import OURS, PARTS, Side
from bench.speed.summary import Told, summarise
from bench.speed.turns import GO, PROFILE, received
from bench.speed.work import Sizes, Work
from bench.study.slots import child_environment
from bench.types import UserError

LEAST_TURNS, MOST_TURNS = 3, 50
SHOWN = 300  # characters of a failing side's last words
DISTRIBUTIONS = ("trl", "accelerate", "datasets", "vllm", "lm_eval", "math-verify", "reasoning-gym")
Tell = Callable[[str], None]


class SideFailed(Exception):
    """A side's process ended before its time; the message is its last line."""


@dataclass
class Process:
    """A side at work, and what it has told."""

    told: Told
    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SideFailed(self._last_words())
        return received(line.decode())

    def turn(self, order: str = GO) -> dict[str, Any]:
        """Let it do one turn; what it said of it."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{order}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise SideFailed(self._last_words()) from None
        return self.read()

    def finish(self) -> None:
        """Tell it that there are no more turns; its peaks and what work it had."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.told.end = self.read()
        self.process.wait()

    def _last_words(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        lines = [line for line in self.errors.read().decode(errors="replace").splitlines() if line.strip()]
        return (lines[-1].strip() if lines else f"exit code {code}")[:SHOWN]


@contextmanager
def started(side: Side, order: Path, threads: int) -> Iterator[Process]:
    """The process of a side, ended in any case."""
    command = [sys.executable, "-m", "bench.speed.turns", side.place, str(order)]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**child_environment("", threads), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        )
        try:
            yield Process(Told(side), process, errors)
        finally:
            process.kill()
            process.wait()


def measure(
    model: str, pairs: Mapping[str, Sequence[Side]], sizes: Sizes, profiled: bool, tell: Tell
) -> dict[str, Any]:
    """All parts, one after the other; the record that ``--json`` prints.  UserError for a model that cannot be had."""
    works.check_model(model)
    record: dict[str, Any] = {
        "model": model,
        "sizes": asdict(sizes),
        "machine": machine.machine_facts(sizes.device),
        "packages": installed(),
        "parts": [],
    }
    with tempfile.TemporaryDirectory(prefix="bench-speed-") as folder:
        orders = written(model, Path(folder), sizes, any(PARTS[name].model for name in pairs))
        for name, sides in pairs.items():
            record["parts"].append(measure_part(name, sides, orders[PARTS[name].model], sizes, profiled, tell))
    return record


def installed() -> dict[str, str]:
    """Versions of the other programs that are here."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def written(model: str, folder: Path, sizes: Sizes, with_model: bool) -> dict[bool, tuple[Path, Work]]:
    """Files of the work without and with the model; the weights are written once, where they are random."""
    found = {False: (folder / "tasks.json", works.task_work(sizes))}
    if with_model:
        random_weights = model.startswith(works.SHAPE)
        place = works.model_folder(model, folder / "model") if random_weights else locate(model).fetch().path
        found[True] = (folder / "model.json", works.model_work(model, str(Path(place).resolve()), sizes))
    for path, work in found.values():
        work.write(path)
    return found


def measure_part(
    name: str, sides: Sequence[Side], order: tuple[Path, Work], sizes: Sizes, profiled: bool, tell: Tell
) -> dict[str, Any]:
    """One part: its sides in alternating turns until its time is over."""
    path, work = order
    faults: dict[str, str] = {}
    here = [side for side in sides if not side.missing]
    tell(f"{name}: {', '.join(side.name for side in here)}")
    done = alternate(here, path, sizes, profiled, faults)
    for told in done:
        assert told.end["digest"] == work.digest, f"{name}: {told.side.name} had other work than the others"
    missing = {side.name: {"packages": side.missing, "install": side.install} for side in sides if side.missing}
    record = {"part": name, "title": PARTS[name].title, "unit": PARTS[name].unit, "work": work.digest}
    notes = {side.name: side.note for side in sides}
    return record | {"notes": notes, "missing": missing, "faults": faults, **summarise(done)}


def alternate(sides: Sequence[Side], order: Path, sizes: Sizes, profiled: bool, faults: dict[str, str]) -> list[Told]:
    """Start the sides one by one, warm each up with a turn, then go round; a side that fails leaves the round."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        running: list[Process] = []
        for side in sides:
            process = stack.enter_context(started(side, order, sizes.threads))
            attempt(process, running, faults, prepared)
        begin = time.monotonic()
        for turn in range(MOST_TURNS):
            if turn >= LEAST_TURNS and time.monotonic() - begin > sizes.seconds:
                break
            running = each(running, faults, lambda process: process.told.turns.append(process.turn()))
        if profiled:
            running = each(
                running, faults, lambda process: process.told.operators.update(process.turn(PROFILE)["operators"])
            )
        return [process.told for process in each(running, faults, Process.finish)]


def prepared(process: Process) -> None:
    """Wait until a side is ready, then the turn that is not counted."""
    process.told.ready = process.read()["ready"]
    process.turn()


def each(running: Sequence[Process], faults: dict[str, str], work: Callable[[Process], object]) -> list[Process]:
    """Do this with every side in order; those that did not fail."""
    left: list[Process] = []
    for process in running:
        attempt(process, left, faults, work)
    return left


def attempt(
    process: Process, running: list[Process], faults: dict[str, str], work: Callable[[Process], object]
) -> None:
    try:
        work(process)
    except SideFailed as fault:
        if process.told.side.name == OURS:
            raise UserError(f"bench's own side failed: {fault}") from None
        faults[process.told.side.name] = str(fault)
    else:
        running.append(process)

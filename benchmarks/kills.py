"""Kills `bench run` with all its processes at random moments, and compares what it leaves in the end.

``python benchmarks/kills.py [--kills 200] [--seed 0] [--methods sft,relift]``.  The command runs as a user has it, in a
process group of its own, which gets SIGKILL at a moment drawn by hashing seed, method and number of the kill.  Then the
same command is given again, until it ends by itself.  Its run must be that of an undisturbed command to the byte, but
for the values of fields that begin with ``seconds``.  Where a run ends before it got all its kills, another one begins.
Every fifth kill may come before the run goes on, the others after it does.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bench.seeds import derive_seed
from bench.store.run_folder import RECORDS, CorruptRun, read_json

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "evaluation only": ("base",),
    "imitation": ("sft", "dft", "masked_sft", "curio_sft", "eaft", "ift"),
    "imitation with a reference model": ("iw_sft", "asft"),
    "reinforcement": ("grpo", "random_reward", "raft", "dpo"),
    "hints": ("uft", "r3", "rft_cosine", "stage"),
    "both at once": ("chord", "prefix_rft", "luffy", "hpt", "srft", "otr"),
    "with a buffer": ("relift",),
    "rewrites its data": ("s3ft", "sdft"),
    "pipeline": ("sft+grpo", "s3ft+uft"),
}
SETTINGS = {
    "relift": ("relift.batch_size=4", "relift.group_size=2", "relift.buffer_size=3", "relift.max_tokens=24"),
    "sft": ("sft.batch_size=8",),
}
NOWHERE = ("--ood-items", "0", "--reworded-items", "0", "--other-items", "0", "--skill-items", "0")
OPTIONS = (
    *("--seeds", "1", "--budget", "16steps", "--train-size", "32", "--max-new-tokens", "24", "--level", "3"),
    *("--val-items", "8", "--test-items", "8", "--test-samples", "2", *NOWHERE, "--no-preflight", "--workers", "1"),
    *("--device", "cpu"),
)
SECONDS = re.compile(rb'"seconds\w*": ?[-+0-9.e]+')
LIMIT = 600.0  # seconds that one command may take
EARLY = 5  # one kill in so many may come before the run goes on


@dataclass
class Tally:
    """What befell the runs of one method."""

    kills: int = 0
    runs: int = 0
    phases: Counter[str] = field(default_factory=Counter)  # what the run was doing when it was killed
    torn: int = 0  # kills that left a line without its end
    half: int = 0  # kills that left a checkpoint half written
    faults: list[str] = field(default_factory=list)


def uniform(*parts: object) -> float:
    """A number in [0, 1) that depends on these values alone."""
    return derive_seed("kills", *parts) % 2**32 / 2**32


def start(method: str, results: Path, interval: float) -> subprocess.Popen[bytes]:
    """Start the command in a group of its own; what it prints goes to ``command.txt`` beside the results."""
    stages = [part.partition("@")[0] for part in method.split("+")]
    settings = [s for stage in stages for s in SETTINGS.get(stage, ())]
    command = [sys.executable, "-m", "bench", "run", "--methods", method, *OPTIONS, "--results", str(results)]
    command += [text for setting in settings for text in ("--set", setting)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "BENCH_CHECKPOINT_SECONDS": str(interval)}
    with results.with_name(f"{results.name}-command.txt").open("ab") as log:
        # Of a shell's background job Ctrl-C is ignored, and of all that it starts; a terminal's command hears it.
        listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True, preexec_fn=listen)


def run_folder(results: Path) -> Path | None:
    return next((plan.parent for plan in results.glob("*/plan.json")), None)


def goes_on(results: Path, since: int) -> bool:
    """Whether a run with records has shown progress after this moment, in nanoseconds since the epoch."""
    path = run_folder(results)
    try:
        return path is not None and (path / "progress.json").stat().st_mtime_ns > since
    except FileNotFoundError:
        return False


def has_records(results: Path) -> bool:
    path = run_folder(results)
    return path is not None and any((path / n).exists() and (path / n).stat().st_size for n in RECORDS)


def wait_until(process: subprocess.Popen[bytes], ready: object) -> bool:
    """Wait for a condition; False if the command ended first."""
    assert callable(ready)
    begin = time.monotonic()
    while process.poll() is None and not ready():
        if time.monotonic() - begin > LIMIT:
            raise TimeoutError("the command does not come to its next moment")
        time.sleep(0.005)
    return process.poll() is None


def undisturbed(method: str, results: Path) -> tuple[Path, float, float]:
    """A whole run: its folder, seconds until it has shown progress, seconds from there to its end."""
    begin, clock = time.time_ns(), time.monotonic()
    process = start(method, results, 0.0)
    wait_until(process, lambda: goes_on(results, begin))
    first = time.monotonic() - clock
    if process.wait() != 0:
        raise RuntimeError(results.with_name(f"{results.name}-command.txt").read_text()[-2000:])
    path = run_folder(results)
    assert path is not None
    return path, first, time.monotonic() - clock - first


def strike(method: str, results: Path, number: int, seed: int, times: tuple[float, float]) -> str | None:
    """Start the command and kill its group at a moment; the phase of the run then, None if the command ended first."""
    begin, draw = time.time_ns(), uniform(seed, method, number)
    process = start(method, results, 0.0 if uniform(seed, method, number, "interval") < 0.7 else 0.5)
    if number % EARLY == 0 and has_records(results):
        wait = draw * times[0]
    else:
        wait_until(process, lambda: has_records(results) and goes_on(results, begin))
        wait = draw * times[1] / 4  # a run needs several kills to its end
    end = time.monotonic() + wait
    if not wait_until(process, lambda: time.monotonic() >= end):
        if process.returncode != 0:
            raise RuntimeError(results.with_name(f"{results.name}-command.txt").read_text()[-2000:])
        return None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    path = run_folder(results)
    if path is None or not goes_on(results, begin):
        return "starting"
    try:
        return str(read_json(path / "progress.json")["phase"])
    except CorruptRun:
        return "ending"


def note_state(tally: Tally, results: Path) -> None:
    """Count what a kill left undone."""
    path = run_folder(results)
    if path is not None:
        tally.half += any(path.glob("part-checkpoint-*"))
        contents = [(path / name).read_bytes() for name in RECORDS if (path / name).exists()]
        tally.torn += any(not content.endswith(b"\n") for content in contents if content)


def timeless(content: bytes) -> bytes:
    return SECONDS.sub(b'"seconds":0', content)


def outcome(path: Path) -> dict[str, bytes]:
    """The bytes of all that a run leaves and that must not depend on kills, without the values of seconds."""
    names = [*RECORDS, "plan.json", "policy/model.safetensors"]
    found = {name: timeless((path / name).read_bytes()) for name in names if (path / name).exists()}
    with zipfile.ZipFile(path / "verdicts.npz") as archive:
        found |= {f"verdicts.npz: {name}": verdicts(archive.read(name)) for name in archive.namelist()}
    done = read_json(path / "done.json")
    return found | {"done.json": timeless(json.dumps([done["ledger"], done["selection"]]).encode())}


def verdicts(member: bytes) -> bytes:
    """An array of bytes without its header, which holds its length, and without seconds."""
    return timeless(member.partition(b"\n")[2])


def torment(method: str, kills: int, seed: int, folder: Path) -> Tally:
    """Kill runs of a method this many times in all, and compare each with an undisturbed one."""
    whole, *times = undisturbed(method, folder / "whole")
    expected, tally = outcome(whole), Tally()
    while tally.kills < kills:
        tally.runs += 1
        results = folder / f"run{tally.runs}"
        while True:
            phase = None
            if tally.kills < kills:
                phase = strike(method, results, tally.kills, seed, (times[0], times[1]))
            elif start(method, results, 0.0).wait() != 0:
                raise RuntimeError(results.with_name(f"{results.name}-command.txt").read_text()[-2000:])
            if phase is None:
                break
            tally.kills += 1
            tally.phases[phase] += 1
            note_state(tally, results)
        path = run_folder(results)
        assert path is not None
        found = outcome(path)
        tally.faults += [f"run {tally.runs}: {n}" for n in sorted(found | expected) if found.get(n) != expected.get(n)]
    return tally


def print_table(tallies: dict[str, Tally]) -> None:
    phases = ("starting", "preparing", "training", "validating", "testing", "ending")
    print(f"| kind | methods | kills | {' | '.join(phases)} | half a checkpoint | torn line | runs | not equal |")
    print(f"| --- | --- |{' ---: |' * (len(phases) + 5)}")
    for kind, methods in [*KINDS.items(), ("all", tuple(tallies))]:
        chosen = [tallies[m] for m in methods if m in tallies]
        if not chosen:
            continue
        names = "" if kind == "all" else ", ".join(f"`{m}`" for m in methods if m in tallies)
        by_phase = [sum(t.phases[phase] for t in chosen) for phase in phases]
        last = [sum(t.half for t in chosen), sum(t.torn for t in chosen), sum(t.runs for t in chosen)]
        numbers = [sum(t.kills for t in chosen), *by_phase, *last, sum(bool(t.faults) for t in chosen)]
        print(f"| {kind} | {names} | {' | '.join(map(str, numbers))} |")


def main(
    kills: Annotated[int, typer.Option(min=1, help="Kills over all methods.")] = 200,
    seed: Annotated[int, typer.Option(help="Decides the moments.")] = 0,
    methods: Annotated[str, typer.Option(help="Comma-separated; all by default.")] = "",
) -> None:
    """Kill runs of every kind of method and print a table."""
    names: Sequence[str] = methods.split(",") if methods else [m for group in KINDS.values() for m in group]
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as folder:
        for place, method in enumerate(names):
            share = kills * (place + 1) // len(names) - kills * place // len(names)
            (Path(folder) / method).mkdir()
            tallies[method] = torment(method, share, seed, Path(folder) / method)
            print(f"{method}: {tallies[method]}", file=sys.stderr, flush=True)
    print_table(tallies)
    sys.exit(1 if any(tally.faults for tally in tallies.values()) else 0)


if __name__ == "__main__":
    typer.run(main)

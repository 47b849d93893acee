"""Kills and freezes workers and commands that make the same runs at once, and compares what is left in the end.

``python -m benchmarks.owners [--kills 50] [--freezes 5] [--seed 0]``.  Two ``bench run`` of one plan work in one
results folder, as if on the machines ``a`` and ``b`` (``BENCH_HOST``).  At moments drawn by hashing the seed and the
number of the kill, a worker or a whole command gets SIGKILL; a command that ends before its time is given again.  A
freeze stops a worker (SIGSTOP) until the other machine has taken its run over, then wakes it (SIGCONT).  Every run must
be that of an undisturbed command to the byte, but for the values of fields that begin with ``seconds``.  When all runs
are done before the last kill, the next round begins in a new folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from bench.seeds import derive_seed
from bench.store.lease import Claim, latest, tokens
from bench.store.owner import HOST, SETTING
from bench.store.run_folder import is_done
from benchmarks.kills import NOWHERE, ROOT, outcome

HOSTS = ("a", "b")
SECONDS = 6.0  # without a heartbeat, after which an owner on the other machine counts as lost
METHODS, SEEDS = "sft,grpo", 2
OPTIONS = (
    *("--methods", METHODS, "--seeds", str(SEEDS), "--budget", "24steps", "--train-size", "32", "--level", "3"),
    *(
        "--max-new-tokens",
        "24",
        "--set",
        "sft.batch_size=8",
        "--set",
        "grpo.batch_size=4",
        "--set",
        "grpo.group_size=4",
    ),
    *("--val-items", "8", "--test-items", "8", "--test-samples", "2", *NOWHERE, "--no-preflight", "--workers", "1"),
    *("--device", "cpu"),
)
LIMIT = 1800.0  # seconds that one wait may take on a busy machine


def uniform(*parts: object) -> float:
    """A number in [0, 1) that depends on these values alone."""
    return derive_seed("owners", *parts) % 2**32 / 2**32


@dataclass
class Tally:
    """What was done to the runs, and how they ended."""

    done: Counter[str] = field(default_factory=Counter)  # kills by victim, and freezes
    rounds: int = 0
    leases: int = 0
    runs: int = 0
    refused: int = 0  # frozen workers that ended because their run was another one's
    faults: list[str] = field(default_factory=list)


class Commands:
    """The commands of the two machines on one results folder; one that was killed or failed is given again."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.processes = {host: self.start(host) for host in HOSTS}

    def start(self, host: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "bench", "run", *OPTIONS, "--results", str(self.results)]
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            HOST: host,
            SETTING: str(SECONDS),
            "BENCH_CHECKPOINT_SECONDS": "0",
        }
        with self.results.with_name(f"{self.results.name}-{host}.txt").open("ab") as log:
            return subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)

    def keep_going(self) -> bool:
        """Give again what ended before its time; whether any command still works."""
        for host, process in self.processes.items():
            if process.poll() not in (None, 0):
                self.processes[host] = self.start(host)
        return any(process.poll() is None for process in self.processes.values())

    def owned(self) -> list[tuple[Path, Claim]]:
        """Runs in progress, with their owners."""
        found = []
        for folder in sorted(path.parent for path in self.results.glob("*/lease")):
            claim = latest(folder)
            if claim is None or claim.owner is None or claim.is_over or is_done(folder):
                continue
            if alive(claim.owner.pid):
                found.append((folder, claim))
        return found

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_for(commands: Commands, ready: Callable[[], bool]) -> bool:
    """Wait for a condition while commands are given again; False if all runs ended first."""
    begin = time.monotonic()
    while not ready():
        if not commands.keep_going():
            return False
        if time.monotonic() - begin > LIMIT:
            raise TimeoutError(f"nothing happens in {commands.results}")
        time.sleep(0.02)
    return True


def steps_of(folder: Path) -> int:
    try:
        return (folder / "metrics.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


def kill(commands: Commands, number: int, seed: int, tally: Tally) -> bool | None:
    """Kill a worker or a command a moment after a run goes on; whether there was one, None if all ended first."""
    if not wait_for(commands, lambda: any(steps_of(folder) for folder, _ in commands.owned())):
        return None
    end = time.monotonic() + 4.0 * uniform(seed, number, "delay")
    wait_for(commands, lambda: time.monotonic() > end)
    owned = commands.owned()
    if uniform(seed, number, "victim") < 0.5 and owned:
        _, claim = owned[int(uniform(seed, number, "which") * len(owned))]
        assert claim.owner is not None
        if not send(claim.owner.pid, signal.SIGKILL):
            return False
        tally.done["workers"] += 1
        return True
    going = [process for process in commands.processes.values() if process.poll() is None]
    if not going:
        return False
    going[int(uniform(seed, number, "which") * len(going))].kill()
    tally.done["commands"] += 1
    return True


def freeze(commands: Commands, number: int, seed: int, tally: Tally) -> bool | None:
    """Stop a worker until its run was taken over, and wake it; whether there was one, None if all runs ended first."""
    if not wait_for(commands, lambda: any(steps_of(folder) for folder, _ in commands.owned())):
        return None
    end = time.monotonic() + 3.0 * uniform(seed, number, "freeze")
    wait_for(commands, lambda: time.monotonic() > end)
    owned = commands.owned()
    if not owned:
        return False
    folder, claim = owned[int(uniform(seed, number, "frozen") * len(owned))]
    assert claim.owner is not None
    if not send(claim.owner.pid, signal.SIGSTOP):
        return False

    def went_on() -> bool:
        now = latest(folder)
        assert now is not None
        later = now.token > claim.token and now.owner is not None and now.owner.host != claim.owner.host  # type: ignore[union-attr]
        return is_done(folder) or (later and uniform(seed, number, "early") < 0.5) or (later and steps_of(folder) > 2)

    wait_for(commands, went_on)
    tally.done["freezes"] += 1
    send(claim.owner.pid, signal.SIGCONT)
    wait_for(commands, lambda: not alive(claim.owner.pid))  # type: ignore[union-attr]
    tally.refused += f"run {folder.name} was taken over by" in (folder / "log.txt").read_text(errors="replace")
    return True


def undisturbed(results: Path) -> dict[str, dict[str, bytes]]:
    """What every run leaves, by name, when one command makes them all."""
    commands = Commands.__new__(Commands)
    commands.results = results
    if commands.start("a").wait() != 0:
        raise RuntimeError(results.with_name(f"{results.name}-a.txt").read_text()[-2000:])
    return {path.parent.name: outcome(path.parent) for path in results.glob("*/done.json")}


def one_round(results: Path, acts: list[str], seed: int, tally: Tally, expected: dict[str, dict[str, bytes]]) -> None:
    """Act on runs until all are done, and compare them; acts that were carried out are taken from the list."""
    commands = Commands(results)
    try:
        while acts:
            act = {"kill": kill, "freeze": freeze}[acts[0]]
            acted = act(commands, len(acts), seed, tally)
            if acted is None:
                break
            if not acted:
                continue
            print(f"{acts.pop(0)}, {len(acts)} left: {dict(tally.done)}", file=sys.stderr, flush=True)
        wait_for(commands, lambda: False)
    finally:
        commands.stop()
    tally.rounds += 1
    made = sorted(path.parent for path in results.glob("*/done.json"))
    tally.runs += len(made)
    tally.leases += sum(len(tokens(folder)) for folder in made)
    if {folder.name for folder in made} != expected.keys():
        tally.faults.append(f"{results.name}: {len(made)} runs of {len(expected)}")
    for folder in made:
        found = outcome(folder)
        tally.faults += [
            f"{results.name}/{folder.name}: {name}"
            for name in sorted(found | expected[folder.name])
            if found.get(name) != expected[folder.name].get(name)
        ]
        left = [p.name for p in folder.iterdir() if "part" in p.name or "checkpoint" in p.name]
        tally.faults += [f"{results.name}/{folder.name}: {name} is left" for name in left]


def main(
    kills: Annotated[int, typer.Option(min=1, help="Kills of workers and commands.")] = 50,
    freezes: Annotated[int, typer.Option(min=0, help="Workers that are frozen and woken.")] = 5,
    seed: Annotated[int, typer.Option(help="Decides the moments.")] = 0,
) -> None:
    """Disturb two commands on one folder and compare their runs with undisturbed ones."""
    acts = ["kill"] * kills
    for number in range(freezes):
        acts.insert((2 * number + 1) * len(acts) // (2 * freezes), "freeze")
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        expected = undisturbed(Path(folder) / "undisturbed")
        print(f"{len(expected)} undisturbed runs", file=sys.stderr, flush=True)
        while acts:
            one_round(Path(folder) / f"round{tally.rounds + 1}", acts, seed, tally, expected)
            print(tally, file=sys.stderr, flush=True)
    print(
        f"{tally.done['workers']} workers and {tally.done['commands']} commands killed, {tally.done['freezes']} workers"
        f" frozen, of which {tally.refused} were refused when they woke; {tally.runs} runs, {tally.leases} leases, "
        f"{len(tally.faults)} differences from undisturbed runs"
    )
    for fault in tally.faults:
        print(fault)
    sys.exit(1 if tally.faults else 0)


if __name__ == "__main__":
    typer.run(main)

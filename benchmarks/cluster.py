"""What 10,000 runs on 512 devices take when devices fail: a simulation of the scheduling, event by event.

``python -m benchmarks.cluster [--repetitions 3] [--only NAME] [--out docs/scaling.md]``.  A device takes the first
run of the order that is unfinished and unowned.  A device fails after an exponential time and is away for an hour; its
run is free again when its lease is stale, and goes on from its last checkpoint.  A process that fails by itself is
tried again up to three times by its executor.  Lengths of runs are drawn log-normal, hours on a device; orders see
estimates that err.  The lower bound is the work without failures, spread evenly, or the longest run.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bench.seeds import derive_seed
from bench.store.run_folder import done_runs
from benchmarks.tables import Tables, make_tables

HOUR, GIGA = 3600.0, 1e9
ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT / "results" / "published" / "nine"  # the runs whose folders are measured
ORDERS = ("longest first", "as planned", "at random", "shortest first")


@dataclass(frozen=True)
class Cluster:
    """What is simulated; times in seconds, rates per hour."""

    runs: int = 10_000
    devices: int = 512
    median: float = HOUR  # of a run's length
    spread: float = 0.8  # standard deviation of its logarithm
    misjudged: float = 0.3  # the same of estimate over length
    order: str = "longest first"
    failures: float = 0.0  # of one device
    away: float = HOUR  # how long a failed device is away
    crashes: float = 0.0  # of one process, by itself
    stale: float = 120.0  # until the lease of a lost owner counts no more
    between: float = 600.0  # work from one checkpoint to the next
    saving: float = 20.0
    start: float = 60.0  # to load the model and what a checkpoint holds
    tries: int = 3  # after the first, by one executor, as bench makes them
    wait: float = 5.0  # before the second; twice as long before each further one

    def seconds(self, work: float) -> float:
        """What some work takes where nothing fails."""
        return self.start + work + self.saving * int(work / self.between)

    def saved(self, spent: float) -> float:
        """Work in the last checkpoint of a process that ran so long."""
        return max(0.0, (spent - self.start) // (self.between + self.saving)) * self.between


@dataclass
class Outcome:
    """Seconds until the last run ended, work that was done twice, runs taken over, tried again and given up."""

    makespan: float = 0.0
    bound: float = 0.0
    lost: float = 0.0
    taken_over: int = 0
    again: int = 0
    given_up: int = 0


@dataclass
class Simulation:
    """The state: when what happens, runs that nobody has by their rank, devices without a run."""

    cluster: Cluster
    lengths: np.ndarray
    ranks: np.ndarray
    rng: np.random.Generator
    outcome: Outcome = field(default_factory=Outcome)
    events: list[tuple[float, int, str, int]] = field(default_factory=list)
    free: list[tuple[int, int]] = field(default_factory=list)
    idle: list[int] = field(default_factory=list)
    count: int = 0

    def run(self) -> Outcome:
        """All runs until each has ended or was given up."""
        self.left = self.lengths.copy()
        self.tries = [0] * len(self.left)
        self.free = [(int(rank), n) for n, rank in enumerate(self.ranks)]
        heapq.heapify(self.free)
        whole = sum(map(self.cluster.seconds, self.lengths))
        self.outcome.bound = max(whole / self.cluster.devices, max(map(self.cluster.seconds, self.lengths)))
        self.idle = list(range(self.cluster.devices))
        now = 0.0
        while True:
            while self.free and self.idle:
                self.begin(now, heapq.heappop(self.free)[1], self.idle.pop())
            if not self.events:
                return self.outcome
            now, _, what, number = heapq.heappop(self.events)
            if what == "device":
                self.idle.append(number)
            else:
                heapq.heappush(self.free, (int(self.ranks[number]), number))

    def after(self, time: float, what: str, number: int) -> None:
        self.count += 1  # events of one time in the order in which they were made
        heapq.heappush(self.events, (time, self.count, what, number))

    def begin(self, now: float, run: int, device: int) -> None:
        """A run on a device until it ends or something fails, whichever is first."""
        c, work = self.cluster, float(self.left[run])
        fails, crashes = (
            self.rng.exponential(HOUR / rate) if rate else float("inf") for rate in (c.failures, c.crashes)
        )
        spent = min(c.seconds(work), fails, crashes)
        if spent == c.seconds(work):
            self.outcome.makespan = max(self.outcome.makespan, now + spent)
            self.after(now + spent, "device", device)
            return
        saved = min(c.saved(spent), work)
        self.left[run] = work - saved
        self.outcome.lost += spent - saved - c.saving * int(saved / c.between)
        if fails < crashes:
            self.outcome.taken_over += 1
            self.after(now + spent + c.stale, "run", run)
            self.after(now + spent + c.away, "device", device)
            return
        self.after(now + spent, "device", device)
        if self.tries[run] == c.tries:
            self.outcome.given_up += 1
            self.outcome.makespan = max(self.outcome.makespan, now + spent)
            return
        self.after(now + spent + c.wait * 2 ** self.tries[run], "run", run)
        self.tries[run] += 1
        self.outcome.again += 1


def simulate(cluster: Cluster, seed: int) -> Outcome:
    """One cluster once.  The lengths depend on the seed alone, so that orders and rates meet the same runs."""
    rng = np.random.default_rng(derive_seed("cluster", seed))
    lengths = cluster.median * np.exp(cluster.spread * rng.standard_normal(cluster.runs))
    judged = lengths * np.exp(cluster.misjudged * rng.standard_normal(cluster.runs))
    keys = {
        "longest first": -judged,
        "shortest first": judged,
        "at random": rng.permutation(cluster.runs),
        # Runs are planned method by method, and methods differ in what a run takes: half of the spread is theirs.
        "as planned": np.argsort(np.argsort(judged) % 9, kind="stable"),
    }
    ranks = np.argsort(np.argsort(keys[cluster.order], kind="stable"), kind="stable")
    return Simulation(cluster, lengths, ranks, rng).run()


# --- tables --------------------------------------------------------------------------------------------------------


def row(name: str, cluster: Cluster, repetitions: int) -> str:
    """Means over the seeds of one cluster."""
    found = [simulate(cluster, seed) for seed in range(repetitions)]

    def mean(value: Callable[[Outcome], float]) -> float:
        return float(np.mean([value(outcome) for outcome in found]))

    ratios = [outcome.makespan / outcome.bound for outcome in found]
    hours = f"{mean(lambda o: o.makespan) / HOUR:.1f}"
    over = f"{np.mean(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    counts = [f"{mean(value):,.0f}" for value in (lambda o: o.taken_over, lambda o: o.again, lambda o: o.given_up)]
    share = 100 * mean(lambda o: o.lost / (o.bound * cluster.devices))
    return (
        "| " + " | ".join([name, hours, over, f"{mean(lambda o: o.lost) / HOUR:,.0f} ({share:.1f} %)", *counts]) + " |"
    )


HEAD = (
    "| {} | hours | over the lower bound (least to most) | device hours lost | taken over | tried again | given up |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
)


def table(title: str, clusters: Mapping[str, Cluster], repetitions: int) -> str:
    """A row for each cluster."""
    return HEAD.format(title) + "\n".join(row(name, cluster, repetitions) for name, cluster in clusters.items())


def orders(repetitions: int) -> str:
    """Orders of the runs, where nothing fails and where devices do."""
    plain = {order: Cluster(order=order) for order in ORDERS}
    failing = {f"{order}, a device fails every 200 h": Cluster(order=order, failures=1 / 200) for order in ORDERS[:3]}
    return table("order", {**plain, **failing}, repetitions)


def failures(repetitions: int) -> str:
    """How often a device fails, and a process by itself."""
    rates = {f"a device every {hours} h": Cluster(failures=1 / hours) for hours in (5000, 1000, 200, 50)}
    crashing = {f"and a process every {hours} h": Cluster(failures=1 / 200, crashes=1 / hours) for hours in (50, 5)}
    return table("failures", {"none": Cluster(), **rates, **crashing}, repetitions)


def settings(repetitions: int) -> str:
    """Checkpoints and leases, where a device fails every 200 hours."""
    usual = Cluster(failures=1 / 200)
    changes = {f"a checkpoint every {n} min": replace(usual, between=60.0 * n) for n in (2, 10, 30, 120)}
    changes |= {f"lease stale after {n} s": replace(usual, stale=float(n)) for n in (30, 600, 3600)}
    return table("setting", changes, repetitions)


def growth(_: int, results: Path = REAL, runs: int = Cluster.runs) -> str:
    """What so many runs leave on the disk, from the files of real runs."""
    folders = done_runs(results)
    sizes: dict[str, list[int]] = {}
    for folder in folders:
        for file in folder.iterdir():
            sizes.setdefault(file.name, []).append(file.stat().st_size)
    lines = ["| file | bytes in a run (mean) | files of all runs | GB of all runs |", "| --- | ---: | ---: | ---: |"]
    means = {name: sum(found) / len(folders) for name, found in sizes.items()}
    for name, mean in sorted(means.items(), key=lambda pair: -pair[1]):
        number = runs * len(sizes[name]) / len(folders)
        lines.append(f"| `{name}` | {mean:,.0f} | {number:,.0f} | {runs * mean / GIGA:.2f} |")
    files = sum(len(found) for found in sizes.values()) / len(folders)
    lines.append(
        f"| all | {sum(means.values()):,.0f} | {runs * files:,.0f} | {runs * sum(means.values()) / GIGA:.2f} |"
    )
    return "\n".join(lines)


TABLES: Tables = {"orders": orders, "failures": failures, "settings": settings, "growth": growth}

if __name__ == "__main__":
    make_tables(__doc__, TABLES, 3)

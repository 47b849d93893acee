"""How often intervals hold the truth where items come in clusters, without and with labels of the clusters.

    python -m benchmarks.coverage_clusters [--repetitions 2000] [--out docs/statistics.md]

A verdict is right with probability sigmoid(mu + item + method x item + seed + seed x item), all effects normal, of the
sizes measured on Countdown (benchmarks/coverage.py); four samples per item.  Within a cluster the three effects of two
items correlate by .3.  The mean over new seeds and new clusters is an integral over one normal variable, so the truth
is known.  With one seed the seed has no effect: the interval is of this very model.  With --out the table replaces
what stands between its markers in that file.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit

from bench.stats.intervals import crossed_interval, paired_difference
from benchmarks.tables import make_tables

MU, ITEM, INTERACTION, SHARED, SAMPLES = -1.0, 1.9, 0.6, 0.84, 4  # logits, but for the last two
ALIKE = 0.3  # correlation of two items' effects within a cluster
ITEMS, SIZES, POINTS = 500, (1, 4, 25), (0.0, 1.3)  # of clusters: items each; of seeds: standard deviation
LINES = [(seeds, size, points) for seeds in (1, 3, 5) for size in SIZES for points in POINTS[: 1 + (seeds > 1)]]
HEAD = ("seeds", "clusters", "items each", "seed sd, points", "accuracy", "clustered", "difference", "clustered")


def integral(spread: float, slope: bool = False) -> float:
    """Mean of sigmoid(MU + spread z), or of its slope, over a standard normal z."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    value = expit(MU + spread * nodes)
    return float(weights @ (value * (1 - value) if slope else value) / weights.sum())


def clustered(rng: np.random.Generator, shape: tuple[int, int], size: int) -> np.ndarray:
    """Standard normal effects [seeds, items] that correlate by ALIKE within clusters of ``size`` items."""
    shared = rng.standard_normal((shape[0], shape[1] // size)).repeat(size, axis=1)
    alike = ALIKE if size > 1 else 0.0
    return math.sqrt(alike) * shared + math.sqrt(1 - alike) * rng.standard_normal(shape)


def scores(rng: np.random.Generator, num_seeds: int, size: int, seed: float, common: np.ndarray) -> np.ndarray:
    """Scores [seeds, items] of one method; ``common`` [1, items] is the part of the items' effects that all share."""
    own = ITEM * math.sqrt(1 - SHARED) * clustered(rng, (1, ITEMS), size)
    logits = MU + common + own + seed * rng.standard_normal((num_seeds, 1))
    chance = expit(logits + INTERACTION * clustered(rng, (num_seeds, ITEMS), size))
    return rng.binomial(SAMPLES, chance) / SAMPLES


def coverage(num_seeds: int, size: int, points: float, repetitions: int, rng: np.random.Generator) -> list[float]:
    """Shares of intervals that hold the truth: of an accuracy without and with labels, then of a difference of 0."""
    seed = points / 100 / integral(math.hypot(ITEM, INTERACTION), slope=True)
    truth = integral(math.sqrt(ITEM**2 + INTERACTION**2 + seed**2))
    labels = np.arange(ITEMS) // size
    held = np.zeros(4)
    for _ in range(repetitions):
        common = ITEM * math.sqrt(SHARED) * clustered(rng, (1, ITEMS), size)
        a, b = (scores(rng, num_seeds, size, seed, common) for _ in range(2))
        accuracies = [crossed_interval(a, clusters=known) for known in (None, labels)]
        differences = [paired_difference(a, b, clusters=known) for known in (None, labels)]
        held += [*(i.low <= truth <= i.high for i in accuracies), *(d.low <= 0 <= d.high for d in differences)]
    return list(held / repetitions)


def table(repetitions: int) -> str:
    """The table in markdown, and how it was made."""
    rng = np.random.default_rng(2)
    rows = [list(HEAD), ["---:"] * len(HEAD)]
    for seeds, size, points in LINES:
        shares = coverage(seeds, size, points, repetitions, rng)
        rows.append([str(seeds), str(ITEMS // size), str(size), f"{points:.1f}", *(f"{100 * s:.1f}" for s in shares)])
    drawn = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return (
        f"{drawn}\n\nIn %, without and with labels, {repetitions:,} repetitions per line; made by "
        "`python -m benchmarks.coverage_clusters --out docs/statistics.md`."
    )


if __name__ == "__main__":
    make_tables(__doc__, {"clusters": table}, 2000)

"""How often intervals hold the truth where answers are rarely right, and for shares retained of the untrained model.

    python -m benchmarks.coverage_shares [--repetitions 500] [--only rare|retained] [--out docs/statistics.md]

A verdict is right with probability sigmoid(mu + item + method x item + seed + seed x item), all effects normal with
the sizes below; four samples per item.  The means over new seeds and new items are integrals over one normal variable,
so the truth is known.  Rare: all accuracies near 0, of items that vary so or are solved always or never.  Retained:
accuracies on tasks that were not trained on, over those of three runs of the untrained model, which has no effect of
the seed; a seed moves all tasks alike.  With --out the tables replace what stands between their markers in that file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from bench.stats.intervals import crossed_interval
from bench.stats.limits import half_width
from bench.stats.pass_rates import pass_at_k
from bench.stats.ratios import Ratios
from benchmarks.tables import make_tables

ITEM, INTERACTION, SHARED, SAMPLES, SEED = 1.9, 0.6, 0.84, 4, 0.3  # logits, but for SHARED and SAMPLES
RARE, RARE_SHAPES = (0.0005, 0.002, 0.01), ((1, 500), (3, 100), (3, 500), (5, 500))
BASES, KEPT, TASK_ITEMS, BASE_RUNS = (0.03, 0.1, 0.3), (0.5, 1.0), 100, 3


@cache
def normal_nodes() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.hermite_e.hermegauss(200)


def mean_chance(mu: float, spread: float, function: Callable[[np.ndarray], np.ndarray] = lambda p: p) -> float:
    """Mean of a function of sigmoid(mu + spread z) over a standard normal z."""
    nodes, weights = normal_nodes()
    return float(weights @ function(expit(mu + spread * nodes)) / weights.sum())


@cache
def logit_of(accuracy: float, spread: float) -> float:
    """The mu at which the mean is this accuracy."""
    return float(brentq(lambda mu: mean_chance(mu, spread) - accuracy, -40, 40))


# --- rarely right ----------------------------------------------------------------------------------------------------


def rare_chances(
    rng: np.random.Generator, accuracy: float, shape: tuple[int, int], extreme: bool
) -> tuple[np.ndarray, float]:
    """Probabilities of right [seeds, items], and the true pass@4."""
    if extreme:
        return np.broadcast_to((rng.random(shape[1]) < accuracy).astype(float), shape), accuracy
    # With one seed the interval is of this very model: its seed has no effect here.
    spread = math.sqrt(ITEM**2 + (INTERACTION**2 + SEED**2) * (shape[0] > 1))
    mu = logit_of(accuracy, spread)
    logits = mu + ITEM * np.broadcast_to(rng.standard_normal(shape[1]), shape)
    if shape[0] > 1:
        logits = logits + SEED * rng.standard_normal((shape[0], 1)) + INTERACTION * rng.standard_normal(shape)
    return expit(logits), mean_chance(mu, spread, lambda p: 1 - (1 - p) ** SAMPLES)


def rare_line(
    num_seeds: int, num_items: int, accuracy: float, extreme: bool, num: int, rng: np.random.Generator
) -> str:
    held, below = np.zeros((2, num)), np.zeros(num)
    for n in range(num):
        chances, any_right = rare_chances(rng, accuracy, (num_seeds, num_items), extreme)
        right = rng.random((*chances.shape, SAMPLES)) < chances[:, :, None]
        found = crossed_interval(right.mean(axis=2))
        tries = crossed_interval(np.stack([pass_at_k(of_run, SAMPLES) for of_run in right]))
        held[0, n], held[1, n] = found.low <= accuracy <= found.high, tries.low <= any_right <= tries.high
        below[n] = found.high < accuracy
    kind = "always or never" if extreme else "vary"
    shares = (held[0], below, held[1])
    cells = [f"{100 * accuracy:g}", kind, str(num_seeds), str(num_items), *(f"{100 * s.mean():.1f}" for s in shares)]
    return "| " + " | ".join(cells) + " |"


def rare_table(repetitions: int) -> str:
    """The table of rarely right answers in markdown, and how it was made."""
    rng = np.random.default_rng(2)
    lines = [
        "| accuracy % | kind of items | seeds | items | holds | upper limit too low | pass@4 holds |",
        "| ---: " * 7 + "|",
    ]
    for accuracy, extreme, shape in product(RARE, (False, True), RARE_SHAPES):
        lines.append(rare_line(*shape, accuracy, extreme, repetitions, rng))
    return "\n".join(lines) + made_by("rare", repetitions)


# --- shares of base --------------------------------------------------------------------------------------------------


def drawn_tasks(
    rng: np.random.Generator, num_tasks: int, num_seeds: int, mus: tuple[float, float]
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Scores of two equal methods [seeds, items] and means of base [items], for each task."""
    seeds = SEED * rng.standard_normal((2, num_seeds, 1))
    tasks: tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]] = ([], [], [])
    for _ in range(num_tasks):
        common = ITEM * math.sqrt(SHARED) * rng.standard_normal(TASK_ITEMS)
        for method, scores in enumerate(tasks):
            own = common + ITEM * math.sqrt(1 - SHARED) * rng.standard_normal(TASK_ITEMS)
            if method < 2:
                noise = INTERACTION * rng.standard_normal((num_seeds, TASK_ITEMS))
                scores.append(rng.binomial(SAMPLES, expit(mus[0] + own + seeds[method] + noise)) / SAMPLES)
            else:
                scores.append(rng.binomial(SAMPLES * BASE_RUNS, expit(mus[1] + own)) / (SAMPLES * BASE_RUNS))
    return tasks


def retained_line(num_tasks: int, num_seeds: int, base: float, kept: float, num: int, rng: np.random.Generator) -> str:
    """Shares of repetitions in which the limits hold the truth, and in which two equal methods seem to differ."""
    mus = (logit_of(kept * base, math.sqrt(ITEM**2 + INTERACTION**2 + SEED**2)), logit_of(base, ITEM))
    found: list[tuple[bool, ...]] = []
    while len(found) < num:
        a, b, before = drawn_tasks(rng, num_tasks, num_seeds, mus)
        if min(bottom.mean() for bottom in before) == 0:
            continue  # such a task has no share at all
        share, gain = Ratios(a, before), Ratios([x - y for x, y in zip(a, b)], before)
        limits = share.interval()
        plain = float(half_width(share.spread(0.0), 0.05))
        found.append(
            (
                limits.low <= kept <= limits.high,
                abs(share.mean - kept) <= plain,
                gain.p_value(0.0) <= 0.05,
                not math.isfinite(limits.high),
            )
        )
    shares = [f"{100 * part:.1f}" for part in np.mean(found, axis=0)]
    return "| " + " | ".join([str(num_tasks), str(num_seeds), f"{100 * base:g}", f"{100 * kept:g}", *shares]) + " |"


def retained_table(repetitions: int) -> str:
    """The table of retained shares in markdown, and how it was made."""
    head = "| tasks | seeds | base % | share % | holds | plain | false positives | unbounded |"
    lines = [head, "| ---: " * 8 + "|"]
    for number, cell in enumerate(product((1, 3), (3, 5), BASES, KEPT)):
        lines.append(retained_line(*cell, repetitions, np.random.default_rng([3, number])))
    return "\n".join(lines) + made_by("retained", repetitions)


def made_by(name: str, repetitions: int) -> str:
    command = f"python -m benchmarks.coverage_shares --only {name} --out docs/statistics.md"
    return f"\n\nIn %, {repetitions:,} repetitions per line; made by `{command}`."


TABLES = {"rare": rare_table, "retained": retained_table}


if __name__ == "__main__":
    make_tables(__doc__, TABLES, 500)

"""Error rates far below 5 %, error rates of whole families, and the power that the test of seed_test.py costs or gains.

Beside it stands the t test with one number of degrees of freedom, their inverse weighted by the parts of the variance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations, product

import numpy as np
from scipy.special import stdtr

from bench.stats.intervals import combine, holm, spread_of_mean
from bench.stats.power import TYPICAL
from bench.stats.seed_test import Spread, p_value
from bench.stats.variance import Variances
from benchmarks.simulated_runs import (
    INTERACTION,
    ITEM,
    MU,
    SEED_POINTS,
    integral,
    markdown,
    mean_as,
    runs,
    seed_logits,
    shared_difficulty,
)

ITEMS, SAMPLES, CHUNK = 500, 4, 200
METHODS = 8
PAIRS = METHODS * (METHODS - 1) // 2
LEVELS = (0.05, 0.01, 0.05 / PAIRS, 0.0005)
MORE = 10  # times as many repetitions as asked for, where levels are small
CELLS = (
    *((seeds, points, "normal") for seeds, points in product((2, 3, 5, 10), SEED_POINTS)),
    *((seeds, 5.0, kind) for seeds, kind in product((3, 5, 10), ("uniform", "exponential"))),
)
EFFECTS = (0.05, 0.1, 0.2, 0.4)


def p_values(means: np.ndarray, spread: Spread, most: float) -> np.ndarray:
    """p-values of means; those that surely exceed ``most`` are given as 1, which saves most of the work."""
    # No variance that the test averages over is below that of items and residual.
    near = 2 * stdtr(spread.item_df, -np.abs(means) / np.sqrt(spread.items + spread.least)) <= most
    found = np.ones(means.shape)
    found[near] = p_value(means[near], spread.map(lambda part: part[near]))
    return found


def t_test_p(means: np.ndarray, spread: Spread) -> np.ndarray:
    """The t with 1 / df = (seeds' share) / (S - 1) + (items' share) / (I - 1); MS_seed at least MS_residual / 4."""
    of_seeds, total = np.maximum(spread.seeds, spread.least), spread.total
    df = total / (of_seeds / spread.seed_df + spread.items / spread.item_df)
    return np.asarray(2 * stdtr(df, -np.abs(means) / np.sqrt(total)))


# --- a pair ----------------------------------------------------------------------------------------------------------


def pair_differences(
    num_seeds: int, points: float, kind: str, repetitions: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Differences [repetitions, seeds, items] of two equally good methods, a chunk at a time."""
    seed = seed_logits(points)
    for start in range(0, repetitions, CHUNK):
        shape = (min(CHUNK, repetitions - start), num_seeds, ITEMS)
        common = shared_difficulty(rng, shape[0], ITEMS)
        a, b = (runs(rng, shape, MU, common, seed, kind) for _ in "ab")
        yield a - b


def tail_errors(
    num_seeds: int, points: float, kind: str, repetitions: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Error rates as multiples of the level, for each of LEVELS: of the t test, and of the test in use."""
    former, used = [], []
    for differences in pair_differences(num_seeds, points, kind, repetitions, rng):
        means, spread = differences.mean(axis=(1, 2)), spread_of_mean(differences)
        former.append(t_test_p(means, spread))
        used.append(p_values(means, spread, LEVELS[0]))
    shares = ([np.mean(np.concatenate(found) <= level) / level for level in LEVELS] for found in (former, used))
    of_former, of_used = map(np.array, shares)
    return of_former, of_used


def tail_table(repetitions: int) -> str:
    """Error rates of a pair at the levels that Holm's correction reads, in markdown."""
    rng = np.random.default_rng(2)
    number = repetitions * MORE
    head = ["seeds", "seed sd", "effects", *(f"{level:.4f}".rstrip("0") for level in LEVELS)]
    lines = []
    for num_seeds, points, kind in CELLS:
        former, used = tail_errors(num_seeds, points, kind, number, rng)
        cells = [f"{new:.2f} ({old:.2f})" for old, new in zip(former, used)]
        lines.append([str(num_seeds), f"{points:.1f}", kind, *cells])
    return (
        f"{markdown(head, lines)}\n\nError rates as multiples of the level, {ITEMS} items, {number:,} repetitions per "
        f"line, in brackets those of the t test; made by `python -m benchmarks.coverage --only tail --out "
        "docs/statistics.md`."
    )


# --- a family --------------------------------------------------------------------------------------------------------


def family_error(num_seeds: int, points: np.ndarray, repetitions: int, rng: np.random.Generator) -> tuple[float, float]:
    """How often at least one pair of equally good methods differs after Holm: by the t test, and by the test in use.

    ``points`` [methods] are the standard deviations over the seeds.
    """
    logits = [seed_logits(p) for p in points]
    truth = integral(MU, math.hypot(ITEM, INTERACTION))
    centres = [mean_as(truth, math.sqrt(ITEM**2 + INTERACTION**2 + seed**2)) for seed in logits]
    former, used = [], []
    for start in range(0, repetitions, CHUNK):
        shape = (min(CHUNK, repetitions - start), num_seeds, ITEMS)
        common = shared_difficulty(rng, shape[0], ITEMS)
        scores = [runs(rng, shape, mu, common, seed) for mu, seed in zip(centres, logits)]
        tests = [(d.mean(axis=(1, 2)), spread_of_mean(d)) for d in (a - b for a, b in combinations(scores, 2))]
        # Holm rejects something exactly where the smallest p-value, times their number, is at most the level.
        former.append(np.min([t_test_p(*test) for test in tests], axis=0))
        used.append(np.min([p_values(*test, LEVELS[0]) for test in tests], axis=0))
    smallest = (np.concatenate(found) for found in (former, used))
    of_former, of_used = (float(np.mean([min(holm([p] + [1.0] * (PAIRS - 1))) <= 0.05 for p in s])) for s in smallest)
    return of_former, of_used


def families_table(repetitions: int) -> str:
    """Family-wise errors of eight methods in markdown."""
    rng = np.random.default_rng(3)
    lines = []
    for num_seeds in (3, 5, 10):
        both = [family_error(num_seeds, points, repetitions, rng) for points in spreads_over_seeds()]
        lines.append([str(num_seeds), *(f"{100 * new:.1f} ({100 * old:.1f})" for old, new in both)])
    head = ["seeds", "seed sd 2.5 each", "seed sd 0 to 5"]
    return (
        f"{markdown(head, lines)}\n\nFamilies of {PAIRS} pairs of {METHODS} equally good methods in which at least one "
        f"pair differs, in %, {repetitions:,} repetitions per cell, in brackets by the t test; made by `python -m "
        "benchmarks.coverage --only families --out docs/statistics.md`."
    )


def spreads_over_seeds() -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations over seeds of the methods of a family: equal, and from 0 to 5 points."""
    return np.full(METHODS, 2.5), np.linspace(0, 5, METHODS)


# --- power -----------------------------------------------------------------------------------------------------------


def drawn_tests(
    effect: float, variances: Variances, num_seeds: int, repetitions: int, rng: np.random.Generator
) -> tuple[np.ndarray, Spread]:
    """Means and spreads of normal layouts with these components, from their mean squares' own distributions."""
    parts = variances.of_mean(num_seeds, ITEMS, SAMPLES)
    rest = parts["interaction"] + parts["decoding"]
    dfs = num_seeds - 1, ITEMS - 1, (num_seeds - 1) * (ITEMS - 1)
    expected = parts["seed"] + rest, parts["item"] + rest, rest
    by_seed, by_item, residual = (e * rng.chisquare(df, repetitions) / df for e, df in zip(expected, dfs))
    truth = parts["seed"] + parts["item"] + rest
    return rng.normal(effect, math.sqrt(truth), repetitions), combine(by_seed, by_item, residual, num_seeds, ITEMS)


def power_table(repetitions: int) -> str:
    """Power of the test in use and of the t test, in markdown."""
    rng = np.random.default_rng(4)
    number = repetitions * MORE
    head = ["seeds", "level", *(f"{100 * effect:g} points" for effect in EFFECTS)]
    lines = []
    for num_seeds, level in product((2, 3, 5, 10), (LEVELS[0], LEVELS[2])):
        cells = []
        for effect in EFFECTS:
            test = drawn_tests(effect, TYPICAL, num_seeds, number, rng)
            shares = (np.mean(found <= level) for found in (p_values(*test, level), t_test_p(*test)))
            cells.append("{:.1f} ({:.1f})".format(*(100 * share for share in shares)))
        lines.append([str(num_seeds), f"{level:.4f}".rstrip("0"), *cells])
    return (
        f"{markdown(head, lines)}\n\nPower in % for a true difference, with the variances that `bench plan` assumes, "
        f"{ITEMS} items, {number:,} repetitions per cell, in brackets that of the t test, which does not hold its "
        "level; made by `python -m benchmarks.coverage --only power --out docs/statistics.md`."
    )

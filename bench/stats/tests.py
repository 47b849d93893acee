"""Tests beside the t test of bench.analysis.inference, effect sizes, and Holm's correction over several tables."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from bench.stats.intervals import combine, holm

FLIPS = 2000


def sign_flip(differences: np.ndarray, rng: np.random.Generator, num: int = FLIPS) -> float:
    """Two-sided p-value of "mean difference 0" by flipping signs of seeds and of items, [seeds, items].

    The differences are split into the seeds' means a[s], the items' deviations b[i] and the rest e[s, i]; a draw has
    g[s] a[s] + h[i] b[i] + g[s] h[i] e[s, i] with random signs g and h, and its t statistic (the one of
    crossed_interval) is compared with the observed one.  Few seeds have few signs: where their effects dominate, p is
    at least 2^-S, .125 with 3 seeds and .03 with 5, so that significance then needs the t test's assumption of normal
    effects of the seed.  One seed: signs of items only.  The observed data count as one draw.  One item: p = 1.
    """
    scores = np.asarray(differences, dtype=float)
    num_seeds, num_items = scores.shape
    if num_items == 1:
        return 1.0
    items = rng.integers(0, 2, size=(num, num_items)) * 2.0 - 1
    items[0] = 1
    if num_seeds == 1:
        means = items @ scores[0] / num_items
        spread = np.sqrt(np.maximum(np.mean(scores[0] ** 2) - means**2, 0.0))
    else:
        seeds = rng.integers(0, 2, size=(num, num_seeds)) * 2.0 - 1
        seeds[0] = 1
        means, spread = flipped(scores, seeds, items)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.abs(np.where(means == 0, 0.0, means / spread))
    return float(np.mean(ratios >= ratios[0] * (1 - 1e-9)))


def flipped(scores: np.ndarray, seeds: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard errors of the sign-flipped layouts of ``sign_flip``; signs are [draws, seeds or items]."""
    num_seeds, num_items = scores.shape
    by_seed = scores.mean(axis=1)
    by_item = scores.mean(axis=0) - scores.mean()
    rest = scores - by_seed[:, None] - by_item
    seed_means = seeds * by_seed + (items @ by_item / num_items)[:, None] + seeds * (items @ rest.T) / num_items
    means = seed_means.mean(axis=1)
    seed_part = (seeds @ by_seed / num_seeds)[:, None]
    item_means = items * by_item + seed_part + items * (seeds @ rest) / num_seeds
    # Sum of squares of all cells: cell = g a + h b + g h e, whose cross terms are h g a b, h a e (g^2 = 1) and g b e.
    squares = num_items * np.sum(by_seed**2) + num_seeds * np.sum(by_item**2) + np.sum(rest**2)
    squares = squares + 2 * np.sum(seeds * by_seed, axis=1) * (items @ by_item)
    squares = squares + 2 * items @ (by_seed @ rest) + 2 * seeds @ (rest @ by_item)
    ss_seed = num_items * np.sum((seed_means - means[:, None]) ** 2, axis=1)
    ss_item = num_seeds * np.sum((item_means - means[:, None]) ** 2, axis=1)
    ss_rest = np.maximum(squares - scores.size * means**2 - ss_seed - ss_item, 0.0)
    ms_seed, ms_item = ss_seed / (num_seeds - 1), ss_item / (num_items - 1)
    total, _ = combine(ms_seed, ms_item, ss_rest / ((num_seeds - 1) * (num_items - 1)), num_seeds, num_items)
    return means, np.sqrt(total / scores.size)


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact two-sided p-value of McNemar's test on two bool verdicts per item, [items] each; 1 without discordance."""
    from scipy.stats import binomtest

    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def cohens_h(a: float, b: float) -> float:
    """Effect size of two accuracies, 2 asin(sqrt(a)) - 2 asin(sqrt(b)); .2 is called small, .5 medium, .8 large.

    Source: Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, chapter 6.
    """
    return 2 * math.asin(math.sqrt(a)) - 2 * math.asin(math.sqrt(b))


def holm_by_family(families: Sequence[Hashable], p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values, each within the tests of its family, in the order given."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for i, family in enumerate(families):
        members[family].append(i)
    corrected = [0.0] * len(p_values)
    for indices in members.values():
        for i, adjusted in zip(indices, holm([p_values[i] for i in indices])):
            corrected[i] = adjusted
    return corrected

"""Tests besides the one of ``paired_difference``, an effect size, and Holm's correction by family."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from bench.stats.clusters import Labels, cluster_numbers, num_clusters
from bench.stats.intervals import combine, holm

FLIPS = 2000


def sign_flip(
    differences: np.ndarray, rng: np.random.Generator, num: int = FLIPS, clusters: Labels | None = None
) -> float:
    """Two-sided p-value of "mean difference 0" by flipping signs of seeds and of items, [seeds, items].

    The differences are split into the seeds' means a[s], the items' deviations b[i] and the rest e[s, i].  A draw is
    g[s] a[s] + h[i] b[i] + g[s] h[i] e[s, i] with random signs g and h.  Its t statistic, the one of crossed_interval,
    is compared with that of the observed data, which count as one draw.

    Items that share a label of ``clusters`` share their signs.

    Few seeds have few signs.  Where their effects dominate, p is at least 2^-S: .125 with 3 seeds, .03 with 5.  To be
    significant there takes ``paired_difference``, which assumes normal effects of the seed.  One seed: signs of items
    only.  One item: p = 1.
    """
    scores = np.asarray(differences, dtype=float)
    num_seeds, num_items = scores.shape
    groups = cluster_numbers(clusters)
    if (num_groups := num_clusters(groups, num_items)) == 1:
        return 1.0
    items = rng.integers(0, 2, size=(num, num_groups)) * 2.0 - 1
    items = items if groups is None else items[:, groups]
    # Draw 0 is the data as they are.  So p is never 0, and the test keeps its level with any number of draws (Phipson
    # and Smyth 2010, doi 10.2202/1544-6115.1585).
    items[0] = 1
    if num_seeds == 1:
        # Flipping keeps every square, so each draw has the same mean square; minus the squared mean: its variance.
        means = items @ scores[0] / num_items
        spread = np.sqrt(np.maximum(np.mean(scores[0] ** 2) - means**2, 0.0))
    else:
        seeds = rng.integers(0, 2, size=(num, num_seeds)) * 2.0 - 1
        seeds[0] = 1
        means, spread = flipped(scores, seeds, items)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.abs(np.where(means == 0, 0.0, means / spread))
    return float(np.mean(ratios >= ratios[0] * (1 - 1e-9)))  # equal up to rounding counts as equal


def flipped(scores: np.ndarray, seeds: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard errors of the sign-flipped layouts of ``sign_flip``; signs are [draws, seeds or items].

    The layouts themselves, [draws, seeds, items], are never made: sums over them are matrix products of the signs with
    the three parts of the scores.
    """
    num_seeds, num_items = scores.shape
    by_seed = scores.mean(axis=1)
    by_item = scores.mean(axis=0) - scores.mean()
    rest = scores - by_seed[:, None] - by_item
    # Mean over the items of g a + h b + g h e, for every draw and seed; below, the same over the seeds for every item.
    seed_means = seeds * by_seed + (items @ by_item / num_items)[:, None] + seeds * (items @ rest.T) / num_items
    means = seed_means.mean(axis=1)
    seed_part = (seeds @ by_seed / num_seeds)[:, None]
    item_means = items * by_item + seed_part + items * (seeds @ rest) / num_seeds
    # Sum of squares of all cells.  A cell is g a + h b + g h e; squared, the signs of the squares vanish, and the cross
    # terms are 2 g h a b, 2 h a e (as g^2 = 1) and 2 g b e (as h^2 = 1).
    squares = num_items * np.sum(by_seed**2) + num_seeds * np.sum(by_item**2) + np.sum(rest**2)
    squares = squares + 2 * np.sum(seeds * by_seed, axis=1) * (items @ by_item)
    squares = squares + 2 * items @ (by_seed @ rest) + 2 * seeds @ (rest @ by_item)
    ss_seed = num_items * np.sum((seed_means - means[:, None]) ** 2, axis=1)
    ss_item = num_seeds * np.sum((item_means - means[:, None]) ** 2, axis=1)
    ss_rest = np.maximum(squares - scores.size * means**2 - ss_seed - ss_item, 0.0)
    ms_seed, ms_item = ss_seed / (num_seeds - 1), ss_item / (num_items - 1)
    ms_rest = ss_rest / ((num_seeds - 1) * (num_items - 1))
    spread = combine(ms_seed, ms_item, ms_rest, num_seeds, num_items)
    return means, np.sqrt(spread.total / scores.size)


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact two-sided p-value of McNemar's test on two bool verdicts per item, [items] each; 1 without discordance.

    Only items on which the two differ count: under "no difference" either side is right on half of them.
    Source: McNemar 1947 (doi 10.1007/BF02295996), with binomial probabilities in place of the chi-square approximation.
    """
    from scipy.stats import binomtest

    # Items on which both are right or both are wrong cancel in the difference and say nothing about it.
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

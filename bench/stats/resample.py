"""Two-level resampling: confidence limits of statistics of runs, for new seeds and new items together.

Draws come from an explicit numpy Generator: the same seed of the generator gives the same limits.
"""

from __future__ import annotations

import math

import numpy as np

from bench.stats.clusters import Labels, cluster_numbers, num_clusters
from bench.stats.intervals import BOTH, ITEMS, Interval, combine
from bench.stats.limits import half_width
from bench.stats.seed_test import Spread


def interval_of_draws(
    whole: float,
    by_seed: np.ndarray,
    by_item: np.ndarray,
    by_both: np.ndarray,
    num_seeds: int,
    num_items: int,
    level: float = 0.95,
) -> Interval:
    """Interval of a statistic from its value on all data and on resamples of seeds, of items, and of both together.

    With 3 to 5 seeds the percentiles of such draws are far too narrow: three seeds have ten different draws.  Here the
    draws give three variances: of seeds, of items, and of what the joint draw has beyond the two, the residual.  Each
    is inflated by n / (n - 1), because a resampled mean of n values has only (n - 1) / n of the variance that it
    stands for.  The three take the places of the mean squares in crossed_interval.  For the mean both intervals agree
    up to Monte-Carlo error.  One seed: items only.  One item: infinite limits.
    """
    over = BOTH if num_seeds > 1 else ITEMS
    if num_items == 1:
        return Interval(whole, -math.inf, math.inf, math.inf, over)
    item_factor = num_items / (num_items - 1)
    from_items = np.asarray(np.var(by_item) * item_factor)
    if num_seeds == 1:
        nothing = np.zeros(())
        spread = Spread(nothing, from_items, nothing, 0, num_items - 1)
    else:
        seed_factor = num_seeds / (num_seeds - 1)
        from_seeds = np.asarray(np.var(by_seed) * seed_factor)
        # The joint draw repeats the draws of seeds and of items, so the subtraction leaves their interaction and no new
        # noise.  That part is resampled along both axes, hence both factors.
        residual = np.asarray(np.var(by_both - by_seed - by_item) * seed_factor * item_factor)
        spread = combine(from_seeds, from_items, residual, num_seeds, num_items)
    half = float(half_width(spread, 1 - level))
    return Interval(whole, whole - half, whole + half, math.sqrt(float(spread.total)), over)


def item_weights(num_items: int, num: int, rng: np.random.Generator, clusters: Labels | None = None) -> np.ndarray:
    """The share of each item in each of ``num`` draws of items: [num, items], every row sums to 1.

    Items that share a label of ``clusters`` are drawn together.
    """
    groups = cluster_numbers(clusters)
    num_groups = num_clusters(groups, num_items)
    times = rng.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num)
    if groups is None:
        return times / num_items
    drawn = times[:, groups]
    return drawn / drawn.sum(axis=1, keepdims=True)


def drawn_means(
    scores: np.ndarray, weights: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means over items of every run: of all data, and of draws of seeds, of items and of both.

    ``scores`` is [seeds, items, methods]; ``weights`` come from ``item_weights``.  Returns one array
    [1, seeds, methods] and three [num, seeds, methods].  Drawing items is one matrix product, which makes tables of
    many runs affordable.
    """
    num_seeds, num_items, num_methods = scores.shape
    num = len(weights)
    # The same seeds are drawn alone and together with items: ``interval_of_draws`` subtracts one from the other.
    rows = rng.integers(num_seeds, size=(num, num_seeds))
    whole = scores.mean(axis=1)
    flat = np.moveaxis(scores, 1, 0).reshape(num_items, num_seeds * num_methods)
    by_item = (weights @ flat).reshape(num, num_seeds, num_methods)
    return whole[None], whole[rows], by_item, np.take_along_axis(by_item, rows[:, :, None], axis=1)

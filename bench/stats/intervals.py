"""Statistics of finished runs: intervals over seeds and items, paired differences, ties.  Pure functions on arrays.

Scores are fractions in [0, 1].  An array [seeds, items] has one row per trained model; all are judged on the same
items.  Symbols: S seeds, I items, MS a mean square of the two-way analysis of variance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.stats.borders import FEW, bounded_limits, constant_limits, constant_p, difference_limits, difference_p
from bench.stats.clusters import Labels, cluster_numbers, cluster_sums, num_clusters
from bench.stats.limits import half_widths
from bench.stats.seed_test import Spread, p_values

BOTH = "seeds and items"
ITEMS = "items only"
SAMPLED = "sampling and items"  # of a control, which has no training to vary
SAME = 1e-9  # scores closer than this are one
ALPHA = 0.05  # level of every test
LEAST = 0.25  # the seeds' part of a variance counts as at least this share of MS_residual
FEWEST = 3  # seeds of the smaller side from which a pair is tested with correction, and may get letters of its own


@dataclass(frozen=True)
class Interval:
    """Mean with its confidence limits; ``over`` is BOTH, ITEMS or SAMPLED, the variation that they cover."""

    mean: float
    low: float
    high: float
    se: float
    over: str


@dataclass(frozen=True)
class Difference:
    """Mean of a - b with its limits and the two-sided p-value of "no difference".

    ``constant``: it is the same for every seed and item, so that nothing estimates how it varies.
    """

    mean: float
    low: float
    high: float
    p_value: float
    num_seeds: int
    num_items: int
    over: str
    constant: bool = False

    @property
    def decides(self) -> bool:
        """Whether it says anything of the methods: not with one seed, nor where the two sides never differ."""
        return self.num_seeds > 1 and not (self.constant and self.mean == 0)

    @property
    def correctable(self) -> bool:
        """Whether it belongs to a family of corrected tests: one seed says nothing about others, two too little."""
        return self.num_seeds >= FEWEST

    def reversed(self) -> Difference:
        """The mean of b - a."""
        # 0.0 - x: a mean of 0 keeps its sign.
        return replace(self, mean=0.0 - self.mean, low=0.0 - self.high, high=0.0 - self.low)

    @property
    def p_to_correct(self) -> float:
        return self.p_value if self.correctable else 1.0


def interval_fields(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Mean and limits as flat fields for JSON and CSV: NAME, NAME_low and NAME_high."""
    limits = (None, None, None) if interval is None else (interval.mean, interval.low, interval.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), limits))


def mean_squares(scores: np.ndarray, clusters: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean squares of seeds, items and residual of two-way layouts [..., seeds, items], both sides at least 2.

    The layout has one score per cell, so that the interaction of seed and item is in the residual.  With ``clusters``
    (``cluster_numbers``) deviations are summed over each cluster before they are squared: items of one cluster may
    then be alike, and in each run alike once more.  Clusters of one item each give the same as none.
    Sources: two-way layout without replication, Scheffe 1959, The Analysis of Variance; the sums over clusters and
    the factor G / (G - 1) of G clusters: Liang and Zeger 1986 (doi 10.1093/biomet/73.1.13).
    """
    num_seeds, num_items = scores.shape[-2:]
    by_seed, by_item, mean = scores.mean(axis=-1), scores.mean(axis=-2), scores.mean(axis=(-2, -1))
    # The sums of squares add up to the total: a layout with every cell filled has orthogonal effects.
    residual = scores - by_seed[..., :, None] - by_item[..., None, :] + mean[..., None, None]
    # Each square is scaled to the variance of a single score, so that the three can be compared.
    ms_seed = num_items * np.sum((by_seed - mean[..., None]) ** 2, axis=-1) / (num_seeds - 1)
    of_item, divisor = by_item - mean[..., None], num_items - 1.0
    if clusters is not None:
        of_item, residual = cluster_sums(of_item, clusters), cluster_sums(residual, clusters)
        divisor = num_items * (1 - 1 / of_item.shape[-1])
    ms_item = num_seeds * np.sum(of_item**2, axis=-1) / divisor
    ms_residual = np.sum(residual**2, axis=(-2, -1)) / ((num_seeds - 1) * divisor)
    return ms_seed, ms_item, ms_residual


def combine(by_seed: np.ndarray, by_item: np.ndarray, residual: np.ndarray, num_seeds: int, num_items: int) -> Spread:
    """The parts of the variance of a mean for new seeds and new items, from three mean squares in one unit."""
    # E MS_item = residual + S var(item): what exceeds the residual is the items' own part, and is never negative.
    return Spread(by_seed, np.maximum(by_item - residual, 0.0), LEAST * residual, num_seeds - 1, num_items - 1)


def spread_of_mean(scores: np.ndarray, clusters: np.ndarray | None = None) -> Spread:
    """The parts of the estimated variances of the grand means of [..., seeds, items].

    Simulations pass several layouts at once.  crossed_interval explains the estimate.
    """
    num_seeds, num_items = scores.shape[-2:]
    num_groups, nothing = num_clusters(clusters, num_items), np.zeros(scores.shape[:-2])
    # One item tells nothing of other items.  With one seed what is left is the classical t interval over items.
    if num_groups == 1:
        return Spread(nothing, np.full(nothing.shape, math.inf), nothing, 0, 1)
    if num_seeds > 1:
        parts = combine(*mean_squares(scores, clusters), num_seeds, num_groups)
        return parts.map(lambda part: part / (num_seeds * num_items))
    of_items = scores[..., 0, :]
    if clusters is None:
        return Spread(nothing, of_items.var(axis=-1, ddof=1) / num_items, nothing, 0, num_items - 1)
    sums = cluster_sums(of_items - of_items.mean(axis=-1, keepdims=True), clusters)
    variance = np.sum(sums**2, axis=-1) / (num_items**2 * (1 - 1 / num_groups))
    return Spread(nothing, variance, nothing, 0, num_groups - 1)


def crossed_interval(
    scores: np.ndarray, level: float = 0.95, *, accuracy: bool = True, clusters: Labels | None = None
) -> Interval:
    """Confidence interval of the mean of [seeds, items] for new seeds and new items together.

    Model: y[s, i] = mu + seed[s] + item[i] + error[s, i].  The three effects are random and independent, so that
    Var(mean) = (MS_seed + (MS_item - MS_residual)) / (S I): a two-way random-effects analysis of variance.
    The bracket is never below 0.  MS_seed counts as at least a quarter of MS_residual; without an effect of the seed
    its expectation is MS_residual, and with few seeds chance alone can make it far smaller.  (Counting all of
    MS_residual halves the false positives at 5 % where seeds do not differ, and gains nothing elsewhere.)  The limits
    are those of bench.stats.seed_test.

    With ``clusters``, one label per item, items that share a label count together (``mean_squares``), and the number of
    clusters takes the place of I in the degrees of freedom.

    One seed: the variance is over items only, and ``over`` says so.  One item: no variance can be estimated, and the
    limits are infinite.  With ``accuracy`` the limits are clipped to [0, 1], and near 0 and 1 the far limit is at least
    that of ``bench.stats.borders.highest_mean``: where every score is 0 a variance estimate of 0 would claim certainty.
    """
    return crossed_intervals([scores], level, accuracy=accuracy, clusters=[clusters])[0]


def crossed_intervals(
    layouts: Sequence[np.ndarray],
    level: float = 0.95,
    *,
    accuracy: bool = True,
    clusters: Sequence[Labels | None] | None = None,
) -> list[Interval]:
    """``crossed_interval`` of many layouts at once, which is much faster than one by one."""
    means, spreads, sizes = [], [], []
    for scores, labels in zip(layouts, clusters or [None] * len(layouts), strict=True):
        if scores.ndim != 2 or 0 in scores.shape:
            raise ValueError(f"scores must be [seeds, items] with at least one of each, got shape {scores.shape}")
        scores, groups = np.asarray(scores, dtype=float), cluster_numbers(labels)
        means.append(float(scores.mean()))
        spreads.append(spread_of_mean(scores, groups))
        sizes.append((scores.shape[0], num_clusters(groups, scores.shape[1])))
    # Not the percentiles of a bootstrap: three seeds have ten different resamples, with the spread of a variance that
    # is divided by 3 and not by 2.
    found = []
    for mean, spread, (num_seeds, num_groups), half in zip(means, spreads, sizes, half_widths(spreads, 1 - level)):
        low, high = mean - float(half), mean + float(half)
        if accuracy:
            low, high = bounded_limits(mean, (low, high), num_groups, level)
        over = BOTH if num_seeds > 1 else ITEMS
        found.append(Interval(mean, low, high, math.sqrt(float(spread.total)), over))
    return found


def pair_seeds(seeds_a: Sequence[int], seeds_b: Sequence[int]) -> tuple[list[int], list[int]]:
    """Rows of a and of b to subtract from each other: those of the common seeds, in order of the seed.

    Then the other runs in order of their seeds, as far as the smaller side goes.  That is valid because runs of
    different seeds are independent and the pairing does not look at the scores.  No run is used twice: a repeated run
    would count as several seeds.
    """
    common = sorted(set(seeds_a) & set(seeds_b))
    smaller = min(len(seeds_a), len(seeds_b))
    rows = []
    for seeds in (list(seeds_a), list(seeds_b)):
        rest = sorted(set(seeds) - set(common))
        rows.append([seeds.index(seed) for seed in (common + rest)[:smaller]])
    return rows[0], rows[1]


def paired_difference(
    a: np.ndarray, b: np.ndarray, level: float = 0.95, *, clusters: Labels | None = None
) -> Difference:
    """Mean of a - b over the same seeds and items, with the crossed interval of the differences and its test.

    ``a`` and ``b`` are [seeds, items], paired by row and by column.  Pairing by item removes what both sides find hard
    alike.  ``clusters`` are labels of the items, as in crossed_interval.  Where all differences are equal the limits
    are ``constant_limits``, where at most FEW clusters differ those of ``difference_limits``, with one trial per
    cluster.  Raises ValueError if the shapes differ: nothing is repeated to make them fit.
    """
    return paired_differences([(a, b)], level, clusters=[clusters])[0]


def paired_differences(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    level: float = 0.95,
    *,
    clusters: Sequence[Labels | None] | None = None,
) -> list[Difference]:
    """``paired_difference`` of many pairs at once; of each only a few figures are kept, never its scores."""
    known = None if clusters is None else iter(clusters)
    sketches = [sketch(a, b, next(known) if known is not None else None) for a, b in pairs]
    spreads = [each.spread for each in sketches]
    halves, tails = half_widths(spreads, 1 - level), p_values([each.mean for each in sketches], spreads)
    return [each.difference(float(half), float(p), level) for each, half, p in zip(sketches, halves, tails)]


@dataclass(frozen=True)
class Sketch:
    """What a paired difference is worked out from; ``trials`` is the number of clusters.

    ``constant`` is the value that every difference has, None where they differ.  ``parts`` are the sums of the items'
    positive and negative mean differences in trials, where at most FEW clusters differ.
    """

    mean: float
    spread: Spread
    num_seeds: int
    num_items: int
    trials: int
    constant: float | None
    parts: tuple[float, float] | None

    def difference(self, half: float, p: float, level: float) -> Difference:
        """With half the interval and the p-value of the spread."""
        sizes, over = (self.num_seeds, self.num_items), BOTH if self.num_seeds > 1 else ITEMS
        if self.constant is not None:
            # No seed and no item differs: the items bound the mean as they bound an accuracy of 0.
            limits, p = constant_limits(self.constant, self.trials, level), constant_p(self.constant, self.trials)
            return Difference(self.constant, *limits, p, *sizes, over, constant=True)
        low, high = self.mean - half, self.mean + half
        if self.parts is not None:
            low, high = difference_limits((low, high), self.parts, self.trials, level)
            p = max(p, difference_p(self.parts, self.trials))
        return Difference(self.mean, low, high, p, *sizes, over)


def sketch(a: np.ndarray, b: np.ndarray, labels: Labels | None) -> Sketch:
    """The figures of one pair."""
    if a.shape != b.shape:
        raise ValueError(f"a and b must share their seeds and items, got shapes {a.shape} and {b.shape}")
    differences = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    num_seeds, num_items = differences.shape
    groups = cluster_numbers(labels)
    trials, constant, parts = num_clusters(groups, num_items), None, None
    if num_items > 1 and np.ptp(differences) < SAME:
        constant = float(differences[0, 0]) if abs(differences[0, 0]) > SAME else 0.0
    elif num_items > 1:
        largest = np.abs(differences).max(axis=0)
        differ = (largest if groups is None else cluster_sums(largest, groups)) > SAME
        if np.count_nonzero(differ) <= FEW:
            by_item, share = differences.mean(axis=0), trials / num_items  # a cluster is one trial
            parts = share * float(by_item[by_item > 0].sum()), share * -float(by_item[by_item < 0].sum())
    spread = spread_of_mean(differences, groups)
    return Sketch(float(differences.mean()), spread, num_seeds, num_items, trials, constant, parts)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that bound the probability of any false rejection, in the order given.

    The k-th smallest of m p-values is multiplied by m - k + 1, and no adjusted value is below that of a smaller one.
    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    adjusted = [0.0] * len(p_values)
    # The running maximum keeps the order: no hypothesis is rejected unless all with smaller p-values are.
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted

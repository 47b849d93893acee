"""Statistics of finished runs: intervals over seeds and items, paired differences, ties.  Pure functions on arrays.

Scores are fractions in [0, 1].  An array [seeds, items] has one row per trained model; all are judged on the same
items.  Symbols: S seeds, I items, MS a mean square of the two-way analysis of variance.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from bench.stats.borders import bounded_limits, constant_limits, constant_p
from bench.stats.clusters import Labels, cluster_numbers, cluster_sums, num_clusters

BOTH = "seeds and items"
ITEMS = "items only"
SAMPLED = "sampling and items"  # of a control, which has no training to vary
SAME = 1e-9  # scores closer than this are one
ALPHA = 0.05  # level of every test
LEAST = 0.25  # MS_seed counts as at least this share of MS_residual


@dataclass(frozen=True)
class Interval:
    """Mean with its confidence limits; ``over`` is BOTH, ITEMS or SAMPLED, the variation that they cover."""

    mean: float
    low: float
    high: float
    df: float
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
    df: float
    num_seeds: int
    num_items: int
    over: str
    constant: bool = False

    @property
    def decides(self) -> bool:
        """Whether it says anything of the methods: not with one seed, nor where the two sides never differ."""
        return self.num_seeds > 1 and not (self.constant and self.mean == 0)

    @property
    def p_for_other_seeds(self) -> float:
        """The p-value of a statement about the methods: 1 with one seed, which says nothing about others."""
        return self.p_value if self.num_seeds > 1 else 1.0


def interval_fields(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Mean and limits as flat fields for JSON and CSV: NAME, NAME_low and NAME_high."""
    limits = (None, None, None) if interval is None else (interval.mean, interval.low, interval.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), limits))


def pass_at_k(correct: np.ndarray, k: int) -> np.ndarray:
    """Probability that at least one of k samples is right, per item: 1 - C(n-c, k) / C(n, k).

    ``correct`` is bool [items, samples]; returns float [items].  Raises ValueError unless 1 <= k <= samples.
    Source: unbiased estimator of Chen et al. 2021 (arXiv 2107.03374).
    """
    num_samples = correct.shape[1]
    if not 1 <= k <= num_samples:
        raise ValueError(f"pass@{k} needs 1 <= k <= {num_samples} samples")
    # The plug-in estimate 1 - (1 - c/n)^k would be too low: it draws the k samples with replacement.
    by_count = [1 - math.comb(num_samples - c, k) / math.comb(num_samples, k) for c in range(num_samples + 1)]
    return np.array(by_count)[correct.astype(bool).sum(axis=1)]


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


def combine(
    by_seed: np.ndarray, by_item: np.ndarray, residual: np.ndarray, num_seeds: int, num_items: int
) -> tuple[np.ndarray, np.ndarray]:
    """Variance of a mean for new seeds and new items, and its degrees of freedom, from three mean squares.

    The arguments share one unit, whichever it is.  crossed_interval gives the rule and its reasons.
    """
    # E MS_item = residual + S var(item): what exceeds the residual is the items' own part, and is never negative.
    from_items = np.maximum(by_item - residual, 0.0)
    total = np.maximum(by_seed, LEAST * residual) + from_items
    seed_share = np.divide(by_seed, total, out=np.ones_like(total), where=total > 0)
    item_share = np.divide(from_items, total, out=np.zeros_like(total), where=total > 0)
    # Weights are the shares themselves, not their squares as in Satterthwaite's formula: see crossed_interval.
    inverse = seed_share / (num_seeds - 1) + item_share / (num_items - 1)
    return total, 1 / np.maximum(inverse, 1 / (num_seeds * num_items))  # finite where nothing varies


def variance_of_mean(scores: np.ndarray, clusters: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Estimated variances of the grand means of [..., seeds, items], and their degrees of freedom.

    Simulations pass several layouts at once.  crossed_interval explains the estimate.
    """
    num_seeds, num_items = scores.shape[-2:]
    num_groups = num_clusters(clusters, num_items)
    # One item tells nothing of other items.  With one seed what is left is the classical t interval over items.
    if num_groups == 1:
        return np.full(scores.shape[:-2], math.inf), np.ones(scores.shape[:-2])
    if num_seeds == 1:
        of_items, df = scores[..., 0, :], np.full(scores.shape[:-2], num_groups - 1.0)
        if clusters is None:
            return of_items.var(axis=-1, ddof=1) / num_items, df
        sums = cluster_sums(of_items - of_items.mean(axis=-1, keepdims=True), clusters)
        return np.sum(sums**2, axis=-1) / (num_items**2 * (1 - 1 / num_groups)), df
    ms_seed, ms_item, ms_residual = mean_squares(scores, clusters)
    total, df = combine(ms_seed, ms_item, ms_residual, num_seeds, num_groups)
    return total / (num_seeds * num_items), df


def crossed_interval(
    scores: np.ndarray, level: float = 0.95, *, accuracy: bool = True, clusters: Labels | None = None
) -> Interval:
    """Confidence interval of the mean of [seeds, items] for new seeds and new items together.

    Model: y[s, i] = mu + seed[s] + item[i] + error[s, i].  The three effects are random and independent, so that
    Var(mean) = (MS_seed + (MS_item - MS_residual)) / (S I): a two-way random-effects analysis of variance.
    The bracket is never below 0.  MS_seed counts as at least a quarter of MS_residual; without an effect of the seed
    its expectation is MS_residual, and with few seeds chance alone can make it far smaller.

    The t quantile has the df with 1 / df = (share of MS_seed) / (S - 1) + (share of the bracket) / (I - 1).
    Satterthwaite's df weight by squared shares.  They cover .922 to .950 with 3 seeds, and up to .982 where MS_seed may
    not fall below MS_residual.  This rule covers .942 to .965 with 3 seeds, .950 to .961 with 5 and .907 to .97 with 2,
    whatever the two variances are.  (Many items, normal effects; benchmarks/coverage.py has realistic ones.)

    With ``clusters``, one label per item, items that share a label count together (``mean_squares``), and the number of
    clusters takes the place of I in the degrees of freedom.

    One seed: the variance is over items only, and ``over`` says so.  One item: no variance can be estimated, and the
    limits are infinite.  With ``accuracy`` the limits are clipped to [0, 1], and near 0 and 1 the far limit is at least
    that of ``bench.stats.borders.highest_mean``: where every score is 0 a variance estimate of 0 would claim certainty.
    """
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"scores must be [seeds, items] with at least one of each, got shape {scores.shape}")
    from scipy.special import stdtrit

    scores = np.asarray(scores, dtype=float)
    mean = float(scores.mean())
    # Not the percentiles of a bootstrap: three seeds have ten different resamples, with the spread of a variance that
    # is divided by 3 and not by 2.  Quantiles of t allow for so few degrees of freedom.
    groups = cluster_numbers(clusters)
    variance, df = map(float, variance_of_mean(scores, groups))
    se = math.sqrt(variance)
    half = float(stdtrit(df, (1 + level) / 2)) * se
    low, high = mean - half, mean + half
    if accuracy:
        low, high = bounded_limits(mean, (low, high), num_clusters(groups, scores.shape[1]), level)
    return Interval(mean, low, high, df, se, BOTH if scores.shape[0] > 1 else ITEMS)


def pair_seeds(seeds_a: Sequence[int], seeds_b: Sequence[int]) -> tuple[list[int], list[int]]:
    """Rows of a and of b to subtract from each other: those of the common seeds, in order of the seed.

    With fewer than two common seeds, where each side has more, runs are paired in order of their seeds as far as the
    smaller side goes.  That is valid because runs of different seeds are independent and the pairing does not look at
    the scores.  No run is used twice: a repeated run would count as several seeds.
    """
    order_a, order_b = list(np.argsort(seeds_a)), list(np.argsort(seeds_b))
    common, smaller = sorted(set(seeds_a) & set(seeds_b)), min(len(seeds_a), len(seeds_b))
    if len(common) >= min(2, smaller):
        return [list(seeds_a).index(s) for s in common], [list(seeds_b).index(s) for s in common]
    return order_a[:smaller], order_b[:smaller]


def paired_difference(
    a: np.ndarray, b: np.ndarray, level: float = 0.95, *, clusters: Labels | None = None
) -> Difference:
    """Mean of a - b over the same seeds and items, with the crossed interval of the differences and its t test.

    ``a`` and ``b`` are [seeds, items], paired by row and by column.  Pairing by item removes what both sides find hard
    alike.  ``clusters`` are labels of the items, as in crossed_interval.  Where all differences are equal the limits
    are ``constant_limits``, with one trial per cluster.  Raises ValueError if the shapes differ: nothing is repeated to
    make them fit.
    """
    if a.shape != b.shape:
        raise ValueError(f"a and b must share their seeds and items, got shapes {a.shape} and {b.shape}")
    from scipy.special import stdtr

    differences = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    interval = crossed_interval(differences, level, accuracy=False, clusters=clusters)
    num_seeds, num_items = differences.shape
    if num_items > 1 and np.ptp(differences) < SAME:
        # No seed and no item differs: the items bound the mean as they bound an accuracy of 0.
        value = float(differences[0, 0]) if abs(differences[0, 0]) > SAME else 0.0
        trials = num_clusters(cluster_numbers(clusters), num_items)
        limits, p_value = constant_limits(value, trials, level), constant_p(value, trials)
        return Difference(value, *limits, p_value, trials - 1.0, num_seeds, num_items, interval.over, constant=True)
    p_value = 2 * float(stdtr(interval.df, -abs(interval.mean) / interval.se))
    return Difference(
        interval.mean, interval.low, interval.high, p_value, interval.df, num_seeds, num_items, interval.over
    )


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


def tie_groups(
    methods: Sequence[str], adjusted: Mapping[tuple[str, str], float], alpha: float = 0.05
) -> dict[str, str]:
    """Compact letter display: two methods share a letter if and only if their adjusted p is above ``alpha``.

    ``methods`` are sorted by accuracy, best first; ``adjusted`` has a key (earlier, later) for every pair.
    Source: insert-and-absorb algorithm of Piepho 2004 (doi 10.1198/1061860043515).
    """
    # A column is a set of methods that share a letter.  Begin with one for all.  For every pair that differs, replace
    # each column that holds both by two with one of them each, and drop columns that lie within another.
    columns = [frozenset(range(len(methods)))]
    for i, j in combinations(range(len(methods)), 2):
        if adjusted[methods[i], methods[j]] > alpha:
            continue
        split = {part for c in columns for part in ((c - {i}, c - {j}) if {i, j} <= c else (c,))}
        columns = [c for c in split if not any(c < other for other in split)]
    columns.sort(key=sorted)
    letters = [*string.ascii_letters, *(f"({n})" for n in range(len(string.ascii_letters), len(columns)))]
    return {m: "".join(letters[n] for n, c in enumerate(columns) if i in c) for i, m in enumerate(methods)}

"""Means of ratios, such as accuracy after training over accuracy before it, with their limits and tests.

A ratio is the mean of a top [seeds, items] over the mean of a bottom [items], which no seed changes, on the same items.
Several ratios stand for several sets of items that the same seeds were judged on; their plain mean is asked for.
Items of one set that share a label count together, as in ``bench.stats.intervals.mean_squares``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.stats.borders import unseen_share
from bench.stats.clusters import Labels, cluster_numbers, cluster_sums, num_clusters
from bench.stats.intervals import BOTH, ITEMS, Interval, combine, mean_squares
from bench.stats.limits import Items, half_width, sizes_at
from bench.stats.seed_test import Spread, by_degrees, p_value

ROUNDING = 1e-12  # relative: less than this is left of numbers that cancel


@dataclass(frozen=True)
class Ratios:
    """``tops`` are arrays [seeds, items], ``bottoms`` arrays [items] with means above 0, one of each per ratio.

    ``labels``, if given, has the items' labels per ratio, None for a ratio whose items count by themselves.
    """

    tops: Sequence[np.ndarray]
    bottoms: Sequence[np.ndarray]
    labels: Sequence[Labels | None] | None = None

    @cached_property
    def each(self) -> list[float]:
        return [float(top.mean() / bottom.mean()) for top, bottom in zip(self.tops, self.bottoms, strict=True)]

    @property
    def mean(self) -> float:
        return float(np.mean(self.each))

    @property
    def num_seeds(self) -> int:
        return int(self.tops[0].shape[0])

    @property
    def num_items(self) -> int:
        """Of the ratio with the fewest."""
        return min(bottom.size for bottom in self.bottoms)

    @cached_property
    def clusters(self) -> list[np.ndarray | None]:
        """``cluster_numbers`` of each ratio's items."""
        labels = [None] * len(self.bottoms) if self.labels is None else self.labels
        return [cluster_numbers(of_items) for of_items in labels]

    @cached_property
    def groups(self) -> list[int]:
        """How many clusters of items each ratio has; as many as items without labels."""
        return [num_clusters(c, bottom.size) for c, bottom in zip(self.clusters, self.bottoms, strict=True)]

    @cached_property
    def scales(self) -> list[float]:
        """What turns a difference of means into a share of the mean ratio."""
        return [1 / (len(self.bottoms) * float(bottom.mean())) for bottom in self.bottoms]

    @cached_property
    def fixed(self) -> tuple[float, float]:
        """Variances of the mean by seeds and of the residual; no bottom has a part in them."""
        scaled = [scale * top for scale, top in zip(self.scales, self.tops)]
        # A seed moves all sets of items together: their sum is taken before the variance.
        by_seed = float(np.var(sum(top.mean(axis=1) for top in scaled), ddof=1)) / self.num_seeds
        residuals = (float(mean_squares(top, c)[2]) / top.size for top, c in zip(scaled, self.clusters))
        return by_seed, sum(residuals)

    @cached_property
    def by_item(self) -> tuple[float, float, float]:
        """The items' variance of the mean of top - (ratio + shift) bottom: constant, linear and square in the shift."""
        found = np.zeros(3)
        for top, bottom, clusters, ratio, scale in zip(self.tops, self.bottoms, self.clusters, self.each, self.scales):
            found += scale**2 * np.array(moments(top.mean(axis=0) - ratio * bottom, -bottom, clusters)) / bottom.size
        return float(found[0]), 2 * float(found[1]), float(found[2])

    def spread(self, shift: float) -> Spread:
        """The parts of the variance of the mean of top - (ratio + shift) bottom, as shares."""
        constant, linear, square = self.by_item
        by_item, fewest = constant + (linear + square * shift) * shift, min(self.groups)
        if by_item < ROUNDING * (constant + square * shift**2):
            by_item = 0.0
        if self.num_seeds == 1:
            nothing = np.zeros(())
            return Spread(nothing, np.asarray(by_item), nothing, 0, fewest - 1)
        by_seed, residual = (np.asarray(part) for part in self.fixed)
        return combine(by_seed, np.asarray(by_item), residual, self.num_seeds, fewest)

    def p_value(self, value: float) -> float:
        """Two-sided p-value of "the mean ratio is ``value``": of a test that no error of a bottom biases."""
        if min(self.groups) < 2:
            return 1.0
        size = value - self.mean
        spread = self.spread(size)
        return float(p_value(size, spread)) if spread.total > (ROUNDING * size) ** 2 else 1.0

    def interval(self, level: float = 0.95, *, share: bool = True) -> Interval:
        """The values that the test does not reject, for new seeds and new items; infinite limits: unbounded.

        Fieller's limits (1954, doi 10.1111/j.2517-6161.1954.tb00159.x), for several ratios along a shift that all have
        in common.  They need no bottom that is far from 0; where the bottoms are not shown to differ from 0 the limits
        are infinite.  With ``share`` the ratios cannot be below 0, and where no top is above 0 the upper limit is that
        of ``unseen_share``.
        """
        return ratio_intervals([self], level, share=share)[0]

    def limits(self, below: float, above: float, level: float, share: bool) -> Interval:
        """The interval from the distances of its two limits."""
        over = BOTH if self.num_seeds > 1 else ITEMS
        low, high = self.mean - below, self.mean + above
        if share:
            rare = max(scale * unseen_share(num, level) for scale, num in zip(self.scales, self.groups))
            low, high = max(low, 0.0) if math.isfinite(low) else low, max(high, rare)
        if not math.isfinite(low) or not math.isfinite(high):
            low, high = -math.inf, math.inf
        return Interval(self.mean, low, high, math.sqrt(float(self.spread(0.0).total)), over)


def ratio_intervals(ratios: Sequence[Ratios], level: float = 0.95, *, share: bool = True) -> list[Interval]:
    """``Ratios.interval`` of many at once, which is much faster than one by one."""
    known = [r for r in ratios if min(r.groups) >= 2]
    below, above = (reaches(known, level, sign) for sign in (-1, 1))
    found = {id(r): r.limits(low, high, level, share) for r, low, high in zip(known, below, above)}
    nothing = [Interval(r.mean, -math.inf, math.inf, math.inf, BOTH if r.num_seeds > 1 else ITEMS) for r in ratios]
    return [found.get(id(r), unknown) for r, unknown in zip(ratios, nothing)]


def reaches(ratios: Sequence[Ratios], level: float, sign: int) -> list[float]:
    """Distances from the means to the nearest values on one side that the test rejects; inf without one."""
    found = np.zeros(len(ratios))
    for places, spread in by_degrees([r.spread(0.0) for r in ratios]):
        start = half_width(spread, 1 - level)
        moving = start > 0  # 0: nothing varies
        own = [ratios[place] for place, moves in zip(places, moving) if moves]
        residual = np.array([r.fixed[1] if r.num_seeds > 1 else 0.0 for r in own])
        constant, linear, square = np.array([r.by_item for r in own]).reshape(-1, 3).T
        spread = spread.only(moving)
        items = Items(constant - residual, sign * linear, square)  # the items' own part: what exceeds the residual
        reach = np.zeros(len(places))
        reach[moving] = sizes_at(1 - level, spread, items, start[moving], np.zeros(len(own)))
        found[places] = reach
    return [float(distance) for distance in found]


def moments(a: np.ndarray, b: np.ndarray, clusters: np.ndarray | None) -> tuple[float, float, float]:
    """Variance of a, covariance and variance of b, of one of [items] as they count in a mean.

    With ``clusters`` by the sums of deviations over each.
    """
    a, b = a - a.mean(), b - b.mean()
    divisor = a.size - 1.0
    if clusters is not None:
        a, b = cluster_sums(a, clusters), cluster_sums(b, clusters)
        divisor = clusters.size * (1 - 1 / a.size)
    return float(a @ a) / divisor, float(a @ b) / divisor, float(b @ b) / divisor

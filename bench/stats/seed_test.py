"""The test of a mean over a few training seeds and many items, and the interval that belongs to it.

The variance of the mean has a part of the seeds, A, of which S seeds tell little, and a part of the items, B, which
many items make known.  MS_seed estimates A with S - 1 degrees of freedom.  A t statistic with one number of degrees of
freedom for both parts holds its level at 5 %.  It does not far below, where Holm's correction reads it: with three
seeds and a wanted .05 / 28 it rejects up to five times too often.  So the p-value here is an average over the values
of A that MS_seed leaves plausible, and two such averages bound what is right:

- A = (S - 1) MS_seed / chi2, with S - 1 degrees of freedom of chi2: the test of Behrens and Fisher.  It holds its level
  everywhere (Robinson 1976, doi 10.1214/aos/1176343589), and wastes some at 5 % where both parts matter.
- The same with S + 1 degrees of freedom in a share B / (A + B) of the values: exact to second order (the prior of Ghosh
  and Kim 2001, doi 10.2307/3316047), but too hopeful in the far tail, and at 5 % with two seeds.

The test goes from near the second at large p to the first at small p.  benchmarks/coverage.py simulates it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

NODES, SPAN = 65, 8.0  # of the trapezoidal rule over a normal score of chi2: 4 right digits at least, mostly 8
TURN = 0.01  # p-value at which the hopeful average has half of its greatest weight
PRECISION, MOST_STEPS = 1e-10, 200  # of the root that is half an interval, relative


@dataclass(frozen=True)
class Spread:
    """The parts of the variance of a mean, arrays of one shape in one unit.

    ``seeds`` is MS_seed, ``least`` a share of MS_residual below which the seeds' part cannot be, ``items`` the items'
    own part.  ``seed_df`` is S - 1, 0 where nothing is said of other seeds; ``item_df`` the items less one.
    """

    seeds: np.ndarray
    items: np.ndarray
    least: np.ndarray
    seed_df: int
    item_df: float

    @property
    def total(self) -> np.ndarray:
        """The estimated variance.  Chance alone can make MS_seed small, so it counts as at least ``least``."""
        return np.asarray(np.maximum(self.seeds, self.least) + self.items)

    def map(self, change: Callable[[np.ndarray], Any]) -> Spread:
        """The same with every part changed: brought to another unit or shape."""
        seeds, items, least = (np.asarray(change(part), dtype=float) for part in (self.seeds, self.items, self.least))
        return Spread(seeds, items, least, self.seed_df, self.item_df)


@dataclass(frozen=True)
class Plausible:
    """Variances of the mean that the data leave plausible, and their weights, all [..., values].

    ``hope`` [...] is the greatest weight of the hopeful average.
    """

    cautious: np.ndarray
    cautious_weights: np.ndarray
    hopeful: np.ndarray
    hopeful_weights: np.ndarray
    hope: np.ndarray
    item_df: float


def p_value(mean: np.ndarray | float, spread: Spread) -> np.ndarray:
    """Two-sided p-value of "the true mean is 0" for each mean, whose shape is that of the spread."""
    size, total = np.abs(np.asarray(mean, dtype=float)), spread.total
    usable = (total > 0) & (total < np.inf)
    chance = chance_beyond(size, plausible(spread.map(lambda part: np.where(usable, part, 1.0))))
    # Without any variation a difference is certain; with an unbounded one nothing is known.
    return np.where(usable, chance, np.where(total > 0, 1.0, size == 0))


def half_width(spread: Spread, alpha: float) -> np.ndarray:
    """Half of the interval at level 1 - ``alpha``: the size whose p-value is ``alpha``, so that both say the same."""
    from scipy.special import stdtrit

    total = spread.total
    usable = (total > 0) & (total < np.inf)
    parts = spread.map(lambda part: np.where(usable, part, 1.0))
    values = plausible(parts)
    # No plausible variance is below that of items and residual, hence the lower bound; the upper one is a guess.
    low = stdtrit(spread.item_df, 1 - alpha / 2) * np.sqrt(parts.items + parts.least) + np.finfo(float).tiny
    of_seeds = stdtrit(spread.seed_df, 1 - alpha / 2) * np.sqrt(parts.seeds) if spread.seed_df else 0.0
    high = np.hypot(low, of_seeds) * 1.01
    while np.any(wide := chance_beyond(high, values) > alpha):
        high = np.where(wide, 2 * high, high)
    found = np.exp(root(lambda x: np.log(chance_beyond(np.exp(x), values) / alpha), np.log(low), np.log(high)))
    return np.where(usable, found, np.where(total > 0, np.inf, 0.0))


def plausible(spread: Spread) -> Plausible:
    """The variances over which a p-value averages; of a single one where nothing is said of other seeds."""
    if spread.seed_df == 0:
        alone, whole = spread.total[..., None], np.ones((*spread.total.shape, 1))
        return Plausible(alone, whole, alone, whole, np.zeros(spread.total.shape), spread.item_df)
    items, both = spread.items, spread.seeds + spread.items
    share = np.divide(items, both, out=np.zeros(both.shape), where=both > 0)
    # With two seeds the hopeful average is far too hopeful even at 5 %: it gets half of its share, then 3/4, 7/8 ...
    hope = share * (1 - 0.5**spread.seed_df)
    return Plausible(
        *variances_from(spread, spread.seed_df), *variances_from(spread, spread.seed_df + 2), hope, spread.item_df
    )


def variances_from(spread: Spread, df: int) -> tuple[np.ndarray, np.ndarray]:
    """Plausible variances of the mean, and their weights, with ``df`` degrees of freedom of chi2.

    A seeds' part below ``least`` cannot be, and counts as ``least``: that is the last of the values.
    """
    from scipy.special import gammainc, gammaincinv, ndtr

    scores = np.linspace(-SPAN, SPAN, NODES)
    density = np.exp(-(scores**2) / 2)
    from_seeds = spread.seed_df / 2 * spread.seeds
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        limit = np.where(spread.seeds > 0, from_seeds / spread.least, 0.0)  # of chi2 / 2; beyond it ``least`` counts
        above = gammainc(df / 2, limit)[..., None]
        half_chi2 = np.maximum(gammaincinv(df / 2, above * ndtr(scores)), np.finfo(float).tiny)
        by_value = from_seeds[..., None] / half_chi2
    variances = np.concatenate([by_value, spread.least[..., None]], axis=-1) + spread.items[..., None]
    # A variance of 0 has no weight here; it only may not divide.
    weights = np.concatenate([above * (density / density.sum()), 1 - above], axis=-1)
    return np.maximum(variances, np.finfo(float).tiny), weights


def chance_beyond(size: np.ndarray, values: Plausible) -> np.ndarray:
    """The p-value of a mean of this size."""
    from scipy.special import stdtr

    def average(variances: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.asarray(np.sum(weights * 2 * stdtr(values.item_df, -size[..., None] / np.sqrt(variances)), axis=-1))

    cautious = average(values.cautious, values.cautious_weights)
    hopeful = average(values.hopeful, values.hopeful_weights)
    # Falls as ``size`` grows: with y = cautious / (cautious + TURN) the slope in ``cautious`` is 1 - hope (2 y - y^2)
    # or more.
    return cautious - values.hope * cautious / (cautious + TURN) * (cautious - hopeful)


def root(function: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where a falling function is 0, element by element, between ``low`` and ``high`` (regula falsi, Illinois rule)."""
    at_low, at_high, before = function(low), function(high), np.zeros(np.shape(low), dtype=int)
    for _ in range(MOST_STEPS):
        share = np.divide(at_low, at_low - at_high, out=np.zeros(np.shape(low)), where=at_low > at_high)
        middle = low + share * (high - low)
        value = function(middle)
        side = np.where(value > 0, 1, -1)
        low, high = np.where(side > 0, middle, low), np.where(side > 0, high, middle)
        # An end that stays twice loses half of its value, so that the next step passes the root and moves it.
        halved = np.where(side == before, 0.5, 1.0)
        at_low = np.where(side > 0, value, at_low * halved)
        at_high = np.where(side > 0, at_high * halved, value)
        before = side
        if np.all((np.abs(value) < PRECISION) | (high - low < PRECISION)):
            break
    return middle

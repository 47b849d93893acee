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

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NODES, SPAN = 65, 8.0  # of the trapezoidal rule over a normal score of chi2: 4 right digits at least, mostly 8
TURN = 0.01  # p-value at which the hopeful average has half of its greatest weight


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

    def only(self, rows: np.ndarray) -> Spread:
        """The same of some means."""
        return Spread(self.seeds[rows], self.items[rows], self.least[rows], self.seed_df, self.item_df)

    def map(self, change: Callable[[np.ndarray], Any]) -> Spread:
        """The same with every part changed: brought to another unit or shape."""
        seeds, items, least = (np.asarray(change(part), dtype=float) for part in (self.seeds, self.items, self.least))
        return Spread(seeds, items, least, self.seed_df, self.item_df)


@dataclass(frozen=True)
class Plausible:
    """Values of the seeds' part that the data leave plausible, and their weights, all [sizes, values].

    ``seeds`` [sizes] is MS_seed; ``hope`` is the greatest weight of the hopeful average where the items are all.
    """

    cautious: np.ndarray
    cautious_weights: np.ndarray
    hopeful: np.ndarray
    hopeful_weights: np.ndarray
    seeds: np.ndarray
    hope: float
    item_df: float

    def only(self, rows: np.ndarray) -> Plausible:
        """The same of some sizes."""
        cautious, hopeful = self.cautious[rows], self.hopeful[rows]
        weights = self.cautious_weights[rows], self.hopeful_weights[rows]
        return Plausible(cautious, weights[0], hopeful, weights[1], self.seeds[rows], self.hope, self.item_df)


def p_value(mean: np.ndarray | float, spread: Spread) -> np.ndarray:
    """Two-sided p-value of "the true mean is 0" for each mean, whose shape is that of the spread."""
    size, total = np.abs(np.asarray(mean, dtype=float)), spread.total
    usable = (total > 0) & (total < np.inf)
    size, usable = np.broadcast_arrays(size, usable)
    flat = spread.map(lambda part: np.where(usable, part, 1.0).ravel())
    chance = tail_beyond(size.ravel(), plausible(flat), flat.items).chance.reshape(size.shape)
    # Without any variation a difference is certain; with an unbounded one, or none that is a number, nothing is known.
    return np.where(usable, chance, np.where(total == 0, size == 0, 1.0))


def by_degrees(spreads: Sequence[Spread]) -> list[tuple[list[int], Spread]]:
    """Spreads of single means put together where their degrees of freedom are the same, with their places."""
    places: dict[tuple[int, float], list[int]] = defaultdict(list)
    for place, spread in enumerate(spreads):
        places[spread.seed_df, spread.item_df].append(place)
    joined = []
    for (seed_df, item_df), own in places.items():
        seeds, items, least = (
            np.array([float(getattr(spreads[n], part)) for n in own]) for part in ("seeds", "items", "least")
        )
        joined.append((own, Spread(seeds, items, least, seed_df, item_df)))
    return joined


def p_values(means: Sequence[float], spreads: Sequence[Spread]) -> np.ndarray:
    """``p_value`` of many single means at once."""
    found = np.zeros(len(spreads))
    for places, spread in by_degrees(spreads):
        found[places] = p_value(np.array([means[n] for n in places]), spread)
    return found


def plausible(spread: Spread) -> Plausible:
    """The seeds' parts over which a p-value averages, [sizes]; a single one where nothing is said of other seeds."""
    df = spread.seed_df
    if df == 0:
        alone, whole = np.maximum(spread.seeds, spread.least)[:, None], np.ones((len(spread.seeds), 1))
        return Plausible(alone, whole, alone, whole, spread.seeds, 0.0, spread.item_df)
    # With two seeds the hopeful average is far too hopeful even at 5 %: it gets half of its share, then 3/4, 7/8 ...
    return Plausible(*parts_from(spread, df), *parts_from(spread, df + 2), spread.seeds, 1 - 0.5**df, spread.item_df)


def parts_from(spread: Spread, df: int) -> tuple[np.ndarray, np.ndarray]:
    """Plausible seeds' parts, and their weights, with ``df`` degrees of freedom of chi2.

    A part below ``least`` cannot be, and counts as ``least``: that is the last of the values.
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
    weights = np.concatenate([above * (density / density.sum()), 1 - above], axis=-1)
    return np.concatenate([by_value, spread.least[..., None]], axis=-1), weights


@dataclass(frozen=True)
class Tail:
    """A p-value of each size, and where it was asked for its slope in the size."""

    chance: np.ndarray
    slope: np.ndarray


def tail_beyond(size: np.ndarray, values: Plausible, items: np.ndarray, growth: np.ndarray | None = None) -> Tail:
    """The p-value of a mean of each size; the slope is that where the items' part grows by ``growth``."""
    cautious = average_tail(size, values.cautious, values.cautious_weights, values.item_df, items, growth)
    if values.hope == 0:
        return cautious
    hopeful = average_tail(size, values.hopeful, values.hopeful_weights, values.item_df, items, growth)
    both, c, gap = values.seeds + items, cautious.chance, cautious.chance - hopeful.chance
    known = both > 0
    hope = values.hope * np.divide(items, both, out=np.zeros(both.shape), where=known)
    turned = c / (c + TURN)
    # Falls as ``size`` grows: with y = cautious / (cautious + TURN) the slope in ``cautious`` is 1 - hope (2 y - y^2)
    # or more.
    chance = c - hope * c / (c + TURN) * gap
    if growth is None:
        return Tail(chance, cautious.slope)
    hope_slope = values.hope * growth * np.divide(values.seeds, both**2, out=np.zeros(both.shape), where=known)
    turned_slope = TURN / (c + TURN) ** 2 * cautious.slope
    less = hope_slope * turned * gap + hope * turned_slope * gap + hope * turned * (cautious.slope - hopeful.slope)
    return Tail(chance, cautious.slope - less)


def average_tail(
    size: np.ndarray, parts: np.ndarray, weights: np.ndarray, df: float, items: np.ndarray, growth: np.ndarray | None
) -> Tail:
    """The mean over plausible seeds' parts of both tails of t beyond each size."""
    from scipy.special import gammaln, stdtr

    # A variance of 0 has no weight here; it only may not divide.
    variances = np.maximum(parts + items[:, None], np.finfo(float).tiny)
    root, x = np.sqrt(variances), size[:, None]
    chance = np.sum(weights * 2 * stdtr(df, -x / root), axis=-1)
    if growth is None:
        return Tail(chance, np.zeros(0))
    top = math.exp(float(gammaln((df + 1) / 2) - gammaln(df / 2))) / math.sqrt(df * math.pi)
    density = top * np.exp(-(df + 1) / 2 * np.log1p(x * x / (df * variances)))
    moved = (1 - x * growth[:, None] / (2 * variances)) / root
    return Tail(chance, -2 * np.sum(weights * density * moved, axis=-1))

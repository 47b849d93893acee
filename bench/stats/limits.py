"""Sizes of a mean at which the test of bench.stats.seed_test begins to reject: half of an interval, or a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.stats.seed_test import Plausible, Spread, by_degrees, plausible, tail_beyond

PRECISION, MOST_STEPS = 1e-10, 200  # of the root that is half an interval, relative
CLOSE = 1e-5  # a step of Newton's of this size leaves an error of about its square
STRIDE, STRIDES = 1.5, 60  # by which a search without an upper end grows, and how often: up to 10^10 times its start
BLOCK = 512  # sizes worked out together: what they need stays in the processor's cache


@dataclass(frozen=True)
class Items:
    """The items' part of a variance as the tested size x moves it, arrays [sizes]: constant + linear x + square x^2.

    It is never below 0.
    """

    constant: np.ndarray
    linear: np.ndarray
    square: np.ndarray

    def at(self, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Value and slope at each size."""
        value = self.constant + (self.linear + self.square * size) * size
        return np.maximum(value, 0.0), np.where(value > 0, self.linear + 2 * self.square * size, 0.0)

    def only(self, rows: np.ndarray) -> Items:
        """The same of some sizes."""
        return Items(self.constant[rows], self.linear[rows], self.square[rows])


def half_width(spread: Spread, alpha: float) -> np.ndarray:
    """Half of the interval at level 1 - ``alpha``: the size whose p-value is ``alpha``, so that both say the same."""
    from scipy.special import stdtrit

    total = spread.total
    usable = (total > 0) & (total < np.inf)
    flat = spread.map(lambda part: np.where(usable, part, 1.0).ravel())
    # No plausible variance is below that of items and residual, hence the lower bound.
    low = stdtrit(flat.item_df, 1 - alpha / 2) * np.sqrt(flat.items + flat.least) + np.finfo(float).tiny
    none = np.zeros(low.shape)
    found = sizes_at(alpha, flat, Items(flat.items, none, none), np.maximum(low, guess(flat, alpha)), low)
    return np.where(usable, found.reshape(total.shape), np.where(total == 0, 0.0, np.inf))


def half_widths(spreads: Sequence[Spread], alpha: float) -> np.ndarray:
    """``half_width`` of many single means at once, some ten times as fast as one by one."""
    found = np.zeros(len(spreads))
    for places, spread in by_degrees(spreads):
        found[places] = half_width(spread, alpha)
    return found


def guess(spread: Spread, alpha: float) -> np.ndarray:
    """About the size whose p-value is ``alpha``: a t quantile with the degrees of freedom of Satterthwaite.

    The quantile is by its expansion in 1 / df (Abramowitz and Stegun, 26.7.5).
    """
    from scipy.special import ndtri

    seeds, z = np.maximum(spread.seeds, spread.least), float(ndtri(1 - alpha / 2))
    df = spread.total**2 / ((seeds**2 / spread.seed_df if spread.seed_df else 0.0) + spread.items**2 / spread.item_df)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return np.asarray((z + sum(term / df**n for n, term in enumerate(terms, 1))) * np.sqrt(spread.total))


def sizes_at(alpha: float, spread: Spread, items: Items, start: np.ndarray, low: np.ndarray) -> np.ndarray:
    """The first size from ``start`` on, all [sizes], whose p-value is ``alpha``; infinite where there is none.

    ``low`` is a size that is too small.  Newton's steps for the logarithms, in which the p-value is nearly straight,
    held within the ends found so far.
    """
    blocks = [np.arange(begin, min(begin + BLOCK, len(start))) for begin in range(0, len(start), BLOCK)]
    found = np.empty(len(start))
    for rows in blocks:
        found[rows] = block_at(alpha, plausible(spread.only(rows)), items.only(rows), start[rows], low[rows])
    return found


def block_at(alpha: float, values: Plausible, items: Items, start: np.ndarray, low: np.ndarray) -> np.ndarray:
    """``sizes_at`` of one block."""
    with np.errstate(divide="ignore"):
        x, low = np.log(start), np.log(low)
    high, end = np.full(x.shape, np.inf), x + STRIDES * math.log(STRIDE)
    found, left = np.full(x.shape, np.inf), np.arange(len(x))
    for _ in range(MOST_STEPS):
        size = np.exp(x)
        part, growth = items.at(size)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            tail = tail_beyond(size, values, part, growth)
            value = np.log(tail.chance / alpha)
            step = -value * tail.chance / (tail.slope * size)
        low, high = np.where(value > 0, x, low), np.where(value > 0, high, x)
        after = held(x, step, value, low, high)
        done = (np.abs(value) < PRECISION) | (high - low < PRECISION) | ((after == x + step) & (np.abs(step) < CLOSE))
        found[left[done]] = np.exp(after[done])
        go_on = ~done & (after <= end)
        if not go_on.any():
            break
        left, x, low, high, end = (each[go_on] for each in (left, after, low, high, end))
        values, items = values.only(go_on), items.only(go_on)
    return found


def held(x: np.ndarray, step: np.ndarray, value: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where a step leads, or the middle of both ends where it leaves them, and a stride where there is one end."""
    after, stride = x + step, math.log(STRIDE)
    with np.errstate(invalid="ignore"):
        away = np.where(value > 0, np.minimum(x + stride, high), np.maximum(x - stride, low))
        middle = np.where(np.isfinite(low) & np.isfinite(high), (low + high) / 2, away)
        inside = (after > low) & (after < high) & np.isfinite(step)
        # Without an upper end no step is longer than a stride, so that none passes over the first root.
        near = (np.abs(step) <= stride) | np.isfinite(high)
    return np.where(np.abs(value) < PRECISION, x, np.where(inside & near, after, middle))

"""What a comparison of two methods can show: the smallest detectable difference, and the seeds that one needs.

Variances are those of a *difference* of two methods' verdicts, ``decompose(a - b)``.  Effects are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.stats.clusters import Labels
from bench.stats.intervals import ALPHA, FEWEST, combine
from bench.stats.limits import half_width
from bench.stats.seed_test import Spread
from bench.stats.variance import Variances, decompose

SUPPORTED, REFUTED, UNDERPOWERED = "supported", "refuted", "underpowered"  # answers to a question about a difference
MARGIN = 0.02  # a difference below two points is called none
VALUES, SPAN = 33, 7.0  # of the seeds' mean square, over a normal score of its chi-square distribution
MOST_SEEDS = 1000
POWER, EFFECTS = 0.8, (0.02, 0.05, 0.10)  # for planning: probability of finding, and what is to be found
# Of a difference of two trained methods: means over the 28 pairs of eight methods on Countdown (tiny model, 3 seeds,
# 500 items, 4 samples).  For planning while there are no runs of one's own; the seeds' part ranged from 0 to .0044.
TYPICAL = Variances(seed=0.0009, item=0.039, interaction=0.027, decoding=0.2)


def check_layout(variances: Variances, num_seeds: int, num_items: int, num_samples: int) -> None:
    """ValueError for unknown components and for layouts that cannot be tested."""
    needed = (variances.item, variances.decoding, *((variances.seed, variances.interaction) if num_seeds > 1 else ()))
    if any(not v >= 0 for v in needed):
        raise ValueError(f"power needs known variances of at least 0, got {variances}: two seeds or more estimate them")
    if num_seeds < 1 or num_items < 2 or num_samples < 1:
        raise ValueError(f"cannot test {num_seeds} seeds x {num_items} items x {num_samples} samples")


@dataclass(frozen=True)
class Planned:
    """A test to come: the sizes of the mean from which it may find a difference, with their weights [values].

    ``truth`` is the variance with which the mean really varies.
    """

    critical: np.ndarray
    weights: np.ndarray
    truth: float

    def power(self, effect: float) -> float:
        """Probability that a true difference of ``effect`` is found."""
        from scipy.special import ndtr

        if self.truth == 0:
            return float(effect != 0)
        # Both sides: a significant difference in the wrong direction counts as found, as in any two-sided test.
        ends = (ndtr((side * effect - self.critical) / math.sqrt(self.truth)) for side in (1, -1))
        return float(self.weights @ sum(ends))


def plan_test(variances: Variances, num_seeds: int, num_items: int, num_samples: int, alpha: float) -> Planned:
    """The test of bench.stats.intervals.paired_difference at level ``alpha``, before there are data.

    The mean square of the seeds varies widely where they are few, so it takes values over its chi-square distribution
    with S - 1 degrees of freedom.  Those of items and residual are taken at their expectations, which is accurate from
    some 50 items on.  One seed: the test is of these very models, and the variance between seeds, which such data
    cannot show, is left out.
    """
    from scipy.special import gammaincinv, ndtr

    check_layout(variances, num_seeds, num_items, num_samples)
    parts = variances.of_mean(num_seeds, num_items, num_samples)
    residual = parts["decoding"] + (0.0 if math.isnan(parts["interaction"]) else parts["interaction"])
    if num_seeds == 1:
        nothing, truth = np.zeros(1), parts["item"] + residual
        spread, weights = Spread(nothing, np.full(1, truth), nothing, 0, num_items - 1), np.ones(1)
    else:
        scores, half_df = np.linspace(-SPAN, SPAN, VALUES), (num_seeds - 1) / 2
        weights = np.exp(-(scores**2) / 2)
        by_seed = (parts["seed"] + residual) * gammaincinv(half_df, ndtr(scores)) / half_df
        # The three arguments are mean squares over S I, the unit of a variance of the mean.
        items, rest = np.full(VALUES, parts["item"] + residual), np.full(VALUES, residual)
        spread = combine(by_seed, items, rest, num_seeds, num_items)
        truth = parts["seed"] + parts["item"] + residual
    return Planned(half_width(spread, alpha), weights / weights.sum(), truth)


def power_of(
    effect: float, variances: Variances, num_seeds: int, num_items: int, num_samples: int, alpha: float = 0.05
) -> float:
    """Probability that the test of bench.stats.intervals.paired_difference finds an effect at level ``alpha``."""
    return plan_test(variances, num_seeds, num_items, num_samples, alpha).power(effect)


def detectable(
    variances: Variances, num_seeds: int, num_items: int, num_samples: int, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Smallest true difference that the paired test finds with probability ``power``; inf if above 1.

    Raises ValueError for unknown components (NaN), fewer than 2 items, or alpha >= power.
    """
    from scipy.optimize import brentq

    if not 0 < alpha < power < 1:
        raise ValueError(f"expected 0 < alpha < power < 1, got alpha {alpha} and power {power}")
    reached = plan_test(variances, num_seeds, num_items, num_samples, alpha).power
    if reached(1.0) < power:
        return math.inf
    if reached(0.0) >= power:  # not with alpha < power, unless nothing varies at all
        return 0.0
    return float(brentq(lambda effect: reached(effect) - power, 0.0, 1.0, xtol=1e-6))


def seeds_needed(
    effect: float,
    variances: Variances,
    num_items: int,
    num_samples: int,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    fewest: int = 2,
) -> int | None:
    """Fewest seeds, at least ``fewest``, with which a true difference is found with probability ``power``.

    None if 1,000 do not suffice: then there are too few items.  The sign of ``effect`` does not matter.
    """
    enough = partial(power_of, abs(effect), variances, num_items=num_items, num_samples=num_samples, alpha=alpha)
    if enough(num_seeds=MOST_SEEDS) < power:
        return None
    # Bisection: power grows with the number of seeds.
    low, high = fewest - 1, MOST_SEEDS  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(num_seeds=middle) >= power else (middle, high)
    return high


def seeds_to_find(
    differences: np.ndarray,
    alpha: float = ALPHA,
    power: float = POWER,
    effects: Sequence[float] = EFFECTS,
    *,
    clusters: Labels | None = None,
    corrected: bool = False,
) -> dict[str, int | None] | None:
    """Planning figures, by effect in points: fewest seeds that find a true difference of that size.

    The effects are stated beforehand, never those observed: seeds for the observed one only say its p-value again.
    ``differences`` is [seeds, items], paired, whatever was averaged to make them; the variances are estimated from
    them, with ``clusters`` as in crossed_interval.  ``corrected``: the test is one of a corrected family, for which
    two seeds are too few.  None with one seed, because the variance between seeds is then
    unknown; None for an effect that no number of seeds finds: then more items are needed.
    """
    num_seeds, num_items = differences.shape
    if num_seeds < 2 or num_items < 2:
        return None
    variances = decompose(differences[:, :, None], clusters)
    if math.isnan(variances.item):
        return None
    test = partial(
        seeds_needed, num_items=num_items, num_samples=1, alpha=alpha, power=power, fewest=FEWEST if corrected else 2
    )
    return {f"{100 * e:g}": test(e, variances) for e in effects}

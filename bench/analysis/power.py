"""Smallest effect that a design detects, and seeds that an effect needs, for the test of bench.analysis.inference.

Effects are fractions; variances are those of what is tested, a paired difference for instance, in fractions squared.
"""

from __future__ import annotations

import math

from bench.analysis.variance import Variances

MOST_SEEDS = 1000


def standard_error(variances: Variances, num_seeds: int, num_items: int, num_samples: int) -> tuple[float, float]:
    """Expected standard error of the mean over seeds x items x samples, and its degrees of freedom.

    As ``variance_of_mean`` finds them on average: Satterthwaite's degrees of freedom at the expected mean squares.  One
    seed: over items only, the seed's own variance is left out.
    """
    noise = variances.interaction + variances.decoding / num_samples
    if num_seeds == 1:
        return math.sqrt((variances.item + noise) / num_items), num_items - 1.0
    ms_seed, ms_item = noise + num_items * variances.seed, noise + num_seeds * variances.item
    total = ms_seed + ms_item - noise
    seed_df, item_df = num_seeds - 1, num_items - 1
    spread = ms_seed**2 / seed_df + ms_item**2 / item_df + noise**2 / (seed_df * item_df)
    least = float(min(seed_df, item_df))
    return math.sqrt(total / (num_seeds * num_items)), max(total**2 / spread, least) if spread > 0 else least


def detectable(
    variances: Variances,
    num_seeds: int,
    num_items: int,
    num_samples: int,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Effect that a two-sided t test at level ``alpha`` finds with probability ``power``.

    The quantiles of the t distribution are added, which overstates the effect of the noncentral t slightly.
    """
    from scipy.special import stdtrit

    se, df = standard_error(variances, num_seeds, num_items, num_samples)
    return float(stdtrit(df, 1 - alpha / 2) + stdtrit(df, power)) * se


def seeds_needed(
    effect: float,
    variances: Variances,
    num_items: int,
    num_samples: int,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int | None:
    """The least number of seeds, from 2 on, that detects an effect; None if ``MOST_SEEDS`` do not."""
    for num_seeds in range(2, MOST_SEEDS + 1):
        if detectable(variances, num_seeds, num_items, num_samples, alpha=alpha, power=power) <= effect:
            return num_seeds
    return None

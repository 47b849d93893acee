"""From an estimated difference to an answer: supported, refuted or underpowered, and the seeds that would settle it."""

from __future__ import annotations

import math

import numpy as np

from bench.analysis.inference import mean_squares

SUPPORTED, REFUTED, UNDERPOWERED = "supported", "refuted", "underpowered"
ALPHA = 0.05
MARGIN = 0.02  # a difference below two points is called none
POWER = 0.8
MAX_SEEDS = 200


def seeds_to_settle(differences: np.ndarray, effect: float, alpha: float = ALPHA) -> int | None:
    """Smallest number of seeds that finds a difference of ``effect`` (a fraction) with power 0.8 at level ``alpha``.

    ``differences`` is [seeds, items], paired.  The variance components come from its two-way layout and the degrees
    of freedom from the expected mean squares (Satterthwaite).  None with one seed, whose variance is unknown, and
    where more than MAX_SEEDS would be needed: then more items are.
    """
    num_seeds, num_items = differences.shape
    if num_seeds < 2 or num_items < 2 or effect == 0:
        return None
    ms_seed, ms_item, ms_residual = mean_squares(differences)
    seed, item = max(ms_seed - ms_residual, 0.0) / num_items, max(ms_item - ms_residual, 0.0) / num_seeds
    parts = (seed, item, ms_residual)
    return next((n for n in range(2, MAX_SEEDS + 1) if finds(effect, parts, n, num_items, alpha)), None)


def finds(effect: float, variances: tuple[float, float, float], num_seeds: int, num_items: int, alpha: float) -> bool:
    """Whether the t test on that many seeds and items finds the effect; variances of seed, item and residual."""
    from scipy.special import stdtrit

    seed, item, residual = variances
    squares = (num_items * seed + residual, num_seeds * item + residual, residual)
    dfs = (num_seeds - 1, num_items - 1, (num_seeds - 1) * (num_items - 1))
    total = squares[0] + squares[1] - squares[2]
    if total == 0:
        return True
    df = max(total**2 / sum(s**2 / d for s, d in zip(squares, dfs)), min(dfs))
    reach = float(stdtrit(df, 1 - alpha / 2)) + float(stdtrit(df, POWER))
    return reach * math.sqrt(total / (num_seeds * num_items)) <= abs(effect)

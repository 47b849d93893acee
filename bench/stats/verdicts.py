"""Answers to a question about a difference, supported, refuted or underpowered, and the seeds that would settle it."""

from __future__ import annotations

import numpy as np

from bench.stats.power import seeds_needed
from bench.stats.variance import decompose

SUPPORTED, REFUTED, UNDERPOWERED = "supported", "refuted", "underpowered"
ALPHA = 0.05
MARGIN = 0.02  # a difference below two points is called none


def seeds_to_settle(differences: np.ndarray, effect: float, alpha: float = ALPHA) -> int | None:
    """Fewest seeds that find a difference of ``effect`` (a fraction) with power 0.8 at level ``alpha``.

    ``differences`` is [seeds, items], paired, whatever was averaged to make them.  None with one seed, whose variance
    is unknown, and where no number of seeds would do: then more items are needed.
    """
    num_seeds, num_items = differences.shape
    if num_seeds < 2 or num_items < 2 or effect == 0:
        return None
    return seeds_needed(effect, decompose(differences[:, :, None]), num_items, 1, alpha=alpha)

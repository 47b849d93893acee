"""Where the variation of accuracies comes from: training seed, item, seed x item, and sampling of completions.

Accuracies are fractions, variances are fractions squared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.stats.clusters import Labels, cluster_numbers, num_clusters
from bench.stats.intervals import mean_squares, spread_of_mean

SOURCES = ("seed", "item", "interaction", "decoding")


@dataclass(frozen=True)
class Variances:
    """Variance components of one verdict; NaN where the data cannot tell (one seed, one item).

    ``interaction`` is what a seed does to an item beyond both averages.  ``decoding`` is what differs between two
    samples of one model on one item.
    """

    seed: float
    item: float
    interaction: float
    decoding: float

    def of_mean(self, num_seeds: int, num_items: int, num_samples: int) -> dict[str, float]:
        """What each source adds to the variance of a mean over seeds x items x samples."""
        cells = num_seeds * num_items
        return {
            "seed": self.seed / num_seeds,
            "item": self.item / num_items,
            "interaction": self.interaction / cells,
            "decoding": self.decoding / (cells * num_samples),
        }


def decompose(correct: np.ndarray, clusters: Labels | None = None) -> Variances:
    """Variance components of verdicts, or of their differences, [seeds, items, samples], floored at 0.

    Method of moments.  The variance within cells is ``decoding``.  The mean squares of the cells' means, over K samples
    each, give the other three by their expectations:
        E MS_residual = interaction + decoding / K
        E MS_seed     = E MS_residual + I seed
        E MS_item     = E MS_residual + S item
    ``clusters`` are labels of the items, as in crossed_interval: ``item`` and ``interaction`` are then those that
    independent items would need for the same variance of the mean.
    With one sample per item decoding cannot be told from the interaction, which then holds both.  With one seed, seed
    and interaction are NaN, and ``item`` holds the interaction too.  Raises ValueError for another shape or an empty
    axis.
    """
    if correct.ndim != 3 or 0 in correct.shape:
        raise ValueError(f"verdicts must be [seeds, items, samples] with at least one of each, got {correct.shape}")
    scores = np.asarray(correct, dtype=float)
    num_seeds, num_items, num_samples = scores.shape
    # ddof=1: with few samples the divisor K would make decoding too small and the interaction too large.
    decoding = float(scores.var(axis=2, ddof=1).mean()) if num_samples > 1 else 0.0
    # A cell's mean over K samples carries decoding / K, which would otherwise count as interaction.
    cells, noise = scores.mean(axis=2), decoding / num_samples
    groups = cluster_numbers(clusters)
    if num_clusters(groups, num_items) == 1:
        return Variances(math.nan, math.nan, math.nan, decoding)
    if num_seeds == 1:
        of_one = float(cells[0].var(ddof=1) if groups is None else num_items * spread_of_mean(cells, groups).total)
        return Variances(math.nan, max(of_one - noise, 0.0), math.nan, decoding)
    ms_seed, ms_item, ms_residual = map(float, mean_squares(cells, groups))
    return Variances(
        # These differences are unbiased but can fall below 0, which no variance does; the floor costs a little bias.
        max((ms_seed - ms_residual) / num_items, 0.0),
        max((ms_item - ms_residual) / num_seeds, 0.0),
        max(ms_residual - noise, 0.0),
        decoding,
    )


def variance_shares(parts: Mapping[str, float]) -> dict[str, float]:
    """Shares of a sum of variances (``Variances.of_mean``), over the parts that are known; 0 where nothing varies."""
    total = sum(v for v in parts.values() if not math.isnan(v))
    return {name: value / total if total > 0 else 0.0 for name, value in parts.items()}


def most_helpful(variances: Variances, num_seeds: int, num_items: int, num_samples: int) -> str | None:
    """Of "seeds", "items" and "samples" the one whose doubling lowers the variance of the mean most.

    None when a component is unknown or nothing varies.
    """
    sizes = {"seeds": num_seeds, "items": num_items, "samples": num_samples}

    def variance(doubled: str | None) -> float:
        counts = [n * (2 if name == doubled else 1) for name, n in sizes.items()]
        return sum(variances.of_mean(counts[0], counts[1], counts[2]).values())

    now = variance(None)
    if not now > 0:  # NaN too
        return None
    return min(sizes, key=variance)

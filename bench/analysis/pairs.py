"""Every pairwise test of the methods of one table, corrected by family, and the letters of their ties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from bench.analysis.runs import Scores
from bench.stats.intervals import Difference, paired_difference, tie_groups
from bench.stats.tests import holm_by_family

ALPHA = 0.05


@dataclass(frozen=True)
class Pair:
    """Two methods of one table, the more accurate first: mean of first - second, and its Holm-adjusted p-value."""

    first: str
    second: str
    difference: Difference
    adjusted: float


def tested(scores: Mapping[str, Scores]) -> tuple[list[str], tuple[Pair, ...], dict[str, str]]:
    """Methods from the best to the worst mean, every pairwise test, and the letters of ties."""
    order = sorted(scores, key=lambda m: (-scores[m].values.mean(), m))
    names = list(combinations(order, 2))
    tests = [paired_difference(scores[a].values, scores[b].values, scores[a].seeds, scores[b].seeds) for a, b in names]
    adjusted = holm_by_family(["base" in pair for pair in names], [t.p_value for t in tests])
    pairs = tuple(Pair(a, b, t, p) for (a, b), t, p in zip(names, tests, adjusted))
    return order, pairs, tie_groups(order, {(p.first, p.second): p.adjusted for p in pairs}, ALPHA)

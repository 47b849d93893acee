"""What training leaves of the untrained model's abilities: figures after it over base's on the same problems.

Base is the control: the mean of all its runs stands against every run of a method.  Items that share a label count
together (``shared_clusters``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bench.analysis.runs import Scores, paired_values, pooled_values, shared_clusters
from bench.stats.intervals import SAMPLED, Interval
from bench.stats.ratios import Ratios, ratio_intervals
from bench.types import UserError


def base_means(after: Mapping[str, Scores], base: Mapping[str, Scores | None]) -> dict[str, np.ndarray]:
    """Base's scores [items] by name, where it was judged and is ever right: else there is nothing to retain.

    UserError where it was judged on other items than the method.
    """
    known = {name: pooled_values(scores)[0] for name in after if (scores := base.get(name)) is not None}
    for name, bottom in known.items():
        if bottom.size != after[name].values.shape[1]:
            raise UserError(
                f"'{name}': base was judged on {bottom.size} items, others on {after[name].values.shape[1]}"
            )
    return {name: bottom for name, bottom in known.items() if bottom.mean() > 0}


def kept_ratios(after: Mapping[str, Scores], base: Mapping[str, Scores | None]) -> dict[str, Ratios]:
    """The share that one method retained, by name."""
    return {
        name: Ratios([pooled_values(after[name])], [bottom], [labels_of(after[name], base[name])])
        for name, bottom in base_means(after, base).items()
    }


def gained_ratios(
    a: Mapping[str, Scores], b: Mapping[str, Scores], base: Mapping[str, Scores | None]
) -> dict[str, Ratios]:
    """By how much a's share exceeds b's, by name; the two are paired by problem and by seed."""
    ratios = {}
    for name, bottom in base_means({name: a[name] for name in a if name in b}, base).items():
        values_a, values_b = paired_values(a[name], b[name])
        ratios[name] = Ratios([values_a - values_b], [bottom], [labels_of(a[name], b[name], base[name])])
    return ratios


def labels_of(*scores: Scores | None) -> tuple[str, ...] | None:
    """The items' labels by any of these."""
    return shared_clusters(*(s for s in scores if s is not None))


def joined(ratios: Mapping[str, Ratios]) -> Ratios | None:
    """The ratios of several names as one, whose mean is that of all; None if there are none."""
    if not ratios:
        return None
    each = ratios.values()
    return Ratios([r.tops[0] for r in each], [r.bottoms[0] for r in each], [r.clusters[0] for r in each])


def share_intervals(ratios: Sequence[tuple[Ratios, bool]]) -> list[Interval]:
    """Retained shares, each with whether it is the control's: of the control they are 1 by definition."""
    found = ratio_intervals([r for r, control in ratios if not control])
    left = iter(found)
    intervals = [Interval(1.0, 1.0, 1.0, 0.0, SAMPLED) if control else next(left) for _, control in ratios]
    return [replace(interval, mean=r.mean) for interval, (r, _) in zip(intervals, ratios)]

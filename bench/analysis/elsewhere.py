"""What a method can do away from what it was trained on: harder problems, other words, other tasks.

Accuracies are fractions with the interval of the main table; a retained share is an accuracy after training divided by
base's on the same problems, and may exceed 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench.analysis.inference import Interval, crossed_interval
from bench.analysis.runs import RunRecord, Scores, method_scores

OTHER = "other:"
NONE = np.zeros(0, dtype=bool)  # elsewhere greedy verdicts are not looked at


@dataclass(frozen=True)
class Elsewhere:
    """One method's accuracies elsewhere; None and missing tasks: not every run of the method was judged there.

    ``others`` and ``kept`` are by task; ``kept`` is the retained share, without tasks on which base is never right.
    """

    ood: Interval | None = None
    reworded: Interval | None = None
    others: Mapping[str, Interval] = field(default_factory=dict)
    kept: Mapping[str, float] = field(default_factory=dict)

    @property
    def retained(self) -> float | None:
        """Mean of the retained shares over the other tasks, None if there are none."""
        return float(np.mean(list(self.kept.values()))) if self.kept else None

    def __bool__(self) -> bool:
        return bool(self.ood or self.reworded or self.others)


def scores(runs: Sequence[RunRecord], split: str) -> Scores | None:
    """Scores of one method on a split elsewhere, None unless all its runs were judged there."""
    if not runs or any(split not in r.elsewhere for r in runs):
        return None
    judged = [(r, r.elsewhere[split]) for r in runs]
    return method_scores([replace(r, item_ids=j.item_ids, correct=j.correct, greedy=NONE) for r, j in judged])


def elsewhere(runs: Sequence[RunRecord], base: Sequence[RunRecord]) -> Elsewhere:
    """What the runs of one method show elsewhere; ``base`` are the runs of the untrained model, possibly none."""
    splits = dict.fromkeys(split for r in runs for split in r.elsewhere)
    found = {split: of_split for split in splits if (of_split := scores(runs, split)) is not None}
    intervals = {split: crossed_interval(of_split.values) for split, of_split in found.items()}
    kept = {}
    for split, after in found.items():
        before = scores(base, split) if split.startswith(OTHER) else None
        if before is not None and (share := retained(after, before)) is not None:
            kept[split.removeprefix(OTHER)] = share
    others = {s.removeprefix(OTHER): interval for s, interval in sorted(intervals.items()) if s.startswith(OTHER)}
    return Elsewhere(intervals.get("ood"), intervals.get("reworded"), others, kept)


def retained(after: Scores, before: Scores) -> float | None:
    """Mean accuracy after training divided by base's, None where base is never right.

    Each run is set against the base run of its seed, or against the mean of all base runs where there is none.
    """
    by_seed = dict(zip(before.seeds, before.values.mean(axis=1)))
    paired = [by_seed.get(seed, before.values.mean()) for seed in after.seeds]
    return float(after.values.mean() / np.mean(paired)) if np.mean(paired) > 0 else None


def as_fields(found: Elsewhere) -> dict[str, Any]:
    """Flat fields for JSON and CSV, all fractions."""
    fields: dict[str, Any] = {}
    named = {"ood": found.ood, "reworded": found.reworded, **{f"other_{t}": i for t, i in found.others.items()}}
    for name, interval in named.items():
        limits = (None, None, None) if interval is None else (interval.mean, interval.low, interval.high)
        fields |= dict(zip((name, f"{name}_low", f"{name}_high"), limits))
    return {**fields, "retained": found.retained, **{f"retained_{task}": share for task, share in found.kept.items()}}

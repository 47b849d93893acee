"""The policy of each run's best validation beside its last one: test accuracy, and when it was reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis.runs import RunRecord, method_scores
from bench.analysis.transfer import scores_elsewhere
from bench.stats.intervals import Interval, crossed_interval
from bench.store.run_folder import SELECTED


@dataclass(frozen=True)
class Selected:
    """Test accuracy of one method's selected policies; ``fractions`` of the budget by ascending seed, 1 is the end."""

    accuracy: Interval
    fractions: tuple[float, ...]


def selected(runs: Sequence[RunRecord]) -> Selected | None:
    """What one method's selected policies reach, None unless every run has one."""
    scores = method_scores(runs) if runs[0].split == SELECTED else scores_elsewhere(runs, SELECTED)
    by_seed = {r.seed: r.selected_fraction for r in runs}
    fractions = tuple(fraction for _, fraction in sorted(by_seed.items()) if fraction is not None)
    if scores is None or len(fractions) < len(by_seed):
        return None
    return Selected(crossed_interval(scores.values), fractions)


def selected_fields(selection: Selected | None) -> Mapping[str, Any]:
    """Flat fields for JSON and CSV: fractions, those of the budget separated by blanks in the order of the seeds."""
    names = ("selected_accuracy", "selected_low", "selected_high", "selected_fractions")
    if selection is None:
        return dict.fromkeys(names)
    interval, where = selection.accuracy, " ".join(f"{fraction:g}" for fraction in selection.fractions)
    return dict(zip(names, (interval.mean, interval.low, interval.high, where)))

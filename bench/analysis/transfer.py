"""What a method can do beyond its table's split: harder problems, other words, other tasks, base skills, best policy.

Accuracies are fractions with the interval of the main table; a retained share is a figure after training divided by
base's on the same problems, and may exceed 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from bench.analysis.retained import joined, kept_ratios, share_intervals
from bench.analysis.runs import BASE, RunRecord, Scores, method_scores, scores_intervals
from bench.stats.intervals import Interval, interval_fields
from bench.stats.ratios import Ratios
from bench.store.run_folder import SELECTED

OTHER = "other:"
SKILL = "skill:"
T = TypeVar("T")
NONE = np.zeros(0, dtype=bool)  # greedy verdicts play no part here


@dataclass(frozen=True)
class Elsewhere:
    """One method's figures elsewhere.  None or a missing name: not every run of the method was judged there.

    ``others`` and ``kept`` are by task, ``skills`` and ``skills_kept`` by skill; ``formats`` is the share of readable
    answers on each other task, ``formats_kept`` its retained share.  Retained shares leave out the tasks and skills on
    which base is never right, or never readable: there it has nothing to lose.  ``retained`` and ``retained_skills``
    are means over the tasks and over the skills.  Readable answers are not stored by problem, hence no limits.
    """

    ood: Interval | None = None
    reworded: Interval | None = None
    others: Mapping[str, Interval] = field(default_factory=dict)
    kept: Mapping[str, Interval] = field(default_factory=dict)
    retained: Interval | None = None
    skills: Mapping[str, Interval] = field(default_factory=dict)
    skills_kept: Mapping[str, Interval] = field(default_factory=dict)
    retained_skills: Interval | None = None
    formats: Mapping[str, float] = field(default_factory=dict)
    formats_kept: Mapping[str, float] = field(default_factory=dict)

    @property
    def retained_format(self) -> float | None:
        """Mean over the other tasks of the retained share of readable answers, None if there are none."""
        return float(np.mean(list(self.formats_kept.values()))) if self.formats_kept else None

    def __bool__(self) -> bool:
        return bool(self.ood or self.reworded or self.others or self.skills)


def scores_elsewhere(runs: Sequence[RunRecord], split: str) -> Scores | None:
    """Accuracies of one method on a split elsewhere; None unless all its runs were judged there."""
    # All seeds or none: a mean over the seeds that happen to be there could not be compared.
    if not runs or any(split not in r.elsewhere for r in runs):
        return None
    judged = [(r, r.elsewhere[split]) for r in runs]
    return method_scores(
        [replace(r, item_ids=j.item_ids, correct=j.correct, greedy=NONE, clusters=j.clusters) for r, j in judged]
    )


def readable_scores(runs: Sequence[RunRecord], split: str) -> Scores | None:
    """Shares [seeds, 1] of readable answers of one method on a split elsewhere; None unless all its runs have one."""
    by_seed = {r.seed: r.elsewhere[split].formatted for r in runs if split in r.elsewhere}
    shares = [share for _, share in sorted(by_seed.items()) if share is not None]
    if not runs or len(shares) < len({r.seed for r in runs}):
        return None
    return Scores(tuple(sorted(by_seed)), np.array(shares)[:, None])


def judged_elsewhere(runs: Sequence[RunRecord]) -> dict[str, Scores]:
    """Accuracies of one method on every split elsewhere on which all its runs were judged."""
    splits = sorted({split for r in runs for split in r.elsewhere})
    return {split: scores for split in splits if (scores := scores_elsewhere(runs, split)) is not None}


def figures_elsewhere(several: Sequence[Sequence[RunRecord]], base: Sequence[RunRecord]) -> list[Elsewhere]:
    """What the runs of each of several methods show elsewhere; ``base`` are those of the untrained model, or none."""
    before, judged = judged_elsewhere(base), [judged_elsewhere(runs) for runs in several]
    controls = [runs[0].method == BASE for runs in several]
    ratios = [
        {key: (of_key, control) for key, of_key in shares_kept(after, before).items()}
        for after, control in zip(judged, controls)
    ]
    intervals, shares = solved(judged, scores_intervals), solved(ratios, share_intervals)
    return [elsewhere(runs, base, *figures) for runs, figures in zip(several, zip(judged, intervals, shares))]


def shares_kept(after: Mapping[str, Scores], before: Mapping[str, Scores]) -> dict[str, Ratios]:
    """The share that one method retained on each other task and skill, and under OTHER and SKILL alone of all these."""
    found: dict[str, Ratios] = {}
    for kind in (OTHER, SKILL):
        kept = kept_ratios(by_name(kind, after), by_name(kind, before))
        found |= {kind + name: of_name for name, of_name in kept.items()}
        found |= {kind: whole} if (whole := joined(kept)) else {}
    return found


def solved(several: Sequence[Mapping[str, T]], solve: Callable[[list[T]], list[Interval]]) -> list[dict[str, Interval]]:
    """The values of several mappings replaced by what a function makes of them all at once."""
    found = iter(solve([value for values in several for value in values.values()]))
    return [{key: next(found) for key in values} for values in several]


def elsewhere(
    runs: Sequence[RunRecord],
    base: Sequence[RunRecord],
    judged: Mapping[str, Scores],
    intervals: Mapping[str, Interval],
    shares: Mapping[str, Interval],
) -> Elsewhere:
    """One method's figures from what was worked out of them."""
    readable = {split: of_split for split in judged if (of_split := readable_scores(runs, split)) is not None}
    read_before = {split: readable_scores(base, split) for split in readable}
    kept, skills_kept = ({k: v for k, v in by_name(kind, shares).items() if k} for kind in (OTHER, SKILL))
    return Elsewhere(
        ood=intervals.get("ood"),
        reworded=intervals.get("reworded"),
        others=by_name(OTHER, intervals),
        kept=kept,
        retained=shares.get(OTHER),
        skills=by_name(SKILL, intervals),
        skills_kept=skills_kept,
        retained_skills=shares.get(SKILL),
        formats={task: float(of_task.values.mean()) for task, of_task in by_name(OTHER, readable).items()},
        formats_kept=retained_formats(by_name(OTHER, readable), by_name(OTHER, read_before)),
    )


def by_name(kind: str, by_split: Mapping[str, T]) -> dict[str, T]:
    """The splits of one kind (OTHER or SKILL), by the name of the task or skill."""
    return {split.removeprefix(kind): value for split, value in by_split.items() if split.startswith(kind)}


def scores_by_name(kind: str, runs: Sequence[RunRecord]) -> dict[str, Scores]:
    """Accuracies of one method on the splits of one kind on which all its runs were judged, by task or skill."""
    splits = sorted({split for r in runs for split in r.elsewhere if split.startswith(kind)})
    judged = {split: scores for split in splits if (scores := scores_elsewhere(runs, split)) is not None}
    return by_name(kind, judged)


def retained_formats(after: Mapping[str, Scores], before: Mapping[str, Scores | None]) -> dict[str, float]:
    """Shares of readable answers after training divided by base's, by task, where base has any."""
    known = {task: base.values.mean() for task in after if (base := before[task]) is not None}
    return {task: float(after[task].values.mean() / share) for task, share in known.items() if share > 0}


def elsewhere_fields(figures: Elsewhere) -> dict[str, Any]:
    """Flat fields for JSON and CSV, all fractions."""
    fields: dict[str, Any] = {}
    splits = {"ood": figures.ood, "reworded": figures.reworded, **{f"other_{t}": i for t, i in figures.others.items()}}
    splits |= {f"skill_{skill}": interval for skill, interval in figures.skills.items()}
    for name, interval in splits.items():
        fields |= interval_fields(name, interval)
    fields |= {f"format_{task}": share for task, share in figures.formats.items()}
    shares = {"retained": figures.retained, **{f"retained_{task}": share for task, share in figures.kept.items()}}
    shares |= {"retained_skills": figures.retained_skills}
    shares |= {f"retained_skill_{skill}": share for skill, share in figures.skills_kept.items()}
    for name, interval in shares.items():
        fields |= interval_fields(name, interval)
    fields |= {"retained_format": figures.retained_format}
    return {**fields, **{f"retained_format_{task}": share for task, share in figures.formats_kept.items()}}


# --- the policy of each run's best validation beside its last one ---------------------------------------------------


@dataclass(frozen=True)
class Selected:
    """Test accuracy of one method's selected policies; ``fractions`` of the budget by ascending seed, 1 is the end."""

    accuracy: Interval
    fractions: tuple[float, ...]


def selected(several: Sequence[Sequence[RunRecord]]) -> list[Selected | None]:
    """What the selected policies of each of several methods reach, None unless every run of it has one."""
    scores, fractions = [], []
    for runs in several:
        own = method_scores(runs) if runs[0].split == SELECTED else scores_elsewhere(runs, SELECTED)
        by_seed = {r.seed: r.selected_fraction for r in runs}
        known = tuple(fraction for _, fraction in sorted(by_seed.items()) if fraction is not None)
        scores.append(own if len(known) == len(by_seed) else None)
        fractions.append(known)
    intervals = iter(scores_intervals([own for own in scores if own is not None]))
    return [None if own is None else Selected(next(intervals), known) for own, known in zip(scores, fractions)]


def selected_fields(selection: Selected | None) -> Mapping[str, Any]:
    """Flat fields for JSON and CSV: fractions, those of the budget separated by blanks in the order of the seeds."""
    names = ("selected_accuracy", "selected_low", "selected_high", "selected_fractions")
    if selection is None:
        return dict.fromkeys(names)
    interval, where = selection.accuracy, " ".join(f"{fraction:g}" for fraction in selection.fractions)
    return dict(zip(names, (interval.mean, interval.low, interval.high, where)))

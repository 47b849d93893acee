"""Who wins when another currency is equal: methods at one amount of it, read off their learning curves.

The amount is the least that any run which uses the currency had spent at its end, so that no curve is extrapolated.
For a table's figures it is the least of all its runs, for the test of two methods the least of their own, so that no
third method changes it.  A method that uses none of the currency is not limited by it and stands at its end.  One
whose first validation had spent more is not measured there: nothing is read off between it and the untrained model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.analysis.contests import Contest, Pair, board_setting, contests
from bench.analysis.metrics import ACCURACY
from bench.analysis.run_curves import RunCurve, run_curves
from bench.analysis.runs import RunRecord, Scores, by_table, scores_interval
from bench.stats.intervals import Interval, crossed_interval
from bench.types import UserError

MEASURED, FREE, UNMEASURED = "measured", "not limited", "not measured"
WORDS = {
    FREE: "uses none of it, so it is not limited by it: shown at its end",
    UNMEASURED: "its first validation had spent more, so it has no rank and no letter",
}
ASK_RUNS = "what a method makes of less data is answered by runs with --train-size"


@dataclass(frozen=True)
class EqualRow:
    """One method at the common amount; where its state is UNMEASURED, ``score`` is None and ``ties`` empty.

    ``spent`` is the mean over the runs of what they had spent at their end.
    """

    method: str
    state: str  # MEASURED, FREE or UNMEASURED
    score: Interval | None
    ties: str
    spent: float
    num_seeds: int
    runs: tuple[str, ...]


@dataclass(frozen=True)
class EqualTable:
    """Methods of one comparison at one amount of a currency, best first, and the tests of those that are measured.

    Each pair is tested at its own amount (``pair_scores``), ``rows`` are at that of the table.  In a pair the method
    that is higher in ``rows`` is the first; where it is the lower one at the pair's amount they share a letter.
    ``amount`` is None when no method uses the currency: then all stand at their ends.
    """

    currency: str
    amount: float | None
    rows: tuple[EqualRow, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Comparison:
    """The runs of one comparison as learning curves by method; ``record`` is one run, for what all share."""

    record: RunRecord
    curves: Mapping[str, Sequence[RunCurve]]
    metric: str = ACCURACY

    @property
    def num_items(self) -> int:
        """Items of the validation split."""
        return next((len(run.item_ids) for runs in self.curves.values() for run in runs), 0)


def comparisons(records: Sequence[RunRecord], metric: str) -> list[Comparison]:
    """Runs by comparison and protocol, in the order of the leaderboard's tables, with their learning curves."""
    return [Comparison(group[0], run_curves(group, metric), metric) for group in by_table(records)]


def at_equal(comparisons: Sequence[Comparison], currency: str) -> list[EqualTable]:
    """The methods of each comparison at an equal amount of one currency, by their validations.

    Pairs are tested and corrected as on a leaderboard, within this currency and over all comparisons of one setting.
    """
    amounts = [common_amount(comparison.curves, currency) for comparison in comparisons]
    states = [
        {method: score_state(runs, currency, amount) for method, runs in comparison.curves.items()}
        for comparison, amount in zip(comparisons, amounts)
    ]
    scores = [
        {m: scores_at(comparison.curves[m], currency, amount) for m in known if known[m] != UNMEASURED}
        for comparison, amount, known in zip(comparisons, amounts, states)
    ]

    def sides(number: int, a: str, b: str) -> tuple[Scores, Scores]:
        curves = comparisons[number].curves
        return pair_scores(curves[a], curves[b], currency)

    # Methods that are not measured are in no test, so they do not enlarge the family of Holm's correction.
    results = contests(scores, [board_setting(comparison.record) for comparison in comparisons], sides)
    return [equal_table(*parts, currency) for parts in zip(comparisons, amounts, states, scores, results)]


def equal_table(
    comparison: Comparison,
    amount: float | None,
    states: Mapping[str, str],
    scores: Mapping[str, Scores],
    contest: Contest,
    currency: str,
) -> EqualTable:
    """One comparison's table; methods that are not measured at the amount come last."""
    curves = comparison.curves
    rows = [
        EqualRow(
            method=method,
            state=states[method],
            score=scores_interval(scores[method]) if method in scores else None,
            ties=contest.letters.get(method, ""),
            spent=float(np.mean([run.spent(currency)[-1] for run in curves[method]])),
            num_seeds=len(curves[method]),
            runs=tuple(run.path for run in curves[method]),
        )
        for method in (*contest.order, *sorted(curves.keys() - scores.keys()))
    ]
    return EqualTable(currency, amount, tuple(rows), contest.pairs)


def common_amount(curves: Mapping[str, Sequence[RunCurve]], currency: str) -> float | None:
    """The least amount that a run which uses the currency had spent at its end, None if no run uses it."""
    ends = [float(run.spent(currency)[-1]) for runs in curves.values() for run in runs]
    return min((end for end in ends if end > 0), default=None)


def pair_amount(a: Sequence[RunCurve], b: Sequence[RunCurve], currency: str) -> float | None:
    """The amount at which two methods are compared: the least that one of their own runs had spent at its end."""
    return common_amount({"a": a, "b": b}, currency)


def pair_scores(a: Sequence[RunCurve], b: Sequence[RunCurve], currency: str) -> tuple[Scores, Scores]:
    """Scores of two methods at their own equal amount, whatever other methods there are."""
    amount = pair_amount(a, b, currency)
    return scores_at(a, currency, amount), scores_at(b, currency, amount)


def score_state(runs: Sequence[RunCurve], currency: str, amount: float | None) -> str:
    """How a method's scores at an amount come about: MEASURED, FREE or UNMEASURED."""
    if amount is None or all(run.spent(currency)[-1] == 0 for run in runs):
        return FREE
    return UNMEASURED if any(amount < first_measured(run, currency) for run in runs) else MEASURED


def first_measured(run: RunCurve, currency: str) -> float:
    """What a run had spent at its first validation after training began."""
    return float(run.spent(currency)[1 if run.from_base else 0])


def scores_at(runs: Sequence[RunCurve], currency: str, amount: float | None) -> Scores:
    """Scores [seeds, items] of a method's runs at an amount, at their ends if there is none."""
    by_seed: dict[int, RunCurve] = {}
    for run in runs:
        if by_seed.setdefault(run.seed, run) is not run:
            raise UserError(f"two runs of {run.method} with seed {run.seed}: {by_seed[run.seed].path} and {run.path}")
        if run.item_ids != runs[0].item_ids:
            raise UserError(f"runs of one comparison judged on different items: {runs[0].path} and {run.path}")
    ordered = [by_seed[seed] for seed in sorted(by_seed)]
    # Interpolated item by item, not in the mean: the paired test needs a score for each item.
    rows = [run.scores[-1] if amount is None else run.at(currency, amount) for run in ordered]
    values = np.stack([row for row in rows if row is not None])
    return Scores(tuple(sorted(by_seed)), values, control=runs[0].method == "base", clusters=labels_of(runs))


def labels_of(runs: Sequence[RunCurve]) -> tuple[str, ...] | None:
    """Labels of the items of these runs, None where none of them recorded any."""
    return next((run.clusters for run in runs if run.clusters is not None), None)


# --- whole curves ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reached:
    """The amount at which a mean curve first reaches a level; None if it does not within its budget.

    ``earliest`` and ``latest`` are where the upper and the lower limit of its interval first reach it.
    """

    amount: float | None
    earliest: float | None
    latest: float | None


@dataclass(frozen=True)
class CurveSummary:
    """One method's learning curve: its points (amount, interval), its normalised area, and when it reaches a level."""

    method: str
    points: tuple[tuple[float, Interval], ...]
    area: Interval | None
    reached: Reached


def crossing(amounts: Sequence[float], heights: Sequence[float], level: float) -> float | None:
    """The first amount at which the polyline through these points reaches a level; None if it never does."""
    for n, (amount, height) in enumerate(zip(amounts, heights)):
        if height >= level:
            if n == 0:
                return float(amount)
            # height >= level > heights[n - 1] here, so the divisor is positive.
            share = (level - heights[n - 1]) / (height - heights[n - 1])
            return float(amounts[n - 1] + share * (amount - amounts[n - 1]))
    return None


def budget_to_reach(points: Sequence[tuple[float, Interval]], level: float) -> Reached:
    """The amount at which a method's curve reaches a level (a fraction), and those at which its limits do."""
    amounts = [amount for amount, _ in points]
    # The upper limit reaches a level before the mean does, the lower one after it: these are earliest and latest.
    lines = ([i.mean for _, i in points], [i.high for _, i in points], [i.low for _, i in points])
    return Reached(*(crossing(amounts, line, level) for line in lines))


def pooled(runs: Sequence[RunCurve], currency: str) -> tuple[tuple[float, Interval], ...]:
    """Mean amount and mean score of a method at each share of the budget at which all its runs were validated."""
    shared = [f for f in runs[0].fractions if all(f in run.fractions for run in runs)]
    points = []
    for fraction in shared:
        # Runs can have spent different amounts at one share of the budget, so both coordinates are means.
        where = [run.fractions.index(fraction) for run in runs]
        amount = float(np.mean([run.spent(currency)[n] for run, n in zip(runs, where)]))
        scores = np.stack([run.scores[n] for run, n in zip(runs, where)])
        points.append((amount, crossed_interval(scores, clusters=labels_of(runs))))
    return tuple(points)


def area_under(runs: Sequence[RunCurve], currency: str, low: float, high: float) -> Interval | None:
    """Mean height of the curves between two amounts (area over width), with its interval over seeds and items.

    None where a curve begins later or ends earlier, or where there is no width.
    """
    if high <= low or any(run.spent(currency)[0] > low or run.spent(currency)[-1] < high for run in runs):
        return None
    heights = []
    for run in runs:
        spent = run.spent(currency)
        amounts, lines = [low], [run.at(currency, low)]
        for x, line in zip(spent, run.scores):
            if low < x <= high:
                amounts.append(float(x))
                lines.append(line)
        if amounts[-1] < high:
            amounts.append(high)
            lines.append(run.at(currency, high))
        known = np.stack([line for line in lines if line is not None])
        # One area per item and seed, so that its interval covers both, as that of an accuracy does.
        heights.append(np.trapezoid(known, amounts, axis=0) / (high - low))
    return crossed_interval(np.stack(heights), clusters=labels_of(runs))


def curve_summaries(
    curves: Mapping[str, Sequence[RunCurve]], currency: str, level: float | None = None
) -> tuple[list[CurveSummary], float, float, float]:
    """Every method's curve against a currency, the largest area first; then the level, and the ends of the areas.

    Areas go from the amount at which all curves have begun to the common amount.  The level is by default the lowest
    end of the trained methods: all of them reach it.
    """
    trained = {m: runs for m, runs in curves.items() if any(run.spent(currency)[-1] > 0 for run in runs)}
    low = max((float(run.spent(currency)[0]) for runs in trained.values() for run in runs), default=0.0)
    high = common_amount(curves, currency) or 0.0
    points = {method: pooled(runs, currency) for method, runs in trained.items()}
    ends = [line[-1][1].mean for line in points.values() if line]
    wanted = min(ends, default=0.0) if level is None else level
    ranked = [
        CurveSummary(
            method, points[method], area_under(runs, currency, low, high), budget_to_reach(points[method], wanted)
        )
        for method, runs in trained.items()
    ]
    ranked.sort(key=lambda s: (-(s.area.mean if s.area else -1.0), s.method))
    return ranked, wanted, low, high

"""All methods of one comparison against each other, and Holm's correction over everything that is shown together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from bench.analysis.metrics import ACCURACY
from bench.analysis.runs import RunRecord, Scores, method_scores, same_items
from bench.stats.intervals import ALPHA, Difference, paired_difference, tie_groups
from bench.stats.tests import holm_by_family
from bench.types import UserError


def setting(record: RunRecord) -> tuple[object, ...]:
    """What tables over different tasks and levels must share to be read together."""
    r = record
    return r.model, r.template, r.data, r.budget_unit, r.budget_limit, r.protocol, r.split


@dataclass(frozen=True)
class Pair:
    """Two methods of one table, the more accurate first: mean of first - second, and its Holm-adjusted p-value."""

    first: str
    second: str
    difference: Difference
    adjusted: float


@dataclass(frozen=True)
class Contest:
    """Methods of one comparison, best first, and the uncorrected tests of all pairs; ``record`` is one run."""

    record: RunRecord
    runs: Mapping[str, Sequence[RunRecord]]
    scores: Mapping[str, Scores]
    order: Sequence[str]
    tests: Mapping[tuple[str, str], Difference]


def contest(records: Sequence[RunRecord], metric: str = ACCURACY) -> Contest:
    """Order and pairwise tests of the runs of one comparison."""
    runs: dict[str, list[RunRecord]] = defaultdict(list)
    for r in records:
        if not same_items(r.item_ids, records[0].item_ids):
            raise UserError(f"runs of one comparison judged on different items: {records[0].path} and {r.path}")
        runs[r.method].append(r)
    scores = {method: method_scores(group, metric) for method, group in runs.items()}
    order = sorted(runs, key=lambda m: (-scores[m].values.mean(), m))
    tests = {
        (a, b): paired_difference(scores[a].values, scores[b].values, scores[a].seeds, scores[b].seeds)
        for a, b in combinations(order, 2)
    }
    return Contest(records[0], runs, scores, order, tests)


def corrected(contests: Sequence[Contest]) -> list[dict[tuple[str, str], float]]:
    """Holm-adjusted p-values of every contest, over two families per setting: pairs with base, and all others.

    Whether a method improves on the untrained model and which method is better are separate questions.  A setting's
    families run over all its tasks and levels: each of them is a chance for a false finding.
    """
    every = [(n, names) for n, found in enumerate(contests) for names in found.tests]
    families = [(setting(contests[n].record), "base" in names) for n, names in every]
    p_values = [contests[n].tests[names].p_value for n, names in every]
    adjusted: list[dict[tuple[str, str], float]] = [{} for _ in contests]
    for (n, names), p in zip(every, holm_by_family(families, p_values)):
        adjusted[n][names] = p
    return adjusted


def tested(scores: Mapping[str, Scores]) -> tuple[list[str], tuple[Pair, ...], dict[str, str]]:
    """Methods from the best to the worst mean, every pairwise test, and the letters of ties."""
    order = sorted(scores, key=lambda m: (-scores[m].values.mean(), m))
    names = list(combinations(order, 2))
    tests = [paired_difference(scores[a].values, scores[b].values, scores[a].seeds, scores[b].seeds) for a, b in names]
    adjusted = holm_by_family(["base" in pair for pair in names], [t.p_value for t in tests])
    pairs = tuple(Pair(a, b, t, p) for (a, b), t, p in zip(names, tests, adjusted))
    return order, pairs, tie_groups(order, {(p.first, p.second): p.adjusted for p in pairs}, ALPHA)

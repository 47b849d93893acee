"""Every pair of methods tested, Holm's correction over all that is shown together, and the letters of ties.

This is the only place where the pairs of a table are tested: leaderboards and tables at an equal amount both use it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from bench.analysis.runs import RunRecord, Scores, compare_all
from bench.stats.intervals import ALPHA, Difference
from bench.stats.letters import tie_groups
from bench.stats.tests import holm_by_family

Sides = Callable[[int, str, str], tuple[Scores, Scores]]  # of two methods of the table with this number


@dataclass(frozen=True)
class Pair:
    """Two methods of one table, the one shown higher first: mean of first - second, and its Holm-adjusted p-value."""

    first: str
    second: str
    difference: Difference
    adjusted: float

    @property
    def tie(self) -> bool:
        return self.adjusted > ALPHA


@dataclass(frozen=True)
class Contest:
    """The methods of one table, best mean first, every pairwise test, and by method the letters of its ties."""

    order: tuple[str, ...]
    pairs: tuple[Pair, ...]
    letters: Mapping[str, str]


def board_setting(record: RunRecord) -> tuple[object, ...]:
    """What tables over different tasks and levels must share to be read together."""
    r = record
    return r.model, r.template, r.data, r.budget_unit, r.budget_limit, r.protocol, r.split


def contests(
    tables: Sequence[Mapping[str, Scores]], settings: Sequence[Hashable], sides: Sides | None = None
) -> list[Contest]:
    """A contest for each table of scores by method; ``settings`` names the setting of each table.

    Holm's correction runs over two families per setting: the pairs with base, and all others.  Whether a method
    improves on the untrained model and which method is better are separate questions.  A family covers all tables of
    its setting, since each of them is one more chance of a false finding.  A pair with one or two seeds on a trained
    side is none: its adjusted p is 1, whatever the items say, and it is in no family.  ``sides`` gives the scores by
    which two methods are tested, by default those of the table.  A pair that stands the other way round by its
    ``sides`` than in the table is not separated: its adjusted p is 1.
    """
    orders = [sorted(scores, key=lambda method: (-scores[method].values.mean(), method)) for scores in tables]
    named = [(number, a, b) for number, order in enumerate(orders) for a, b in combinations(order, 2)]
    each = [sides(number, a, b) if sides else (tables[number][a], tables[number][b]) for number, a, b in named]
    tested = [(*names, difference) for names, difference in zip(named, compare_all(each))]
    families = [(settings[number], "base" in (a, b), test.correctable) for number, a, b, test in tested]
    adjusted = holm_by_family(families, [test.p_to_correct for *_, test in tested])
    pairs: list[list[Pair]] = [[] for _ in tables]
    for (number, a, b, difference), p_value in zip(tested, adjusted):
        # Set after the correction: whether a table shows a pair's order changes no other test.
        reversed_here = sides is not None and difference.mean < 0
        pairs[number].append(Pair(a, b, difference, 1.0 if reversed_here else p_value))
    return [
        Contest(tuple(order), tuple(own), tie_groups(order, {(p.first, p.second): p.adjusted for p in own}, ALPHA))
        for order, own in zip(orders, pairs)
    ]


def ties_below(method: str, pairs: Iterable[Pair]) -> list[str]:
    """Methods with a lower mean that are not shown to differ from this one."""
    return [pair.second for pair in pairs if pair.first == method and pair.tie]

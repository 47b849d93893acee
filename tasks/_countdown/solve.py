"""One solution of a Countdown problem, the same on every machine and for every order of the numbers.

An expression joins one over a part of the numbers to one over the rest.  All values over up to TABULATED numbers are
listed, each with the first step that gives it.  More numbers are searched from the target, which fixes the other
operand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks._countdown.counts import TABULATED, Numbers, number_splits, partners
from tasks._countdown.plans import Step, combine

MOST_NUMBERS = 6  # about 0.1 s at most, on one core

Origin = tuple[Step, Numbers, int, Numbers, int]  # a step, and for each of its two parts the numbers and their value


def solve(numbers: Sequence[int], target: int) -> list[Step] | None:
    """A plan to the target whose steps give positive integers; where there is none, one that also passes through 0.

    None: no such plan uses every number once.  ValueError unless there are 2 to MOST_NUMBERS numbers, none negative.
    """
    if not 2 <= len(numbers) <= MOST_NUMBERS or min(numbers) < 0:
        raise ValueError(f"expected 2 to {MOST_NUMBERS} numbers that are not negative")
    ordered = tuple(sorted(numbers))
    if target > math.prod(number + 1 for number in ordered):  # more than sums and products can reach
        return None
    plan = Search(zero=False).plan(ordered, target) if ordered[0] > 0 else None
    return plan if plan is not None else Search(zero=True).plan(ordered, target)


@dataclass(frozen=True)
class Search:
    """First steps to the values over parts of the numbers; ``zero``: steps may give 0."""

    zero: bool
    tables: dict[Numbers, dict[int, Origin | None]] = field(default_factory=dict)
    sought: dict[tuple[Numbers, int], Origin | None] = field(default_factory=dict)

    def steps(self, a: int, b: int) -> list[Step]:
        """Legal steps from two numbers that are not negative, the larger operand first."""
        a, b = max(a, b), min(a, b)
        if b == 0:
            return [(a, "+", 0, a), (a, "*", 0, 0)]
        return combine(a, b, math.inf) + ([(a, "-", b, 0)] if self.zero and a == b else [])

    def table(self, numbers: Numbers) -> dict[int, Origin | None]:
        """Every value over all the numbers, with the first step to it; None: a single number needs none."""
        if numbers not in self.tables:
            found: dict[int, Origin | None] = {numbers[0]: None} if len(numbers) == 1 else {}
            for one, two in number_splits(numbers):
                for a in self.table(one):
                    for b in self.table(two):
                        for step in self.steps(a, b):
                            found.setdefault(step[3], (step, one, a, two, b))
            self.tables[numbers] = found
        return self.tables[numbers]

    def reaches(self, numbers: Numbers, target: int) -> bool:
        return target in self.table(numbers) if len(numbers) <= TABULATED else self.origin(numbers, target) is not None

    def origin(self, numbers: Numbers, target: int) -> Origin | None:
        """The first step that gives the target over all the numbers, None if there is none."""
        if len(numbers) <= TABULATED:
            return self.table(numbers).get(target)
        key = numbers, target
        if key not in self.sought:
            self.sought[key] = self.first_step(numbers, target)
        return self.sought[key]

    def first_step(self, numbers: Numbers, target: int) -> Origin | None:
        for one, two in number_splits(numbers):  # the shorter part first: its table is small
            for a in self.table(one):
                for b in self.others(a, two, target):
                    step = next((step for step in self.steps(a, b) if step[3] == target), None)
                    if step and self.reaches(two, b):
                        return step, one, a, two, b
        return None

    def others(self, a: int, numbers: Numbers, target: int) -> list[int]:
        """Values that some step may join with ``a`` to the target, in order."""
        if not self.zero:
            return sorted(partners(a, target))
        if a == 0:  # 0 * b for any b: their sum is one; else 0 + b
            return [sum(numbers)] if target == 0 else [target]
        if target == 0:
            return [0, a]
        return sorted(partners(a, target) | ({0} if a == target else set()))

    def plan(self, numbers: Numbers, target: int) -> list[Step] | None:
        """The steps to the target, each after those that it needs; None if it is not reached."""
        if not self.reaches(numbers, target):
            return None
        origin = self.origin(numbers, target)
        if origin is None:
            return []
        step, one, a, two, b = origin
        before = (self.plan(one, a), self.plan(two, b))
        return [*(before[0] or []), *(before[1] or []), step]

"""How many expressions reach a Countdown target, and how likely a random one does: exact, by splits of the numbers.

An expression over several numbers joins one over a part of them to one over the rest.  So weights of expressions (1
to count them, their probability to draw them) multiply over the two parts and add up over the splits.  All values of
up to four numbers are tabulated; more numbers are asked for one value at a time, which fixes the other operand.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations

from tasks._countdown.plans import MAX_VALUE, combine

TABULATED = 4  # numbers of which all values are kept

Numbers = tuple[int, ...]  # sorted, equal ones repeated


def count_solutions(numbers: list[int], target: int) -> int:
    """Number of distinct expressions over all the numbers that equal the target.

    Every step gives a positive integer, and division by 1 does not count beside multiplication by 1.  Two expressions
    are the same when they differ in the order of a step's two operands or in which of two equal numbers stands where;
    ``1 + (2 + 3)`` and ``(1 + 2) + 3`` differ.
    """
    return int(Weights(chance=False).at(tuple(sorted(numbers)), target))


def paired_probability(numbers: list[int], target: int) -> float:
    """Exact probability that ``paired_plan`` ends at the target."""
    return float(Weights(chance=True).at(tuple(sorted(numbers)), target))


@dataclass(frozen=True)
class Weights:
    """Weight of all expressions with a value: how many there are, or with ``chance`` how likely one is drawn."""

    chance: bool
    known: dict[Numbers, dict[int, float]] = field(default_factory=dict)
    asked: dict[tuple[Numbers, int], float] = field(default_factory=dict)

    def results(self, a: int, b: int) -> list[int]:
        return [step[3] for step in combine(a, b, MAX_VALUE if self.chance else math.inf)]

    def share(self, parts: tuple[Numbers, Numbers], ways: int) -> float:
        """Weight of a split: joining random pairs makes all sizes of the two parts equally likely."""
        if not self.chance:
            return 1
        # Kingman's coalescent (1982, doi 10.1016/0304-4149(82)90011-4): where random pairs join, the last two parts
        # have sizes k and n - k with k uniform on 1 .. n - 1, and a part of size k is each of the C(n, k) subsets
        # equally likely.  The factor 2 is for the two orders of the parts.
        count = len(parts[0]) + len(parts[1])
        return 2 * ways / ((count - 1) * math.comb(count, len(parts[0])))

    def pairs(self, parts: tuple[Numbers, Numbers], a: int, b: int) -> float:
        """Weight of an expression of value a over the first part beside one of value b over the second."""
        first = self.at(parts[0], a)
        if self.chance or parts[0] != parts[1]:
            return first * self.at(parts[1], b)
        if a == b:
            return first * (first + 1) // 2  # two equal parts: the pair has no order
        return first * self.at(parts[1], b) if a < b else 0

    def of_step(self, results: list[int], weight: float) -> float:
        """Weight of each step of a pair of values."""
        return weight / len(results) if self.chance else weight

    def table(self, numbers: Numbers) -> dict[int, float]:
        """Weight of every value that expressions over all the numbers have."""
        if len(numbers) == 1:
            return {numbers[0]: 1}
        if numbers not in self.known:
            weights: dict[int, float] = {}
            for parts, ways in number_splits(numbers).items():
                share = self.share(parts, ways)
                for a in self.table(parts[0]):
                    for b in self.table(parts[1]):
                        results = self.results(a, b)
                        weight = self.of_step(results, share * self.pairs(parts, a, b))
                        for result in results if weight else ():
                            weights[result] = weights.get(result, 0) + weight
            self.known[numbers] = weights
        return self.known[numbers]

    def at(self, numbers: Numbers, target: int) -> float:
        """Weight of the expressions over all the numbers that equal the target."""
        # More numbers reach too many values to list.  Only one is asked for, so the splits are walked from the target.
        if len(numbers) <= TABULATED or numbers[0] < 1:
            return self.table(numbers).get(target, 0)
        if (numbers, target) not in self.asked:
            total: float = 0
            for parts, ways in number_splits(numbers).items():
                share = self.share(parts, ways)
                for a in self.table(parts[0]):
                    for b in partners(a, target):
                        results = self.results(a, b)
                        total += results.count(target) * self.of_step(results, share * self.pairs(parts, a, b))
            self.asked[numbers, target] = total
        return self.asked[numbers, target]


def number_splits(numbers: Numbers) -> Counter[tuple[Numbers, Numbers]]:
    """Every split into two parts, the shorter first, with the number of ways to choose equal numbers for it."""
    ways: Counter[tuple[Numbers, Numbers]] = Counter()
    others = range(1, len(numbers))
    for size in range(len(numbers) - 1):
        for chosen in combinations(others, size):  # beside the first number, so that each split comes once
            one = (numbers[0], *(numbers[i] for i in chosen))
            two = tuple(numbers[i] for i in others if i not in chosen)
            ways[(one, two) if (len(one), one) <= (len(two), two) else (two, one)] += 1
    return ways


def partners(a: int, target: int) -> set[int]:
    """Positive numbers that some step joins with the positive number a to the target."""
    if target < 1:
        return set()
    # In order: a + b, a - b, b - a and b / a give the target; below, a * b and a / b do.
    operands = {target - a, a - target, target + a, target * a}
    operands |= {high // low for high, low in ((target, a), (a, target)) if high % low == 0}
    return {b for b in operands if b > 0}

"""Whether two expressions are equal: exactly where their values are fractions, else by enclosures at several points.

Letters get the same random fractions on both sides, of many sizes where there are absolute values or roots.  A point
where one side has no real value (a root of a negative number, say) does not count; at least five must.  An answer
without real values where the gold answer has them is not equal, but ``2\ln x`` is ``\ln x^2``.  Expressions with
factorials or alternating signs are compared at whole numbers.  Two enclosures that touch are computed again, with so
many bits that what still touches is equal.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from itertools import chain

from tasks._math.balls import Ball, DomainError, SizeError, UndefinedError
from tasks._math.tokens import UnreadableError
from tasks._math.tree import TRIGONOMETRIC, Node, has, identical, letters, walk
from tasks._math.values import PRECISION, Effort, Evaluator, Value

# Equality is decided by values at points, because no algorithm decides it from the formulas: with exp, sin and absolute
# values the question is undecidable (Richardson 1968, doi 10.2307/2271358).  A polynomial of degree d that is not 0 has
# a zero at a random point out of N with probability d / N at most (Schwartz 1980, doi 10.1145/322217.322225); other
# expressions of answers behave alike.  A disagreement at one point is proof, an agreement at several all but that.
LADDER = (PRECISION, 1024, 4096, 12_288)  # bits
# Positive spans come first, for roots and logarithms; later ones let |x| and x differ.
SPANS = ((101, 907), (1103, 2999), (4001, 11_003), (-907, -101), (-2999, -1103), (-1999, 1999), (-5003, 5003))
# 1009 is prime: a value seldom is a whole number, and otherwise it has no small divisor.  At whole numbers sin(pi x)
# and sin(2 pi x) are both 0, so that different expressions would agree.
UNIT = 1009  # denominator of the values of letters
WHOLES = (*range(13), 17, 24, 37)
MORE_WHOLE_POINTS = 60  # of several letters, for those that have a value
WIDE_POINTS = NEAR_POINTS = 24
SIZES = (0, 1, 1, 2, 2, 3, 4, 6, 9, 16, 40, 120)  # powers of ten
ENOUGH = 5  # points at which both sides have values, beyond 0 and 1
SURE = 2  # points at which all digits are compared
NEAR = ((1, 400), (401, 1008), (1010, 2018), (-1008, -1))  # where functions with small domains have values
NO_END = float("inf")
DOMAINS = ("ln", "log", "lg", "arcsin", "arccos")
MAX_LETTERS = 12

Point = Mapping[str, Fraction]


@lru_cache(4096)
def letter_value(name: str, index: int) -> Fraction:
    # By the name alone, so that gold answer and answer meet at the same point, in every run.
    return Fraction(random.Random(f"{name}/{index}").randrange(*SPANS[index]), UNIT)


def fractions_at(names: set[str]) -> Iterator[Point]:
    for index in range(len(SPANS)):
        yield {name: letter_value(name, index) for name in names}


def wide_points(names: set[str]) -> Iterator[Point]:
    """Points of all signs, orders and sizes, for what is made of pieces: absolute values and roots."""
    for index in range(WIDE_POINTS):
        rng = random.Random(index)
        yield {
            name: Fraction(rng.choice((-1, 1)) * rng.randrange(1, UNIT) * 10 ** rng.choice(SIZES), UNIT)
            for name in sorted(names)
        }


def near_points(names: set[str]) -> Iterator[Point]:
    """Points about 0 and 1 where all letters have one sign, for logarithms and functions with small domains."""
    for index in range(NEAR_POINTS):
        rng = random.Random(index)
        yield {name: Fraction(rng.randrange(*NEAR[index % len(NEAR)]), UNIT) for name in sorted(names)}


def wholes_at(names: set[str]) -> Iterator[Point]:
    """Small whole numbers, one after the other for a single letter."""
    for index in range(len(WHOLES) if len(names) == 1 else MORE_WHOLE_POINTS):
        rng = random.Random(index)
        # n! and (-1)^n have values at whole numbers only, so these are the second list of points.
        values = [WHOLES[index]] if len(names) == 1 else [rng.choice(WHOLES) for _ in names]
        yield {name: Fraction(value) for name, value in zip(sorted(names), values)}


class Comparer:
    """Compares expressions within the effort that one verdict may cost."""

    def __init__(self) -> None:
        self.effort = Effort()
        self.evaluators: dict[tuple[tuple[tuple[str, Fraction], ...], int, bool], Evaluator] = {}

    def evaluator(self, point: Point, precision: int, real: bool) -> Evaluator:
        key = (tuple(sorted(point.items())), precision, real)
        if key not in self.evaluators:
            self.evaluators[key] = Evaluator(self.effort, point, precision, real)
        return self.evaluators[key]

    def equal(self, one: Node, two: Node) -> bool:
        """UnreadableError if it cannot be decided."""
        self.effort.spend(1)
        if identical(one, two):
            return True
        names = names_of(one, two)
        # With letters sqrt(x) is meant for real x, so a point where it has no real value says nothing.  Without letters
        # sqrt(-4) is simply the number 2i, and complex values are compared.
        real = bool(names) and not (has(one, "constant", "i") or has(two, "constant", "i"))
        if not names:
            try:
                return self.agree(one, two, {}, real)
            except UndefinedError as error:
                raise UnreadableError(str(error)) from error
        found = 0
        pieces = in_pieces(one) or in_pieces(two)
        # |x| and x agree at every positive number, and |x - 500| and 500 - x at every small one.  What is made of
        # pieces is therefore compared at points of all signs and sizes as well.
        rest = chain(near_points(names), () if pieces else wide_points(names))
        for points, enough in (
            (chain(fractions_at(names), wide_points(names) if pieces else ()), NO_END),
            (rest, ENOUGH),
        ):
            agreed = self.agreed(one, two, points, real, enough - found)
            if agreed is None:
                return False
            found += agreed
            if found >= ENOUGH:
                return True
        agreed = self.agreed(one, two, wholes_at(names), real, len(WHOLES))
        if agreed is not None and agreed < ENOUGH:
            raise UnreadableError("it has too few values that could be compared")
        return agreed is not None

    def agreed(self, one: Node, two: Node, points: Iterable[Point], real: bool, enough: float) -> int | None:
        """At how many points, up to ``enough``, both have one value (0 and 1 count not); None if they differ at one."""
        found = seen = 0
        strict = real and needs_domain(one)
        for point in points:
            if found >= enough:
                break
            try:
                agree = self.agree(one, two, point, real, seen < SURE)
            except SizeError:
                continue
            except DomainError:
                if strict and self.has_value(one, point):
                    return None
                continue
            except UndefinedError:
                continue
            if not agree:
                return None
            seen += 1
            found += any(value not in (0, 1) for value in point.values())
        return found

    def has_value(self, node: Node, point: Point) -> bool:
        try:
            self.evaluator(point, PRECISION, real=True).value(node)
        except (UndefinedError, SizeError):
            return False
        return True

    def agree(self, one: Node, two: Node, point: Point, real: bool, sure: bool = True) -> bool:
        """Whether the values at a point are the same, in all digits if ``sure``; UndefinedError if there are none."""
        precision = PRECISION
        while True:
            evaluator = self.evaluator(point, precision, real)
            first, second = evaluator.value(one), evaluator.value(two)
            if isinstance(first, Fraction) and isinstance(second, Fraction):
                return first == second
            # Enclosures apart: the values differ for certain.  Enclosures that touch prove nothing yet: a sum of
            # numbers of size 2^s loses s bits where it cancels, and different numbers can agree in many digits.
            if not touch(evaluator, first, second):
                return False
            if precision > PRECISION or not sure:
                return True
            needed = PRECISION + 2 * max(evaluator.balls.scale, evaluator.longest)
            precision = next((bits for bits in LADDER[1:] if bits >= needed), 0)
            if not precision:
                raise UnreadableError("it is too near to another value to be told apart")

    def ratio(self, one: Node, two: Node) -> int:
        """1 or -1 if the first is the second times one positive or negative number at all points, else 0."""
        names = names_of(one, two)
        pairs: list[tuple[Ball, Ball]] = []
        for point in chain(fractions_at(names), wide_points(names) if in_pieces(one) or in_pieces(two) else ()):
            evaluator = self.evaluator(point, LADDER[1], real=True)
            try:
                pairs.append((evaluator.ball(one), evaluator.ball(two)))
            except (UndefinedError, SizeError):
                continue
            if PRECISION + 2 * evaluator.longest > LADDER[1]:
                raise UnreadableError("a number that is too long for an equation")
        if len(pairs) <= SURE:
            raise UnreadableError("it has no value that could be compared")
        balls = evaluator.balls
        first, second = pairs[0]
        if any(balls.is_complex(ball) for pair in pairs for ball in pair):
            raise UnreadableError("an equation that is not real")
        if any(abs(ball.value) <= ball.error for pair in pairs for ball in pair):
            return 0  # an equation that holds everywhere, or by chance
        for other, another in pairs[1:]:
            # a / b is the same at both points if a b' = a' b: no division, so no zero to avoid.
            left, right = balls.multiply(first, another), balls.multiply(second, other)
            if abs(left.value - right.value) > 4 * (left.error + right.error):
                return 0
        return 1 if (first.value > 0) == (second.value > 0) else -1


def needs_domain(gold: Node) -> bool:
    """Whether an answer must have values wherever the gold answer has: with absolute values, or without any domain."""
    if has(gold, "absolute"):
        return True
    return not any(
        part.op == "root" or (part.op == "call" and part.value in DOMAINS) or (part.op == "power" and not whole(part))
        for part in walk(gold)
        if letters(part)
    )


def loose_degrees(node: Node) -> bool:
    """Whether there is a degree sign outside of the angles of functions."""
    if node.op == "degree" or (node.op == "call" and node.value in TRIGONOMETRIC):
        return node.op == "degree"
    return any(map(loose_degrees, node.parts))


def in_pieces(node: Node) -> bool:
    """Whether it may equal another expression on one side of a number only, as |x| equals x."""
    return any(part.op in ("absolute", "root") or (part.op == "power" and not whole(part)) for part in walk(node))


def whole(power: Node) -> bool:
    """Whether a power has no letter below or a whole exponent."""
    exponent = power.parts[1].parts[0] if power.parts[1].op == "negative" else power.parts[1]
    is_whole = isinstance(exponent.value, Fraction) and exponent.value.denominator == 1
    return is_whole or not letters(power.parts[0])


def names_of(*nodes: Node) -> set[str]:
    """The letters that need values; degrees outside of angles are one of them."""
    names: set[str] = set().union(*map(letters, nodes))
    if any(map(loose_degrees, nodes)):
        names |= {"degree"}
    if len(names) > MAX_LETTERS:
        raise UnreadableError(f"more than {MAX_LETTERS} letters")
    return names


def touch(evaluator: Evaluator, one: Value, two: Value) -> bool:
    first, second = evaluator.balls.of(one), evaluator.balls.of(two)
    return bool(abs(first.value - second.value) <= 4 * (first.error + second.error))

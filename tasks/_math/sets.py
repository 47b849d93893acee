"""Sets of real numbers as disjoint intervals in order, with exact or nearly exact ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key

from tasks._math.balls import Ball, Balls
from tasks._math.tokens import UnreadableError
from tasks._math.values import PRECISION, Value

MAX_PIECES = 50
INFINITY = float("inf")
End = Value | float  # a number, or infinity with its sign


@dataclass(frozen=True)
class Piece:
    """An interval; a point where both ends are one number."""

    low: End
    high: End
    has_low: bool
    has_high: bool


Region = tuple[Piece, ...]


def order(one: End, two: End) -> int:
    """-1, 0 or 1; 0 too where two numbers agree in all digits that are known."""
    if isinstance(one, Ball | Fraction) and isinstance(two, Ball | Fraction):
        if isinstance(one, Fraction) and isinstance(two, Fraction):
            return (one > two) - (one < two)
        balls = Balls(PRECISION, real=True)
        first, second = balls.of(one), balls.of(two)
        if balls.is_complex(first) or balls.is_complex(second):
            raise UnreadableError("an end that is not real")
        gap = first.value - second.value
        return 0 if abs(gap) <= 4 * (first.error + second.error) else (1 if gap > 0 else -1)
    if isinstance(one, float) and isinstance(two, float):
        return (one > two) - (one < two)
    return (1 if one > 0 else -1) if isinstance(one, float) else (-1 if two > 0 else 1)  # type: ignore[operator]


def interval(low: End, high: End, has_low: bool, has_high: bool) -> Region:
    """UnreadableError for an interval that is empty or contains infinity."""
    sign = order(low, high)
    if sign > 0 or (sign == 0 and not (has_low and has_high)):
        raise UnreadableError("an interval whose ends are in the wrong order")
    if (isinstance(low, float) and (has_low or low > 0)) or (isinstance(high, float) and (has_high or high < 0)):
        raise UnreadableError("an interval that contains infinity")
    return (Piece(low, high, has_low, has_high),)


REALS = interval(-INFINITY, INFINITY, False, False)


def by_low(one: Piece, two: Piece) -> int:
    return order(one.low, two.low) or two.has_low - one.has_low


def union(pieces: Iterable[Piece]) -> Region:
    """All pieces, those that touch joined."""
    ordered = sorted(pieces, key=cmp_to_key(by_low))
    if len(ordered) > MAX_PIECES:
        raise UnreadableError("too many intervals")
    joined: list[Piece] = []
    for piece in ordered:
        gap = order(piece.low, joined[-1].high) if joined else 1
        if gap > 0 or (gap == 0 and not (joined[-1].has_high or piece.has_low)):
            joined.append(piece)
            continue
        last, sign = joined[-1], order(piece.high, joined[-1].high)
        high = piece if sign > 0 else last
        has_high = piece.has_high or last.has_high if sign == 0 else high.has_high
        joined[-1] = Piece(last.low, high.high, last.has_low, has_high)
    return tuple(joined)


def complement(region: Region) -> Region:
    """The real numbers that are not in it."""
    gaps: list[Piece] = []
    low, has_low = -INFINITY, False
    end: End = low
    for piece in region:
        sign = order(end, piece.low)
        if sign < 0 or (sign == 0 and has_low and not piece.has_low):
            gaps.append(Piece(end, piece.low, has_low, not piece.has_low and not isinstance(piece.low, float)))
        end, has_low = piece.high, not piece.has_high
    if not isinstance(end, float) or end < 0:
        gaps.append(Piece(end, INFINITY, has_low and not isinstance(end, float), False))
    return tuple(gaps)


def intersection(one: Region, two: Region) -> Region:
    return complement(union((*complement(one), *complement(two))))


def same_region(one: Region, two: Region) -> bool:
    return len(one) == len(two) and all(
        (a.has_low, a.has_high) == (b.has_low, b.has_high) and order(a.low, b.low) == 0 and order(a.high, b.high) == 0
        for a, b in zip(one, two)
    )

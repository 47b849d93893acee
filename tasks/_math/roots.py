"""Roots of fractions that are fractions."""

from __future__ import annotations

import math
from fractions import Fraction


def exact_root(value: Fraction, degree: int) -> Fraction | None:
    """The positive root if it is a fraction, else None; of moderate numbers only."""
    if value < 0 or degree > 100 or max(value.numerator.bit_length(), value.denominator.bit_length()) > 4096:
        return None
    above, below = (whole_root(part, degree) for part in (value.numerator, value.denominator))
    return Fraction(above, below) if above is not None and below is not None else None


def whole_root(number: int, degree: int) -> int | None:
    """By Newton's method from above."""
    if number < 2:
        return number
    if degree == 2:
        root = math.isqrt(number)
        return root if root * root == number else None
    # A power of two above the root: Newton's steps then fall until they reach the whole part of it.
    root = 1 << -(-number.bit_length() // degree)
    while True:
        better = ((degree - 1) * root + number // root ** (degree - 1)) // degree
        if better >= root:
            return root if root**degree == number else None
        root = better

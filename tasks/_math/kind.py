"""What a kind of generated math problem is, and how its texts are put together."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any

Step = tuple[str, str]  # what is done, in words; the equation that does it
Solution = tuple[list[Step], Fraction]
Given = list[Any]  # JSON-able content of a problem
BINARY = re.compile(r"(?<=[0-9a-zA-Z!)%])([=+*-])")


@dataclass(frozen=True)
class Kind:
    """One template: what is given, how it is asked, and how it is solved step by step.

    ``draw`` returns None for a draw that does not suit the level.  ``rational``: goal-blind answers may be fractions.
    ``canonical`` maps givens that state the same problem to one.
    """

    draw: Callable[[random.Random, int], Given | None]
    compact: Callable[[Given], str]
    plain: Callable[[Given], str]
    solve: Callable[[Given], Solution]
    canonical: Callable[[Given], Given] = list
    numbers: Callable[[Given], list[Fraction]] = lambda given: stated_numbers(given)
    rational: bool = False
    levels: range = range(1, 6)


def stated_numbers(given: Sequence[Any]) -> list[Fraction]:
    """The numbers other than 0 in what is given, in order; texts such as "2/3" count, other words do not."""
    numbers: list[Fraction] = []
    for part in given:
        if isinstance(part, list):
            numbers += stated_numbers(part)
        elif isinstance(part, int) or (isinstance(part, str) and re.fullmatch("-?[0-9]+(/[0-9]+)?", part)):
            numbers.append(Fraction(part))
    return [number for number in numbers if number]


def spaced_equation(equation: str) -> str:
    """An equation with blanks around its binary signs; "/" stays tight."""
    return BINARY.sub(r" \1 ", equation)


def signed_term(number: int | Fraction) -> str:
    """A term that follows another one: ``+3``, ``-2``."""
    return f"+{number}" if number >= 0 else str(number)


def factor_text(number: Fraction) -> str:
    """A factor or divisor: fractions and negative numbers stand in parentheses."""
    return str(number) if number.denominator == 1 and number >= 0 else f"({number})"


def product_steps(numbers: list[int], words: str) -> list[Step]:
    """One line per multiplication; a single number needs none."""
    running = list(accumulate(numbers, lambda a, b: a * b))
    return [(words, f"{a}*{b}={c}") for a, b, c in zip(running, numbers[1:], running[1:])]

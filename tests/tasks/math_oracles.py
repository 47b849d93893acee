"""Brute force for generated math: whether a value is right, found without the code that solves the problems."""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import combinations, count
from typing import Any

from tasks.countdown import evaluate


def chain(given: Any) -> Fraction:
    """Evaluates the text of the question."""
    from tasks._math.arithmetic import chain_text

    return evaluate(chain_text(given))[0]


def percent(given: Any) -> Fraction:
    value = Fraction(given[0])
    for change in given[1]:
        value += value * Fraction(change, 100)
    return value


def linear(given: Any, x: Fraction) -> bool:
    a, h, b, c, d = given
    return a * (x + h) + b == c * x + d


def system(given: Any, value: Fraction) -> bool:
    """Puts the value into one equation and tests the other."""
    a, b, e, c, d, f, asked = given
    if asked == "x":
        return c * value + d * (e - a * value) / b == f
    if asked == "y":
        return c * (e - b * value) / a + d * value == f
    if a == b:
        return a * value == e
    x = (e - b * value) / (a - b)
    return c * x + d * (value - x) == f


@cache
def pascal(n: int, k: int) -> int:
    return 1 if k in (0, n) else pascal(n - 1, k - 1) + pascal(n - 1, k)


@cache
def orders(counts: tuple[int, ...]) -> int:
    """Words with these letters, by their last letter."""
    if not any(counts):
        return 1
    return sum(orders((*counts[:i], n - 1, *counts[i + 1 :])) for i, n in enumerate(counts) if n)


@cache
def all_red(red: int, blue: int, taken: int) -> Fraction:
    if taken == 0:
        return Fraction(1)
    return all_red(red - 1, blue, taken - 1) * red / (red + blue) if red else Fraction(0)


def same_colour(given: Any) -> Fraction:
    bag = [colour for colour, number in enumerate(given) for _ in range(number)]
    pairs = [a == b for a, b in combinations(bag, 2)]
    return Fraction(sum(pairs), len(pairs))


def power(given: Any) -> int:
    value = 1
    for _ in range(given[1]):
        value = value * given[0] % given[2]
    return value


VALUES: dict[str, Callable[[Any], Any]] = {
    "chain": chain,
    "fraction_chain": chain,
    "percent": percent,
    "part": lambda g: Fraction(g[0] * g[2], g[1]),
    "missing": lambda g: next(x for x in count() if x * g[1] == g[0] * g[2]),
    "gcd": lambda g: max(d for d in range(1, min(g) + 1) if all(n % d == 0 for n in g)),
    "lcm": lambda g: next(m for m in count(max(g), max(g)) if all(m % n == 0 for n in g)),
    "divisors": lambda g: sum(g[0] % d == 0 for d in range(1, g[0] + 1)),
    "remainder": lambda g: (g[0] * g[1] + g[2]) % g[3],
    "power": power,
    "congruence": lambda g: next(x for x in count() if (g[0] * x - g[1]) % g[2] == 0),
    "arrange": lambda g: pascal(*g) * orders((1,) * g[1]),
    "choose": lambda g: pascal(*g),
    "letters": lambda g: orders(tuple(sorted(g))),
    "urn": lambda g: all_red(*g),
    "same_colour": same_colour,
}


def is_right(problem: dict[str, Any], value: Fraction) -> bool:
    kind, given = problem["kind"], problem["given"]
    if kind in ("linear", "system"):
        return {"linear": linear, "system": system}[kind](given, value)
    return bool(VALUES[kind](given) == value)

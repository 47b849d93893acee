"""Generated math: greatest divisors, least multiples, numbers of divisors, remainders."""

from __future__ import annotations

import math
import random
from fractions import Fraction

from tasks._math.kind import Given, Kind, Solution, Step, product_steps
from tasks.common import listed


def prime_factors(number: int) -> list[int]:
    """Prime factors in order, by trial division."""
    primes, prime = [], 2
    while prime * prime <= number:
        while number % prime == 0:
            primes.append(prime)
            number //= prime
        prime += 1
    return [*primes, number] if number > 1 else primes


def euclid(a: int, b: int) -> tuple[list[Step], int]:
    """Division with remainder until nothing is left."""
    steps: list[Step] = []
    while b:
        steps.append((f"Divide {a} by {b} with remainder", f"{a}={a // b}*{b}+{a % b}"))
        a, b = b, a % b
    return steps, a


def draw_gcd(rng: random.Random, level: int) -> Given | None:
    most = (50, 200, 1000, 500, 3000)[level - 1]
    factor = rng.randint(1, 6 * level)
    numbers = [factor * rng.randint(2, most // factor) for _ in range(3 if level >= 4 else 2)]
    return numbers if len(set(numbers)) == len(numbers) else None


def solve_gcd(given: Given) -> Solution:
    steps, divisor = list[Step](), given[0]
    for number in given[1:]:
        more, divisor = euclid(max(divisor, number), min(divisor, number))
        steps += more
    return steps, Fraction(divisor)


def draw_lcm(rng: random.Random, level: int) -> Given | None:
    most = (12, 30, 60, 120, 40)[level - 1]
    numbers = [rng.randint(2, most) for _ in range(3 if level == 5 else 2)]
    return numbers if len(set(numbers)) == len(numbers) else None


def solve_lcm(given: Given) -> Solution:
    steps, multiple = list[Step](), given[0]
    for number in given[1:]:
        more, common = euclid(max(multiple, number), min(multiple, number))
        result = multiple // common * number
        steps += [*more, ("Divide by the common divisor", f"{multiple}/{common}={multiple // common}")]
        steps.append(("Multiply", f"{multiple // common}*{number}={result}"))
        multiple = result
    return steps, Fraction(multiple)


def draw_divisors(rng: random.Random, level: int) -> Given | None:
    number = rng.randint(6, (0, 60, 300, 2000, 10_000)[level - 1])
    return [number] if max(prime_factors(number)) <= 50 and len(prime_factors(number)) > 1 else None


def solve_divisors(given: Given) -> Solution:
    number, steps = given[0], list[Step]()
    primes = prime_factors(number)
    for prime in primes[:-1]:
        steps.append((f"Take out {prime}", f"{number}={prime}*{number // prime}"))
        number //= prime
    counts = [primes.count(prime) + 1 for prime in dict.fromkeys(primes)]
    for prime, count in zip(dict.fromkeys(primes), counts):
        steps.append((f"Choices for the exponent of {prime}", f"{count - 1}+1={count}"))
    return [*steps, *product_steps(counts, "Multiply the choices")], Fraction(math.prod(counts))


def draw_remainder(rng: random.Random, level: int) -> Given | None:
    """[a, b, c, m] of ab+c modulo m."""
    return [*(rng.randint(2, 15 * level) for _ in range(3)), rng.randint(3, 10 * level)]


def solve_remainder(given: Given) -> Solution:
    a, b, c, m = given
    value = a * b + c
    steps = [("Multiply", f"{a}*{b}={a * b}"), ("Add", f"{a * b}+{c}={value}")]
    return [*steps, (f"Divide by {m} with remainder", f"{value}={value // m}*{m}+{value % m}")], Fraction(value % m)


def draw_power(rng: random.Random, level: int) -> Given | None:
    """[a, k, m] of a**k modulo m."""
    return [rng.randint(2, 12), rng.randint(2, (0, 0, 5, 12, 40)[level - 1]), rng.randint(3, 10 * level)]


def solve_power(given: Given) -> Solution:
    """Squaring and multiplying along the bits of the exponent, from the highest."""
    a, k, m = given
    steps, value = list[Step](), a
    for bit in f"{k:b}"[1:]:
        for factor, words in ((value, "Square"), (a, f"Multiply by {a}"))[: 1 + int(bit)]:
            whole = value * factor
            steps.append((words, f"{value}*{factor}={whole}"))
            value = whole % m
            steps.append((f"Divide by {m} with remainder", f"{whole}={whole // m}*{m}+{value}"))
    return steps, Fraction(value % m)


def draw_congruence(rng: random.Random, level: int) -> Given | None:
    """[a, b, m] of ax=b modulo m with a invertible."""
    m = rng.randint(5, 10 * level)
    a, b = rng.randint(2, m - 1), rng.randint(1, m - 1)
    return [a, b, m] if math.gcd(a, m) == 1 else None


def solve_congruence(given: Given) -> Solution:
    a, b, m = given
    inverse = pow(a, -1, m)
    steps = [(f"{inverse} is the inverse of {a}", f"{a}*{inverse}={a * inverse // m}*{m}+1")]
    steps.append(("Multiply the right side by it", f"{b}*{inverse}={b * inverse}"))
    value = b * inverse
    return [*steps, (f"Divide by {m} with remainder", f"{value}={value // m}*{m}+{value % m}")], Fraction(value % m)


KINDS: dict[str, Kind] = {
    "gcd": Kind(
        draw=draw_gcd,
        compact=lambda g: f"gcd({','.join(map(str, g))})=?",
        plain=lambda g: f"What is the greatest common divisor of {listed(g)}?",
        solve=solve_gcd,
        canonical=sorted,
    ),
    "lcm": Kind(
        draw=draw_lcm,
        compact=lambda g: f"lcm({','.join(map(str, g))})=?",
        plain=lambda g: f"What is the least common multiple of {listed(g)}?",
        solve=solve_lcm,
        canonical=sorted,
    ),
    "divisors": Kind(
        levels=range(2, 6),
        draw=draw_divisors,
        compact=lambda g: f"divisors of {g[0]}=?",
        plain=lambda g: f"How many positive divisors does {g[0]} have?",
        solve=solve_divisors,
        numbers=lambda g: [Fraction(n) for n in (g[0], 2, 3)],
    ),
    "remainder": Kind(
        levels=range(1, 4),
        draw=draw_remainder,
        compact=lambda g: f"{g[0]}*{g[1]}+{g[2]} mod {g[3]}=?",
        plain=lambda g: f"What is the remainder of {g[0]} * {g[1]} + {g[2]} after division by {g[3]}?",
        solve=solve_remainder,
        canonical=lambda g: [*sorted(g[:2]), *g[2:]],
    ),
    "power": Kind(
        levels=range(3, 6),
        draw=draw_power,
        compact=lambda g: f"{g[0]}^{g[1]} mod {g[2]}=?",
        plain=lambda g: f"What is the remainder of {g[0]}^{g[1]} after division by {g[2]}?",
        solve=solve_power,
    ),
    "congruence": Kind(
        levels=range(3, 6),
        draw=draw_congruence,
        compact=lambda g: f"{g[0]}x={g[1]} mod {g[2]} x=?",
        plain=lambda g: f"What is the smallest x >= 0 for which {g[0]}x and {g[1]} leave one remainder modulo {g[2]}?",
        solve=solve_congruence,
    ),
}

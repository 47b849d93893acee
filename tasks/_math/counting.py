"""Generated math: arrangements, choices, orders of letters, marbles taken at random."""

from __future__ import annotations

import math
import random
from fractions import Fraction

from tasks._math.kind import Given, Kind, Solution, Step, product_steps
from tasks.common import listed

LETTERS = "ABCDEFGH"
COLOURS = ("red", "blue", "green")


def draw_choice(rng: random.Random, level: int) -> Given | None:
    """[n, k], k of n."""
    n = rng.randint(3, 6 + 4 * level)
    k = rng.randint(2, min(n, 2 + level))
    return [n, k] if math.perm(n, k) < 10**6 else None


def solve_arrange(given: Given) -> Solution:
    n, k = given
    return product_steps(list(range(n, n - k, -1)), "One place fewer to choose from"), Fraction(math.perm(n, k))


def solve_choose(given: Given) -> Solution:
    n, k = given
    steps, ordered = solve_arrange(given)
    steps += product_steps(list(range(1, k + 1))[1:], "Orders of the chosen ones")
    steps.append(("Divide by the orders", f"{ordered}/{math.factorial(k)}={math.comb(n, k)}"))
    return steps, Fraction(math.comb(n, k))


def draw_letters(rng: random.Random, level: int) -> Given | None:
    """How often each letter occurs."""
    counts = [rng.randint(1, 4) for _ in range(level - 1 + rng.randint(0, 1))]
    return counts if max(counts) > 1 and sum(counts) <= 10 else None


def letters_text(given: Given) -> str:
    return "".join(letter * count for letter, count in zip(LETTERS, given))


def solve_letters(given: Given) -> Solution:
    total = sum(given)
    steps, value = [(f"Orders of {total} places", f"{total}!={math.factorial(total)}")], math.factorial(total)
    for letter, count in zip(LETTERS, given):
        if count > 1:
            result = value // math.factorial(count)
            steps.append((f"Equal orders of the letters {letter}", f"{value}/{math.factorial(count)}={result}"))
            value = result
    return steps, Fraction(value)


def draw_urn(rng: random.Random, level: int) -> Given | None:
    """[red, blue, taken], all taken ones red."""
    red, blue = rng.randint(2, 4 + 2 * level), rng.randint(1, 4 + 2 * level)
    taken = rng.randint(1 if level == 1 else 2, max(1, min(red, level)))
    return [red, blue, taken]


def solve_urn(given: Given) -> Solution:
    red, blue, taken = given
    steps, value = list[Step](), Fraction(1)
    for done in range(taken):
        share = Fraction(red - done, red + blue - done)
        shown = f"{red - done}/{red + blue - done}"
        equation = f"{value}*{shown}={value * share}" if done else f"P={shown}"
        steps.append((f"Marble {done + 1} is red", equation))
        value *= share
    return steps, value


def draw_same(rng: random.Random, level: int) -> Given | None:
    """Marbles of each colour; two are taken."""
    return [rng.randint(2, 3 + 2 * level) for _ in range(2 if level == 3 else 3)]


def solve_same(given: Given) -> Solution:
    pairs = [count * (count - 1) for count in given]
    steps = [("Ordered pairs of one colour", f"{count}*{count - 1}={pair}") for count, pair in zip(given, pairs)]
    steps.append(("Add", f"{'+'.join(map(str, pairs))}={sum(pairs)}"))
    total = sum(given)
    steps.append(("All ordered pairs", f"{total}*{total - 1}={total * (total - 1)}"))
    value = Fraction(sum(pairs), total * (total - 1))
    return [*steps, ("Divide", f"{sum(pairs)}/{total * (total - 1)}={value}")], value


def marbles_text(given: Given) -> str:
    return listed([f"{count} {colour}" for count, colour in zip(given, COLOURS)])


def urn_question(given: Given) -> str:
    taken = given[2]
    drawn = "One marble is" if taken == 1 else f"One after the other {taken} marbles are"
    return (
        f"A bag holds {marbles_text(given[:2])} marbles. {drawn} taken out at random and not put back. What is the "
        "probability that no blue one is taken?"
    )


KINDS: dict[str, Kind] = {
    "arrange": Kind(
        draw=draw_choice,
        compact=lambda g: f"arrange {g[1]} of {g[0]}=?",
        plain=lambda g: f"In how many ways can {g[1]} of {g[0]} different books stand in a row?",
        solve=solve_arrange,
    ),
    "choose": Kind(
        levels=range(2, 6),
        draw=draw_choice,
        compact=lambda g: f"choose {g[1]} of {g[0]}=?",
        plain=lambda g: f"In how many ways can {g[1]} of {g[0]} different books be chosen?",
        solve=solve_choose,
    ),
    "letters": Kind(
        levels=range(3, 6),
        draw=draw_letters,
        compact=lambda g: f"orders of {letters_text(g)}=?",
        plain=lambda g: f"In how many different orders can the letters of {letters_text(g)} be written?",
        solve=solve_letters,
        canonical=sorted,
    ),
    "urn": Kind(
        draw=draw_urn,
        compact=lambda g: f"{g[0]} red,{g[1]} blue,take {g[2]},P(all red)=?",
        plain=urn_question,
        solve=solve_urn,
        rational=True,
    ),
    "same_colour": Kind(
        levels=range(3, 6),
        draw=draw_same,
        compact=lambda g: f"{','.join(f'{n} {c}' for n, c in zip(g, COLOURS))},take 2,P(same)=?",
        plain=lambda g: (
            f"A bag holds {marbles_text(g)} marbles. Two of them are taken out at random and not put back. What is the "
            "probability that they have the same colour?"
        ),
        solve=solve_same,
        canonical=sorted,
        rational=True,
    ),
}

"""Generated math: chains of operations, percentages, parts, equations with one and two unknowns."""

from __future__ import annotations

import math
import random
from fractions import Fraction

from tasks._math.kind import Given, Kind, Solution, Step, factor_text, signed_term

MAX_CHAIN = 2000  # size of every intermediate integer, and of numerators and denominators of fractions
FRACTION_TERMS = 600


def apply_operator(value: Fraction, operator: str, number: Fraction) -> Fraction:
    """The exact result of one operation; ZeroDivisionError for a division by 0."""
    if operator == "+":
        return value + number
    if operator == "-":
        return value - number
    return value * number if operator == "*" else value / number


# --- chains: [first, [operator, number], ...], numbers as text ---------------------------------------------------


def draw_integers(rng: random.Random, level: int) -> Given | None:
    value = Fraction(rng.randint(2, 20 * level))
    chain: Given = [str(value)]
    for _ in range(level + 1):
        operator = rng.choice("+-*/")
        number = rng.randint(2, 20 * level) if operator in "+-" else rng.randint(2, 12)
        value = apply_operator(value, operator, Fraction(number))
        if value.denominator != 1 or abs(value) > MAX_CHAIN:
            return None
        chain.append([operator, str(number)])
    return chain


def draw_fractions(rng: random.Random, level: int) -> Given | None:
    def proper() -> Fraction:
        below = rng.randint(2, 4 + 2 * level)
        return Fraction(rng.randint(1, below - 1), below)

    value = proper()
    chain: Given = [str(value)]
    for _ in range(max(1, level - 1) if level < 5 else 5):
        operator, number = rng.choice("+-" if level == 1 else "+-*/"), proper()
        value = apply_operator(value, operator, number)
        if value == 0 or max(abs(value.numerator), value.denominator) > FRACTION_TERMS:
            return None
        chain.append([operator, str(number)])
    return chain


def chain_text(chain: Given) -> str:
    """Left to right with the parentheses that keep this order."""
    text, loose = str(chain[0]), False
    for operator, number in chain[1:]:
        if operator in "*/" and (loose or "/" in text):
            text = f"({text})"
        text += operator + (factor_text(Fraction(number)) if operator in "*/" else number)
        loose = operator in "+-"
    return text


def solve_chain(chain: Given) -> Solution:
    value = Fraction(chain[0])
    steps: list[Step] = []
    words = {"+": "Add", "-": "Subtract", "*": "Multiply by", "/": "Divide by"}
    for operator, text in chain[1:]:
        number = Fraction(text)
        result = apply_operator(value, operator, number)
        if operator in "*/":
            equation = f"{factor_text(value)}{operator}{factor_text(number)}={result}"
        else:
            equation = f"{value}{operator}{number}={result}"
        steps.append((f"{words[operator]} {number}", equation))
        value = result
    return steps, value


# --- shares ------------------------------------------------------------------------------------------------------


def draw_percent(rng: random.Random, level: int) -> Given | None:
    """[number, [signed percentages]]: every value on the way is an integer."""
    value = Fraction(10 * rng.randint(2, 20 * level))
    changes = [5 * rng.choice([*range(-18, 0), *range(1, 21)]) for _ in range((level + 1) // 2)]
    start = int(value)
    for change in changes:
        value = value * (100 + change) / 100
        if value.denominator != 1 or value > 20 * MAX_CHAIN:
            return None
    return [start, changes]


def percent_words(given: Given) -> str:
    start, changes = given
    told = ", then ".join(f"{'grows' if c > 0 else 'shrinks'} by {abs(c)}%" for c in changes)
    return f"A quantity is {start} at first. It {told}. What is it in the end?"


def solve_percent(given: Given) -> Solution:
    value, steps = Fraction(given[0]), list[Step]()
    for change in given[1]:
        result = value * (100 + change) / 100
        share = 100 + change
        steps += [(f"Keep {share}%", f"{value}*{share}={value * share}"), ("Per cent", f"{value * share}/100={result}")]
        value = result
    return steps, value


def draw_part(rng: random.Random, level: int, most: int = 15) -> Given | None:
    """[above, below, a multiple of below by at most ``most`` times the level], above/below in lowest terms."""
    below = rng.randint(3, 6 + 4 * level)
    above = rng.randint(2, below - 1)
    return [above, below, below * rng.randint(2, most * level)] if math.gcd(above, below) == 1 else None


def solve_part(given: Given) -> Solution:
    above, below, whole = given
    one = whole // below
    steps = [("One part", f"{whole}/{below}={one}"), (f"{above} parts", f"{one}*{above}={one * above}")]
    return steps, Fraction(whole * above, below)


def draw_missing(rng: random.Random, level: int) -> Given | None:
    """[above, below, wider] of above/below=x/wider."""
    return draw_part(rng, level, most=10)


def solve_missing(given: Given) -> Solution:
    above, below, wider = given
    factor = wider // below
    steps = [("Compare the denominators", f"{wider}/{below}={factor}")]
    return [*steps, ("Widen the numerator", f"x={above}*{factor}={above * factor}")], Fraction(above * factor)


# --- equations ---------------------------------------------------------------------------------------------------


def draw_linear(rng: random.Random, level: int) -> Given | None:
    """[a, h, b, c, d] of a(x+h)+b=cx+d; x is an integer below level 5."""
    size = 5 + 4 * level
    a, h, c = rng.randint(2, 4 + level), 0, 0
    if level >= 3:
        c = rng.choice([k for k in range(-size, size + 1) if k not in (0, a)])
    if level >= 4:
        h = rng.choice([k for k in range(-9, 10) if k])
    b = rng.choice([k for k in range(-size if level > 1 else 1, size + 1) if k])
    if level == 5:
        return [a, h, b, c, rng.randint(-3 * size, 3 * size)]
    x = rng.randint(-size if level > 1 else 1, size)
    return [a, h, b, c, a * (x + h) + b - c * x]


def linear_text(given: Given) -> str:
    a, h, b, c, d = given
    left = (f"{a}(x{signed_term(h)})" if h else f"{a}x") + signed_term(b)
    return f"{left}={multiple_text(c, 'x')}{signed_term(d) if d else ''}" if c else f"{left}={d}"


def multiple_text(factor: int, name: str) -> str:
    """``x``, ``-x``, ``3x``"""
    return f"{ {1: '', -1: '-'}.get(factor, factor) }{name}"


def solve_linear(given: Given) -> Solution:
    a, h, b, c, d = given
    steps: list[Step] = []
    if h:
        steps.append(("Expand the bracket", f"{a}*{factor_text(Fraction(h))}={a * h}"))
        steps.append(("Add the constants on the left", f"{a * h}{signed_term(b)}={a * h + b}"))
    constant = a * h + b
    if c:
        steps.append(("Collect the multiples of x", f"{a}{signed_term(-c)}={a - c}"))
    steps.append(("Collect the constants", f"{d}{signed_term(-constant)}={d - constant}"))
    x = Fraction(d - constant, a - c)
    steps.append(("Divide", f"x={factor_text(Fraction(d - constant))}/{factor_text(Fraction(a - c))}={x}"))
    return steps, x


def draw_system(rng: random.Random, level: int) -> Given | None:
    """[a, b, e, c, d, f, asked] of ax+by=e, cx+dy=f; integers solve it below level 5."""
    size = 2 + level
    a, b, c, d = (rng.choice([k for k in range(-size, size + 1) if k]) for _ in range(4))
    if a * d == b * c:
        return None
    asked = rng.choice(("x", "y") if level < 4 else ("x", "y", "x+y"))
    if level == 5:
        return [a, b, rng.randint(-30, 30), c, d, rng.randint(-30, 30), asked]
    x, y = (rng.randint(-5 * level, 5 * level) for _ in range(2))
    return [a, b, a * x + b * y, c, d, c * x + d * y, asked]


def equation_text(a: int, b: int, e: int) -> str:
    return f"{multiple_text(a, 'x')}{'+' if b > 0 else ''}{multiple_text(b, 'y')}={e}"


def system_text(given: Given) -> tuple[str, str]:
    return equation_text(*given[:3]), equation_text(*given[3:6])


def solve_system(given: Given) -> Solution:
    """By determinants."""
    a, b, e, c, d, f, asked = given

    def determinant(words: str, p: int, q: int, r: int, s: int) -> tuple[Step, int]:
        one, two, three, four = (factor_text(Fraction(k)) for k in (p, q, r, s))
        return (words, f"{one}*{four}-{two}*{three}={p * s - q * r}"), p * s - q * r

    first, whole = determinant("Determinant of the coefficients", a, b, c, d)
    steps, values = [first], dict[str, Fraction]()
    for name, columns in (("x", (e, b, f, d)), ("y", (a, e, c, f))):
        if name in asked:
            step, part = determinant(f"Determinant for {name}", *columns)
            values[name] = Fraction(part, whole)
            steps += [step, (f"Divide for {name}", f"{name}={part}/{factor_text(Fraction(whole))}={values[name]}")]
    if asked == "x+y":
        steps.append(("Add", f"{values['x']}{signed_term(values['y'])}={values['x'] + values['y']}"))
    return steps, sum(values.values(), Fraction(0))


def same_system(given: Given) -> Given:
    """The order of the equations does not matter."""
    return [*sorted([given[:3], given[3:6]]), given[6]]


SUBJECTS: dict[str, dict[str, Kind]] = {
    "prealgebra": {
        "chain": Kind(
            draw=draw_integers,
            compact=lambda g: f"{chain_text(g)}=?",
            plain=lambda g: f"What is the value of {chain_text(g)}?",
            solve=solve_chain,
        ),
        "percent": Kind(
            draw=draw_percent,
            compact=lambda g: f"{g[0]}{''.join(f' {signed_term(c)}%' for c in g[1])}=?",
            plain=percent_words,
            solve=solve_percent,
        ),
    },
    "algebra": {
        "linear": Kind(
            draw=draw_linear,
            compact=lambda g: f"{linear_text(g)} x=?",
            plain=lambda g: f"Solve {linear_text(g)} for x.",
            solve=solve_linear,
        ),
        "system": Kind(
            levels=range(2, 6),
            draw=draw_system,
            compact=lambda g: f"{','.join(system_text(g))} {g[6]}=?",
            plain=lambda g: f"What is {g[6]} if {' and '.join(system_text(g))}?",
            solve=solve_system,
            canonical=same_system,
        ),
    },
    "fractions": {
        "fraction_chain": Kind(
            draw=draw_fractions,
            compact=lambda g: f"{chain_text(g)}=?",
            plain=lambda g: f"What is {chain_text(g)} as a fraction?",
            solve=solve_chain,
            rational=True,
        ),
        "part": Kind(
            levels=range(1, 4),
            draw=draw_part,
            compact=lambda g: f"{g[0]}/{g[1]} of {g[2]}=?",
            plain=lambda g: f"How much is {g[0]}/{g[1]} of {g[2]}?",
            solve=solve_part,
            rational=True,
        ),
        "missing": Kind(
            levels=range(1, 4),
            draw=draw_missing,
            compact=lambda g: f"{g[0]}/{g[1]}=x/{g[2]} x=?",
            plain=lambda g: f"Which x makes {g[0]}/{g[1]} equal to x/{g[2]}?",
            solve=solve_missing,
            rational=True,
        ),
    },
}

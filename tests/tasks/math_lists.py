"""As ``math_forms``: lists, tuples, intervals and matrices of fractions."""

import math
from fractions import Fraction

from tests.tasks.math_forms import blank, fraction, other_rational


def several(rng, low=2):
    return rng.sample(
        [Fraction(n, d) for n in range(-30, 31) for d in (1, 2, 3, 5) if math.gcd(n, d) == 1], rng.randint(low, 4)
    )


def listed(rng, values):
    values = rng.sample(values, len(values))
    texts = [fraction(rng, v) for v in values]
    form = rng.randrange(6)
    if form == 0:
        return "\\{" + ", ".join(texts) + "\\}"
    if form == 1:
        return ", ".join(f"x = {t}" for t in texts)
    if form == 2:
        return " \\text{ or } ".join(f"x={t}" for t in texts)
    if form == 3:
        return ", ".join(texts[:-1]) + rng.choice(("\\text{ and }", " and ", ", and ", " or ")) + texts[-1]
    return rng.choice((", ", "; ", " , ")).join(texts)


def list_case(rng):
    values = several(rng)
    place = rng.randrange(len(values))
    changed = list(values)
    changed[place] = other_rational(rng, values[place])
    while changed[place] in values:
        changed[place] += 61
    wrong = rng.choice((changed, values[1:], [*values, Fraction(97)], [*values, values[0]]))
    text = listed(rng, wrong)
    if rng.random() < 0.2:
        text = "(" + ",".join(str(v) for v in values) + ")"
    return listed(rng, values), listed(rng, values), text


def tuple_text(rng, values):
    left, right = rng.choice((("(", ")"), ("\\left(", "\\right)"), ("( ", " )")))
    return left + rng.choice((", ", ",\\ ", " , ")).join(fraction(rng, v) for v in values) + right


def tuple_case(rng):
    values = several(rng)
    changed = [*values[:-1], other_rational(rng, values[-1])]
    wrong = rng.choice((changed, values[::-1], [*values[:-1], Fraction(91)], [*values, Fraction(2)]))
    text = tuple_text(rng, wrong)
    if rng.random() < 0.3:
        text = rng.choice(("\\{{{}\\}}", "[{}]", "({}]", "{}")).format(", ".join(map(str, values)))
    return tuple_text(rng, values), tuple_text(rng, values), text


def interval_text(rng, pieces, inequality):
    """Pieces (low, high, has_low, has_high); None is infinite."""
    texts = []
    for low, high, has_low, has_high in rng.sample(pieces, len(pieces)):
        lower, upper = ("" if v is None else fraction(rng, v) for v in (low, high))
        if inequality:
            closed = rng.choice(("\\le", "\\leq", "\u2264"))
            left = f"{lower} {closed if has_low else '<'} " if lower else ""
            right = f" {closed if has_high else '<'} {upper}" if upper else ""
            if lower and not upper and rng.random() < 0.5:
                above = "\\ge" if has_low else ">"
                left, right = "", f" {above} {lower}"
            texts.append(f"{left}x{right}")
        else:
            brackets = "[" if has_low else "(", "]" if has_high else ")"
            infinite = rng.choice(("\\infty", "\u221e"))
            texts.append(f"{brackets[0]}{lower or '-' + infinite}, {upper or infinite}{brackets[1]}")
    if inequality:
        return " \\text{ or } ".join(texts)
    return rng.choice(("", "x \\in ")) + rng.choice((" \\cup ", "\u222a")).join(texts)


def interval_case(rng):
    cuts = sorted(several(rng, 4))
    pieces = [(cuts[0], cuts[1], rng.random() < 0.5, rng.random() < 0.5)]
    if rng.random() < 0.6:
        pieces.append((cuts[2], rng.choice((None, cuts[3])), rng.random() < 0.5, False))
    if rng.random() < 0.3:
        pieces[0] = (None, cuts[1], False, pieces[0][3])
    low, high, has_low, has_high = pieces[0]
    wrong = rng.choice(
        (
            (low, high, has_low, not has_high),
            (low, high + Fraction(1, 100), has_low, has_high),
            (low, high - Fraction(1, 7**9), has_low, has_high),
        )
    )
    form = rng.random() < 0.5
    return (
        interval_text(rng, pieces, form),
        interval_text(rng, pieces, rng.random() < 0.5),
        interval_text(rng, [wrong, *pieces[1:]], rng.random() < 0.5),
    )


def matrix_text(rng, rows):
    name = rng.choice(("pmatrix", "bmatrix", "array"))
    end = rng.choice(("\\\\", " \\\\ ", "\\\\\n", "\\\\ "))
    cells = rng.choice(("&", " & "))
    body = end.join(cells.join(fraction(rng, v) for v in row) for row in rows) + rng.choice(("", end))
    if name == "array":
        return f"\\left(\\begin{{array}}{{{'c' * len(rows[0])}}}{body}\\end{{array}}\\right)"
    return f"\\begin{{{name}}}{blank(rng)}{body}{blank(rng)}\\end{{{name}}}"


def matrix_case(rng):
    height, width = rng.choice(((2, 1), (3, 1), (1, 2), (2, 2), (3, 3), (2, 3)))
    values = iter(rng.sample(range(-40, 41), height * width))
    rows = [[Fraction(next(values), rng.choice((1, 1, 2, 3))) for _ in range(width)] for _ in range(height)]
    changed = [list(row) for row in rows]
    changed[rng.randrange(height)][rng.randrange(width)] += rng.choice((1, -1, Fraction(1, 1000)))
    flat = [[v for row in rows for v in row]]
    wrong = rng.choice(
        [w for w in (changed, list(zip(*rows)), rows[::-1], rows[:-1], flat) if w and [*map(list, w)] != rows]
    )
    return matrix_text(rng, rows), matrix_text(rng, rows), matrix_text(rng, wrong)

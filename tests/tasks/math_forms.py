r"""Answers made from known values: a gold answer, another spelling of the same value, and a near miss.

Values are Python's own (fractions, tuples, intervals, dictionaries of units, trees with an evaluator of their own), so
that nothing here knows how the verifier reads.  ``case(rng)`` draws one kind and returns (kind, gold, same, other).
"""

import math
from fractions import Fraction

SPACES = ("", " ", "\\,", "\\ ", "~")


def blank(rng):
    return rng.choice(("", "", " "))


# --- numbers --------------------------------------------------------------------------------------------------------


def grouped(digits, separator):
    head = len(digits) % 3 or 3
    return separator.join([digits[:head], *(digits[i : i + 3] for i in range(head, len(digits), 3))])


def whole(rng, n):
    """A spelling of a whole number."""
    sign, digits = ("-" if n < 0 else ""), str(abs(n))
    forms = [digits, digits + ".0", digits + ".", "0" + digits, "{" + digits + "}"]
    if len(digits) > 3:
        forms += [grouped(digits, s) for s in (",", "{,}", ",\\!", ", \\!", "\\,")] * 2
    if digits.endswith("00"):
        zeros = len(digits) - len(digits.rstrip("0"))
        head = digits.rstrip("0") or "0"
        ten = rng.choice((f"10^{{{zeros}}}", f"10^{zeros}", f"10**{zeros}"))
        forms += [f"{head}{times}{ten}" for times in ("\\times", " \\cdot ", "*", " x ", "\u00d7")] if n else []
        forms.append(f"{head}e{zeros}")
    return sign + blank(rng) + rng.choice(forms)


def decimal(value):
    """The terminating decimal of a fraction, or None."""
    below, places = value.denominator, 0
    while below % 2 == 0 or below % 5 == 0:
        below //= 5 if below % 5 == 0 else 2
        places += 1
    if below != 1 or places == 0:
        return None
    digits = str(abs(value.numerator) * 10**places // value.denominator).zfill(places + 1)
    return ("-" if value < 0 else "") + digits[:-places] + "." + digits[-places:]


def repeating(value):
    """An overlined decimal of a positive fraction whose denominator is coprime to 10."""
    head, rest = divmod(value.numerator, value.denominator)
    length = next(k for k in range(1, 100) if (10**k - 1) % value.denominator == 0)
    return f"{head}.\\overline{{{str(rest * (10**length - 1) // value.denominator).zfill(length)}}}"


def fraction(rng, value):
    """A spelling of a fraction."""
    if value.denominator == 1:
        return whole(rng, int(value))
    p, q, k = abs(value.numerator), value.denominator, rng.randint(2, 9)
    name = rng.choice(("\\frac", "\\dfrac", "\\tfrac"))
    forms = [
        f"{name}{{{p}}}{{{q}}}",
        f"{p}/{q}",
        f"{name}{{{p * k}}}{{{q * k}}}",
        f"{p}{blank(rng)}\\div{blank(rng)} {q}",
    ]
    if p < 10 and q < 10:
        forms += [f"{name}{p}{q}", f"{name} {p} {q}", f"{name}{p}{{{q}}}"]
    if p > q:
        forms += [f"{p // q}{blank(rng)}\\frac{{{p % q}}}{{{q}}}", f"{p // q} {p % q}/{q}"]
    if written := decimal(abs(value)):
        forms += [written, written + "0", written.removeprefix("0") if written.startswith("0.") else written]
    if math.gcd(q, 10) == 1 and q < 50:
        forms.append(repeating(abs(value)))
    text = rng.choice(forms)
    if value > 0:
        return text
    return rng.choice((f"-{text}", f"- {text}", f"\\frac{{-{p}}}{{{q}}}", f"\\frac{{{p}}}{{-{q}}}", f"\u2212{text}"))


def rational(rng):
    return Fraction(rng.randint(-60, 60), rng.choice((1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 20, 25)))


def other_rational(rng, value):
    """A near miss of a fraction."""
    choices = [
        -value,
        value + 1,
        value * 10,
        value + Fraction(1, 10**9),
        value / 10,
        value + Fraction(1, value.denominator),
    ]
    if value:
        choices.append(1 / value)
    return rng.choice([v for v in choices if v != value])


def dressed(rng, text):
    """Dollar signs, text fonts, names and size commands that change nothing."""
    forms = [text] * 4 + [f"${text}$", f"\\({text}\\)", f"\\displaystyle {text}", f" {text} ", f"{text}.", f"\\,{text}"]
    if "\\" not in text and "^" not in text and not text.endswith("."):
        forms += [f"\\text{{{text}}}", f"\\mbox{{{text}}}", f"\\textbf{{{text}}}"]
    if text.endswith("."):
        return text
    return rng.choice(forms)


def number_case(rng):
    value = rational(rng)
    return fraction(rng, value), fraction(rng, value), fraction(rng, other_rational(rng, value))


def large_case(rng):
    n = rng.randint(1000, 10**9) if rng.random() < 0.7 else rng.randint(1, 999) * 10 ** rng.randint(2, 9)
    digits = str(n)
    wrong = [n + 1, n // 10, n * 10, -n, int(digits[:-3] + digits[-2:])]
    return (
        whole(rng, n),
        whole(rng, n),
        rng.choice([whole(rng, w) for w in wrong if w != n] + [misgrouped(rng, digits)]),
    )


def misgrouped(rng, digits):
    """A number whose comma stands in the wrong place, or whose last group lost a zero."""
    place = rng.choice([k for k in range(1, len(digits)) if (len(digits) - k) % 3])
    return digits[:place] + rng.choice((",", "{,}", ", ")) + digits[place:]


def tiny_case(rng):
    """Powers, factorials and their like: exact, however small their differences."""
    n, b = rng.randint(20, 300), rng.randint(2, 12)
    k = rng.randint(1, 3)
    forms = (
        (f"\\frac{{1}}{{{b}^{{{n}}}}}", f"{b}^{{-{n}}}", f"\\frac{{1}}{{{b}^{{{n + k}}}}}"),
        (f"\\frac{{1}}{{{n}!}}", f"\\frac{{{n + 1}}}{{{n + 1}!}}", f"\\frac{{1}}{{{n + k}!}}"),
        (
            f"1-\\frac{{1}}{{{b}^{{{n}}}}}",
            f"\\frac{{{b}^{{{n}}}-1}}{{{b}^{{{n}}}}}",
            f"1-\\frac{{1}}{{{b}^{{{n + k}}}}}",
        ),
        (f"{b}^{{{n}}}", f"{b}\\cdot {b}^{{{n - 1}}}", f"{b}^{{{n}}}+1"),
        (f"e^{{-{n}}}", f"\\frac{{1}}{{e^{{{n}}}}}", f"e^{{-{n + k}}}"),
        (
            f"\\frac{{\\sqrt{{2}}}}{{2^{{{n}}}}}",
            f"\\frac{{1}}{{\\sqrt{{2}}\\cdot 2^{{{n - 1}}}}}",
            f"\\frac{{\\sqrt{{3}}}}{{2^{{{n}}}}}",
        ),
        (f"\\binom{{{n}}}{{3}}", str(math.comb(n, 3)), f"\\binom{{{n}}}{{{n - 4}}}"),
        (f"1-e^{{-{n}}}", f"\\frac{{e^{{{n}}}-1}}{{e^{{{n}}}}}", "1"),
    )
    return rng.choice(forms)


def surd(rng, a, b, c, root):
    """a + b * root(c), of which ``root`` is a spelling."""
    first = fraction(rng, a).rstrip(".")
    second = fraction(rng, abs(b)).rstrip(".") + rng.choice(("", "*", " ", "\\cdot ")) + root
    if not second.startswith("\\frac") and any(c in second for c in "./"):
        second = f"\\frac{{{abs(b).numerator}{root}}}{{{abs(b).denominator}}}"
    if rng.random() < 0.5:
        return f"{first} {'+' if b > 0 else '-'} {second}"
    return f"{'' if b > 0 else '-'}{second} {'+' if a >= 0 else '-'} {fraction(rng, abs(a)).rstrip('.')}"


def surd_case(rng):
    a, b = rational(rng), rational(rng) or Fraction(1)
    c = rng.choice((2, 3, 5, 6, 7, 10, 11))
    roots = (
        f"\\sqrt{{{c}}}",
        f"\\sqrt {c}" if c < 10 else f"\\sqrt{{{c}}}",
        f"sqrt({c})",
        f"\u221a{c}",
        f"{c}^{{1/2}}",
    )
    pis = ("\\pi", "\u03c0", "pi", "{\\pi}")
    names = roots if rng.random() < 0.6 else pis
    safe = [name for name in names if not name[0].isdigit()]
    miss = rng.choice(((other_rational(rng, a), b, c), (a, -b, c), (a, other_rational(rng, b) or Fraction(2), c)))
    return surd(rng, a, b, c, rng.choice(safe)), surd(rng, a, b, c, rng.choice(safe)), surd(rng, *miss, safe[0])


# --- lists, tuples, intervals, matrices -----------------------------------------------------------------------------


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

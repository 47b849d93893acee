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

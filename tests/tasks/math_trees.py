r"""As ``math_forms``: quantities with units, words, equations, and trees of letters with an evaluator of their own."""

from fractions import Fraction

from tests.tasks.math_forms import fraction, rational

UNITS = {
    "cm": ("cm", "centimeters", "centimeter", "centimetres"),
    "m": ("m", "meters", "meter"),
    "inch": ("in", "in.", "inches", "inch"),
    "ft": ("ft", "feet", "foot", "ft."),
    "cm2": ("cm^2", "square centimeters", "sq cm", "square cm"),
    "ft3": ("ft^3", "cubic feet", "cubic ft"),
    "h": ("hours", "hrs", "hr", "hour", "h"),
    "min": ("minutes", "min", "mins", "min."),
    "m/s": ("m/s", "meters per second", "m per s"),
    "km/h": ("km/h", "kph", "kilometers per hour", "km/hr"),
    "mph": ("mph", "miles per hour", "mi/h", "mi/hr"),
    "m/s2": ("m/s^2", "meters per second squared"),
    "lb": ("pounds", "lbs", "lb", "lb."),
    "dollar": ("dollars", "dollar"),
    "cent": ("cents", "cent"),
    "am": ("a.m.", "AM", "am"),
    "pm": ("p.m.", "PM", "pm"),
    "degree": ("degrees", "degree"),
    "glorp": ("glorps", "glorp"),
    "zib/s": ("zibs/s", "zib per second"),
}
BARE = ("cm", "inch", "ft", "h", "min", "mph", "km/h", "lb", "dollar", "cent", "am", "pm")  # read without \text
NAMES = ("Evelyn", "Monday", "Dana", "odd", "even", "north", "Friday", "ellipse", "x-axis", "June 2", "not possible")


def with_unit(rng, value, unit):
    number, spelling = fraction(rng, value).rstrip("."), rng.choice(UNITS[unit])
    if unit == "degree" and rng.random() < 0.5:
        return number + rng.choice(("^\\circ", "^{\\circ}", "\u00b0", "\\degree"))
    if unit == "dollar" and rng.random() < 0.5 and value > 0:
        return "\\$" + number
    forms = [f"{number}\\text{{ {spelling}}}", f"{number} \\,\\text{{{spelling}}}", f"{number}~\\mathrm{{{spelling}}}"]
    if "\\" not in number and "u2212" not in number:
        forms.append(f"\\text{{{number} {spelling}}}")
    if spelling.endswith(("^2", "^3")):
        forms = [
            f"{number}\\text{{ {spelling[:-2]}}}{spelling[-2:]}",
            f"{number}\\,\\mathrm{{{spelling[:-2]}}}^{{{spelling[-1]}}}",
        ]
    if unit in BARE and len(spelling) > 1:
        forms.append(f"{number} {spelling}")
    return rng.choice(forms)


def quantity_case(rng):
    """Both sides give a unit: it must agree, and the number too."""
    unit, value = rng.choice(list(UNITS)), abs(rational(rng)) or Fraction(7)
    if unit in ("am", "pm", "glorp"):
        value = Fraction(rng.randint(1, 12))
    other = rng.choice([name for name in UNITS if name != unit])
    miss = with_unit(rng, value, other) if rng.random() < 0.6 else with_unit(rng, value + 1, unit)
    return with_unit(rng, value, unit), with_unit(rng, value, unit), miss


def percent_case(rng):
    value = Fraction(rng.randint(1, 400), rng.choice((1, 2, 4)))
    gold = fraction(rng, value).rstrip(".") + "\\%"
    forms = (
        fraction(rng, value).rstrip(".") + "%",
        fraction(rng, value),
        fraction(rng, value / 100),
        f"{value} percent",
    )
    return gold, rng.choice(forms), fraction(rng, value + 1) + "\\%"


def time_case(rng):
    hour, minute, half = rng.randint(1, 12), rng.randint(10, 59), rng.choice(("a", "p"))

    def text(hour, minute, half):
        return rng.choice(
            (
                f"\\text{{{hour}:{minute} {half}.m.}}",
                f"{hour}:{minute}\\text{{ {half}.m.}}",
                f"{hour}:{minute} {half.upper()}M",
            )
        )

    wrong = rng.choice(((hour, minute, "a" if half == "p" else "p"), (hour, (minute - 9) % 50 + 10, half)))
    return text(hour, minute, half), text(hour, minute, half), text(*wrong)


def words_case(rng):
    if rng.random() < 0.4:
        letter, other = rng.sample("ABCDF", 2)
        forms = ("{}", "({})", "\\text{{{}}}", "\\text{{({})}}", "\\textbf{{{}}}")
        return tuple(rng.choice(forms).format(c) for c in (letter, letter, other))
    name, other = rng.sample(NAMES, 2)
    forms = ("\\text{{{}}}", "{}", "\\mbox{{{}}}", "\\textbf{{{}}}", "\\mathrm{{{}}}", "{}.")
    change = rng.choice((str.upper, str.lower, str))
    return rng.choice(forms).format(name), rng.choice(forms).format(change(name)), rng.choice(forms).format(other)


def line_case(rng):
    """ax + by = c, multiplied, moved and solved."""
    a, b, c = (rng.choice([n for n in range(-9, 10) if n]) for _ in range(3))

    def text(a, b, c):
        k = rng.choice((-3, -1, 1, 2))
        solved = f"y = {signed(Fraction(-a, b))}x + {Fraction(c, b)}".replace("+ -", "- ")
        forms = (
            f"{k * a}x + {k * b}y = {k * c}",
            f"{k * a}x + {k * b}y + {-k * c} = 0",
            f"{k * b}y = {-k * a}x + {k * c}",
        )
        return rng.choice((*forms, solved)).replace("+ -", "- ")

    wrong = rng.choice(((a + 10, b, c), (a, b + 10, c), (a, b, c + 1)))
    return text(a, b, c), text(a, b, c), text(*wrong)


def signed(value):
    return str(value) if value.denominator == 1 else f"({value})"


# --- trees ------------------------------------------------------------------------------------------------------------
# A tree is a Fraction, a letter, or (operator, left, right) with + - * / ^; of powers, the right is a whole number.


def tree(rng, size):
    if size <= 1:
        return rng.choice("xyz") if rng.random() < 0.6 else Fraction(rng.randint(1, 9))
    operator = rng.choice("++-**/^")
    if operator == "^":
        return ("^", tree(rng, size - 1), Fraction(rng.randint(2, 3)))
    left = rng.randint(1, size - 1)
    return (operator, tree(rng, left), tree(rng, size - left))


def value(node, point):
    """By Python's own arithmetic; ZeroDivisionError where there is none."""
    if isinstance(node, Fraction):
        return node
    if isinstance(node, str):
        return point[node]
    operator, left, right = node
    a, b = value(left, point), value(right, point)
    if operator == "/":
        return a / b
    return a**b if operator == "^" else {"+": a + b, "-": a - b, "*": a * b}[operator]


POINTS = [
    dict(zip("xyz", map(Fraction, row))) for row in ((2, 3, 5), (7, -4, 11), ("1/3", "9/7", -13), (-17, "21/5", "2/9"))
]


def values(node):
    return [value(node, point) for point in POINTS]


def latex(rng, node, level=0):
    """``level``: 0 in a sum, 1 in a product, 2 in a power."""
    if isinstance(node, str):
        return node
    if isinstance(node, Fraction):
        text = f"{node}" if node.denominator == 1 else f"\\frac{{{node.numerator}}}{{{node.denominator}}}"
        return f"({text})" if node < 0 or (level == 2 and node.denominator > 1) else text
    operator, left, right = node
    if operator in "+-":
        text = f"{latex(rng, left)} {operator} {latex(rng, right, 1)}"
        return rng.choice((f"({text})", f"\\left({text}\\right)")) if level else text
    if operator == "*":
        times = rng.choice((" \\cdot ", "*", "\\times "))
        text = f"{latex(rng, left, 1)}{times}{latex(rng, right, 1)}"
        return f"({text})" if level == 2 else text
    if operator == "/":
        above, below = latex(rng, left, 0), latex(rng, right, 0)
        text = rng.choice((f"\\frac{{{above}}}{{{below}}}", f"\\dfrac{{{above}}}{{{below}}}", f"(({above})/({below}))"))
        return f"\\left({text}\\right)" if level == 2 else text
    return f"{latex(rng, left, 2) if not isinstance(left, tuple) else '(' + latex(rng, left) + ')'}" + rng.choice(
        (f"^{{{right}}}", f"^{right}", f"**{right}")
    )


def rewritten(rng, node):
    """An equal tree of another form."""
    if not isinstance(node, tuple):
        return rng.choice((node, node, ("+", node, Fraction(0)), ("*", Fraction(1), node)))
    operator, left, right = node
    if operator == "^" and rng.random() < 0.7:
        power = rewritten(rng, left)
        result = power
        for _ in range(int(right) - 1):
            result = ("*", result, power)
        return result
    if operator == "*" and isinstance(right, tuple) and right[0] in "+-" and rng.random() < 0.7:
        return (right[0], ("*", rewritten(rng, left), rewritten(rng, right[1])), ("*", left, rewritten(rng, right[2])))
    left, right = rewritten(rng, left), right if operator == "^" else rewritten(rng, right)
    if operator in "+*" and rng.random() < 0.6:
        return (operator, right, left)
    if operator == "-" and rng.random() < 0.3:
        return ("+", ("*", Fraction(-1), right), left)
    return (operator, left, right)


def mutated(rng, node):
    """A tree with one leaf or operator changed."""
    if not isinstance(node, tuple):
        return rng.choice("xyz") if rng.random() < 0.4 else Fraction(rng.randint(1, 9))
    operator, left, right = node
    if rng.random() < 0.25 and operator != "^":
        return (rng.choice("+-*/"), left, right)
    if operator == "^" or rng.random() < 0.5:
        return (operator, mutated(rng, left), right)
    return (operator, left, mutated(rng, right))


def tree_case(rng):
    while True:
        node = tree(rng, rng.randint(2, 6))
        other = mutated(rng, node)
        same = rewritten(rng, node)
        try:
            if values(node) != values(other) and values(node) == values(same):
                texts = [latex(rng, n) for n in (node, same, other)]
                if max(map(len, texts)) < 300:
                    return tuple(texts)
        except ZeroDivisionError:
            continue


# --- identities -----------------------------------------------------------------------------------------------------


def identity_case(rng):
    """A known identity, of which one side is changed for the miss."""
    k, a, b = rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 9)
    m, x = a + k, rng.choice("xtn")
    forms = (
        (f"\\sin {2 * k}{x}", f"2\\sin({k}{x})\\cos {k}{x}", f"2\\sin {k}{x}"),
        (f"\\cos^2 {k}{x}", f"1-\\sin^2({k}{x})", f"1+\\sin^2({k}{x})"),
        (f"\\tan {x}", f"\\frac{{\\sin {x}}}{{\\cos {x}}}", f"\\frac{{\\cos {x}}}{{\\sin {x}}}"),
        (f"\\ln {a**k}", f"{k}\\ln {a}", f"{k}\\ln {a + 1}"),
        (f"\\log_{{{a}}} {a**k}", str(k), str(k + 1)),
        (f"e^{{{x}+{k}}}", f"e^{k}e^{x}", f"e^{x}+e^{k}"),
        (f"\\sqrt{{{a * b * b}{x}^3}}", f"{b}{x}\\sqrt{{{a}{x}}}", f"{b}{x}\\sqrt{{{a}}}"),
        (f"\\sqrt{{{a + b}+2\\sqrt{{{a * b}}}}}", f"\\sqrt{{{a}}}+\\sqrt{{{b}}}", f"\\sqrt{{{a}}}+\\sqrt{{{b + 1}}}"),
        (f"\\frac{{1}}{{\\sqrt{{{a}}}}}", f"\\frac{{\\sqrt{{{a}}}}}{{{a}}}", f"\\frac{{\\sqrt{{{a}}}}}{{{a + 1}}}"),
        (f"|{x}-{k}|", f"|{k}-{x}|", f"{x}-{k}"),
        (f"\\sqrt{{{x}^2}}", f"|{x}|", x),
        (f"\\binom{{{x}}}{{2}}", f"\\frac{{{x}({x}-1)}}{{2}}", f"\\frac{{{x}({x}+1)}}{{2}}"),
        (f"\\frac{{({x}+1)!}}{{{x}!}}", f"{x}+1", f"{x}"),
        (f"(-1)^{{{x}}}", f"\\cos({x}\\pi)", f"(-1)^{{{x}+1}}"),
        (f"\\frac{{{k}}}{{1-i}}", f"\\frac{{{k}}}{{2}}+\\frac{{{k}}}{{2}}i", f"\\frac{{{k}}}{{2}}-\\frac{{{k}}}{{2}}i"),
        ("e^{i\\pi/3}", "\\frac12+\\frac{\\sqrt3}{2}i", "\\frac{\\sqrt3}{2}+\\frac12 i"),
        (f"\\cos {k}^\\circ", f"\\sin {90 - k}^\\circ", f"\\sin {90 - k}"),
        (f"\\sin^{{-1}}\\frac{{1}}{{2}}+{k}\\pi", f"{k}\\pi+\\frac{{\\pi}}{{6}}", f"{k}\\pi+\\frac{{\\pi}}{{3}}"),
        (f"{x}^{{{k}/{m}}}", f"\\sqrt[{m}]{{{x}^{k}}}", f"\\sqrt[{k + 1}]{{{x}^{m}}}"),
        (
            f"\\frac{{{x}^{m}-1}}{{{x}-1}}",
            "+".join(f"{x}^{{{j}}}" for j in range(m)),
            "+".join(f"{x}^{{{j}}}" for j in range(m - 1)),
        ),
    )
    return rng.choice(forms)

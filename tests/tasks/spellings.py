"""Problems and answers in many spellings whose right value comes from here: no code of the tasks is used.

Countdown expressions are drawn as trees, whose value is computed on the tree; Knights & Knaves are solved by trying all
assignments.
"""

import itertools
import json
import operator
import unicodedata
from fractions import Fraction

# --- Countdown -----------------------------------------------------------------------------------------------------

SIXTEEN = {"numbers": [1, 3, 4], "target": 16}
SIGNS = {
    "plain": {"+": "+", "-": "-", "*": "*", "/": "/"},
    "blanks": {"+": " + ", "-": " - ", "*": " * ", "/": " / "},
    "unicode": {"+": " + ", "-": " − ", "*": " × ", "/": " ÷ "},
    "dots": {"+": "+", "-": "–", "*": "·", "/": "∕"},
    "letter": {"+": " + ", "-": " - ", "*": " x ", "/": " / "},
    "latex": {"+": " + ", "-": " - ", "*": r" \times ", "/": r" \div "},
    "cdot": {"+": "+", "-": "-", "*": r" \cdot ", "/": r"\div "},
    "frac": {"+": " + ", "-": " - ", "*": r" \times ", "/": None},
}
STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2}
RULES = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def random_tree(rng, numbers):
    """A random binary tree over all numbers: a number, or (operator, left, right)."""
    if len(numbers) == 1:
        return numbers[0]
    cut = rng.randrange(1, len(numbers))
    return rng.choice("+-*/"), random_tree(rng, numbers[:cut]), random_tree(rng, numbers[cut:])


def tree_value(tree):
    """Exact value of a tree, None where it divides by zero."""
    if isinstance(tree, int):
        return Fraction(tree)
    sign, left, right = tree[0], tree_value(tree[1]), tree_value(tree[2])
    if left is None or right is None or (sign == "/" and right == 0):
        return None
    return RULES[sign](left, right)


def tree_text(tree, style, spare=False):
    """A tree as text; brackets where they are needed, or (spare) around every inner operation."""
    if isinstance(tree, int):
        return str(tree)
    sign, *sides = tree
    if SIGNS[style][sign] is None:
        return rf"\frac{{{tree_text(sides[0], style)}}}{{{tree_text(sides[1], style)}}}"
    texts = []
    for right, side in enumerate(sides):
        text = tree_text(side, style, spare)
        inner = 3 if isinstance(side, int) or SIGNS[style][side[0]] is None else STRENGTH[side[0]]
        if inner < STRENGTH[sign] or (right and inner == STRENGTH[sign]) or (spare and inner < 3):
            text = rf"\left({text}\right)" if style == "latex" else f"({text})"
        texts.append(text)
    return SIGNS[style][sign].join(texts)


WRAPPINGS = ("{}", " {} ", "\n{}\n", "`{}`", "```\n{}\n```", "**{}**", "{}.", "${}$", "$${}$$", r"\boxed{{{}}}")
WRAPPINGS += (r"\[ {} \]", r"\({}\)", r"$\boxed{{{}}}$", "```text\n{}\n```", r"**$\boxed{{{}}}$**")
RESULTS = (
    "{0}",
    "{0}",
    "{0} = {1}",
    "{0}={1}",
    "{1} = {0}",
    "{0}\n= {1}",
    r"\boxed{{{0}}} = {1}",
    r"{0} = \boxed{{{1}}}",
)


def countdown_case(rng):
    """A problem, a tree over its numbers with the target's value, and the tree's text."""
    while True:
        numbers = [rng.randint(1, 30) for _ in range(rng.randint(2, 4))]
        tree = random_tree(rng, rng.sample(numbers, len(numbers)))
        value = tree_value(tree)
        if value is not None and value.denominator == 1 and value >= 0:
            style = rng.choice(tuple(SIGNS))
            return {"numbers": numbers, "target": int(value)}, tree_text(tree, style, rng.random() < 0.3)


def countdown_answer(rng, expression, result):
    """An expression in some wrapping, with or without a result."""
    return rng.choice(WRAPPINGS).format(rng.choice(RESULTS).format(expression, result))


# --- Knights & Knaves ----------------------------------------------------------------------------------------------

NAMES = ("Zoë", "Zoe", "Mary Ann", "Ann", "Mary", "Anna-Lena", "Lena", "O'Brien", "Jean-Luc", "Jean", "Łukasz", "Søren")
NAMES += ("José María", "Nguyễn Văn", "Müller", "Öz", "Ada", "Otto", "राम", "李雷", "Анна", "Knighton", "Andy", "Isla")
CONNECTIVES = {"and": all, "or": any, "not": lambda parts: not parts[0]}


def is_true(claim, kinds):
    head, *parts = claim
    if head in ("knight", "knave"):
        return kinds[parts[0]] == (head == "knight")
    return CONNECTIVES[head]([is_true(part, kinds) for part in parts])


def fitting(claims):
    """All assignments under which exactly the knights' claims are true."""
    every = itertools.product((True, False), repeat=len(claims))
    return [kinds for kinds in every if all(is_true(c, kinds) == kind for c, kind in zip(claims, kinds))]


def random_claim(rng, count, depth=0):
    head = rng.choice(("knight", "knave", "and", "or", "not")) if depth < 2 else rng.choice(("knight", "knave"))
    if head in ("knight", "knave"):
        return [head, rng.randrange(count)]
    return [head, *(random_claim(rng, count, depth + 1) for _ in range(1 if head == "not" else 2))]


def logic_case(rng):
    """A problem with one solution."""
    while True:
        count = rng.randint(2, 6)
        claims = [random_claim(rng, count) for _ in range(count)]
        found = fitting(claims)
        if len(found) == 1:
            return {"names": rng.sample(NAMES, count), "statements": claims, "solution": list(found[0])}


def said(rng, name):
    """A name as one may type it."""
    form = rng.randrange(4)
    if form == 0:
        return unicodedata.normalize("NFD", name)
    if form == 1:
        return name.replace("'", "’").replace("-", "\u2011").replace(" ", "\u00a0")
    return name


def solution(problem):
    return [(name, "knight" if kind else "knave") for name, kind in zip(problem["names"], problem["solution"])]


def other(kind):
    return "knave" if kind == "knight" else "knight"


def taught(*people):
    """A problem whose knights say something that is always true and whose knaves say something that never is."""
    claims = [["or" if knight else "and", ["knight", i], ["knave", i]] for i, (_, knight) in enumerate(people)]
    return {"names": [name for name, _ in people], "statements": claims, "solution": [k for _, k in people]}


LINES = (
    "{} is a {}",
    "{} is a {}.",
    "{}: {}",
    "{} = {}",
    "{} {}",
    "**{}**: {}",
    "**{}** is a **{}**.",
    "*{}* is a *{}*",
)
LINES += (
    "**{}:** {}",
    "“{}”: {}",
    '"{}": "{}"',
    "{} → {}",
    "{} -> {}",
    "{} – {}",
    "{} - {}",
    "`{}`: `{}`",
    "{}:\n   - {}",
)
LATEX_LINES = (r"\text{{{} is a {}}}", r"\text{{{}}}: \text{{{}}}", r"\textbf{{{}}} = \mathrm{{{}}}")
BULLETS = ("", "- ", "* ", "• ", "({}) ", "{}. ", "{}) ", "  - ", "   {}. ")


def kind_word(rng, kind):
    return rng.choice((kind, kind, kind.capitalize(), kind.upper()))


def table(rng, pairs):
    head = rng.choice((("Person", "Kind"), ("Name", "Identity"), ("**Inhabitant**", "**Type**")))
    rows = [f"| {name} | {kind} |" for name, kind in pairs]
    if rng.random() < 0.3:
        head, rows = ("#", *head), [f"| {n} {row}" for n, row in enumerate(rows, 1)]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *rows])


def groups(rng, pairs):
    of = {kind: [name for name, k in pairs if k == kind] for kind in ("knight", "knave")}
    style = rng.randrange(3)
    if style == 0:
        return "\n".join(f"**{k.capitalize()}s:** {', '.join(names) or 'none'}" for k, names in of.items())
    if style == 1:
        return "; ".join(f"{k}s: {' and '.join(names) or 'none'}" for k, names in of.items())
    lines = (f"- {k.capitalize()}s:\n" + "".join(f"  - {name}\n" for name in names) for k, names in of.items())
    return "".join(lines)


def listed(rng, pairs):
    form, bullet = rng.choice(LINES), rng.choice(BULLETS)
    lines = [bullet.format(n) + form.format(name, kind) for n, (name, kind) in enumerate(pairs, 1)]
    if bullet or "\n" in form:
        return "\n".join(lines)
    return rng.choice(("\n", ", ", "; ", ",\n", ", and ", " and ", "\n\n")).join(lines)


def latex(rng, pairs):
    form = rng.choice(LATEX_LINES)
    text = rng.choice((r", ", r", \quad ", r" \\ ")).join(form.format(name, kind) for name, kind in pairs)
    return rng.choice(("{}", r"\boxed{{{}}}", "${}$", r"\[ {} \]")).format(text)


def sentences(rng, pairs):
    return " ".join(f"{name} is a {kind}." for name, kind in pairs)


def as_json(rng, pairs):
    text = json.dumps(dict(pairs), ensure_ascii=False, indent=rng.choice((None, 1)))
    return rng.choice(("{}", "```json\n{}\n```")).format(text)


def logic_answer(rng, pairs):
    """An answer that says these (name, kind) pairs."""
    pairs = [(said(rng, name), kind_word(rng, kind)) for name, kind in rng.sample(pairs, len(pairs))]
    if len({name for name, _ in pairs}) < len(pairs):
        writers = (listed, table, latex, sentences)  # the others cannot say a name twice
    else:
        writers = (listed, listed, listed, table, groups, latex, sentences, as_json)
    writer = rng.choice(writers)
    if writer is groups:
        pairs = [(name, kind.lower()) for name, kind in pairs]
    return writer(rng, pairs)

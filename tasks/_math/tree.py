r"""Expressions as trees: the nodes, and the names of functions, constants and Greek letters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

TRIGONOMETRIC = ("sin", "cos", "tan", "cot", "sec", "csc")
INVERSES = {name: f"arc{name}" for name in TRIGONOMETRIC}
FUNCTIONS = {*INVERSES, *INVERSES.values(), "sinh", "cosh", "tanh", "ln", "log", "lg", "exp"}
CONSTANTS = {"pi": "pi", "\\pi": "pi", "e": "e", "i": "i", "\\infty": "inf", "infinity": "inf", "inf": "inf"}
GREEK = {
    *(
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "zeta",
        "eta",
        "theta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
    ),
    *("rho", "sigma", "tau", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Sigma", "Phi"),
    *("Psi", "Omega", "ell"),
}


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """An operation and its operands; ``value``: a number, the name of a letter, constant or function.

    Operations: number, letter, constant, sum, product, quotient, negative, power, root (of which the first operand is
    the degree), call, absolute, floor, ceil, binom, factorial, degree, sign (``\pm`` is 1, ``\mp`` is -1).
    """

    op: str
    parts: tuple[Node, ...] = ()
    value: Fraction | str = ""
    depth: int = 1


def number(value: int | Fraction) -> Node:
    return Node("number", value=Fraction(value))


def walk(node: Node) -> Iterator[Node]:
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack += node.parts


def letters(node: Node) -> set[str]:
    return {str(part.value) for part in walk(node) if part.op == "letter"}


def has(node: Node, op: str, value: str = "") -> bool:
    return any(part.op == op and (not value or part.value == value) for part in walk(node))


def identical(one: Node, two: Node) -> bool:
    """Whether two trees are the same part by part."""
    if (one.op, one.value, len(one.parts), one.depth) != (two.op, two.value, len(two.parts), two.depth):
        return False
    return all(map(identical, one.parts, two.parts))


def with_sign(node: Node, sign: int) -> Node:
    r"""The tree in which ``\pm`` is the sign and ``\mp`` its opposite."""
    if node.op == "sign":
        return number(sign if node.value == "\\pm" else -sign)
    if not node.parts:
        return node
    return Node(node.op, tuple(with_sign(part, sign) for part in node.parts), node.value, node.depth)


def negative(node: Node) -> Node:
    return Node("negative", (node,), depth=node.depth + 1)


def difference(one: Node, two: Node) -> Node:
    return Node("sum", (one, negative(two)), depth=max(one.depth, two.depth + 1) + 1)


def product(one: Node, two: Node) -> Node:
    return Node("product", (one, two), depth=max(one.depth, two.depth) + 1)


def plain_number(node: Node) -> bool:
    """Whether it is digits, or a quotient of digits: what a slash or a unit may follow without doubt."""
    if node.op in ("quotient", "negative"):
        return all(part.op == "number" for part in node.parts)
    return node.op == "number"

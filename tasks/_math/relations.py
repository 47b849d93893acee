r"""Equations, inequalities, memberships and unions of sets."""

from __future__ import annotations

from collections.abc import Callable

from tasks._math.balls import Ball, UndefinedError
from tasks._math.readings import Equation, Items, Named, Quantity, Reading, RealSet, Words
from tasks._math.sets import INFINITY, REALS, End, Region, complement, intersection, interval, union
from tasks._math.tokens import Token, UnreadableError
from tasks._math.tree import GREEK, Node, difference, has, letters
from tasks._math.values import PRECISION, Effort, Evaluator

RELATIONS = ("=", "<", ">", "\\le", "\\ge", "\\ne", "\\in")
DOWN, UP = ("<", "\\le"), (">", "\\ge")
SET_SIGNS = ("\\cup", "\\cap", "\\setminus")
Item = Callable[[list[Token]], Reading]


def read_relation(sides: list[list[Token]], signs: list[str], item: Item) -> Reading:
    """What stands between the signs of relation; UnreadableError for longer chains and empty sides."""
    if not all(sides):
        raise UnreadableError("one side of a relation is empty")
    if signs == ["="]:
        return assignment(sides[0], sides[1], item)
    if signs == ["\\in"]:
        return Named(needed_name(sides[0]), item(sides[1]))
    if signs == ["\\ne"]:
        end = constant(node_of(item(sides[1])))
        return Named(needed_name(sides[0]), RealSet(complement(interval(end, end, True, True))))
    if len(signs) > 2 or not (set(signs) <= set(DOWN) or set(signs) <= set(UP)):
        raise UnreadableError("a chain of relations that is not understood")
    if signs[0] in UP:
        sides, signs = sides[::-1], ["<" if sign == ">" else "\\le" for sign in signs[::-1]]
    return inequality([node_of(item(side)) for side in sides], [sign == "\\le" for sign in signs])


def assignment(left: list[Token], right: list[Token], item: Item) -> Reading:
    """A value with its name where one side is a name, else an equation."""
    name = name_of(left)
    if not name and name_of(right):
        left, right, name = right, left, name_of(right)
    if not name:
        return Equation(difference(node_of(item(left)), node_of(item(right))), "=")
    inner = item(right)
    if isinstance(inner, Named | Equation):
        raise UnreadableError("a chain of relations that is not understood")
    if not isinstance(inner, Quantity) or inner.unit is not None or len(left) > 1:
        return Named(name, inner)
    equation = difference(node_of(item(left)), inner.node)
    return Equation(equation, "=") if name in letters(inner.node) else Named(name, inner, equation)


def inequality(nodes: list[Node], closed: list[bool]) -> Reading:
    """``nodes`` ascend.  A set of numbers where one letter stands alone between constants."""
    alone = [node.op == "letter" for node in nodes]
    others = [node for node, letter in zip(nodes, alone) if not letter]
    if sum(alone) == 1 and not any(map(letters, others)):
        place = alone.index(True)
        if len(nodes) == 3 and place != 1:
            raise UnreadableError("a chain of relations that is not understood")
        low: End = constant(nodes[place - 1]) if place else -INFINITY
        high: End = constant(nodes[place + 1]) if place + 1 < len(nodes) else INFINITY
        region = interval(low, high, bool(place) and closed[place - 1], place + 1 < len(nodes) and closed[place])
        return Named(str(nodes[place].value), RealSet(region))
    if len(nodes) > 2:
        raise UnreadableError("a chain of relations that is not understood")
    return Equation(difference(nodes[0], nodes[1]), "<=" if closed[0] else "<")


def node_of(reading: Reading) -> Node:
    """The expression that a side of a relation must be; degrees and units are left out of no equation."""
    if isinstance(reading, Words) and reading.node is not None and reading.text != "no":  # AB < CD
        return reading.node
    if not isinstance(reading, Quantity) or reading.unit is not None:
        raise UnreadableError("a side of a relation that is not understood")
    return reading.node


def constant(node: Node) -> End:
    """The real number or infinity that an end is."""
    sign = -1 if node.op == "negative" else 1
    inner = node.parts[0] if sign < 0 else node
    if inner.op == "constant" and inner.value == "inf":
        return sign * INFINITY
    if letters(node) or has(node, "degree"):
        raise UnreadableError("an end that is no number")
    try:
        evaluator = Evaluator(Effort(), {}, PRECISION, real=True)
        value = evaluator.value(node)
    except UndefinedError as error:
        raise UnreadableError(str(error)) from error
    if isinstance(value, Ball) and 2 * max(evaluator.longest, evaluator.balls.scale) > PRECISION:
        raise UnreadableError("an end that is too near to another number to be told apart")
    return value


def needed_name(tokens: list[Token]) -> str:
    name = name_of(tokens)
    if not name:
        raise UnreadableError("a relation without a letter before it")
    return name


def name_of(tokens: list[Token]) -> str:
    r"""What may be assigned to, as ``x``, ``x_1``, ``f(x)``, ``(x, y)``, ``AB`` and ``\angle ABC``; else empty."""
    texts = [token.text for token in tokens if token.text not in ("{", "}")]
    prefix = ["m"] if texts[:2] == ["m", "\\angle"] else []
    if texts[len(prefix) : len(prefix) + 1] == ["\\angle"]:
        rest = texts[len(prefix) + 1 :]
        return "angle " + rest[0] if len(rest) == 1 and rest[0].isalpha() else ""
    if len(texts) > 4 and texts[0] == "(" and texts[-1] == ")" and all(t == "," or t.isalpha() for t in texts[1:-1]):
        return "".join(texts)
    if not texts or not (texts[0].isalpha() or texts[0][1:] in GREEK):
        return ""
    if texts[0] in ("e", "i", "pi") or (len(texts[0]) > 1 and texts[0].isalpha() and not texts[0].isupper()):
        return ""
    if len(texts[0]) > 3 and texts[0].isalpha():
        return ""
    rest = texts[1:]
    if rest[:1] == ["_"] and len(rest) > 1 and rest[1].isalnum():
        return "_".join([texts[0], rest[1]]) if len(rest) == 2 else ""
    while rest[:1] == ["'"]:
        rest = rest[1:]
    inner = rest[1:-1]
    called = len(rest) > 2 and (rest[0], rest[-1]) == ("(", ")") and all(t.isalnum() or t == "," for t in inner)
    return "".join(texts) if not rest or called else ""


# --- sets ----------------------------------------------------------------------------------------------------------


def read_sets(tokens: list[Token], item: Item) -> Region | None:
    """A union, intersection or difference of sets, from left to right, or the real numbers; None if it is none."""
    signs = [token.text for token in tokens if token.text in SET_SIGNS]
    if not signs:
        return REALS if [token.text for token in tokens] == ["\\mathbb R"] else None
    operands: list[list[Token]] = [[]]
    for token in tokens:
        if token.text in SET_SIGNS:
            operands.append([])
        else:
            operands[-1].append(token)
    if len(set(signs)) > 1:
        raise UnreadableError("it is not clear what is united first")
    region = set_of(operands[0], item)
    for sign, operand in zip(signs, operands[1:]):
        other = set_of(operand, item)
        if sign == "\\cup":
            region = union((*region, *other))
        else:
            region = intersection(region, other if sign == "\\cap" else complement(other))
    return region


def set_of(tokens: list[Token], item: Item) -> Region:
    if not tokens:
        raise UnreadableError("a set is missing")
    if [token.text for token in tokens] == ["\\emptyset"]:
        return ()
    region = region_of(item(tokens))
    if region is None:
        raise UnreadableError("a set that is not understood")
    return region


def region_of(reading: Reading) -> Region | None:
    """The set of real numbers that an interval or a list in braces is; None if it is none."""
    if isinstance(reading, RealSet):
        return reading.region
    if not isinstance(reading, Items) or reading.left not in ("(", "[", "\\{"):
        return None
    if not all(isinstance(part, Quantity) and part.unit is None for part in reading.items):
        return None
    ends = [constant(part.node) for part in reading.items if isinstance(part, Quantity)]
    if reading.left == "\\{":
        return union(piece for end in ends for piece in interval(end, end, True, True))
    if len(ends) != 2:
        return None
    return interval(ends[0], ends[1], reading.left == "[", reading.right == "]")

r"""What an answer between commas, relations and brackets can be: an expression with a unit, a ratio, words."""

from __future__ import annotations

from fractions import Fraction

from tasks._math.grammar import Parser
from tasks._math.readings import Based, Items, Quantity, Ratio, Reading, Words
from tasks._math.tokens import Token, UnreadableError, split_at
from tasks._math.tree import CONSTANTS, FUNCTIONS, Node, has, letters, negative, number, product, with_sign
from tasks._math.units import BARE, DEGREE, DOLLAR, TEMPERATURES, Unit, read_unit, unit

MAX_PARTS = 60
SHORT_WORDS = {"all", "any", "no", "odd", "one", "red", "six", "ten", "tie", "two", "win", "yes"}  # no products
MONEY = {"dollar": DOLLAR, "\\pounds": unit("pounds sterling"), "\\euro": unit("euro")}


def read_expression(tokens: list[Token]) -> Node:
    """The expression that all the tokens are, without a unit."""
    parser = Parser(tokens, BARE)
    node = parser.group()
    if parser.place < len(parser.tokens) or has(node, "sign"):
        raise UnreadableError(f"'{parser.peek().text[:40]}' is not understood")
    return node


def read_based(tokens: list[Token]) -> Reading | None:
    r"""``101_2`` or ``1A_{16}``."""
    texts = [token.text for token in tokens]
    place = texts.index("_") if "_" in texts else -1
    subscript = texts[place + 2 : -1] if texts[place + 1 : place + 2] == ["{"] else texts[place + 1 :]
    digits, base = "".join(texts[:place]), "".join(subscript)
    if place < 1 or len(subscript) != 1 or not (digits.isalnum() and base.isdigit() and len(base) < 3):
        return None
    if not digits[0].isdigit() and (len(digits) < 2 or not digits.isupper() or int(base) < 11):
        return None  # a letter with its subscript
    if len(digits) > 200 or not 2 <= int(base) <= 36 or any(int(c, 36) >= int(base) for c in digits):
        raise UnreadableError("digits that its base does not have")
    return Based(digits.lower().lstrip("0") or "0", int(base), Fraction(int(digits, int(base))))


def read_ratio(tokens: list[Token]) -> Reading | None:
    parts, borders = split_at(tokens, lambda token: token.text == ":")
    if not borders or any(token.kind == "word" and (token.font or len(token.text) > 1) for token in tokens):
        return None
    if not all(parts) or len(parts) > MAX_PARTS:
        raise UnreadableError("an empty part of a ratio")
    return Ratio(tuple(read_expression(part) for part in parts), clock_of(parts))


def clock_of(parts: list[list[Token]]) -> tuple[int, ...]:
    """Hours, minutes and perhaps seconds of a time such as ``9:05``; empty where two digits are missing or too many."""
    texts = [part[0].text for part in parts if len(part) == 1 and part[0].text.isdigit()]
    if len(texts) != len(parts) or len(texts) > 3 or len(texts[0]) > 2 or any(len(text) != 2 for text in texts[1:]):
        return ()
    numbers = tuple(map(int, texts))
    return numbers if numbers[0] <= 24 and max(numbers[1:]) < 60 else ()


def read_bare_words(tokens: list[Token]) -> Reading | None:
    """An answer in letters only: a choice, a word of three letters or more, or several words."""
    if not all(token.kind == "word" for token in tokens):
        return None
    texts = [token.text for token in tokens]
    if any(text in CONSTANTS or text in FUNCTIONS for text in texts):
        return None
    if len(texts) == 1 and len(texts[0]) == 1 and tokens[0].font == "text":
        return read_words(tokens)
    capitals = len(texts) == 1 and len(texts[0]) > 1 and texts[0].isupper()
    return read_words(tokens) if capitals or any(len(t) > 2 or t.lower() == "no" for t in texts) else None


def read_words(tokens: list[Token]) -> Words:
    """Words, digits and harmless punctuation, in lower case; UnreadableError for anything else."""
    if not any(token.kind == "word" for token in tokens):
        raise UnreadableError("it is not understood")
    texts = []
    for place, token in enumerate(tokens):
        before, after = (tokens[k].kind if 0 <= k < len(tokens) else "" for k in (place - 1, place + 1))
        if token.kind in ("word", "digits") or (token.text == ":" and before == after == "digits"):
            texts.append(token.text.casefold())
        elif not (token.text == "." and before == "word") and not (token.text in "-'" and before == after == "word"):
            raise UnreadableError(f"'{token.text[:40]}' is not understood")
    node = None
    if len(tokens) == 1 and len(tokens[0].text) <= 3 and tokens[0].font != "math":
        node = Parser([Token("word", tokens[0].text)]).sum()
    moves = node is not None and not (tokens[0].font or tokens[0].text.isupper() or tokens[0].text in SHORT_WORDS)
    return Words(" ".join(texts).replace(" : ", ":"), node, moves)


def read_quantity_or_words(tokens: list[Token]) -> Reading:
    try:
        return read_quantity(tokens)
    except UnreadableError:
        if not any(token.kind == "word" and (token.font == "text" or len(token.text) > 1) for token in tokens):
            raise
        return read_words(tokens)


def read_quantity(tokens: list[Token]) -> Reading:
    r"""An expression and its unit, perhaps money before it; with ``\pm`` two of them."""
    sign = tokens[0].text in ("-", "+")
    money = MONEY.get(tokens[sign].text) if len(tokens) > sign + 1 else None
    if money:
        tokens = [*tokens[:sign], *tokens[sign + 1 :]]
    parser = Parser(tokens, BARE)
    node = parser.group()
    after = parser.peek()
    if after.kind == "word" and not after.font and len(after.text) < 4 and letters(node):
        raise UnreadableError("it is not clear whether letters are a unit")
    factor, own = read_unit(parser.tokens[parser.place :])
    if money and own and own != money:
        if any(power > 0 for _, power in own.powers):
            raise UnreadableError("two units")
        own = Unit(own.powers | money.powers, own.known)  # $5 per hour
    if own and all(power < 0 for _, power in own.powers):
        own = Unit(own.powers, known=False)  # 5 per hour, without what
    node, own = without_degree(node, own or money)
    if factor > 1:
        node = product(number(factor), node)
    if not has(node, "sign"):
        return Quantity(node, own)
    return Items("", "", tuple(Quantity(with_sign(node, one), own) for one in (1, -1)))


def without_degree(node: Node, own: Unit | None) -> tuple[Node, Unit | None]:
    """A degree sign that belongs to the whole expression becomes its unit, perhaps with the C or F after it."""
    inner = node.parts[0] if node.op == "negative" else node
    if inner.op != "degree":
        return node, own
    if own and str(own) not in TEMPERATURES:
        raise UnreadableError("two units")
    own = TEMPERATURES[str(own)] if own else DEGREE
    return (inner.parts[0] if inner is node else negative(inner.parts[0])), own

r"""One reading of an answer, for gold answers and answers alike: the whole text is read or refused.

In this order: parts between commas, ``and`` or ``or``; equations, inequalities and memberships; unions of sets; brackets,
matrices, ratios and numbers in a base; expressions with a unit; words.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from tasks._math import commas, relations
from tasks._math.grammar import Parser
from tasks._math.readings import Based, Items, Matrix, Named, Quantity, Ratio, Reading, RealSet, Words
from tasks._math.sets import intersection, union
from tasks._math.tokens import CLOSING, OPENING, Token, UnreadableError, closing
from tasks._math.tree import CONSTANTS, FUNCTIONS, Node, has, negative, number, product, with_sign
from tasks._math.units import BARE, DEGREE, DOLLAR, Unit, read_unit, unit

MAX_PARTS = 60
JOINS = {"and", "or"}
BRACKETS = {"(": ")", "[": "]", "\\{": "\\}", "\\langle": "\\rangle"}
MATRICES = {"matrix", "pmatrix", "bmatrix", "Bmatrix", "array", "smallmatrix"}
ROWS = {"cases", "align", "aligned", "gather", "gathered"}
MONEY = {"dollar": DOLLAR, "\\pounds": unit("pounds sterling"), "\\euro": unit("euro")}
PUNCTUATION = set(".-':()/&?") | {"&amp", "\\&"}


def readings(tokens: list[Token]) -> list[Reading]:
    """The reading of a whole answer; a second one where a comma leaves it open.  UnreadableError says what is wrong."""
    first = read(commas.joined(tokens))
    if not commas.ambiguous(tokens):
        return [first]
    return [first, read(commas.joined(tokens, lists=True))]


def level(token: Token) -> int:
    """How a token changes the depth of brackets and environments."""
    return (token.text in OPENING or token.text in ("\\begin", "\\langle")) - (
        token.text in CLOSING or token.text in ("\\end", "\\rangle")
    )


def split(tokens: list[Token], is_border: Callable[[Token], bool]) -> tuple[list[list[Token]], list[Token]]:
    """The parts between the borders outside of brackets, and the borders."""
    parts: list[list[Token]] = [[]]
    borders, depth = [], 0
    for token in tokens:
        depth += level(token)
        if depth == 0 and is_border(token):
            parts.append([])
            borders.append(token)
        else:
            parts[-1].append(token)
    return parts, borders


def is_separator(token: Token) -> bool:
    return token.text in (",", ";") or (token.kind == "word" and token.text.lower() in JOINS)


def read(tokens: list[Token]) -> Reading:
    """Parts of a list, or the only one."""
    parts, borders = split(tokens, is_separator)
    if len(parts) == 1:
        return item(tokens)
    if len(parts) > MAX_PARTS:
        raise UnreadableError("it has too many parts")
    for place in range(len(borders) - 1, 0, -1):  # ", and"
        if not parts[place] and borders[place].text in JOINS and borders[place - 1].text == ",":
            del parts[place]
    joins = {border.text.lower() for border in borders} - {","}
    return collected([item(part) for part in parts], joins)


def collected(found: list[Reading], joins: set[str]) -> Reading:
    """A list of readings: pairs of signs spread out, a common name in front, solution sets joined by a word."""
    names = [part.name for part in found if isinstance(part, Named)]
    inner = [part.inner if isinstance(part, Named) else part for part in found]
    sets = [part.region for part in inner if isinstance(part, RealSet)]
    result: Reading
    if len(sets) == len(found) and len(joins) == 1 and joins <= JOINS and len(set(names)) == 1:
        region = sets[0]
        for other in sets[1:]:
            region = union((*region, *other)) if joins == {"or"} else intersection(region, other)
        return Named(names[0], RealSet(region))
    if len(set(names)) > 1:
        return Items("", "", tuple(found))
    flat: list[Reading] = []
    for part in inner:
        flat += part.items if isinstance(part, Items) and not part.left else [part]
    result = Items("", "", tuple(shared_unit(flat)))
    return Named(names[0], result) if names else result


def shared_unit(parts: list[Reading]) -> list[Reading]:
    """A unit after the last part of a list belongs to all of them: "3 and 5 cm"."""
    last = parts[-1]
    if not isinstance(last, Quantity) or last.unit is None:
        return parts
    if not all(isinstance(part, Quantity) and part.unit is None for part in parts[:-1]):
        return parts
    return [Quantity(part.node, last.unit) for part in parts if isinstance(part, Quantity)]


def item(tokens: list[Token]) -> Reading:
    """One part of an answer."""
    while len(tokens) > 1 and tokens[0].text == "{" and closing(tokens, 0) == len(tokens) - 1:
        tokens = tokens[1:-1]
    if not tokens:
        raise UnreadableError("an empty part")
    if tokens[0].text == "\\begin" and len(tokens) > 2 and tokens[2].text in ROWS and environment_end(tokens):
        return system(tokens)
    sides, signs = split(tokens, lambda token: token.text in relations.RELATIONS)
    if signs:
        return relations.read_relation(sides, [sign.text for sign in signs], item)
    if (region := relations.read_sets(tokens, item)) is not None:
        return RealSet(region)
    if [token.text for token in tokens] == ["\\emptyset"]:
        return Items("\\{", "\\}", ())
    if (found := bracketed(tokens)) is not None:
        return found
    if any(token.text == "\\begin" for token in tokens):
        return matrix(tokens)
    return based(tokens) or ratio(tokens) or words_alone(tokens) or quantity_or_words(tokens)


# --- brackets and environments -----------------------------------------------------------------------------------


def bracketed(tokens: list[Token]) -> Reading | None:
    """A tuple, interval, set or vector, or what stands in parentheses; None if no brackets enclose all tokens."""
    left, right = tokens[0].text, tokens[-1].text
    if left not in BRACKETS or right not in BRACKETS.values() or len(tokens) < 2:
        return None
    depth = 0
    for place, token in enumerate(tokens):
        depth += level(token)
        if depth == 0:
            break
    if place < len(tokens) - 1:
        return None
    half_open = {left, right} <= {"(", "[", ")", "]"}
    if BRACKETS[left] != right and not half_open:
        raise UnreadableError("brackets that do not match")
    inside = tokens[1:-1]
    if not inside:
        if left != "\\{":
            raise UnreadableError("empty brackets")
        return Items("\\{", "\\}", ())
    parts, _ = split(inside, lambda token: token.text in (",", ";"))
    if left == "(" and right == ")" and len(parts) == 1:
        return item(inside)
    if len(parts) > MAX_PARTS:
        raise UnreadableError("it has too many parts")
    found = [item(part) for part in parts]
    if left == "\\{":
        result = collected(found, set())
        if isinstance(result, Items) and not result.left:
            return Items(left, right, result.items)
    return Items(left, right, tuple(found))


def environment_end(tokens: list[Token]) -> bool:
    r"""Whether the tokens end with the ``\end`` of the environment that they begin with."""
    name = [token.text for token in tokens[1:4]]
    if name[:1] != ["{"] or name[-1:] != ["}"]:
        raise UnreadableError("an environment without a name")
    ends = [place for place, token in enumerate(tokens) if token.text == "\\end"]
    begins = sum(token.text == "\\begin" for token in tokens)
    return begins == 1 and len(ends) == 1 and [t.text for t in tokens[ends[0] + 1 :]] == name


def cells(tokens: list[Token]) -> list[list[list[Token]]]:
    """Rows of cells between row breaks and ampersands; a row break at the end opens no row."""
    rows, _ = split(tokens, lambda token: token.text == "\\\\")
    if not rows[-1]:
        rows.pop()
    return [split(row, lambda token: token.text == "&")[0] for row in rows]


def system(tokens: list[Token]) -> Reading:
    """The rows of an environment for several equations, as a list."""
    rows = cells(tokens[4:-4])
    found = [item([token for cell in row for token in cell if token.text != ","]) for row in rows]
    if not found:
        raise UnreadableError("an empty environment")
    return collected(found, set()) if len(found) > 1 else found[0]


def matrix(tokens: list[Token]) -> Reading:
    """A matrix, perhaps with a factor before it."""
    start = next(place for place, token in enumerate(tokens) if token.text == "\\begin")
    inside = tokens[start:]
    if len(inside) < 9 or inside[2].text not in MATRICES or not environment_end(inside):
        raise UnreadableError("an environment that is not understood")
    body = inside[4:-4]
    if inside[2].text == "array":
        if not body or body[0].text != "{":
            raise UnreadableError("an array without its columns")
        body = body[closing(body, 0) + 1 :]
    rows = [tuple(expression(cell) for cell in row) for row in cells(body)]
    if not rows or len({len(row) for row in rows}) > 1:
        raise UnreadableError("a matrix whose rows differ in length")
    factor = tokens[:start]
    if factor and factor[-1].text == "\\cdot":
        factor = factor[:-1]
    if [token.text for token in factor] == ["-"]:
        rows = [tuple(negative(cell) for cell in row) for row in rows]
    elif factor:
        node = expression(factor)
        rows = [tuple(product(node, cell) for cell in row) for row in rows]
    return Matrix(tuple(rows))


# --- expressions and words ---------------------------------------------------------------------------------------


def expression(tokens: list[Token]) -> Node:
    """The expression that all the tokens are, without a unit."""
    parser = Parser(tokens, BARE)
    node = parser.sum()
    if parser.place < len(parser.tokens) or has(node, "sign"):
        raise UnreadableError(f"'{parser.peek().text[:40]}' is not understood")
    return node


def based(tokens: list[Token]) -> Reading | None:
    r"""``101_2`` or ``1A_{16}``."""
    texts = [token.text for token in tokens]
    place = texts.index("_") if "_" in texts else -1
    digits, base = "".join(texts[:place]), "".join(texts[place + 1 :]).strip("{}")
    if place < 1 or tokens[0].kind != "digits" or not digits.isalnum() or not base.isdigit() or len(base) > 2:
        return None
    if len(digits) > 200 or not 2 <= int(base) <= 36 or any(int(c, 36) >= int(base) for c in digits):
        raise UnreadableError("digits that its base does not have")
    return Based(digits.lower().lstrip("0") or "0", int(base), Fraction(int(digits, int(base))))


def ratio(tokens: list[Token]) -> Reading | None:
    parts, borders = split(tokens, lambda token: token.text == ":")
    if not borders or any(token.kind == "word" and (token.font or len(token.text) > 1) for token in tokens):
        return None
    if not all(parts) or len(parts) > MAX_PARTS:
        raise UnreadableError("an empty part of a ratio")
    return Ratio(tuple(expression(part) for part in parts))


def words_alone(tokens: list[Token]) -> Reading | None:
    """An answer in letters only: a choice, a word of three letters or more, or several words."""
    if not all(token.kind == "word" for token in tokens):
        return None
    texts = [token.text for token in tokens]
    if any(text in CONSTANTS or text in FUNCTIONS for text in texts):
        return None
    if len(texts) == 1 and len(texts[0]) == 1 and tokens[0].font == "text":
        return words(tokens)
    return words(tokens) if any(len(text) > 2 for text in texts) else None


def words(tokens: list[Token]) -> Words:
    """Words, digits and harmless punctuation, in lower case; UnreadableError for anything else."""
    if not any(token.kind == "word" for token in tokens):
        raise UnreadableError("it is not understood")
    texts = []
    for token in tokens:
        if token.kind in ("word", "digits") or token.text == ":":
            texts.append(token.text.casefold())
        elif token.text not in PUNCTUATION:
            raise UnreadableError(f"'{token.text[:40]}' is not understood")
    node = None
    if len(tokens) == 1 and len(tokens[0].text) <= 3 and tokens[0].font != "math":
        node = Parser([Token("word", tokens[0].text)]).sum()
    return Words(" ".join(texts).replace(" : ", ":"), node)


def quantity_or_words(tokens: list[Token]) -> Reading:
    try:
        return quantity(tokens)
    except UnreadableError:
        if not any(token.kind == "word" and (token.font == "text" or len(token.text) > 1) for token in tokens):
            raise
        return words(tokens)


def quantity(tokens: list[Token]) -> Reading:
    r"""An expression and its unit, perhaps money before it; with ``\pm`` two of them."""
    sign = tokens[0].text in ("-", "+")
    money = MONEY.get(tokens[sign].text) if len(tokens) > sign + 1 else None
    if money:
        tokens = [*tokens[:sign], *tokens[sign + 1 :]]
    parser = Parser(tokens, BARE)
    node = parser.sum()
    factor, own = read_unit(parser.tokens[parser.place :])
    if money and own and own != money:
        raise UnreadableError("two units")
    node, own = without_degree(node, own or money)
    if factor > 1:
        node = product(number(factor), node)
    if not has(node, "sign"):
        return Quantity(node, own)
    return Items("", "", tuple(Quantity(with_sign(node, one), own) for one in (1, -1)))


def without_degree(node: Node, own: Unit | None) -> tuple[Node, Unit | None]:
    """A degree sign that belongs to the whole expression becomes its unit."""
    if node.op == "degree":
        return node.parts[0], own if own and own != DEGREE else DEGREE
    if node.op == "negative" and node.parts[0].op == "degree":
        return negative(node.parts[0].parts[0]), own if own and own != DEGREE else DEGREE
    return node, own

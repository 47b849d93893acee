r"""One reading of an answer, for gold answers and answers alike: the whole text is read or refused.

In this order: parts between commas, ``and`` or ``or``; equations, inequalities and memberships; unions of sets;
brackets, matrices, ratios and numbers in a base; expressions with a unit; words.
"""

from __future__ import annotations

from itertools import accumulate

from tasks._math import commas, relations
from tasks._math.expressions import read_bare_words, read_based, read_expression, read_quantity_or_words, read_ratio
from tasks._math.readings import Items, Matrix, Named, Quantity, Reading, RealSet
from tasks._math.sets import intersection, union
from tasks._math.tokens import Token, UnreadableError, closing_place, depth_change, split_at
from tasks._math.tree import negative, product

MAX_PARTS = 60
JOINS = {"and", "or"}
BRACKETS = {"(": ")", "[": "]", "\\{": "\\}", "\\langle": "\\rangle"}
MATRICES = {"matrix", "pmatrix", "bmatrix", "Bmatrix", "array", "smallmatrix"}
ROWS = {"cases", "align", "aligned", "gather", "gathered"}


def readings(tokens: list[Token]) -> list[Reading]:
    """The reading of a whole answer; a second one where a comma leaves it open.  UnreadableError says what is wrong."""
    first = read_list(commas.join_numbers(tokens))
    if not commas.is_ambiguous(tokens):
        return [first]
    try:
        return [first, read_list(commas.join_numbers(tokens, lists=True))]
    except UnreadableError:
        return [first]  # so that the comma can only be part of a number


def is_separator(token: Token) -> bool:
    return token.text in (",", ";") or (token.kind == "word" and token.text.lower() in JOINS)


def read_list(tokens: list[Token]) -> Reading:
    """Parts of a list, or the only one."""
    parts, borders = split_at(tokens, is_separator)
    if len(parts) == 1:
        return read_item(tokens)
    if len(parts) > MAX_PARTS:
        raise UnreadableError("it has too many parts")
    for place in range(len(borders) - 1, 0, -1):  # ", and"
        if not parts[place] and borders[place].text in JOINS and borders[place - 1].text == ",":
            del parts[place]
    joins = {border.text.lower() for border in borders} - {","}
    return collect_items([read_item(part) for part in parts], joins)


def collect_items(parts: list[Reading], joins: set[str]) -> Reading:
    """A list of readings: pairs of signs spread out, a common name in front, solution sets joined by a word."""
    names = [part.name for part in parts if isinstance(part, Named)]
    inner = [part.inner if isinstance(part, Named) else part for part in parts]
    if names and len(names) < len(parts) and (len(names) > 1 or not isinstance(parts[0], Named)):
        raise UnreadableError("it is not clear what is assigned")
    sets = [part.region for part in inner if isinstance(part, RealSet)]
    result: Reading
    if len(sets) == len(parts) and len(joins) == 1 and joins <= JOINS and len(set(names)) == 1:
        region = sets[0]
        for other in sets[1:]:
            region = union((*region, *other)) if joins == {"or"} else intersection(region, other)
        return Named(names[0], RealSet(region))
    if len(set(names)) > 1:
        return Items("", "", tuple(parts))
    flat: list[Reading] = []
    for part in inner:
        flat += part.items if isinstance(part, Items) and not part.left else [part]
    result = Items("", "", tuple(share_unit(flat)))
    return Named(names[0], result) if names else result


def share_unit(parts: list[Reading]) -> list[Reading]:
    """A unit after the last part of a list belongs to all of them: "3 and 5 cm"."""
    last = parts[-1]
    if not isinstance(last, Quantity) or last.unit is None:
        return parts
    if not all(isinstance(part, Quantity) and part.unit is None for part in parts[:-1]):
        return parts
    return [Quantity(part.node, last.unit) for part in parts if isinstance(part, Quantity)]


def read_item(tokens: list[Token]) -> Reading:
    """One part of an answer."""
    while len(tokens) > 1 and tokens[0].text == "{" and closing_place(tokens, 0) == len(tokens) - 1:
        tokens = tokens[1:-1]
    if not tokens:
        raise UnreadableError("an empty part")
    if tokens[0].text == "\\begin" and len(tokens) > 2 and tokens[2].text in ROWS and environment_end(tokens):
        return read_system(tokens)
    sides, signs = split_at(tokens, lambda token: token.text in relations.RELATIONS)
    if signs:
        return relations.read_relation(sides, [sign.text for sign in signs], read_item)
    if (region := relations.read_sets(tokens, read_item)) is not None:
        return RealSet(region)
    if [token.text for token in tokens] == ["\\emptyset"]:
        return Items("\\{", "\\}", ())
    if (inside := read_bracketed(tokens)) is not None:
        return inside
    if any(token.text == "\\begin" for token in tokens):
        return read_matrix(tokens)
    return read_based(tokens) or read_ratio(tokens) or read_bare_words(tokens) or read_quantity_or_words(tokens)


# --- brackets and environments -----------------------------------------------------------------------------------


def read_bracketed(tokens: list[Token]) -> Reading | None:
    """A tuple, interval, set or vector, or what stands in parentheses; None if no brackets enclose all tokens."""
    left, right = tokens[0].text, tokens[-1].text
    if left not in BRACKETS or right not in BRACKETS.values() or len(tokens) < 2:
        return None
    if 0 in list(accumulate(map(depth_change, tokens)))[:-1]:
        return None
    half_open = {left, right} <= {"(", "[", ")", "]"}
    if BRACKETS[left] != right and not half_open:
        raise UnreadableError("brackets that do not match")
    inside = tokens[1:-1]
    if not inside:
        if left != "\\{":
            raise UnreadableError("empty brackets")
        return Items("\\{", "\\}", ())
    parts, _ = split_at(inside, lambda token: token.text in (",", ";"))
    if left == "(" and right == ")" and len(parts) == 1:
        return read_item(inside)
    if len(parts) > MAX_PARTS:
        raise UnreadableError("it has too many parts")
    items = [read_item(part) for part in parts]
    if left == "\\{":
        result = collect_items(items, set())
        if isinstance(result, Items) and not result.left:
            return Items(left, right, result.items)
    return Items(left, right, tuple(items))


def environment_end(tokens: list[Token]) -> bool:
    r"""Whether the tokens end with the ``\end`` of the environment that they begin with."""
    name = [token.text for token in tokens[1:4]]
    if name[:1] != ["{"] or name[-1:] != ["}"]:
        raise UnreadableError("an environment without a name")
    ends = [place for place, token in enumerate(tokens) if token.text == "\\end"]
    begins = sum(token.text == "\\begin" for token in tokens)
    return begins == 1 and len(ends) == 1 and [t.text for t in tokens[ends[0] + 1 :]] == name


def matrix_cells(tokens: list[Token]) -> list[list[list[Token]]]:
    """Rows of cells between row breaks and ampersands; a row break at the end opens no row."""
    rows, _ = split_at(tokens, lambda token: token.text == "\\\\")
    if not rows[-1]:
        rows.pop()
    return [split_at(row, lambda token: token.text == "&")[0] for row in rows]


def read_system(tokens: list[Token]) -> Reading:
    """The rows of an environment for several equations, as a list."""
    rows = matrix_cells(tokens[4:-4])
    items = [read_item([token for cell in row for token in cell if token.text != ","]) for row in rows]
    if not items:
        raise UnreadableError("an empty environment")
    return collect_items(items, set()) if len(items) > 1 else items[0]


def read_matrix(tokens: list[Token]) -> Reading:
    """A matrix, perhaps with a factor before it."""
    start = next(place for place, token in enumerate(tokens) if token.text == "\\begin")
    inside = tokens[start:]
    if len(inside) < 9 or inside[2].text not in MATRICES or not environment_end(inside):
        raise UnreadableError("an environment that is not understood")
    body = inside[4:-4]
    if inside[2].text == "array":
        if not body or body[0].text != "{":
            raise UnreadableError("an array without its columns")
        body = body[closing_place(body, 0) + 1 :]
    rows = [tuple(read_expression(cell) for cell in row) for row in matrix_cells(body)]
    if not rows or len({len(row) for row in rows}) > 1:
        raise UnreadableError("a matrix whose rows differ in length")
    factor = tokens[:start]
    if len(factor) > 1 and factor[-1].text == "\\cdot":
        factor = factor[:-1]
    if [token.text for token in factor] == ["-"]:
        rows = [tuple(negative(cell) for cell in row) for row in rows]
    elif factor:
        node = read_expression(factor)
        rows = [tuple(product(node, cell) for cell in row) for row in rows]
    return Matrix(tuple(rows))

"""What a text can be read as: the sorts of answers."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tasks._math.sets import Region
from tasks._math.tree import Node
from tasks._math.units import Unit


@dataclass(frozen=True, eq=False)
class Quantity:
    """An expression, with a unit or without."""

    node: Node
    unit: Unit | None = None
    sort = "number"


@dataclass(frozen=True, eq=False)
class Items:
    """Several answers in order of writing; without brackets or in braces their order does not matter."""

    left: str
    right: str
    items: tuple[Reading, ...]

    @property
    def sort(self) -> str:
        return "tuple" if self.ordered else "list"

    @property
    def ordered(self) -> bool:
        return self.left not in ("", "\\{")


@dataclass(frozen=True, eq=False)
class Matrix:
    rows: tuple[tuple[Node, ...], ...]
    sort = "matrix"


@dataclass(frozen=True, eq=False)
class RealSet:
    """A union of intervals; ``name`` is the letter of an inequality."""

    region: Region
    sort = "set"


@dataclass(frozen=True, eq=False)
class Words:
    """Words in lower case; ``node``: a short one as a product; ``product``: whether it may be one, in any order."""

    text: str
    node: Node | None = None
    product: bool = False
    sort = "words"


@dataclass(frozen=True, eq=False)
class Equation:
    """``node`` is left side minus right side; ``relation``: "=", "<" or "<=" (to 0)."""

    node: Node
    relation: str
    sort = "equation"


@dataclass(frozen=True, eq=False)
class Ratio:
    """``clock``: hours, minutes and seconds where it is written as a time, ``12:05``."""

    parts: tuple[Node, ...]
    clock: tuple[int, ...] = ()
    sort = "ratio"


@dataclass(frozen=True, eq=False)
class Based:
    """A number in another base than ten."""

    digits: str
    base: int
    value: Fraction
    sort = "number"


@dataclass(frozen=True, eq=False)
class Named:
    """What stands after ``x =``, ``f(x) =`` or ``x \\in``; ``equation`` where both sides are expressions."""

    name: str
    inner: Reading
    equation: Node | None = None
    sort = "assignment"


Reading = Quantity | Items | Matrix | RealSet | Words | Equation | Ratio | Based | Named

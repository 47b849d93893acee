"""The kind of a gold answer, for lists of what a data file holds."""

from __future__ import annotations

from tasks._math.compare import read_answer
from tasks._math.number import written
from tasks._math.readings import Based, Quantity
from tasks._math.tree import Node


def gold_kind(text: str) -> str:
    """``integer``, ``fraction``, ``expression``, ``tuple`` and so on, "not understood" if it has no reading.

    Of several readings the first counts.
    """
    readings = read_answer(text)[1]
    if not readings:
        return "not understood"
    first = readings[0]
    if isinstance(first, Based):
        return "number in another base"
    if isinstance(first, Quantity):
        return expression_kind(first.node) + (" with a unit" if first.unit else "")
    return first.sort


def expression_kind(node: Node) -> str:
    value = written(node)
    if value is None:
        return "expression"
    while node.op == "negative":
        node = node.parts[0]
    if node.op == "quotient":
        return "fraction"
    return "integer" if value.denominator == 1 else "decimal"

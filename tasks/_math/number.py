r"""Exact numbers, for problems whose answer is one: integers, decimals, fractions, mixed numbers, with a unit or not.

The reader is that of all answers; here nothing but a written number counts, so that no answer may repeat its question.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tasks._math import commas
from tasks._math.reader import read_list
from tasks._math.readings import Named, Quantity
from tasks._math.text import MAX_ANSWER
from tasks._math.tokens import UnreadableError, tokens_of
from tasks._math.tree import Node
from tasks._math.units import PERCENT


@dataclass(frozen=True)
class Number:
    """An exact value and its unit, "" if it has none."""

    value: Fraction
    unit: str = ""


def read_number(text: str) -> Number | None:
    """The number that the whole text is, None if it is not one."""
    if len(text) > MAX_ANSWER:
        return None
    try:
        reading = read_list(commas.join_numbers(tokens_of(text)))
    except UnreadableError:
        return None
    inner = reading.inner if isinstance(reading, Named) else reading
    if not isinstance(inner, Quantity) or (inner.unit and not inner.unit.known):
        return None
    value = written(inner.node)
    return None if value is None else Number(value, str(inner.unit or ""))


def written(node: Node) -> Fraction | None:
    """The value of a number, a fraction of two, or their negative; None for anything else."""
    if isinstance(node.value, Fraction):
        return node.value
    if node.op == "negative":
        inner = written(node.parts[0])
        return None if inner is None or node.parts[0].op == "negative" else -inner
    if node.op != "quotient" or any(part.op == "quotient" for part in node.parts):
        return None
    above, below = map(written, node.parts)
    return above / below if above is not None and below else None


def same_number(gold: Number, answer: Number) -> bool:
    """Exact equality; a unit may be left out but not be another one, and a per cent sign of the answer counts."""
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return False
    if str(PERCENT) in (gold.unit, answer.unit) and gold.unit != answer.unit:
        share = (gold if gold.unit else answer).value / 100
        return answer.value in (gold.value, share) if gold.unit else gold.value == share
    return gold.value == answer.value

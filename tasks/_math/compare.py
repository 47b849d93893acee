r"""Whether an answer equals the gold answer: both are read by the same rules (``reader``) and compared by sort.

Equality is symmetric but for four rules: a unit that only the answer gives must be in the table of units; a per cent
sign that only the gold answer has may be left out or worked in (75\% accepts 75 and 0.75), one that only the answer has
must be worked in (0.75 accepts 75\%, 75 does not); an equation in one letter must be solved by the answer; and a gold
answer that cannot be read is equal to the same tokens only.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from tasks._math import commas
from tasks._math.equality import Comparer
from tasks._math.reader import readings
from tasks._math.readings import Based, Equation, Items, Matrix, Named, Quantity, Ratio, Reading, Words
from tasks._math.relations import region_of
from tasks._math.sets import Region, same_region
from tasks._math.text import MAX_ANSWER
from tasks._math.tokens import UnreadableError, tokens_of
from tasks._math.tree import Node, letters, number, product
from tasks._math.units import PERCENT

HUNDREDTH = number(Fraction(1, 100))
TIME = re.compile("([0-9]{1,2}):([0-9]{2}) [ap]m")
SHOWN = 40  # characters of an answer in a reason
Read = tuple[tuple[str, ...], tuple[Reading, ...], str]  # tokens, readings, and why there are none


@lru_cache(10_000)
def compare_answers(gold: str, answer: str) -> tuple[bool, str]:
    """Whether they are equal, and how that was found: the sort of answer, and what was seen."""
    tokens, golds, gold_fault = read_answer(gold)
    others, answers, fault = read_answer(answer)
    if fault and not others:
        return False, f"unreadable answer: {fault}"
    if tokens == others:
        return True, "same text"
    if fault or gold_fault:
        return False, f"unreadable {'' if fault else 'gold '}answer: {fault or gold_fault}"
    sort = golds[0].sort
    comparison = Comparison()
    if any(comparison.matches(one, two) for one in golds for two in answers):
        return True, f"{sort}: equal"
    if comparison.fault:
        return False, f"unreadable answer: {comparison.fault}"
    return False, f"{sort}: answered {answer[:SHOWN]}, expected {gold[:SHOWN]}"


@lru_cache(4096)
def read_answer(text: str) -> Read:
    """An answer by tokens and by what they mean; no tokens if it is malformed."""
    if len(text) > MAX_ANSWER:
        return (), (), f"longer than {MAX_ANSWER} characters"
    try:
        tokens = tokens_of(text)
    except UnreadableError as error:
        return (), (), str(error)
    texts = tuple(token.text for token in tokens)
    try:
        texts = tuple(token.text for token in commas.join_numbers(tokens))
        return texts, tuple(readings(tokens)), ""
    except UnreadableError as error:
        return texts, (), str(error)


def answer_fault(text: str) -> str:
    """What keeps a text from being an answer at all; empty if nothing does."""
    tokens, _, fault = read_answer(text)
    return "" if tokens else fault


class Comparison:
    """Equality of readings, gold answer first."""

    def __init__(self) -> None:
        self.comparer = Comparer()
        self.regions: dict[int, Region | None] = {}
        self.fault = ""

    def matches(self, gold: Reading, answer: Reading) -> bool:
        """As ``same``; what cannot be compared does not match, and the reason is kept."""
        try:
            return self.comparer.effort.left > 0 and self.same(gold, answer)
        except (UnreadableError, ArithmeticError) as error:
            self.fault = self.fault or str(error) or type(error).__name__
            return False

    def region(self, reading: Reading) -> Region | None:
        """The set that a reading is; computed once, as lists are compared part by part."""
        if id(reading) not in self.regions:
            self.regions[id(reading)] = region_of(reading)
        return self.regions[id(reading)]

    def same(self, gold: Reading, answer: Reading) -> bool:
        if isinstance(gold, Named) or isinstance(answer, Named):
            return self.same_named(gold, answer)
        if isinstance(gold, Equation) and isinstance(answer, Equation):
            return gold.relation == answer.relation and self.same_equation(gold.node, answer.node, gold.relation)
        if isinstance(gold, Ratio | Words) and isinstance(answer, Ratio | Words) and type(gold) is not type(answer):
            return same_time(gold, answer)
        if isinstance(gold, Words) or isinstance(answer, Words):
            return self.same_words(gold, answer)
        if isinstance(gold, Quantity) and isinstance(answer, Quantity):
            return self.same_quantity(gold, answer)
        if isinstance(gold, Based) or isinstance(answer, Based):
            return same_digits(gold, answer)
        if isinstance(gold, Ratio) and isinstance(answer, Ratio):
            return self.same_ratio(gold, answer)
        if isinstance(gold, Matrix) and isinstance(answer, Matrix):
            return self.same_matrix(gold, answer)
        if isinstance(gold, Items) and isinstance(answer, Items):
            return self.same_items(gold, answer)
        one, two = self.region(gold), self.region(answer)
        return one is not None and two is not None and same_region(one, two)

    def same_named(self, gold: Reading, answer: Reading) -> bool:
        """A name may be left out, but not be another one; equations in several letters may be rearranged."""
        names = {side.name for side in (gold, answer) if isinstance(side, Named)}
        one, two = (side.inner if isinstance(side, Named) else side for side in (gold, answer))
        both = isinstance(gold, Named) and isinstance(answer, Named)
        if len(names) == 1 and not isinstance(one, Equation) and not isinstance(two, Equation):
            return (both or may_be_left_out(min(names), isinstance(gold, Named))) and self.same(one, two)
        first, second = equation_of(gold), equation_of(answer)
        if len(names) > 1 or first is None or second is None:
            return False
        return self.same_equation(first, second, "=")

    def same_equation(self, gold: Node, answer: Node, relation: str) -> bool:
        if len(letters(gold)) < 2:
            raise UnreadableError("an equation that is not solved")
        ratio = self.comparer.ratio(gold, answer)
        return ratio > 0 or (ratio < 0 and relation == "=")

    def same_words(self, gold: Reading, answer: Reading) -> bool:
        """Letter by letter in lower case; a choice may be a bare letter, ``xyz`` a product of letters."""
        if isinstance(gold, Words) and isinstance(answer, Words):
            return gold.text == answer.text
        words, other = (gold, answer) if isinstance(gold, Words) else (answer, gold)
        if not isinstance(words, Words) or not isinstance(other, Quantity) or other.unit:
            return False
        if len(words.text) == 1:
            return other.node.op in ("letter", "constant") and str(other.node.value).casefold() == words.text
        if words.product and words.node is not None:
            return self.comparer.equal(other.node, words.node)
        return spelled(other.node) == words.text

    def same_quantity(self, gold: Quantity, answer: Quantity) -> bool:
        """A unit may be left out, or added if it is known; one that both give must be the same."""
        if gold.unit and answer.unit and gold.unit != answer.unit:
            return False
        share = number(1) if gold.unit == answer.unit else HUNDREDTH
        if gold.unit == PERCENT and not answer.unit:
            if self.comparer.equal(gold.node, answer.node):
                return True
            return self.comparer.equal(product(share, gold.node), answer.node)
        if answer.unit == PERCENT and not gold.unit:
            return self.comparer.equal(gold.node, product(share, answer.node))
        if answer.unit and not gold.unit and not answer.unit.known:
            raise UnreadableError(f"the unit '{str(answer.unit)[:SHOWN]}' is not known")
        return self.comparer.equal(gold.node, answer.node)

    def same_ratio(self, gold: Ratio, answer: Ratio) -> bool:
        """Proportional, with zeros in the same places but not everywhere; a time is equal to itself alone."""
        if gold.clock:
            return gold.clock == answer.clock
        if len(gold.parts) != len(answer.parts):
            return False
        pairs = list(zip(gold.parts, answer.parts))
        zeros = [[self.comparer.equal(part, number(0)) for part in side.parts] for side in (gold, answer)]
        if zeros[0] != zeros[1] or all(zeros[0]):
            return False
        # a : b equals c : d if a d = c b.  Products, because a quotient would not allow a part of 0.
        first, other = pairs[zeros[0].index(False)]
        return all(self.comparer.equal(product(first, two), product(one, other)) for one, two in pairs)

    def same_matrix(self, gold: Matrix, answer: Matrix) -> bool:
        if (len(gold.rows), len(gold.rows[0])) != (len(answer.rows), len(answer.rows[0])):
            return False
        pairs = zip(sum(gold.rows, ()), sum(answer.rows, ()))
        return all(self.comparer.equal(one, two) for one, two in pairs)

    def same_items(self, gold: Items, answer: Items) -> bool:
        """In order where brackets order them; where several letters are assigned, both sides must name them."""
        if len(gold.items) != len(answer.items) or gold.ordered != answer.ordered:
            return False
        if gold.ordered:
            brackets = (gold.left, gold.right) == (answer.left, answer.right)
            return brackets and all(map(self.same, gold.items, answer.items))
        named = [[part.name for part in side.items if isinstance(part, Named)] for side in (gold, answer)]
        if max(len(set(names)) for names in named) > 1 and len(named[0]) != len(named[1]):
            return False
        left = list(answer.items)
        for one in gold.items:
            match = next((place for place, two in enumerate(left) if self.matches(one, two)), None)
            if match is None:
                return False
            del left[match]
        return True


def may_be_left_out(name: str, of_gold: bool) -> bool:
    """Whether a name that one side alone gives adds nothing: no order of its own, no place like that of ``f(3)``."""
    before, _, inner = name.rstrip(")").partition("(")
    parts = inner.split(",")
    if not before and inner:  # (x,y)
        return parts == sorted(set(parts))
    return not inner or of_gold or all(len(part) == 1 and part.isalpha() for part in parts)


def equation_of(reading: Reading) -> Node | None:
    if isinstance(reading, Equation):
        return reading.node if reading.relation == "=" else None
    return reading.equation if isinstance(reading, Named) else None


def spelled(node: Node) -> str:
    """The letters of a product, in order and in lower case; empty for anything else."""
    if node.op == "product":
        parts = [spelled(part) for part in node.parts]
        return "".join(parts) if all(parts) else ""
    return str(node.value).casefold() if node.op in ("letter", "constant") else ""


def same_time(one: Ratio | Words, two: Ratio | Words) -> bool:
    """A time whose half of the day only one side gives."""
    ratio, words = (one, two) if isinstance(one, Ratio) else (two, one)
    if not isinstance(ratio, Ratio) or not isinstance(words, Words) or not ratio.clock:
        return False
    match = TIME.fullmatch(words.text)
    return match is not None and ratio.clock == (int(match[1]), int(match[2]))


def same_digits(gold: Reading, answer: Reading) -> bool:
    """The base may be left out, not be another one; the value in base ten is no answer where another base is asked."""
    if isinstance(gold, Based) and isinstance(answer, Based):
        return (gold.base, gold.digits) == (answer.base, answer.digits)
    based, other = (gold, answer) if isinstance(gold, Based) else (answer, gold)
    if not isinstance(based, Based) or not isinstance(other, Quantity) or other.unit:
        return False
    digits = other.node.op == "number" and str(other.node.value) == based.digits
    return digits and (based is gold or based.base == 10)

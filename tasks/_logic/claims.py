"""Claims of knights and knaves: their truth, how they are drawn, and which assignments they leave.

Assignments of kinds to people are bits of an integer: in assignment number a, person i is a knight if bit i of a is
set.  A claim is then one mask, the set of assignments under which it is true, and connectives are operations on masks.
"""

from __future__ import annotations

import ast
import functools
import random
from collections.abc import Callable, Sequence
from typing import Any

MAX_STATEMENTS = 4000  # characters of a row's statements
ATOMIC_SHARE = 0.2  # of the short claims that are about one person only
CONNECTIVES = ("and", "or", "iff", "xor", "implies")
COMMUTATIVE = ("and", "or", "iff", "xor")
KINDS = ("knave", "knight")  # indexed by "is a knight"
ROW_WORDS = {"telling-truth": "knight", "lying": "knave", "<=>": "iff", "->": "implies"}
ARITY = {"not": (1, 1), "and": (2, 9), "or": (2, 9), "iff": (2, 2), "xor": (2, 2), "implies": (2, 2)}

Statement = list[Any]
Draw = Callable[[random.Random, int, int], Statement]  # generator, speaker, number of people


# --- truth ---------------------------------------------------------------------------------------------------


def holds(statement: Statement, kinds: Sequence[bool]) -> bool:
    """Whether a statement is true when ``kinds[i]`` says that person i is a knight."""
    head, *parts = statement
    if head in KINDS:
        return bool(kinds[parts[0]] == (head == "knight"))
    values: list[bool] = [holds(part, kinds) for part in parts]
    if head == "not":
        return not values[0]
    if head == "and":
        return all(values)
    if head == "or":
        return any(values)
    if head == "implies":
        return not values[0] or values[1]
    return bool((values[0] == values[1]) == (head == "iff"))


@functools.cache
def knight_masks(count: int) -> tuple[int, ...]:
    """For each person the assignments in which that person is a knight; at the end all assignments."""
    every = range(2**count)
    return (*(sum(1 << a for a in every if a >> i & 1) for i in range(count)), (1 << 2**count) - 1)


def truth_mask(statement: Statement, count: int) -> int:
    """The assignments of kinds to ``count`` people under which a statement is true."""
    head, *parts = statement
    every = knight_masks(count)[-1]
    if head in KINDS:
        return knight_masks(count)[parts[0]] ^ (0 if head == "knight" else every)
    masks = [truth_mask(part, count) for part in parts]
    if head == "not":
        return masks[0] ^ every
    if head in ("and", "or"):
        return functools.reduce(int.__and__ if head == "and" else int.__or__, masks)
    if head == "implies":
        return masks[0] ^ every | masks[1]
    return masks[0] ^ masks[1] ^ (every if head == "iff" else 0)


def allowed_masks(statements: Sequence[Statement]) -> list[int]:
    """For each person the assignments that the person's claim allows: true if a knight's, false if a knave's."""
    *people, every = knight_masks(len(statements))
    # A claim is true exactly where its speaker is a knight, so the masks must agree: not (claim xor knight).
    return [truth_mask(s, len(statements)) ^ knight ^ every for s, knight in zip(statements, people)]


def consistent_kinds(statements: Sequence[Statement]) -> list[tuple[bool, ...]]:
    """Every assignment under which exactly the knights' claims are true."""
    left = functools.reduce(int.__and__, allowed_masks(statements))
    assignments = []
    while left:
        number = left.bit_length() - 1
        assignments.append(tuple(bool(number >> i & 1) for i in range(len(statements))))
        left ^= 1 << number
    return assignments


def canonical_text(statement: Statement) -> str:
    """Text of a statement that does not depend on the order of commutative operands."""
    head, *parts = statement
    if head in KINDS:
        return f"{head} {parts[0]}"
    texts = [canonical_text(part) for part in parts]
    return f"{head}({','.join(sorted(texts) if head in COMMUTATIVE else texts)})"


def people_in(statement: Statement) -> list[int]:
    """The people that a statement mentions, in order."""
    head, *parts = statement
    if head in KINDS:
        return list(parts)
    return list(dict.fromkeys(person for part in parts for person in people_in(part)))


# --- draws ---------------------------------------------------------------------------------------------------


def short_claim(rng: random.Random, speaker: int, count: int) -> Statement:
    """A claim about one other person or two distinct people (possibly the speaker), operands in canonical order."""
    if rng.random() < ATOMIC_SHARE:
        return [rng.choice(KINDS), rng.choice([i for i in range(count) if i != speaker])]
    return pair_claim(rng, count, CONNECTIVES)


def pair_claim(rng: random.Random, count: int, connectives: Sequence[str]) -> Statement:
    """A connective of claims about two distinct people."""
    head = rng.choice(connectives)
    people = rng.sample(range(count), 2)
    if head in COMMUTATIVE:
        people.sort()
    return [head, *([rng.choice(KINDS), person] for person in people)]


def public_claim(rng: random.Random, speaker: int, count: int) -> Statement:
    """A claim with the grammar of the public data, whose six forms are equally likely.

    Another person's kind, its negation, or two people's kinds joined by and, or, implies, iff.
    """
    form = rng.randrange(6)
    if form > 1:
        return pair_claim(rng, count, (("and", "or", "implies", "iff")[form - 2],))
    other = (speaker + rng.randrange(1, count)) % count
    claim = [rng.choice(KINDS), other]
    return ["not", claim] if form == 1 else claim


def nested_claim(rng: random.Random, speaker: int, count: int) -> Statement:
    """A connective over at least one connective: not, and, or, implies or iff, equally likely."""
    connectives = ("and", "or", "implies", "iff")
    head = rng.choice(("not", *connectives))
    if head == "not":
        return [head, pair_claim(rng, count, connectives)]
    parts: list[Statement] = [pair_claim(rng, count, connectives)]
    longer = rng.random() < 1 / 3
    parts.append(pair_claim(rng, count, connectives) if longer else [rng.choice(KINDS), rng.randrange(count)])
    rng.shuffle(parts)
    return [head, *parts]


def draw_claims(rng: random.Random, count: int, draw: Draw) -> tuple[list[Statement], list[bool]]:
    """One claim per person, drawn until a single assignment fits all of them, and that assignment."""
    while True:
        statements = [draw(rng, speaker, count) for speaker in range(count)]
        left = functools.reduce(int.__and__, allowed_masks(statements))
        if left and not left & (left - 1):
            return statements, list(consistent_kinds(statements)[0])


# --- claims of data files ------------------------------------------------------------------------------------


def read_statements(text: str, count: int) -> list[Statement]:
    """Statements of a row, written as nested Python tuples; parsed as literals, never executed."""
    column = "column 'reward_model.ground_truth.statements'"
    if len(text) > MAX_STATEMENTS:
        raise ValueError(f"{column} is longer than {MAX_STATEMENTS} characters")
    try:
        items = ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"{column} is not a tuple of statements") from None
    if not isinstance(items, tuple) or not 1 <= count <= 10 or len(items) != count:
        raise ValueError(f"{column} does not hold one statement for each of 1 to 10 people")
    return [_statement(item, count, column) for item in items]


def _statement(item: Any, count: int, column: str) -> Statement:
    if not isinstance(item, tuple) or not item or not isinstance(item[0], str):
        raise ValueError(f"{column} holds {item!r}, which is not a statement")
    head, parts = ROW_WORDS.get(item[0], item[0]), item[1:]
    if head in KINDS and len(parts) == 1 and type(parts[0]) is int and 0 <= parts[0] < count:
        return [head, parts[0]]
    low, high = ARITY.get(head, (1, 0))
    if not low <= len(parts) <= high:
        raise ValueError(f"{column} holds {item!r}, which is not a statement")
    return [head, *(_statement(part, count, column) for part in parts)]

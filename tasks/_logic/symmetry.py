"""Which puzzles are the same up to the order of the people."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from tasks._logic.claims import KINDS, Statement, canonical_text

MOST_ORDERS = 720  # orders of the people that are compared: all that signatures leave open, but for freaks


def renamed(statement: Statement, names: Sequence[object]) -> Statement:
    """The statement with ``names[i]`` in place of person i."""
    head, *parts = statement
    return [head, names[parts[0]]] if head in KINDS else [head, *(renamed(part, names) for part in parts)]


def refined(statements: Sequence[Statement], ranks: Sequence[int]) -> list[int]:
    """Ranks of the people, told apart further by what they say and by what is said of them, until nothing changes."""
    people = range(len(statements))
    while True:
        marks = []
        for person in people:
            names = [f"{rank}{'*' * (other == person)}" for other, rank in enumerate(ranks)]
            said = [(ranks[speaker], canonical_text(renamed(statements[speaker], names))) for speaker in people]
            marks.append((ranks[person], said[person], sorted(said)))
        order = sorted(marks)
        finer = [order.index(mark) for mark in marks]
        if len(set(finer)) == len(set(ranks)):
            return finer
        ranks = finer


def orders(statements: Sequence[Statement], ranks: Sequence[int]) -> Iterator[list[int]]:
    """Places of the people in every order that the puzzle's content does not rule out."""
    places = refined(statements, ranks)
    tied = [person for person in range(len(places)) if places.count(places[person]) > 1]
    if not tied:
        yield places
        return
    least = min(places[person] for person in tied)
    for chosen in (person for person in tied if places[person] == least):
        yield from orders(statements, [2 * place + (person != chosen) for person, place in enumerate(places)])


def puzzle_class(statements: Sequence[Statement]) -> str:
    """The first, by its text, of the puzzles that other orders of the people make of this one.

    Exact, unless more than MOST_ORDERS orders are left when people are told apart by their statements (seven or more
    whose claims are interchangeable); then equal puzzles may get different texts.
    """
    texts = []
    for places in itertools.islice(orders(statements, [0] * len(statements)), MOST_ORDERS):
        by_place = sorted(range(len(places)), key=lambda person: places[person])
        texts.append(";".join(canonical_text(renamed(statements[person], places)) for person in by_place))
    return min(texts)

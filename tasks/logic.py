"""Knights and knaves: knights make true claims, knaves false ones; say who is what.

Problem: ``{"names": [...], "statements": [...], "solution": [is a knight, ...]}``, statement i being what person i
claims.  A statement is ``["knight", person]``, ``["knave", person]`` or ``[connective, statement, ...]``; exactly one
assignment fits all claims.  Rewards: 1 correct, 0.1 answer tag found, 0 otherwise; the strict score is 0/1.
"""

from __future__ import annotations

import ast
import itertools
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bench.types import Demonstration, Verdict
from tasks.common import last_answer

MAX_ANSWER = 200  # characters of an answer that are worth parsing
MAX_STATEMENTS = 4000  # characters of a row's statements
FORMAT_REWARD = 0.1
ATOMIC_SHARE = 0.2  # of the generated statements that are about one person only
CONNECTIVES = ("and", "or", "iff", "xor", "implies")
COMMUTATIVE = ("and", "or", "iff", "xor")
NAMES = "ABCD"
KINDS = ("knave", "knight")  # indexed by "is a knight"
PART = re.compile(r"(?:\([0-9]+\)\s*)?(\w+)\s+(?:is\s+)?(?:a\s+)?(knight|knave)\.?", re.ASCII)
ROW_WORDS = {"telling-truth": "knight", "lying": "knave", "<=>": "iff", "->": "implies"}
ARITY = {"not": (1, 1), "and": (2, 9), "or": (2, 9), "iff": (2, 2), "xor": (2, 2), "implies": (2, 2)}

Statement = list[Any]


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


def consistent(statements: Sequence[Statement]) -> list[tuple[bool, ...]]:
    """Every assignment under which exactly the knights' claims are true."""
    everyone = itertools.product((True, False), repeat=len(statements))
    return [kinds for kinds in everyone if all(holds(s, kinds) == k for s, k in zip(statements, kinds))]


def random_statement(rng: random.Random, speaker: int, count: int) -> Statement:
    """A claim about one other person or two distinct people (possibly the speaker), operands in canonical order."""
    if rng.random() < ATOMIC_SHARE:
        return [rng.choice(KINDS), rng.choice([i for i in range(count) if i != speaker])]
    head = rng.choice(CONNECTIVES)
    people = rng.sample(range(count), 2)
    if head in COMMUTATIVE:
        people.sort()
    return [head, *([rng.choice(KINDS), person] for person in people)]


def canonical(statement: Statement) -> str:
    """Text of a statement that does not depend on the order of commutative operands."""
    head, *parts = statement
    if head in KINDS:
        return f"{head} {parts[0]}"
    texts = [canonical(part) for part in parts]
    return f"{head}({','.join(sorted(texts) if head in COMMUTATIVE else texts)})"


def spoken(statement: Statement, names: Sequence[str], nested: bool = False) -> str:
    """A statement in the compact format: ``A knight and B knave``, with parentheses around nested connectives."""
    head, *parts = statement
    if head in KINDS:
        return f"{names[parts[0]]} {head}"
    texts = [spoken(part, names, True) for part in parts]
    text = f"not {texts[0]}" if head == "not" else f" {head} ".join(texts)
    return f"({text})" if nested else text


def completion(problem: Mapping[str, Any], kinds: Sequence[bool]) -> Demonstration:
    """Suppose one kind per line, then judge each claim under the supposition, then answer with it."""
    names = problem["names"]
    people = [f"{name} {KINDS[kind]}" for name, kind in zip(names, kinds)]
    truths = [str(holds(statement, kinds)).lower() for statement in problem["statements"]]
    claims = [f"{name} {truth}" for name, truth in zip(names, truths)]
    return Demonstration(tuple(f"{line}\n" for line in people + claims), f"<answer>{','.join(people)}</answer>")


def read_answer(answer: str, names: Sequence[str]) -> list[bool]:
    """Who is a knight according to an answer, in the order of the names; ValueError says what is wrong with it."""
    if len(answer) > MAX_ANSWER:
        raise ValueError(f"longer than {MAX_ANSWER} characters")
    kinds: dict[str, bool] = {}
    for part in re.split(r"[,;\n]", answer.strip()):
        match = PART.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{part.strip()!r} does not say who is what")
        name, kind = match.groups()
        if name not in names:
            raise ValueError(f"nobody is called {name}")
        if name in kinds:
            raise ValueError(f"{name} is named twice")
        kinds[name] = kind == "knight"
    missing = [name for name in names if name not in kinds]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return [kinds[name] for name in names]


class Logic:
    name = "logic"
    version = 1
    levels = {
        "2": "2 people, claims about one or two of them",
        "3": "3 people, claims about one or two of them",
        "4": "4 people, claims about one or two of them",
    }
    default_level = "3"
    templates = ("compact",)
    words = (  # whole tokens of the embedded tokenizer
        "logic ",
        " knight",
        " knave",
        " and ",
        " or ",
        " iff ",
        " xor ",
        " implies ",
        " true",
        " false",
        "<answer>",
        "</answer>",
    )

    def generate(self, rng: random.Random, level: str) -> dict[str, Any]:
        count = int(level)
        while True:
            statements = [random_statement(rng, speaker, count) for speaker in range(count)]
            solutions = consistent(statements)
            if len(solutions) == 1:
                return {"names": list(NAMES[:count]), "statements": statements, "solution": list(solutions[0])}

    def key(self, problem: Mapping[str, Any]) -> str:
        """The statements with people by position: names do not matter, the order of the people does."""
        return ";".join(canonical(statement) for statement in problem["statements"])

    def prompt(self, problem: Mapping[str, Any], template: str) -> str:
        names = problem["names"]
        claims = (f"{name}:{spoken(statement, names)}" for name, statement in zip(names, problem["statements"]))
        return f"logic {';'.join(claims)}:"

    def demonstrate(self, problem: Mapping[str, Any], template: str) -> Demonstration:
        return completion(problem, problem["solution"])

    def verify(self, problem: Mapping[str, Any], text: str) -> Verdict:
        answer = last_answer(text)
        if answer is None:
            return Verdict(False, 0.0, "no <answer>...</answer> found")
        try:
            kinds = read_answer(answer, problem["names"])
        except ValueError as error:
            return Verdict(False, FORMAT_REWARD, f"unreadable answer: {error}")
        for name, kind, statement in zip(problem["names"], kinds, problem["statements"]):
            if holds(statement, kinds) != kind:
                return Verdict(False, FORMAT_REWARD, f"{name} would be a {KINDS[kind]} whose claim is {not kind}")
        return Verdict(True, 1.0, "correct")

    def chance(self, problem: Mapping[str, Any]) -> float:
        return 0.5 ** len(problem["names"])

    def practice(self, rng: random.Random, problem: Mapping[str, Any]) -> str:
        return completion(problem, [rng.random() < 0.5 for _ in problem["names"]]).text

    def from_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        try:
            truth = row["reward_model"]["ground_truth"]
            names, solution = [str(name) for name in truth["names"]], [bool(kind) for kind in truth["solution"]]
            text = str(truth["statements"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"column 'reward_model.ground_truth' is missing or broken: {error}") from None
        if len(set(names)) != len(names) or not all(re.fullmatch(r"\w+", name, re.ASCII) for name in names):
            raise ValueError("column 'reward_model.ground_truth.names' holds a name twice or one that is not a word")
        statements = read_statements(text, len(names))
        if consistent(statements) != [tuple(solution)]:
            raise ValueError("column 'reward_model.ground_truth.solution' is not the only consistent assignment")
        return {"names": names, "statements": statements, "solution": solution}


def read_statements(text: str, count: int) -> list[Statement]:
    """Statements of a row, written as nested Python tuples; parsed as literals, never executed."""
    column = "column 'reward_model.ground_truth.statements'"
    if len(text) > MAX_STATEMENTS:
        raise ValueError(f"{column} is longer than {MAX_STATEMENTS} characters")
    try:
        found = ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"{column} is not a tuple of statements") from None
    if not isinstance(found, tuple) or not 1 <= count <= 10 or len(found) != count:
        raise ValueError(f"{column} does not hold one statement for each of 1 to 10 people")
    return [_statement(item, count, column) for item in found]


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


TASK = Logic()

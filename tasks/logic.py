r"""Knights and knaves: knights make true claims, knaves false ones; say who is what.

Problem: ``{"names": [...], "statements": [...], "solution": [is a knight, ...]}``, statement i being what person i
claims.  A statement is ``["knight", person]``, ``["knave", person]`` or ``[connective, statement, ...]``; exactly one
assignment fits all claims.  Rewards: 1 correct, 0.1 answer tag found, 0 otherwise; the strict score is 0/1.  The public
data are the Knights & Knaves rows of UFT (arXiv 2505.16984, ``data/kk_logic``).

Answers name every person once, in any order, separated by commas, semicolons, line breaks, full stops or ``and``:
``Ada is a knight``, ``(1) Ada is a knight.``, ``- Ada: knight``, ``Ada = Knave``, ``Ada -> KNAVE``, ``Ada knave``, the
kind on the line below ``Ada:``, the rows of a table, or by kind, ``knights: Ada, Otto`` and ``knaves: none``.  Bold
print, quotes, code fences, a JSON object, ``\boxed{}`` and ``\text{}`` around them do not matter.

Names are case-sensitive.  In rows they are words with blanks, hyphens or apostrophes between them (``Mary Ann``,
``Jean-Luc``, ``O'Brien``); accents, kinds of apostrophes and of hyphens are compared as one.  Refused: names with dots,
brackets, commas or words such as ``and`` and ``knight``; answers with any other word (``So: ...``, reasons, ``not``,
``or``), with ``liar`` for knave, ``Ada and Otto are knights``, initials, columns to tick, LaTeX alignments.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from bench.plan.cells import is_missing, plain, text_cell
from bench.types import Demonstration, Verdict
from tasks._logic.answers import name_fault, plain_name, said_kinds
from tasks._logic.claims import (
    KINDS,
    Draw,
    Statement,
    canonical_text,
    consistent_kinds,
    draw_claims,
    holds,
    nested_claim,
    public_claim,
    read_statements,
    short_claim,
)
from tasks._logic.symmetry import puzzle_class
from tasks._logic.text import FIRST_NAMES, claims_question, compact_claim, kind_lines, other_claims_question, reasoning
from tasks.common import conversation, dialogue, judge, texts_of_row

MAX_ANSWER = 200  # characters of an answer that are worth parsing, more for more than four people
MAX_LINE = 50  # characters for each of them
SHORT_NAME = 20  # characters of a name that these have room for
LETTERS = "ABCD"
LEVELS = {str(n): f"{n} people, claims about one or two of them" for n in (2, 3, 4)}
LEVELS |= {str(n): f"{n} people, claims with the grammar of the public data" for n in (5, 6, 7, 8)}
LEVELS |= {"3to7": "3 to 7 people, claims with the grammar of the public data (the mix of the UFT data)"}
LEVELS |= {f"{n}-nested": f"{n} people, connectives within connectives" for n in range(2, 9)}
RANGES: dict[str, tuple[int, int, Draw]] = {  # level -> fewest and most people, how a claim is drawn
    "3to7": (3, 7, public_claim),
    **{str(n): (n, n, short_claim if n <= len(LETTERS) else public_claim) for n in range(2, 9)},
    **{f"{n}-nested": (n, n, nested_claim) for n in range(2, 9)},
}


def supposed_demonstration(problem: Mapping[str, Any], kinds: Sequence[bool]) -> Demonstration:
    """Suppose one kind per line, then judge each claim under the supposition, then answer with it."""
    names = problem["names"]
    people = [f"{name} {KINDS[kind]}" for name, kind in zip(names, kinds)]
    truths = [str(holds(statement, kinds)).lower() for statement in problem["statements"]]
    claims = [f"{name} {truth}" for name, truth in zip(names, truths)]
    return Demonstration(tuple(f"{line}\n" for line in people + claims), f"<answer>{','.join(people)}</answer>")


def read_kinds(answer: str, names: Sequence[str]) -> list[bool]:
    """Who is a knight according to an answer, in the order of the names; ValueError says what is wrong with it."""
    limit = max(MAX_ANSWER, MAX_LINE * len(names)) + sum(max(0, len(name) - SHORT_NAME) for name in names)
    if len(answer) > limit:
        raise ValueError(f"longer than {limit} characters")
    names = [plain_name(name) for name in names]
    kinds: dict[str, bool] = {}
    for name, kind in said_kinds(answer):
        if name not in names:
            raise ValueError(f"nobody is called {name}")
        if name in kinds:
            raise ValueError(f"{name} is named twice")
        kinds[name] = kind == "knight"
    missing = [name for name in names if name not in kinds]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return [kinds[name] for name in names]


def kinds_fault(answer: str, names: Sequence[str], statements: Sequence[Statement]) -> str:
    """What is wrong with the answered kinds, empty if nothing is; ValueError if they cannot be read."""
    kinds = read_kinds(answer, names)
    for name, kind, statement in zip(names, kinds, statements):
        # Any consistent assignment is right; the problem has one only, so the stored solution is not needed.
        if holds(statement, kinds) != kind:
            return f"{name} would be a {KINDS[kind]} whose claim is {not kind}"
    return ""


class Logic:
    name = "logic"
    version = 3
    template_versions = {"compact": 2}  # of the embedded model, whose answers are judged as before
    levels = LEVELS
    default_level = "3"
    templates = ("compact", "plain", "chat")
    harder = {
        **{str(n): str(n + 1) for n in range(2, 8)},
        **{f"{n}-nested": f"{n + 1}-nested" for n in range(2, 8)},
        "3to7": "8",
    }
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
        fewest, most, draw = RANGES[level]
        count = fewest if fewest == most else rng.randint(fewest, most)
        statements, solution = draw_claims(rng, count, draw)
        names = list(LETTERS[:count]) if draw is short_claim else rng.sample(FIRST_NAMES, count)
        return {"names": names, "statements": statements, "solution": solution}

    def key(self, problem: Mapping[str, Any]) -> str:
        """The statements with people by position: names do not matter, the order of the people does."""
        return ";".join(canonical_text(statement) for statement in problem["statements"])

    def near_keys(self, problem: Mapping[str, Any]) -> dict[str, str]:
        """The statements up to the order of the people, and the compact demonstration, which says the answer alone.

        Names do not matter.
        """
        numbered = {**problem, "names": range(len(problem["names"]))}
        demonstration = supposed_demonstration(numbered, problem["solution"]).text
        return {"puzzle class": puzzle_class(problem["statements"]), "demonstration": demonstration}

    def cluster(self, problem: Mapping[str, Any]) -> str:
        return puzzle_class(problem["statements"])

    def prompt(self, problem: Mapping[str, Any], template: str) -> str:
        names, statements = problem["names"], problem["statements"]
        if template == "compact":
            claims = (f"{name}:{compact_claim(statement, names)}" for name, statement in zip(names, statements))
            return f"logic {';'.join(claims)}:"
        own = problem.get("prompt") if template == "plain" else None
        return str(own or dialogue(claims_question(names, statements), template))

    def reword(self, problem: Mapping[str, Any], template: str) -> str:
        """Compact: the people in the opposite order, with blanks after colons and semicolons."""
        names, statements = problem["names"], problem["statements"]
        if template == "compact":
            claims = [f"{name}: {compact_claim(statement, names)}" for name, statement in zip(names, statements)]
            return f"logic {'; '.join(reversed(claims))}:"
        return conversation(other_claims_question(names, statements), template)

    def demonstrate(self, problem: Mapping[str, Any], template: str) -> Demonstration:
        if template == "plain" and "steps" in problem:
            return Demonstration(tuple(problem["steps"]), problem["ending"])
        if template == "compact":
            return supposed_demonstration(problem, problem["solution"])
        first, *others = reasoning(problem["names"], problem["statements"])
        answer = "\n".join(kind_lines(problem["names"], problem["solution"]))
        steps = ("<think> " + first if template == "chat" else first, *others)
        steps += tuple(f"So {answer}".splitlines(keepends=True))
        return Demonstration(steps, f" </think>\n<answer> {answer} </answer>")

    def verify(self, problem: Mapping[str, Any], text: str) -> Verdict:
        return judge(text, lambda answer: kinds_fault(answer, problem["names"], problem["statements"]))

    def chance(self, problem: Mapping[str, Any]) -> float:
        return 0.5 ** len(problem["names"])

    def practice(self, rng: random.Random, problem: Mapping[str, Any]) -> str:
        return supposed_demonstration(problem, [rng.random() < 0.5 for _ in problem["names"]]).text

    def from_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        try:
            truth = row["reward_model"]["ground_truth"]
            names, kinds = plain(truth["names"]), plain(truth["solution"])
            text = text_cell(truth, "statements")
        except (KeyError, TypeError) as error:
            raise ValueError(f"column 'reward_model.ground_truth' is missing or broken: {error}") from None
        # A null is nobody's kind, and bool("False") would be true.
        if not isinstance(kinds, list) or not all(kind in (0, 1) for kind in kinds):
            raise ValueError("column 'reward_model.ground_truth.solution' must hold true or false for each person")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("column 'reward_model.ground_truth.names' must hold texts")
        names, solution = [name.strip() for name in names], [bool(kind) for kind in kinds]
        check_names(names)
        statements = read_statements(text, len(names))
        # One list of one assignment: it exists, it is the only one, and it is the one given.
        if consistent_kinds(statements) != [tuple(solution)]:
            raise ValueError("column 'reward_model.ground_truth.solution' is not the only consistent assignment")
        problem = {"names": names, "statements": statements, "solution": solution}
        texts = texts_of_row(row)
        if not is_missing(row.get("answer")) and not (verdict := self.verify(problem, row["answer"])).correct:
            raise ValueError(f"column 'answer' is wrong: {verdict.reason}")
        return problem | texts

    def gold(self, problem: Mapping[str, Any]) -> tuple[str, str]:
        """Who is what in the order of the names, and how many people there are."""
        return ", ".join(KINDS[kind] for kind in problem["solution"]), f"{len(problem['names'])} people"


def check_names(names: Sequence[str]) -> None:
    """ValueError unless an answer can tell the people of a row apart by their names."""
    for name in names:
        if fault := name_fault(name):
            raise ValueError(f"column 'reward_model.ground_truth.names': {name!r:.80} {fault}")
    if len({plain_name(name) for name in names}) != len(names):
        raise ValueError("column 'reward_model.ground_truth.names' holds a name twice")


TASK = Logic()

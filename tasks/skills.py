"""Base skills that training may destroy: bare arithmetic and copying, judged by the first thing that a model writes.

They are not tasks: no method trains on them.  A problem is ``{"text": what the model continues, "answer": text, "end":
text that closes the answer, "key": identity, "chance": probability}``.  Prompts are plain text whatever the template: a
chat template would ask for a reply.

``arithmetic``: two right equations and the left side of a third, as in the embedded model's pretraining.  Such facts
are few, and that model has met nearly all of them: the split shows what is forgotten, not what is generalised.

``copying``: text that no computation gives.  With the template "compact" there are two equations with random results,
and the last result has to be repeated in an answer box: the embedded model knows no other kind of copying.  With the
other templates a random sequence stands there twice and is begun a third time.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.types import Demonstration, Example, UserError, Verdict
from tasks.common import MAX_ATTEMPTS, derive_seed

MAX_ANSWER = 200  # characters of a completion that are looked at
READABLE_REWARD = 0.1  # an answer of the right kind that is wrong, as in the tasks
MARGIN = 4  # tokens that a completion may have beyond the longest answer and what closes it
LINES = 2  # equations before what is asked
BOXED = range(10, 100)
SEQUENCE_LENGTH = 8
SYMBOLS = (*map(str, range(10, 100)), *"abcdefghijklmnopqrstuvwxyz")

Draw = Callable[[random.Random, str], dict[str, Any]]


@dataclass(frozen=True)
class Skill:
    """A base skill with the part of the Task protocol that an evaluation needs, and its own problems."""

    name: str
    version: int  # raised whenever problems or verdicts change
    draw: Draw = field(repr=False)
    readable: re.Pattern[str] = field(repr=False)  # answers of the right kind

    def form(self, template: str) -> str:
        """How the problems are put for a template: "compact" for the embedded model, else "text"."""
        return "compact" if template == "compact" else "text"

    def verify(self, problem: Mapping[str, Any], text: str) -> Verdict:
        """Right if the text up to ``end`` is the answer, apart from blanks around it; what follows does not count."""
        given = text[:MAX_ANSWER].partition(problem["end"])[0].strip(" \t\r")
        if given == problem["answer"]:
            return Verdict(True, 1.0, "correct")
        if self.readable.fullmatch(given) is None:
            return Verdict(False, 0.0, f"expected {problem['answer']!r} first, not something of another kind")
        return Verdict(False, READABLE_REWARD, f"{given!r} is not {problem['answer']!r}")

    def chance(self, problem: Mapping[str, Any]) -> float:
        """Probability that a random answer is right: of as many digits, or of as many symbols."""
        return float(problem["chance"])


def draw_fact(rng: random.Random) -> tuple[str, int]:
    """The left side of an equation with its sign, ``37-12=``, and its value, a whole number that is not negative."""
    a, b = rng.randint(1, 99), rng.randint(1, 30)
    a, b = max(a, b), min(a, b)
    op = rng.choice("+-*/")
    if op == "/":
        return f"{a * b}/{b}=", a
    return f"{a}{op}{b}=", {"+": a + b, "-": a - b, "*": a * b}[op]


def draw_arithmetic(rng: random.Random, form: str) -> dict[str, Any]:
    """Right equations and one to complete, none of them twice."""
    facts: dict[str, int] = {}
    while len(facts) <= LINES:
        asked, value = draw_fact(rng)
        facts[asked] = value
    *shown, asked = facts
    answer = str(facts[asked])
    first = 10 if len(answer) == 1 else 9  # a number of one digit may be 0
    text = "".join(f"{left}{facts[left]}\n" for left in shown) + asked
    return {"text": text, "key": asked, "answer": answer, "end": "\n", "chance": 1 / (first * 10 ** (len(answer) - 1))}


def draw_copying(rng: random.Random, form: str) -> dict[str, Any]:
    """Equations with random results and an open answer box (compact), or a sequence of numbers and letters (text)."""
    if form == "compact":
        text = ""
        for _ in range(LINES):
            a, b, op = rng.randint(1, 99), rng.randint(1, 30), rng.choice("+-")
            # Never the right result: a model that computes instead of copying is wrong.
            result = rng.choice([n for n in BOXED if n != (a + b if op == "+" else a - b)])
            text += f"{a}{op}{b}={result}\n"
        problem = {"text": f"{text}<answer>\\boxed{{", "answer": str(result), "end": "}", "chance": 1 / len(BOXED)}
    else:
        first, *others = rng.choices(SYMBOLS, k=SEQUENCE_LENGTH)
        rest = ",".join(others)
        problem = {"text": f"{first},{rest}\n{first},{rest}\n{first},", "answer": rest, "end": "\n"}
        problem["chance"] = len(SYMBOLS) ** -len(others)
    return {**problem, "key": problem["text"]}


SKILLS = {
    "arithmetic": Skill("arithmetic", 1, draw_arithmetic, re.compile("[0-9]+")),
    "copying": Skill("copying", 1, draw_copying, re.compile("[0-9a-z]+(?:,[0-9a-z]+)*")),
}


def skill_problems(skill: Skill, form: str) -> Iterator[dict[str, Any]]:
    """Distinct problems in a fixed order, each from its own derived seed; UserError when there are no more."""
    seen: set[str] = set()
    misses = index = 0
    while misses < MAX_ATTEMPTS:
        problem = skill.draw(random.Random(derive_seed("skill", skill.name, index)), form)
        index += 1
        if problem["key"] in seen:
            misses += 1
            continue
        misses = 0
        seen.add(problem["key"])
        yield problem
    raise UserError(f"skill {skill.name}: only {len(seen)} distinct problems: lower --skill-items")


def load_skill(skill: Skill, count: int, form: str) -> list[Example]:
    """The first ``count`` problems as examples whose demonstration is the answer with what closes it."""
    source = skill_problems(skill, form)
    examples = []
    for index in range(count):
        problem = next(source)
        demonstration = Demonstration((), problem["answer"] + problem["end"])
        examples.append(Example(f"{skill.name}/{form}/{index}", problem["text"], demonstration, problem))
    return examples

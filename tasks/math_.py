r"""Math: small stories, generated problems of five subjects and five levels, and rows of MATH.

Three sorts of problems, each with a module of its own: stories about a count (levels "1" to "3", for the embedded
model), generated ones (levels "level-1" to "level-5"), and rows of a data file.  Stories and generated problems are
judged by exact arithmetic; rows by what answers mean (``tasks._math.reader`` and ``compare``).

Stories want the answer in an ``<answer>`` tag; the others also take the last ``\boxed{}`` where there is no tag.
Rewards: 1 correct, 0.1 an answer that is wrong or unreadable, 0 no answer; the strict score is 0/1.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any, Protocol

from bench.types import Demonstration, Verdict
from tasks._math import generated, rows, stories
from tasks._math.gold_kind import gold_kind
from tasks._math.text import answer_of
from tasks._math.wording import TEMPLATES

Problem = Mapping[str, Any]


class Sort(Protocol):
    """What the module of each sort of problems defines; they read as in the Task protocol."""

    def key(self, problem: Problem) -> str: ...

    def prompt(self, problem: Problem, template: str) -> str: ...

    def reword(self, problem: Problem, template: str) -> str: ...

    def demonstrate(self, problem: Problem, template: str) -> Demonstration: ...

    def verify(self, problem: Problem, text: str) -> Verdict: ...

    def chance(self, problem: Problem) -> float: ...

    def practice(self, rng: random.Random, problem: Problem) -> str: ...


def sort_of(problem: Problem) -> Sort:
    """The module of a problem's sort: stories have no kind."""
    if "kind" not in problem:
        return stories
    return rows if problem["kind"] == "row" else generated


class Math:
    name = "math"
    version = 2
    levels = {**stories.LEVELS, **generated.LEVELS}
    level_versions = dict.fromkeys(stories.LEVELS, 1)  # stories read counts by code of their own
    default_level = "3"
    templates = TEMPLATES
    harder = {
        **{str(n): str(n + 1) for n in range(1, 4)},
        **{f"level-{n}": f"level-{n + 1}" for n in range(1, 5)},
    }
    words = stories.TOKENS

    def generate(self, rng: random.Random, level: str) -> dict[str, Any]:
        return (stories if level in stories.LEVELS else generated).generate(rng, level)

    def key(self, problem: Problem) -> str:
        return sort_of(problem).key(problem)

    def near_keys(self, problem: Problem) -> dict[str, str]:
        """The problem's key without its digits; of generated problems their kind."""
        if sort_of(problem) is generated:
            return {"kind": problem["kind"]}
        return {"template": re.sub("[0-9]+", "#", self.key(problem))}

    def cluster(self, problem: Problem) -> str:
        """The template.  Kinds of generated problems are no clusters: they are a fixed list, and each split has all."""
        return self.near_keys(problem).get("template", "")

    def prompt(self, problem: Problem, template: str) -> str:
        return sort_of(problem).prompt(problem, template)

    def reword(self, problem: Problem, template: str) -> str:
        return sort_of(problem).reword(problem, template)

    def demonstrate(self, problem: Problem, template: str) -> Demonstration:
        return sort_of(problem).demonstrate(problem, template)

    def verify(self, problem: Problem, text: str) -> Verdict:
        return sort_of(problem).verify(problem, text)

    def chance(self, problem: Problem) -> float:
        """Exact probability that ``practice`` is right; goal-blind guesses are right on few rows, if any."""
        return sort_of(problem).chance(problem)

    def practice(self, rng: random.Random, problem: Problem) -> str:
        return sort_of(problem).practice(rng, problem)

    def from_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Problem of a MATH or GSM8K row, or of one in verl's format; ValueError names the column."""
        return rows.from_row(row)

    def gold(self, problem: Problem) -> tuple[str, str]:
        """The right answer and its kind: integer, fraction, tuple."""
        own = problem["answer"] if problem.get("kind") == "row" else None
        answer = str(own or answer_of(self.demonstrate(problem, "compact").text))
        return answer, gold_kind(answer)


TASK = Math()

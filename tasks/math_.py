r"""Math: small stories, generated problems of five subjects and five levels, and rows of MATH.

Three sorts of problems, each with a module of its own: stories about a count (levels "1" to "3", for the embedded
model), generated ones (levels "level-1" to "level-5"), and rows of a data file.  Stories and generated problems are
judged by exact arithmetic; rows by what answers mean (``tasks._math.reader`` and ``compare``).

Stories want the answer in an ``<answer>`` tag; the others also take the last ``\boxed{}`` where there is no tag.
Rewards: 1 correct, 0.1 an answer that is wrong or unreadable, 0 no answer; the strict score is 0/1.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from bench.types import Demonstration, Verdict
from tasks._math import generated, rows, stories
from tasks._math.wording import TEMPLATES


def sort(problem: Mapping[str, Any]) -> ModuleType:
    """The module of a problem's sort: stories have no kind."""
    if "kind" not in problem:
        return stories
    return rows if problem["kind"] == "row" else generated


class Math:
    name = "math"
    version = 2
    levels = {**stories.LEVELS, **generated.LEVELS}
    default_level = "3"
    templates = TEMPLATES
    harder = {
        **{str(n): str(n + 1) for n in range(1, 4)},
        **{f"level-{n}": f"level-{n + 1}" for n in range(1, 5)},
    }
    words = stories.TOKENS

    def generate(self, rng: random.Random, level: str) -> dict[str, Any]:
        module = stories if level in stories.LEVELS else generated
        return module.generate(rng, level)

    def key(self, problem: Mapping[str, Any]) -> str:
        found: str = sort(problem).key(problem)
        return found

    def prompt(self, problem: Mapping[str, Any], template: str) -> str:
        found: str = sort(problem).prompt(problem, template)
        return found

    def reword(self, problem: Mapping[str, Any], template: str) -> str:
        found: str = sort(problem).reword(problem, template)
        return found

    def demonstrate(self, problem: Mapping[str, Any], template: str) -> Demonstration:
        found: Demonstration = sort(problem).demonstrate(problem, template)
        return found

    def verify(self, problem: Mapping[str, Any], text: str) -> Verdict:
        found: Verdict = sort(problem).verify(problem, text)
        return found

    def chance(self, problem: Mapping[str, Any]) -> float:
        """Exact probability that ``practice`` is right; goal-blind guesses are right on few rows, if on any."""
        found: float = sort(problem).chance(problem)
        return found

    def practice(self, rng: random.Random, problem: Mapping[str, Any]) -> str:
        found: str = sort(problem).practice(rng, problem)
        return found

    def from_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Problem of a MATH row: columns problem and solution, or those of verl; ValueError names the column."""
        return rows.from_row(row)


TASK = Math()

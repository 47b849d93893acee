"""What tasks and methods hand to each other: problems with their demonstrations, completions and verdicts.

All of it is to be imported from bench.types.  Nothing here imports torch.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class UserError(Exception):
    """Bad input: its message is one clear line for the user; the command line exits with code 2."""


@dataclass(frozen=True)
class Verdict:
    """Judgement of one completion: ``correct`` is the strict 0/1 score, ``reward`` the shaped training reward."""

    correct: bool
    reward: float
    reason: str


@dataclass(frozen=True)
class Completion:
    """A verified completion; ``logprobs`` are the sampler's, per token."""

    token_ids: tuple[int, ...]  # what the policy sampled after the prompt and the prefix
    logprobs: tuple[float, ...]
    text: str  # prefix and completion: what the verifier judged
    finish_reason: str  # "stop" (EOS was sampled and is the last token) or "length"
    verdict: Verdict


@dataclass(frozen=True)
class Demonstration:
    """A gold completion: reasoning steps (a prefix ends at a step border) and the ending that states the answer.

    The gold completion is ``"".join(steps) + ending`` followed by the end-of-sequence token.
    """

    steps: tuple[str, ...]
    ending: str

    @property
    def text(self) -> str:
        return "".join(self.steps) + self.ending


@dataclass(frozen=True)
class Example:
    """One problem with its prompt and demonstration; the token fields are filled once, before training.

    ``demo_ids`` holds the steps, the ending and EOS; ``step_ends[k]`` is the number of tokens of the first k+1 steps.
    """

    id: str
    prompt: str
    demonstration: Demonstration
    problem: Mapping[str, Any]
    prompt_ids: tuple[int, ...] = ()
    demo_ids: tuple[int, ...] = ()
    step_ends: tuple[int, ...] = ()
    source: str = "gold"  # where the demonstration comes from: "gold", or what a method's prepare made of it
    gold_tokens: int | None = None  # first tokens of demo_ids that are the data's own; None: all
    answers: tuple[Completion, ...] = ()  # completions that a method's prepare found for it besides demo_ids


class Task(Protocol):
    """A verifiable task; ``problem`` is a JSON-able mapping that the task itself defines."""

    name: str
    # Raised whenever prompts, problems or verdicts change.  A task whose levels are judged by separate code may have
    # ``level_versions`` besides: level -> its own version, which a change of the other levels leaves alone; and
    # ``template_versions``: template -> its own, where a change is shown to move no verdict in it (docs/adr/0009).
    version: int
    levels: Mapping[str, str]  # level name -> one-line description
    default_level: str
    templates: tuple[str, ...]  # prompt formats: "compact" (tiny model), "plain" (natural language)
    harder: Mapping[str, str]  # level -> the level that its out-of-distribution split is drawn from

    def generate(self, rng: random.Random, level: str) -> dict[str, Any]:
        """Draw one solvable problem."""

    def key(self, problem: Mapping[str, Any]) -> str:
        """Identity of a problem by content: equal keys mean the same problem."""

    def prompt(self, problem: Mapping[str, Any], template: str) -> str: ...

    def reword(self, problem: Mapping[str, Any], template: str) -> str:
        """The prompt in other words or another order: the same information, the same answer format."""

    def demonstrate(self, problem: Mapping[str, Any], template: str) -> Demonstration: ...

    def verify(self, problem: Mapping[str, Any], text: str) -> Verdict:
        """Judge a completion (text after the prompt, any demonstration prefix included), in bounded time.

        Several threads may ask at once.
        """

    def chance(self, problem: Mapping[str, Any]) -> float:
        """Probability that a random valid answer is correct."""

    # A task may also have ``gold(problem)``: the right answer and its kind ("integer"), for `bench tasks check`.

    def practice(self, rng: random.Random, problem: Mapping[str, Any]) -> str:
        """A goal-blind completion in the compact format for pretraining: form and facts right, the goal ignored."""

    def from_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Problem from a verl-format row; raises ValueError that names the missing or broken column."""

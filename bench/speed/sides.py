"""What `bench speed` compares: parts of the work, and for each part the sides that do it.  Imports nothing heavy."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

from bench.plan.registry import check_choice
from bench.types import UserError

OURS = "bench"


@dataclass(frozen=True)
class Side:
    """One program that does a part's work in a process of its own.

    ``place`` is MODULE:FUNCTION of bench.speed; ``against`` is what ``--against`` calls it; ``note`` says what it does
    more or less than the others.
    """

    name: str
    place: str
    against: str = OURS
    packages: tuple[str, ...] = ()
    install: str = ""
    note: str = ""

    @property
    def missing(self) -> list[str]:
        """Packages that it needs and that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]


@dataclass(frozen=True)
class Part:
    """One kind of work; ``unit`` is what its rates count, ``model`` whether a model does it."""

    title: str
    unit: str
    sides: tuple[Side, ...]
    model: bool = True


def extra(name: str) -> str:
    return f"pip install 'posttrain-bench[{name}]'"


def ours(place: str, note: str) -> Side:
    return Side(OURS, place, note=note)


def trl(place: str, note: str) -> Side:
    packages = ("trl", "accelerate", "datasets")
    return Side("trl", place, "trl", packages, extra("trl"), note)


def gym(place: str, note: str) -> Side:
    return Side("reasoning-gym", place, "reasoning-gym", ("reasoning_gym",), extra("speed"), note)


TRL_NOTE = (
    "its trainer as it is, logging off, its own defaults for what the comparison leaves open: it also computes the "
    "entropy of every token"
)
PARTS: dict[str, Part] = {
    "sft": Part(
        "fine-tuning on demonstrations: forward, backward, clipping, AdamW",
        "token",
        (
            ours("training:sft", "rows sorted by length; head at the demonstration's tokens alone"),
            trl("training:trl_sft", TRL_NOTE + " and the accuracy of every token; rows in the given order"),
            Side(
                "hf",
                "training:plain_sft",
                "hf",
                note="a plain loop over padded passes, rows sorted by length, the model's own loss",
            ),
        ),
    ),
    "grpo": Part(
        "a GRPO step with its completions, all of one length: sampling, verdicts, one update",
        "step",
        (
            ours("training:grpo", "log-probabilities of the sampled tokens kept; verdicts by the task"),
            trl("training:trl_grpo", TRL_NOTE + "; sampling by transformers' generate; verdicts by the same task"),
        ),
    ),
    "grpo-update": Part(
        "the update of a GRPO step alone, on the same recorded completions",
        "step",
        (ours("training:grpo_update", "advantages and one update"), trl("training:trl_grpo_update", TRL_NOTE)),
    ),
    "sample": Part(
        "completions in groups that share a prompt, by the whole distribution",
        "token",
        (
            ours("sampling:ours", "returns log-probabilities; a seed per row decides its draws"),
            Side(
                "hf-dynamic",
                "sampling:hf_dynamic",
                "hf",
                note="generate; no log-probabilities; each row runs its own prompt",
            ),
            Side("hf-static", "sampling:hf_static", "hf", note="the same with a static cache, compiled on CUDA alone"),
            Side(
                "vllm",
                "sampling:vllm",
                "vllm",
                packages=("vllm",),
                install=extra("vllm"),
                note="LLM.generate with its own draws, prefix caching on; CPU time of this process",
            ),
        ),
    ),
    "evaluate": Part(
        "greedy answers to test problems, and their verdicts",
        "item",
        (
            ours("evaluation:ours", "keeps text, length and verdict of every item"),
            Side(
                "lm-eval",
                "evaluation:lm_eval",
                "lm-eval",
                packages=("lm_eval", "accelerate"),
                install=extra("eval"),
                note="its evaluate() with model hf; no samples kept, no bootstrap",
            ),
        ),
    ),
    "verify": Part(
        "verdicts on texts with right and with wrong answers",
        "verdict",
        (
            ours("tasks:verdicts", "finds the answer in the text; says why it is refused"),
            Side(
                "math-verify",
                "tasks:math_verify",
                "math-verify",
                packages=("math_verify",),
                install=extra("speed"),
                note="the same texts of MATH; gold answers parsed beforehand",
            ),
            gym("tasks:gym_verdicts", "its own problems of the same kind, answers without reasoning before them"),
        ),
        model=False,
    ),
    "problems": Part(
        "problems with their prompts, sizes alike",
        "problem",
        (
            ours("tasks:problems", "a generator seeded by hash for every problem"),
            gym("tasks:gym_problems", "its data sets, one item after the other"),
        ),
        model=False,
    ),
}
RIVALS = tuple(dict.fromkeys(side.against for part in PARTS.values() for side in part.sides if side.against != OURS))


def chosen_parts(text: str | None) -> list[str]:
    """Names of parts, all without a text; UserError for an unknown one."""
    return named(text, "part", tuple(PARTS))


def chosen_rivals(text: str | None) -> list[str]:
    """What to compare with, everything without a text; UserError for an unknown name."""
    return named(text, "other program", RIVALS)


def named(text: str | None, what: str, known: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))
    for name in names:
        check_choice(name, known, what)
    if text is not None and not names:
        raise UserError(f"no {what} is given: expected some of {', '.join(known)}")
    return names or list(known)


def pairs(parts: Sequence[str], rivals: Sequence[str]) -> dict[str, tuple[Side, ...]]:
    """The sides of each part that is compared with one of the rivals; UserError if none is."""
    found = {}
    for name in parts:
        sides = tuple(side for side in PARTS[name].sides if side.against in (OURS, *rivals))
        if len(sides) > 1:
            found[name] = sides
    if not found:
        takers = sorted({side.against for name in parts for side in PARTS[name].sides} - {OURS})
        raise UserError(f"{', '.join(parts)}: compared with {', '.join(takers)} alone, not with {', '.join(rivals)}")
    return found

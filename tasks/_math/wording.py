"""The texts around a math question and its solution, in the templates of all math problems."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from bench.types import Demonstration
from tasks.common import conversation, dialogue

TEMPLATES = ("compact", "plain", "chat")
REQUEST = (
    "Put the reasoning between <think> and </think> and the final answer as \\boxed{} between <answer> and </answer>, "
    "for example <answer> \\boxed{12} </answer>."
)


def ask_question(question: str, template: str) -> str:
    """A question in natural language; "plain" is a dialogue that ends in an open think tag."""
    return dialogue(f"{question} {REQUEST}", template)


def ask_differently(question: str, template: str) -> str:
    """The same question with its request in other words and in front of it."""
    text = (
        "Answer the question below. Think between <think> and </think>, then write the result as \\boxed{} between "
        f"<answer> and </answer>, in the form <answer> \\boxed{{12}} </answer>.\n{question}"
    )
    return conversation(text, template)


def worded_demonstration(lines: Sequence[str], ending: str, template: str) -> Demonstration:
    """The lines as steps in natural language; ``ending`` follows them and closes the think tag."""
    if template == "chat" and lines:
        lines = ["<think> " + lines[0], *lines[1:]]
    elif template == "chat":
        ending = "<think> " + ending
    return Demonstration(tuple(lines), ending)


def boxed_ending(value: Fraction, template: str) -> str:
    r"""The ending that states a number: ``3/4`` in compact texts, ``\frac{3}{4}`` in natural language."""
    if template == "compact":
        return f"<answer>\\boxed{{{value}}}</answer>"
    return f"</think>\n<answer> \\boxed{{{latex_number(value)}}} </answer>"


def latex_number(value: Fraction) -> str:
    sign, size = ("-" if value < 0 else ""), abs(value)
    return sign + (str(size) if size.denominator == 1 else f"\\frac{{{size.numerator}}}{{{size.denominator}}}")

"""Generated math of the levels "level-1" to "level-5": problems of the MATH subjects that fit templates.

Problem: ``{"kind", "level", "subject", "given", "answer"}``; the answer is an integer or a fraction in lowest terms, as
text.  Levels differ in the number of steps and in the size of the numbers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import permutations
from typing import Any

from bench.types import Demonstration, Verdict
from tasks._math import arithmetic, counting, divisors
from tasks._math.kind import Kind, factor_text, spaced_equation
from tasks._math.number import Number, read_number, same_number
from tasks._math.text import answer_of
from tasks._math.wording import ask_differently, ask_question, boxed_ending, worded_demonstration

SUBJECTS = {**arithmetic.SUBJECTS, "number_theory": divisors.KINDS, "counting": counting.KINDS}
KINDS = {name: kind for kinds in SUBJECTS.values() for name, kind in kinds.items()}
FORMAT_REWARD = 0.1
NUM_STEPS = ((1, 3), (1, 5), (2, 8), (3, 11), (3, 16))  # fewest and most steps of a solution, by level
LEVELS = {
    "level-1": "generated, five subjects: solutions of 1 to 3 steps, small numbers",
    "level-2": "generated, five subjects: 1 to 5 steps, also systems, choices and numbers of divisors",
    "level-3": "generated, five subjects: 2 to 8 steps, also powers modulo m, congruences and orders of letters",
    "level-4": "generated, five subjects: 3 to 11 steps, larger numbers",
    "level-5": "generated, five subjects: 3 to 16 steps, large numbers, equations with fractional solutions",
}
PRACTICE_NUMBERS = 3  # stated numbers that a goal-blind answer combines
PRACTICE_SIZE = 9999  # of its products


def generate(rng: random.Random, level: str) -> dict[str, Any]:
    """Every subject is equally likely, and every kind within it."""
    number = int(level.removeprefix("level-"))
    subject = rng.choice(list(SUBJECTS))
    name = rng.choice([n for n, kind in SUBJECTS[subject].items() if number in kind.levels])
    fewest, most = NUM_STEPS[number - 1]
    while True:
        given = KINDS[name].draw(rng, number)
        if given is not None:
            steps, answer = KINDS[name].solve(given)
            if fewest <= len(steps) <= most:
                return {"kind": name, "level": number, "subject": subject, "given": given, "answer": str(answer)}


def key(problem: Mapping[str, Any]) -> str:
    """Kind and givens, sorted where their order does not matter."""
    given = KINDS[problem["kind"]].canonical(problem["given"])
    return f"{problem['kind']}:{json.dumps(given, separators=(',', ':'))}"


def prompt(problem: Mapping[str, Any], template: str) -> str:
    kind = KINDS[problem["kind"]]
    if template == "compact":
        return f"math {kind.compact(problem['given'])}"
    return ask_question(kind.plain(problem["given"]), template)


def reword(problem: Mapping[str, Any], template: str) -> str:
    """Compact: another beginning.  Otherwise the request comes first and in other words."""
    kind = KINDS[problem["kind"]]
    if template == "compact":
        return f"math solve: {kind.compact(problem['given'])}"
    return ask_differently(kind.plain(problem["given"]), template)


def demonstrate(problem: Mapping[str, Any], template: str) -> Demonstration:
    steps, value = KINDS[problem["kind"]].solve(problem["given"])
    ending = boxed_ending(value, template)
    if template == "compact":
        return Demonstration(tuple(f"{equation}\n" for _, equation in steps), ending)
    lines = [f"{words}: {spaced_equation(equation)}\n" for words, equation in steps]
    return worded_demonstration(lines, ending, template)


def verify(problem: Mapping[str, Any], text: str) -> Verdict:
    """Judged by exact numbers alone."""
    try:
        answer = answer_of(text)
    except ValueError as error:
        return Verdict(False, FORMAT_REWARD, f"unreadable answer: {error}")
    if answer is None:
        return Verdict(False, 0.0, "neither <answer>...</answer> nor \\boxed{...} found")
    number = read_number(answer)
    if number is None:
        return Verdict(False, FORMAT_REWARD, "unreadable answer: not an integer, decimal or fraction")
    if not same_number(Number(Fraction(problem["answer"])), number):
        unit = f" {number.unit}" if number.unit else ""
        return Verdict(False, FORMAT_REWARD, f"answered {number.value}{unit}, expected {problem['answer']}"[:200])
    return Verdict(True, 1.0, "correct")


# --- goal-blind answers --------------------------------------------------------------------------------------


def legal_operations(value: Fraction, number: Fraction, rational: bool) -> list[tuple[str, Fraction]]:
    """Every legal (operator, result) of a number on a value; never empty."""
    operations = [("+", value + number), ("-", value - number)]
    if abs((product := value * number).numerator) <= PRACTICE_SIZE and product.denominator <= PRACTICE_SIZE:
        operations.append(("*", product))
    if number and ((quotient := value / number).denominator == 1 or rational):
        operations.append(("/", quotient))
    return operations


def practice(rng: random.Random, problem: Mapping[str, Any]) -> str:
    """Combines up to three of the stated numbers in random order, each with a random legal operation."""
    kind = KINDS[problem["kind"]]
    numbers = kind.numbers(problem["given"])
    value, *others = rng.sample(numbers, min(PRACTICE_NUMBERS, len(numbers)))
    text = ""
    for number in others:
        operator, result = rng.choice(legal_operations(value, number, kind.rational))
        text += f"{factor_text(value)}{operator}{factor_text(number)}={result}\n"
        value = result
    return text + boxed_ending(value, "compact")


def outcomes(kind: Kind, numbers: list[Fraction]) -> Iterator[tuple[Fraction, float]]:
    """Every result that ``practice`` can reach with its probability, equal results not merged."""
    orders = list(permutations(numbers, min(PRACTICE_NUMBERS, len(numbers))))
    for first, *others in orders:
        ends = [(first, 1 / len(orders))]
        for number in others:
            ends = [
                (result, weight / len(options))
                for value, weight in ends
                for options in [legal_operations(value, number, kind.rational)]
                for _, result in options
            ]
        yield from ends


def chance(problem: Mapping[str, Any]) -> float:
    """Exact probability that ``practice`` is right."""
    kind, answer = KINDS[problem["kind"]], Fraction(problem["answer"])
    return sum(weight for value, weight in outcomes(kind, kind.numbers(problem["given"])) if value == answer)

r"""Stories about a count that changes: the compact levels that the embedded model was pretrained on.

Problem: ``{"name", "goal": "now" or "first", "start", "end", "steps": [[operator, number, verb], ...], "told"}``.  The
steps stand in order of time; ``told`` lists them in the order of the text, where "X but first Y" tells X before Y.
With goal "now" the text gives the start and the steps lead to the answer; with goal "first" it gives the end and the
steps have to be undone, last one first.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from bench.types import Demonstration, Verdict
from tasks._math.wording import ask_differently, ask_question, boxed_ending, worded_demonstration
from tasks.common import judge

MAX_VALUE = 99  # of every count, in stories and in practice
MAX_ADDEND = 12
MAX_FACTOR = 5
MAX_ANSWER = 200  # characters of an answer that are worth parsing
OPERATORS = "+-*/"
INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}
NAMES = ("Ann", "Bob", "Cid", "Eve")
VERBS = {"+": ("finds ", "buys ", "wins "), "-": ("loses ", "sells ", "gives "), "*": ("repeats ",), "/": ("splits ",)}
SPECIAL = {("*", 2): "doubles", ("*", 3): "triples", ("/", 2): "halves"}  # the verb implies the number
NUMBER = r"(-?[0-9]+)(?:\s*/\s*([0-9]+))?"
ANSWER = re.compile(rf"\s*(?:\\boxed\{{\s*{NUMBER}\s*\}}|{NUMBER})\s*", re.ASCII)
ACTIONS = {"+": "gets {} more", "-": "gives away {}", "*": "makes it {} times as many", "/": "keeps one part of {}"}
CHANGES = {"+": "{} are added", "-": "{} are taken away", "*": "the count is multiplied by {}"}
CHANGES["/"] = "the count is divided by {}"
WORDS = {"+": "Add", "-": "Subtract", "*": "Multiply by", "/": "Divide by"}
STEPS = {"1": 2, "2": 3, "3": 4, "4": 5}  # level -> number of steps

LEVELS = {
    "1": "2 steps, told in order of time, asks for the end",
    "2": "3 steps, some told out of order, asks for the end or the start",
    "3": "4 steps, some told out of order, asks for the end or the start",
    "4": "5 steps, some told out of order, asks for the end or the start",
}
TOKENS = (  # whole tokens of the embedded tokenizer
    "math ",
    *NAMES,
    " has ",
    " ends with ",
    *(verb for verbs in VERBS.values() for verb in verbs),
    *SPECIAL.values(),
    ". ",
    " but first ",
    "now?",
    "at first?",
    "\\boxed{",
    "<answer>",
    "</answer>",
)


def apply_to_count(value: int, operator: str, number: int) -> int | None:
    """Result of one step, None unless it is an integer from 1 to MAX_VALUE."""
    if operator == "/":
        return value // number if value % number == 0 else None
    result = {"+": value + number, "-": value - number, "*": value * number}[operator]
    return result if 1 <= result <= MAX_VALUE else None


def legal_results(value: int, number: int) -> list[tuple[str, int]]:
    """Every legal (operator, result) of a number on a count; never empty because the numbers are small."""
    results = ((operator, apply_to_count(value, operator, number)) for operator in OPERATORS)
    return [(operator, result) for operator, result in results if result is not None]


def draw_step(rng: random.Random, value: int) -> tuple[str, int, int]:
    """A legal (operator, number, result), all legal operators equally likely."""
    options: dict[str, list[tuple[int, int]]] = {}
    for operator in OPERATORS:
        for number in range(2, (MAX_ADDEND if operator in "+-" else MAX_FACTOR) + 1):
            result = apply_to_count(value, operator, number)
            if result is not None:
                options.setdefault(operator, []).append((number, result))
    operator = rng.choice(sorted(options))
    return operator, *rng.choice(options[operator])


def telling_order(rng: random.Random, count: int, inverted: bool) -> list[int]:
    """Order in which the steps are told: neighbours may swap places, no step twice."""
    order = list(range(count))
    place = 0
    while inverted and place + 1 < count:
        if rng.random() < 0.5:
            order[place], order[place + 1] = order[place + 1], order[place]
            place += 1
        place += 1
    return order


def equation_line(value: int, operator: str, number: int, result: int) -> str:
    return f"{value}{operator}{number}={result}\n"


def step_clause(step: list[Any]) -> str:
    """What a step says: ``finds 5``, ``doubles``."""
    _, number, verb = step
    return f"{verb}{number}" if verb.endswith(" ") else str(verb)


def read_count(answer: str) -> Fraction:
    r"""Value of ``N``, ``N/M`` or one of them in ``\boxed{}``; ValueError says what is wrong with it."""
    if len(answer) > MAX_ANSWER:
        raise ValueError(f"longer than {MAX_ANSWER} characters")
    match = ANSWER.fullmatch(answer)
    if match is None:
        raise ValueError("neither a number nor a number in \\boxed{}")
    boxed, boxed_divisor, plain, plain_divisor = match.groups()
    divisor = int(boxed_divisor or plain_divisor or 1)
    if divisor == 0:
        raise ValueError("division by zero")
    return Fraction(int(boxed or plain), divisor)


def generate(rng: random.Random, level: str) -> dict[str, Any]:
    inverted = level != "1"
    value = start = rng.randint(2, 60)
    steps = []
    for _ in range(STEPS[level]):
        operator, number, value = draw_step(rng, value)
        special = SPECIAL.get((operator, number))
        verb = special if special and rng.random() < 0.5 else rng.choice(VERBS[operator])
        steps.append([operator, number, verb])
    goal = rng.choice(("now", "first")) if inverted else "now"
    told = telling_order(rng, len(steps), inverted)
    name = rng.choice(NAMES)
    return {"name": name, "goal": goal, "start": start, "end": value, "steps": steps, "told": told}


def key(problem: Mapping[str, Any]) -> str:
    """Operations in order of time, the given count and the question; names, verbs and telling do not matter."""
    chain = "".join(f"{operator}{number}" for operator, number, _ in problem["steps"])
    return f"{problem['start']}{chain}=?" if problem["goal"] == "now" else f"?{chain}={problem['end']}"


def prompt(problem: Mapping[str, Any], template: str) -> str:
    if template != "compact":
        return ask_question(story_question(problem), template)
    story, asking = compact_parts(problem)
    return f"math {story} {asking}"


def reword(problem: Mapping[str, Any], template: str) -> str:
    """Compact: the question comes first.  Otherwise the story of a person's coins is told in other words."""
    if template != "compact":
        return ask_differently(other_story_question(problem), template)
    story, asking = compact_parts(problem)
    return f"math {asking} {story}"


def compact_parts(problem: Mapping[str, Any]) -> tuple[str, str]:
    """Story and question of the compact prompt."""
    told, name = problem["told"], problem["name"]
    text = step_clause(problem["steps"][told[0]])
    for before, place in itertools.pairwise(told):
        text += (" but first " if place < before else ". ") + step_clause(problem["steps"][place])
    if problem["goal"] == "now":
        return f"{name} has {problem['start']}. {text}.", "now?"
    return f"{name} ends with {problem['end']}. {text}.", "at first?"


def story_question(problem: Mapping[str, Any]) -> str:
    """The story in whole sentences."""
    name, told, first = problem["name"], problem["told"], problem["goal"] == "first"
    sentences = [f"{name} {'ends with' if first else 'has'} {given_count(problem)} coins."]
    for before, place in zip([-1, *told], told):
        operator, number, _ = problem["steps"][place]
        changed = ACTIONS[operator].format(number)
        sentences.append(f"Just before that, {name} {changed}." if place < before else f"{name} {changed}.")
    asking = f"did {name} have at first" if first else f"does {name} have now"
    return f"{' '.join(sentences)} How many coins {asking}?"


def other_story_question(problem: Mapping[str, Any]) -> str:
    """The story with the question in front and other verbs."""
    name, told, first = problem["name"], problem["told"], problem["goal"] == "first"
    begin = f"How many coins did {name} begin with?" if first else f"How many coins does {name} end up with?"
    sentences = [begin, f"There are {given_count(problem)} coins {'at the end' if first else 'to begin with'}."]
    for before, place in zip([-1, *told], told):
        operator, number, _ = problem["steps"][place]
        change = CHANGES[operator].format(number)
        sentences.append(f"Right before that, {change}." if place < before else f"{change[0].upper()}{change[1:]}.")
    return " ".join(sentences)


def solution_steps(problem: Mapping[str, Any]) -> list[tuple[int, str, int, int]]:
    """Steps of the solution: value, operator, number, result; ValueError if one leaves the counts."""
    value, lines = given_count(problem), []
    chain = [(operator, number) for operator, number, _ in problem["steps"]]
    if problem["goal"] == "first":
        chain = [(INVERSE[operator], number) for operator, number in reversed(chain)]
    for operator, number in chain:
        result = apply_to_count(value, operator, number)
        if result is None:
            raise ValueError(f"{value}{operator}{number} is not an integer from 1 to {MAX_VALUE}")
        lines.append((value, operator, number, result))
        value = result
    return lines


def demonstrate(problem: Mapping[str, Any], template: str) -> Demonstration:
    solved, ending = solution_steps(problem), boxed_ending(Fraction(asked_count(problem)), template)
    if template == "compact":
        return Demonstration(tuple(equation_line(*step) for step in solved), ending)
    undo = {operator: f"Undo: {WORDS[INVERSE[operator]].lower()}" for operator in OPERATORS}
    words = WORDS if problem["goal"] == "now" else undo
    lines = [f"{words[operator]} {b}: {a} {operator} {b} = {result}\n" for a, operator, b, result in solved]
    return worded_demonstration(lines, ending, template)


def verify(problem: Mapping[str, Any], text: str) -> Verdict:
    def fault(answer: str) -> str:
        value, wanted = read_count(answer), asked_count(problem)
        return "" if value == wanted else f"answered {value}, expected {wanted}"

    return judge(text, fault)


def chance(problem: Mapping[str, Any]) -> float:
    """Exact probability that ``practice`` is right: the distribution of counts after each set of used numbers."""
    numbers = [number for _, number, _ in problem["steps"]]
    spread: dict[tuple[int, int], float] = {(0, given_count(problem)): 1.0}  # (used numbers as bits, count)
    for done in range(len(numbers)):
        after: dict[tuple[int, int], float] = {}
        for (used, value), weight in spread.items():
            for place in (p for p in range(len(numbers)) if not used >> p & 1):
                options = legal_results(value, numbers[place])
                share = weight / ((len(numbers) - done) * len(options))
                for _, result in options:
                    state = (used | 1 << place, result)
                    after[state] = after.get(state, 0.0) + share
        spread = after
    return sum(weight for (_, value), weight in spread.items() if value == asked_count(problem))


def practice(rng: random.Random, problem: Mapping[str, Any]) -> str:
    """Takes the stated numbers in random order, each with a random legal operation."""
    value = given_count(problem)
    text = ""
    for _, number, _ in rng.sample(problem["steps"], len(problem["steps"])):
        operator, result = rng.choice(legal_results(value, number))
        text += equation_line(value, operator, number, result)
        value = result
    return text + boxed_ending(Fraction(value), "compact")


def given_count(problem: Mapping[str, Any]) -> int:
    """The count that the text states."""
    return int(problem["start"] if problem["goal"] == "now" else problem["end"])


def asked_count(problem: Mapping[str, Any]) -> int:
    return int(problem["end"] if problem["goal"] == "now" else problem["start"])

r"""Countdown: reach a target with + - * / from given numbers, each used exactly once.

Problem: ``{"numbers": [...], "target": int, "solution": expression}``.  Rewards as in UFT (arXiv 2505.16984,
``verl/utils/reward_score/countdown.py``): 1 correct, 0.1 well-formed but wrong, 0 otherwise; the strict score is 0/1.
Unlike that code, text after the answer tag and line breaks inside it are accepted, and arithmetic is exact.

The answer is one expression, with the target behind or before an equals sign if one likes: ``(1+3)*4``, ``(1 + 3) × 4
= 16``, ``\boxed{(1+3)\times4}``, ``\frac{8}{2}``, ``3 x 4``; all of it may stand in a box, in dollar signs, in a code
fence or in bold print, and end with a full stop.  Refused: another result than the target, products without a sign,
signs before a number, ``^``, ``:``, decimals, square brackets, digits other than ASCII, chains of equations, words.

Every generated problem has a solution whose steps give positive integers.  With 3 or 4 numbers the target is drawn
uniformly from all that such steps reach, with 5 or 6 from those that 128 random plans reach; chance is the exact
probability that one random plan hits it.
"""

from __future__ import annotations

import ast
import operator
import random
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from bench.plan.cells import cell, list_cell, text_cell, whole_number
from bench.types import Demonstration, Verdict
from tasks._countdown import counts, solve
from tasks._countdown.answers import read_equation
from tasks._countdown.plans import Step, all_ends, expression, hit_probability, paired_plan, plan_at, random_plan
from tasks.common import conversation, dialogue, judge, last_answer, listed, texts_of_row

MAX_ANSWER = 200  # characters of an answer that are worth parsing
TARGETS = range(10, 101)
MAX_LISTED = 4  # numbers up to which every plan is listed
NUM_SAMPLED = 128  # plans that are drawn for more numbers
MAX_NUMBERS = 8  # of a row of data: the exact chance of 9 takes half a minute
OPERATORS: dict[type[ast.operator], tuple[str, Callable[[Fraction, Fraction], Fraction]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
}

ExactStep = tuple[Fraction, str, Fraction, Fraction]  # left, operator, right, result


def evaluate(text: str) -> tuple[Fraction, list[int], list[ExactStep]]:
    """Exact value, numbers and steps (innermost first) of an expression; ValueError says what is not allowed.

    Only ASCII digits, the four operators, parentheses and blanks pass; the text is parsed, never executed.
    """
    if len(text) > MAX_ANSWER:
        raise ValueError(f"longer than {MAX_ANSWER} characters")
    # No other character reaches the parser, whose grammar is far larger than the game's.
    strange = sorted(set(text) - set("0123456789+-*/() \t\r\n"))
    if strange:
        raise ValueError(f"character {strange[0]!r} is not allowed")
    if "**" in text or "//" in text:
        raise ValueError("only + - * / are allowed")
    try:
        tree = ast.parse(" ".join(text.split()), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError("not an arithmetic expression") from None
    numbers, steps = list[int](), list[ExactStep]()
    return _value(tree.body, numbers, steps), numbers, steps


def _value(node: ast.AST, numbers: list[int], steps: list[ExactStep]) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        numbers.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = _value(node.left, numbers, steps), _value(node.right, numbers, steps)
        sign, operation = OPERATORS[type(node.op)]
        if sign == "/" and right == 0:
            raise ValueError("division by zero")
        steps.append((left, sign, right, operation(left, right)))
        return steps[-1][3]
    if isinstance(node, ast.UnaryOp):
        raise ValueError("a sign before a number is not allowed")
    raise ValueError("only numbers and the operators + - * / are allowed")


def expression_fault(answer: str, numbers: Sequence[int], target: int) -> str:
    """What is wrong with an answer, empty if nothing is; ValueError if it cannot be read."""
    if len(answer) > MAX_ANSWER:
        raise ValueError(f"longer than {MAX_ANSWER} characters")
    text, stated = read_equation(answer)
    value, used, _ = evaluate(text)
    # As multisets: a number that is given twice must be used twice.
    if sorted(used) != sorted(numbers):
        return f"used {sorted(used)}, expected {sorted(numbers)}"
    if value != target:
        return f"equals {value}, target is {target}"
    return "" if stated in (None, target) else f"says that it equals {stated}, target is {target}"


class Countdown:
    name = "countdown"
    version = 2
    template_versions = {"compact": 1}  # of the embedded model, whose answers are judged as before
    levels = {
        "3": "3 numbers from 1 to 30, target 10 to 100",
        "4": "4 numbers from 1 to 30, target 10 to 100",
        "5": "5 numbers from 1 to 30, target 10 to 100",
        "6": "6 numbers from 1 to 30, target 10 to 100",
        "3to4": "3 or 4 numbers from 1 to 99, target 10 to 100 (the ranges of the UFT data)",
    }
    default_level = "3"
    templates = ("compact", "plain", "chat")
    harder = {"3": "4", "4": "5", "5": "6", "3to4": "5"}
    words = ("countdown ", "->", "<answer>", "</answer>")  # whole tokens of the embedded tokenizer

    def generate(self, rng: random.Random, level: str) -> dict[str, Any]:
        count = rng.choice((3, 4)) if level == "3to4" else int(level)
        while True:
            numbers = tuple(rng.randint(1, 99 if level == "3to4" else 30) for _ in range(count))
            plan = reachable_plan(rng, numbers) if count <= MAX_LISTED else sampled_plan(rng, numbers)
            if plan is not None:
                solution = expression(plan, spaced=True)
                return {"numbers": list(numbers), "target": plan[-1][3], "solution": solution}

    def key(self, problem: Mapping[str, Any]) -> str:
        return ",".join(map(str, sorted(problem["numbers"]))) + f"->{problem['target']}"

    def near_keys(self, problem: Mapping[str, Any]) -> dict[str, str]:
        return {"number set": ",".join(map(str, sorted(problem["numbers"])))}

    def cluster(self, problem: Mapping[str, Any]) -> str:
        return self.near_keys(problem)["number set"]

    def prompt(self, problem: Mapping[str, Any], template: str) -> str:
        numbers, target = problem["numbers"], problem["target"]
        if template == "compact":
            return f"countdown {','.join(map(str, numbers))}->{target}:"
        own = problem.get("prompt") if template == "plain" else None
        return str(own or dialogue(countdown_question(numbers, target), template))

    def reword(self, problem: Mapping[str, Any], template: str) -> str:
        """Compact: blanks instead of commas, and around the arrow."""
        numbers, target = problem["numbers"], problem["target"]
        if template == "compact":
            return f"countdown {' '.join(map(str, numbers))} -> {target}:"
        return conversation(other_countdown_question(numbers, target), template)

    def demonstrate(self, problem: Mapping[str, Any], template: str) -> Demonstration:
        if template == "plain" and "steps" in problem:
            return Demonstration(tuple(problem["steps"]), problem["ending"])
        plan = plan_of(problem["solution"])
        if template == "compact":
            lines = tuple(f"{a}{op}{b}={c}\n" for a, op, b, c in plan)
            return Demonstration(lines, f"<answer>{expression(plan)}</answer>")
        text = expression(plan, spaced=True)
        lines = tuple(f"{a} {op} {b} = {c}\n" for a, op, b, c in plan)
        if template == "chat":
            lines = ("<think> " + lines[0], *lines[1:])
        return Demonstration((*lines, f"So the expression is {text}"), f" </think>\n<answer> {text} </answer>")

    def verify(self, problem: Mapping[str, Any], text: str) -> Verdict:
        return judge(text, lambda answer: expression_fault(answer, problem["numbers"], problem["target"]))

    def chance(self, problem: Mapping[str, Any]) -> float:
        numbers, target = problem["numbers"], problem["target"]
        if len(numbers) <= MAX_LISTED:
            return hit_probability(tuple(numbers), target)
        return counts.paired_probability(numbers, target)

    def solutions(self, problem: Mapping[str, Any]) -> int:
        """How many distinct expressions solve the problem (see ``tasks/_countdown/counts.py``)."""
        return counts.count_solutions(problem["numbers"], problem["target"])

    def practice(self, rng: random.Random, problem: Mapping[str, Any]) -> str:
        numbers = tuple(problem["numbers"])
        plan = random_plan(rng, numbers) if len(numbers) <= MAX_LISTED else paired_plan(rng, numbers)
        return "".join(f"{a}{op}{b}={c}\n" for a, op, b, c in plan) + f"<answer>{expression(plan)}</answer>"

    def from_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Columns ``nums`` and ``target``, and ``answer`` with the demonstration: without that column we solve it."""
        problem = numbers_of_row(row)
        if "answer" not in row:
            return {**problem, "solution": own_solution(problem["numbers"], problem["target"]), **texts_of_row(row)}
        answer = text_cell(row, "answer")
        verdict = self.verify(problem, answer)
        if not verdict.correct:
            raise ValueError(f"column 'answer' is wrong: {verdict.reason}")
        return {**problem, "solution": read_equation(last_answer(answer) or "")[0], **texts_of_row(row)}

    def gold(self, problem: Mapping[str, Any]) -> tuple[str, str]:
        """The target, and how many numbers should reach it."""
        return str(problem["target"]), f"target of {len(problem['numbers'])} numbers"


def numbers_of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and target of a row; ValueError names the column."""
    nums = list_cell(row, "nums")
    if not 2 <= len(nums) <= MAX_NUMBERS:
        raise ValueError(f"column 'nums' must hold 2 to {MAX_NUMBERS} numbers, not {len(nums)}")
    target = cell(row, "target")
    try:
        return {"numbers": [whole_number(n) for n in nums], "target": whole_number(target)}
    except ValueError:
        raise ValueError("column 'nums' must hold whole numbers, column 'target' one") from None


def own_solution(numbers: Sequence[int], target: int) -> str:
    """An expression for the target, the same on every machine; ValueError if we find none."""
    if min(numbers) < 0:
        raise ValueError("column 'nums' holds a negative number, which no answer can use")
    if len(numbers) > solve.MOST_NUMBERS:
        raise ValueError(f"column 'answer' is missing: we solve problems of up to {solve.MOST_NUMBERS} numbers")
    plan = solve.solve(numbers, target)
    text = expression(plan, spaced=True) if plan else ""
    if not plan or len(text) > MAX_ANSWER:
        what = "unsolvable in whole numbers" if not plan else f"solved only by over {MAX_ANSWER} characters"
        raise ValueError(f"{what}: {', '.join(map(str, numbers))} for the target {target}"[:MAX_ANSWER])
    return text


def reachable_plan(rng: random.Random, numbers: tuple[int, ...]) -> list[Step] | None:
    """A random plan to a target that is drawn uniformly from all that plans reach, None if they reach none.

    Every reachable target is equally likely, so that a random plan seldom hits it.
    """
    ways: dict[int, list[int]] = {}
    for index, end in enumerate(all_ends(numbers)):
        if end in TARGETS:
            ways.setdefault(end, []).append(index)
    return plan_at(numbers, rng.choice(ways[rng.choice(sorted(ways))])) if ways else None


def sampled_plan(rng: random.Random, numbers: tuple[int, ...]) -> list[Step] | None:
    """A random plan for more numbers than can be listed, None if no plan that was drawn reaches a target.

    The target is drawn uniformly from those that NUM_SAMPLED paired plans reach, so frequent ones gain little.
    """
    ways: dict[int, list[Step]] = {}
    for _ in range(NUM_SAMPLED):
        plan = paired_plan(rng, numbers)
        if plan[-1][3] in TARGETS:
            ways.setdefault(plan[-1][3], plan)
    return ways[rng.choice(sorted(ways))] if ways else None


def countdown_question(numbers: list[int], target: int) -> str:
    return (
        f"Write an arithmetic expression that equals {target} and uses each of the numbers {numbers} exactly once. "
        "The operations +, -, * and / are allowed. Put the reasoning between <think> and </think> and the final "
        "expression between <answer> and </answer>, for example <answer> (1 + 2) / 3 </answer>."
    )


def other_countdown_question(numbers: list[int], target: int) -> str:
    return (
        f"You have the numbers {listed(numbers)}. Combine all of them, each one time, with addition, subtraction, "
        f"multiplication or division so that the result is {target}. Think between <think> and </think>, then give one "
        "formula between <answer> and </answer>, such as <answer> (1 + 2) / 3 </answer>."
    )


def plan_of(text: str) -> list[Step]:
    """The steps that evaluate an expression, innermost first; ValueError if a result is not an integer."""
    plan: list[Step] = []
    for left, op, right, result in evaluate(text)[2]:
        if result.denominator != 1:
            raise ValueError(f"{left} {op} {right} is not an integer")
        plan.append((int(left), op, int(right), int(result)))
    return plan


TASK = Countdown()

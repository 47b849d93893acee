"""Countdown plans: legal steps, every plan of a set of numbers, random plans, and plans written as expressions."""

from __future__ import annotations

import random

MAX_VALUE = 999  # products of generated plans
PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}

Step = tuple[int, str, int, int]  # left, operator, right, result


def combine(a: int, b: int, limit: float = MAX_VALUE) -> list[Step]:
    """Legal steps from two numbers: larger operand first, results positive integers, products up to the limit."""
    # Larger operand first: a + b and b + a are one step, and a - b and a / b have no other legal order.
    if a < b:
        a, b = b, a
    steps = [(a, "+", b, a + b)]
    if a > b:
        steps.append((a, "-", b, a - b))
    if a * b <= limit:
        steps.append((a, "*", b, a * b))
    # a / 1 is left out, since a * 1 leads to the same numbers.
    if b > 1 and a % b == 0:
        steps.append((a, "/", b, a // b))
    return steps


def legal_moves(numbers: tuple[int, ...]) -> list[tuple[Step, tuple[int, ...]]]:
    """Every legal step and the numbers that it leaves (its result last)."""
    choices = []
    for i in range(len(numbers)):
        for j in range(i + 1, len(numbers)):
            rest = numbers[:i] + numbers[i + 1 : j] + numbers[j + 1 :]
            choices += [(step, (*rest, step[3])) for step in combine(numbers[i], numbers[j])]
    return choices


def all_ends(numbers: tuple[int, ...]) -> list[int]:
    """What every plan of legal steps over all numbers ends at, by the order of its moves."""
    if len(numbers) == 1:
        return [numbers[0]]
    if len(numbers) == 2:
        return [result for *_, result in combine(*numbers)]
    return [end for _, left in legal_moves(numbers) for end in all_ends(left)]


def plan_at(numbers: tuple[int, ...], index: int) -> list[Step]:
    """The plan whose end is number ``index`` of ``all_ends``."""
    if len(numbers) == 1:
        return []
    for step, left in legal_moves(numbers):
        count = len(all_ends(left))
        if index < count:
            return [step, *plan_at(left, index)]
        index -= count
    raise IndexError(f"plan {index} beyond the last one")


def random_plan(rng: random.Random, numbers: tuple[int, ...]) -> list[Step]:
    """A plan of random legal steps that uses all numbers."""
    plan = []
    while len(numbers) > 1:
        step, numbers = rng.choice(legal_moves(numbers))
        plan.append(step)
    return plan


def paired_plan(rng: random.Random, numbers: tuple[int, ...]) -> list[Step]:
    """A plan that takes a random pair of numbers at each step and then one of the pair's legal steps."""
    left, plan = list(numbers), []
    while len(left) > 1:
        a = left.pop(int(rng.random() * len(left)))
        b = left.pop(int(rng.random() * len(left)))
        options = combine(a, b)
        plan.append(options[int(rng.random() * len(options))])
        left.append(plan[-1][3])
    return plan


def hit_probability(numbers: tuple[int, ...], target: int) -> float:
    """Exact probability that ``random_plan`` ends at the target."""
    if len(numbers) == 1:
        return float(numbers[0] == target)
    options = legal_moves(numbers)
    return sum(hit_probability(left, target) for _, left in options) / len(options)


def expression(plan: list[Step], spaced: bool = False) -> str:
    """The plan as one expression with the fewest parentheses that keep its meaning."""
    # Which of two equal results an operand stands for makes no difference to the value: the latest is taken.
    texts: dict[int, list[tuple[str, int]]] = {}  # value -> (text, precedence) of results not used yet

    def operand(value: int, parent: str, right: bool) -> str:
        text, rank = texts[value].pop() if texts.get(value) else (str(value), 3)
        tight = PRECEDENCE[parent]
        needs = rank < tight or (right and rank == tight)  # a+(b-c) keeps its parentheses: same tree as the plan
        return f"({text})" if needs else text

    gap = " " if spaced else ""
    text = ""
    for left, op, right, result in plan:
        text = operand(left, op, False) + gap + op + gap + operand(right, op, True)
        texts.setdefault(result, []).append((text, PRECEDENCE[op]))
    return text

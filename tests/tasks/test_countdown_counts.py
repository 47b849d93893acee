"""Counts and chances of Countdown against listing everything, and the levels with more numbers than can be listed."""

import random
from collections import Counter

import pytest

from bench.report import catalogue
from tasks._countdown.counts import count_solutions, paired_probability, partners
from tasks._countdown.plans import all_ends, combine, paired_plan, plan_at
from tasks.countdown import TARGETS, TASK, evaluate, sampled_plan
from tests.tasks.samples import all_plans, draw


def trees(numbers):
    """Every expression tree over the numbers, operands of a step in sorted order: (value, text) pairs."""
    if len(numbers) == 1:
        return {(numbers[0], str(numbers[0]))}
    found = set()
    for mask in range(1, 2 ** len(numbers) - 1):
        left = [n for i, n in enumerate(numbers) if mask >> i & 1]
        right = [n for i, n in enumerate(numbers) if not mask >> i & 1]
        for a, one in trees(left):
            for b, two in trees(right):
                if a < b:
                    continue  # the mirrored split has the larger value on the left
                first, second = sorted((one, two)) if a == b else (one, two)
                found |= {(a + b, f"({first}+{second})"), (a * b, f"({first}*{second})")}
                if a > b:
                    found.add((a - b, f"({first}-{second})"))
                if b > 1 and a % b == 0:
                    found.add((a // b, f"({first}/{second})"))
    return found


def chances(numbers):
    """Exact distribution of where ``paired_plan`` ends."""
    if len(numbers) == 1:
        return Counter({numbers[0]: 1.0})
    found = Counter()
    pairs = [(i, j) for i in range(len(numbers)) for j in range(i)]
    for i, j in pairs:
        steps = list(combine(numbers[i], numbers[j]))
        for *_, result in steps:
            for end, chance in chances([result, *(n for k, n in enumerate(numbers) if k not in (i, j))]).items():
                found[end] += chance / len(pairs) / len(steps)
    return found


@pytest.mark.parametrize("numbers", [[7], [3, 3], [2, 3, 4], [2, 2, 2], [1, 1, 5, 6], [2, 2, 3, 3], [3, 7, 8, 11]])
def test_solutions_are_the_distinct_trees(numbers):
    listed = Counter(value for value, _ in trees(numbers))
    for target in (*listed, 0, -1, 10**9):
        assert count_solutions(random.Random(1).sample(numbers, len(numbers)), target) == listed[target], target


@pytest.mark.parametrize("numbers", [[2, 3, 5, 7, 9], [2, 2, 4, 4, 4]])
def test_solutions_of_more_numbers_than_are_tabulated(numbers):
    listed = Counter(value for value, _ in trees(numbers))
    for target in [*random.Random(2).sample(sorted(listed), 60), *range(10, 30)]:
        assert count_solutions(numbers, target) == listed[target], target


def test_six_numbers_in_two_equal_halves():
    listed = Counter(value for value, _ in trees([2, 2, 3, 3, 5, 5]))
    for target in (1, 4, 10, 24, 97, 100):
        assert count_solutions([5, 3, 2, 2, 3, 5], target) == listed[target] > 0
    assert count_solutions([1, 1, 1, 1, 1, 1], 100) == 0


def test_a_problem_has_a_solution_exactly_if_a_plan_reaches_it():
    rng = random.Random(3)
    for _ in range(60):
        numbers = tuple(rng.randint(1, 12) for _ in range(rng.choice((2, 3, 4))))
        ends = {plan[-1][3] for plan in all_plans(numbers)}  # products of plans stop at 999
        for target in range(1, 40):
            assert (count_solutions(list(numbers), target) > 0) == (target in ends)


@pytest.mark.parametrize("level", TASK.levels)
def test_every_problem_has_a_solution(level):
    for problem in draw(TASK, 60, level):
        assert TASK.solutions(problem) >= 1
        assert 0 < TASK.chance(problem) <= 1


@pytest.mark.parametrize("numbers", [[2, 3], [2, 2, 4], [2, 3, 4, 6], [1, 2, 3, 4, 5], [2, 2, 6, 6, 6]])
def test_the_paired_chance_is_exact(numbers):
    listed = chances(numbers)
    assert sum(listed.values()) == pytest.approx(1)
    for target in [*sorted(listed)[:80], 10**9]:
        assert paired_probability(numbers, target) == pytest.approx(listed[target], abs=1e-15)


def test_the_chance_of_six_numbers_is_the_share_of_random_plans():
    rng, numbers, draws = random.Random(4), (2, 3, 5, 7, 11, 13), 40_000
    ends = Counter(paired_plan(rng, numbers)[-1][3] for _ in range(draws))
    for target, count in ends.most_common(8):
        chance = TASK.chance({"numbers": list(numbers), "target": target})
        assert abs(count / draws - chance) <= 4.5 * (chance / draws) ** 0.5


def test_partners_are_all_that_lead_to_the_target():
    for a in range(1, 25):
        for target in range(25):
            wanted = {b for b in range(1, 700) if target in [step[3] for step in combine(a, b, float("inf"))]}
            assert wanted <= partners(a, target)


@pytest.mark.parametrize("numbers", [(5, 3), (4, 4, 2), (1, 6, 6, 9)])
def test_plans_by_their_place(numbers):
    plans = list(all_plans(numbers))
    assert all_ends(numbers) == [plan[-1][3] for plan in plans]
    assert [plan_at(numbers, i) for i in range(len(plans))] == plans
    with pytest.raises(IndexError):
        plan_at(numbers, len(plans))


def test_frequent_targets_are_not_drawn_more_often():
    """Targets of many numbers are drawn from those that a few plans reach, not with the frequency of plans."""
    rng, numbers = random.Random(6), (1, 1, 2, 12, 12)
    ends = Counter(end for _ in range(4000) if (end := paired_plan(rng, numbers)[-1][3]) in TARGETS)
    drawn = Counter(sampled_plan(rng, numbers)[-1][3] for _ in range(800))
    assert set(drawn) <= set(TARGETS) and len(drawn) > 30
    assert max(drawn.values()) / 800 < 0.7 * max(ends.values()) / ends.total()


def test_random_plans_of_many_numbers_are_legal():
    rng = random.Random(5)
    for problem in draw(TASK, 50, "6"):
        value, used, _ = evaluate(TASK.practice(rng, problem).partition("<answer>")[2].removesuffix("</answer>"))
        assert value.denominator == 1 and sorted(used) == sorted(problem["numbers"])


def test_zero_in_a_data_file():
    listed = Counter(all_ends((0, 3, 4)))
    assert count_solutions([0, 2, 3, 4, 5], 14) > 0 and listed[7] > 0
    assert 0 < paired_probability([0, 2, 3, 4, 5], 14) < 1


def test_the_sheet_says_how_many_solutions_there_are():
    sheet = catalogue.task_sheet("countdown")
    assert sheet["example"]["solutions"] >= 1
    assert f"{sheet['example']['solutions']} distinct solutions" in catalogue.task_text(sheet)
    assert "solutions" not in catalogue.task_sheet("math")["example"]

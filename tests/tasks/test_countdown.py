import random
from fractions import Fraction
from itertools import islice

import pytest

from bench.types import UserError
from tasks import common
from tasks._countdown.plans import MAX_VALUE, combine, expression, legal_moves, random_plan
from tasks.common import FORMAT_REWARD, derive_seed
from tasks.countdown import TASK, evaluate, plan_of
from tests.helpers.timing import timed
from tests.tasks.samples import all_plans

LEVELS = tuple(TASK.levels)
PROBLEM = {"numbers": [2, 3, 4, 6], "target": 24, "solution": "(2 + 3 - 1) * 6"}
SIX = {"numbers": [1, 2, 3], "target": 6}
VERDICTS = [  # problem, completion, reward, part of the reason
    (SIX, "1+2=3\n<answer>1+2+3</answer>", 1, "correct"),
    (SIX, "<answer> 3 * (2 * 1) </answer> and some text", 1, "correct"),
    (SIX, "<answer>1 +\n2\t+ 3</answer>", 1, "correct"),
    (SIX, "<answer>((1+2)+((3)))</answer>", 1, "correct"),
    (SIX, "<answer>1</answer><answer>1+2+3</answer>", 1, "correct"),  # the last answer counts
    (SIX, "<answer>1+2+3</answer><answer>1+2", 1, "correct"),  # the last complete answer
    ({"numbers": [1, 2, 4], "target": 2}, "<answer>1/2*4</answer>", 1, "correct"),  # fractions on the way are exact
    ({"numbers": [1, 3, 3], "target": 1}, "<answer>1/3*3</answer>", 1, "correct"),
    ({"numbers": [1, 2, 7], "target": 6}, "<answer>1-2+7</answer>", 1, "correct"),  # negative on the way
    ({"numbers": [5, 5, 1], "target": 11}, "<answer>5+5+1</answer>", 1, "correct"),  # equal numbers count apart
    (SIX, "<answer>1+2+3</answer><answer>1</answer>", 0.1, "used [1]"),
    (SIX, "<answer>3+3</answer>", 0.1, "used [3, 3], expected [1, 2, 3]"),
    (SIX, "<answer>1+2+3+1-1</answer>", 0.1, "used [1, 1, 1, 2, 3]"),
    (SIX, "<answer>2*3</answer>", 0.1, "used [2, 3]"),
    (SIX, "<answer>6</answer>", 0.1, "used [6]"),
    (SIX, "<answer>12-3</answer>", 0.1, "used [3, 12]"),
    (SIX, "<answer>1 2+3</answer>", 0.1, "not an arithmetic expression"),
    (SIX, "<answer>1*2+3</answer>", 0.1, "equals 5, target is 6"),
    (SIX, "<answer>1+2/3</answer>", 0.1, "equals 5/3, target is 6"),
    (SIX, "<answer>1+2+3=6</answer>", 1, "correct"),
    (SIX, "<answer>1+2+3=7</answer>", 0.1, "says that it equals 7, target is 6"),
    (SIX, "<answer>1+2+3.</answer>", 1, "correct"),
    (SIX, "<answer>1.+2+3</answer>", 0.1, "character '.' is not allowed"),
    (SIX, "<answer>1+2+3 # all</answer>", 0.1, "is not allowed"),
    (SIX, "<answer>01+2+3</answer>", 0.1, "not an arithmetic expression"),
    (SIX, "<answer>-1*(0-2)*3</answer>", 0.1, "a sign before a number"),
    (SIX, "<answer>+1+2+3</answer>", 0.1, "a sign before a number"),
    (SIX, "<answer>1--2+3</answer>", 0.1, "a sign before a number"),
    (SIX, "<answer>(1)(2)+3</answer>", 0.1, "only numbers and the operators"),
    (SIX, "<answer>()</answer>", 0.1, "only numbers and the operators"),
    (SIX, "<answer>1+2+</answer>", 0.1, "not an arithmetic expression"),
    (SIX, "<answer></answer>", 0.1, "not an arithmetic expression"),
    (SIX, "<answer>3/(2-1-1)</answer>", 0.1, "division by zero"),
    (SIX, "<answer>1/(2-2)+3</answer>", 0.1, "division by zero"),
    ({"numbers": [2, 4, 5], "target": 10}, "<answer>2.5*4</answer>", 0.1, "character '.' is not allowed"),
    ({"numbers": [7, 2, 1], "target": 4}, "<answer>7//2+1</answer>", 0.1, "only + - * / are allowed"),
    ({"numbers": [2, 3], "target": 8}, "<answer>2**3</answer>", 0.1, "only + - * / are allowed"),
    ({"numbers": [2, 3], "target": 8}, "<answer>2* *3</answer>", 0.1, "not an arithmetic expression"),
    (SIX, "<answer>1_0+2</answer>", 0.1, "character '_' is not allowed"),
    (SIX, "<answer>\u0661+\u0662+\u0663</answer>", 0.1, "is not allowed"),
    (SIX, "<answer>\uff11+2+3</answer>", 0.1, "is not allowed"),
    (SIX, "<answer>1+2+\u00b3</answer>", 0.1, "is not allowed"),
    (SIX, "<answer>1\u00a0+2+3</answer>", 1, "correct"),
    (SIX, "<answer>1\u22122+3</answer>", 0.1, "equals 2, target is 6"),
    (SIX, "<answer>\x001+2+3</answer>", 0.1, "character '\\x00' is not allowed"),
    (SIX, "<answer>\ud800</answer>", 0.1, "is not allowed"),
    (SIX, "<answer>__import__('os').getpid()</answer>", 0.1, "is not allowed"),
    (SIX, "<answer>{}{0.__class__}%s</answer>", 0.1, "is not allowed"),
    (SIX, "<answer><answer>1+2+3</answer></answer>", 0.1, "character '<' is not allowed"),
    (SIX, "<answer>" + "(" * 90 + "1+2+3" + ")" * 90 + "</answer>", 1, "correct"),
    (SIX, "<answer>" + "(" * 100_000 + "1+2+3" + ")" * 100_000 + "</answer>", 0.1, "longer than 200 characters"),
    (SIX, "<answer>" + "9" * 1_000_000 + "</answer>", 0.1, "longer than 200 characters"),
    (SIX, "<answer>" + "9" * 200 + "</answer>", 0.1, "used [999"),
    (SIX, "<answer>" + "9*" * 99 + "9</answer>", 0.1, "used [9, 9"),
    (SIX, "<answer>" + " " * 200 + "</answer>", 0.1, "not an arithmetic expression"),
    (SIX, "1+2=3\n" * 200_000 + "<answer>1+2+3</answer>", 1, "correct"),
    (SIX, "<answer>" * 150_000, 0, "no <answer>"),
    (SIX, "</answer>" * 150_000, 0, "no <answer>"),
    (SIX, "</answer>1+2+3<answer>", 0, "no <answer>"),
    (SIX, "<answer>1+2+3", 0, "no <answer>"),
    (SIX, "1+2+3", 0, "no <answer>"),
    (SIX, "<ANSWER>1+2+3</ANSWER>", 0, "no <answer>"),
    (SIX, "", 0, "no <answer>"),
]


def draw(count: int, level: str) -> list[dict]:
    rng = random.Random(derive_seed("test", TASK.name, level))
    return [TASK.generate(rng, level) for _ in range(count)]


def reachable(numbers: list[Fraction]) -> set[Fraction]:
    """Every value of every expression over all numbers: an independent check that a problem can be solved."""
    if len(numbers) == 1:
        return set(numbers)
    found = set()
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            if i != j:
                rest = [n for k, n in enumerate(numbers) if k not in (i, j)]
                for value in (a + b, a - b, a * b, *([a / b] if b else [])):
                    found |= reachable([*rest, value])
    return found


# --- verifier ---


@pytest.mark.parametrize(("problem", "text", "reward", "reason"), VERDICTS, ids=range(len(VERDICTS)))
def test_verdicts(problem, text, reward, reason):
    verdict, seconds = timed(lambda: TASK.verify(problem, text))
    assert seconds < 0.05
    assert verdict.reward == reward and reason in verdict.reason, verdict
    assert verdict.correct is (reward == 1)  # the strict score never counts the reward for form


def test_verdicts_raise_no_warning(recwarn):
    for problem, text, *_ in VERDICTS:
        TASK.verify(problem, text)
    assert list(recwarn) == []


def test_random_text_never_passes_by_accident():
    """Whatever is called correct is a permutation of the numbers that Python itself evaluates to the target."""
    rng = random.Random(3)
    passed = 0
    for _ in range(20_000):
        text = "".join(rng.choice("123+-*/() ") for _ in range(rng.randint(1, 9)))
        verdict = TASK.verify(SIX, f"<answer>{text}</answer>")
        assert verdict.reward in (FORMAT_REWARD, 1.0)
        if verdict.correct:
            passed += 1
            assert sorted(c for c in text if c.isdigit()) == ["1", "2", "3"] and eval(text) == pytest.approx(6)
    assert passed > 0


# --- generator ---


@pytest.mark.parametrize("level", LEVELS)
def test_problems_are_solvable_and_demonstrations_pass(level):
    for problem in draw(1000, level):
        value, used, _ = evaluate(problem["solution"])
        assert (value, sorted(used)) == (problem["target"], sorted(problem["numbers"]))
        assert 10 <= problem["target"] <= 100
        for template in TASK.templates:
            shown = TASK.demonstrate(problem, template)
            assert len(shown.steps) >= len(problem["numbers"]) - 1
            assert TASK.verify(problem, shown.text).correct, shown.text
            assert not TASK.verify(problem, "".join(shown.steps)).correct  # the answer is in the ending alone
            assert str(problem["target"]) in TASK.prompt(problem, template)


def test_targets_can_be_reached_by_an_independent_search():
    for problem in draw(100, "3"):
        assert problem["target"] in reachable([Fraction(n) for n in problem["numbers"]])


@pytest.mark.parametrize(
    ("level", "counts", "high"), [("3", {3}, 30), ("4", {4}, 30), ("5", {5}, 30), ("6", {6}, 30), ("3to4", {3, 4}, 99)]
)
def test_levels_keep_their_promise(level, counts, high):
    found = draw(1000, level)
    assert {len(p["numbers"]) for p in found} == counts
    numbers = {n for p in found for n in p["numbers"]}
    assert min(numbers) == 1 and 0.9 * high <= max(numbers) <= high


def test_splits_share_no_content():
    keys = {s: {TASK.key(p) for p in islice(common.problems(TASK, s, "3"), 500)} for s in common.SPLITS}
    assert all(len(found) == 500 for found in keys.values())
    assert len(set.union(*keys.values())) == 500 * len(keys)
    assert TASK.key({"numbers": [3, 1, 2], "target": 6}) == TASK.key({**SIX, "solution": "1 * 2 * 3"})
    assert TASK.key({"numbers": [12, 3], "target": 6}) != TASK.key({"numbers": [1, 23], "target": 6})


def test_problems_are_the_same_everywhere():
    """Fixed examples: a change of the generator must raise the task's version."""
    first = {(s, v): next(common.problems(TASK, s, v)) for s in ("train", "test") for v in LEVELS}
    assert TASK.version == 2 and TASK.template_versions == {"compact": 1}  # 2 reads more spellings of an answer
    assert first["train", "3"] == {"numbers": [16, 6, 16], "target": 80, "solution": "16 * 6 - 16"}
    assert first["test", "3"] == {"numbers": [8, 6, 6], "target": 54, "solution": "8 * 6 + 6"}
    assert first["test", "4"] == {"numbers": [28, 20, 1, 15], "target": 64, "solution": "20 + 1 + 15 + 28"}
    assert first["train", "3to4"] == {"numbers": [48, 95, 43], "target": 100, "solution": "95 + 48 - 43"}
    again, longer = (common.load_examples(TASK, "train", n, "4", "compact") for n in (20, 40))
    assert again == longer[:20]
    assert common.load_examples(TASK, "train", 20, "4", "compact", seed=1) != again


@pytest.mark.parametrize(
    ("split", "level", "template"), [("dev", "3", "plain"), ("test", "7", "plain"), ("test", "3", "x")]
)
def test_unknown_names_are_refused(split, level, template):
    with pytest.raises(UserError, match="expected"):
        common.load_examples(TASK, split, 1, level, template)


# --- plans, expressions, chance ---


@pytest.mark.parametrize("count", [3, 4])
def test_expressions_evaluate_to_their_plan_and_come_back(count):
    rng = random.Random(count)
    for _ in range(2000):
        numbers = tuple(rng.randint(1, 30) for _ in range(count))
        plan = random_plan(rng, numbers)
        for spaced in (False, True):
            text = expression(plan, spaced)
            value, used, _ = evaluate(text)
            assert value == plan[-1][3] and sorted(used) == sorted(numbers)
            assert sorted(plan_of(text)) == sorted(plan)


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        ([(2, "+", 1, 3), (4, "-", 3, 1)], "4-(2+1)"),
        ([(4, "-", 2, 2), (2, "-", 1, 1)], "4-2-1"),
        ([(2, "+", 1, 3), (4, "*", 3, 12)], "4*(2+1)"),
        ([(2, "*", 1, 2), (4, "+", 2, 6)], "4+2*1"),
        ([(6, "/", 3, 2), (8, "/", 2, 4)], "8/(6/3)"),
        ([(2, "+", 3, 5), (5, "*", 5, 25)], "(2+3)*5"),
    ],
)
def test_expressions_have_the_fewest_parentheses(plan, text):
    assert expression(plan) == text


@pytest.mark.parametrize("text", ["1/2*4", "1+2)", "1-x", "2**3"])
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(ValueError):
        plan_of(text)


def test_legal_steps():
    assert set(combine(2, 6)) == {(6, "+", 2, 8), (6, "-", 2, 4), (6, "*", 2, 12), (6, "/", 2, 3)}
    assert set(combine(5, 1)) == {(5, "+", 1, 6), (5, "-", 1, 4), (5, "*", 1, 5)}  # division by 1 leads nowhere
    assert set(combine(3, 3)) == {(3, "+", 3, 6), (3, "*", 3, 9), (3, "/", 3, 1)}
    assert (40, "*", 30, 1200) not in set(combine(30, 40)) and MAX_VALUE == 999


@pytest.mark.parametrize("numbers", [(2, 3, 4), (5, 5, 5), (1, 2, 3, 4)])
def test_chance_is_the_share_of_random_plans_that_hit(numbers):
    rng, draws = random.Random(7), 20_000
    ends = [random_plan(rng, numbers)[-1][3] for _ in range(draws)]
    exact: dict[int, float] = {}
    for plan in all_plans(numbers):  # each plan's probability: one over the number of moves at each of its steps
        weight, left = 1.0, numbers
        for step in plan:
            options = legal_moves(left)
            weight /= len(options)
            left = next(rest for s, rest in options if s == step)
        exact[plan[-1][3]] = exact.get(plan[-1][3], 0.0) + weight
    assert sum(exact.values()) == pytest.approx(1)
    for target in [*sorted(set(ends))[:10], 12345]:
        chance = TASK.chance({"numbers": list(numbers), "target": target})
        assert chance == pytest.approx(exact.get(target, 0.0))
        assert abs(ends.count(target) / draws - chance) <= 4.5 * (chance * (1 - chance) / draws) ** 0.5 + 1e-12


def test_practice_keeps_the_form_and_ignores_the_goal():
    rng = random.Random(5)
    hits = 0
    for problem in draw(500, "3"):
        verdict = TASK.verify(problem, TASK.practice(rng, problem))
        assert verdict.correct or verdict.reason.startswith("equals")
        hits += verdict.correct
    assert hits < 150

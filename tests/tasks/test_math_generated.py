"""Generated math: every demonstration is right by brute force, and what is not right fails."""

import json
import random
from collections import Counter
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks._math.generated import KINDS, LEVELS, NUM_STEPS, SUBJECTS
from tasks._math.wording import latex_number
from tasks.common import problems
from tasks.math_ import TASK
from tests.tasks.math_oracles import is_right
from tests.tasks.samples import draw, num_tokens

MANY = 2000
COUNTS = pytest.mark.parametrize("count", [400, pytest.param(MANY, marks=pytest.mark.slow)])  # per level: 10,000 in all


@COUNTS
@pytest.mark.parametrize("level", LEVELS)
def test_demonstrations_pass_and_are_right(level, count):
    fewest, most = NUM_STEPS[int(level[-1]) - 1]
    for problem in draw(TASK, count, level):
        assert is_right(problem, Fraction(problem["answer"])), problem
        for template in TASK.templates:
            shown = TASK.demonstrate(problem, template)
            verdict = TASK.verify(problem, shown.text)
            assert verdict.correct and verdict.reward == 1 and verdict.reason == "correct"
            assert fewest <= len(shown.steps) <= most and all(step.endswith("\n") for step in shown.steps)
        assert json.loads(json.dumps(problem)) == problem


@COUNTS
@pytest.mark.parametrize("level", LEVELS)
def test_mutated_answers_fail_unless_they_are_right(level, count):
    rng = random.Random(level)
    found = Counter()
    for problem in draw(TASK, count, level):
        text = TASK.demonstrate(problem, "compact").text
        value = Fraction(problem["answer"])
        places = [i for i, c in enumerate(problem["answer"]) if c.isdigit()]
        place, digit = rng.choice(places), rng.choice("0123456789")
        changed = problem["answer"][:place] + digit + problem["answer"][place + 1 :]
        for other in (str(-value), str(value + 1), str(value - 1), str(1 / value) if value else "1/1", changed):
            mutated = text.replace(f"\\boxed{{{problem['answer']}}}", f"\\boxed{{{other}}}")
            readable = int(other.partition("/")[2] or 1) != 0
            right = readable and is_right(problem, Fraction(other))
            verdict = TASK.verify(problem, mutated)
            assert verdict.correct == right and verdict.reward == (1.0 if right else 0.1), (problem, other)
            found[right] += 1
    assert found[False] > 4 * count > found[True] > 0


@settings(max_examples=500, deadline=None)
@given(seed=st.integers(0, 2**32), level=st.sampled_from(sorted(LEVELS)), blanks=st.text(" \n\t", max_size=5))
def test_equivalent_answers_pass(seed, level, blanks):
    problem = TASK.generate(random.Random(seed), level)
    value = Fraction(problem["answer"])
    top, below = value.numerator, value.denominator
    forms = [
        str(value),
        latex_number(value),
        latex_number(value).replace("\\frac", "\\dfrac"),
        f"{7 * top}/{7 * below}",
        f"${value}$",
    ]
    forms += [f"x = {value}", f"\\frac{{{top}}}{{{below}}}", f"\\({value}\\)"]
    if 10**6 % below == 0:
        millionths = abs(top) * 10**6 // below
        forms.append(f"{'-' if top < 0 else ''}{millionths // 10**6:,}.{millionths % 10**6:06d}")
    for form in forms:
        boxed = f"\\boxed{{{form}}}"
        for text in (f"<answer>{blanks}{form}{blanks}</answer>", f"<answer>{boxed}</answer>", boxed):
            assert TASK.verify(problem, f"So it is done. {text} Good.").correct, text


@pytest.mark.parametrize("level", LEVELS)
def test_texts_fit_the_embedded_model(level):
    rng = random.Random(5)
    for problem in draw(TASK, 1000, level):
        prompt = TASK.prompt(problem, "compact")
        completions = (TASK.demonstrate(problem, "compact").text, TASK.practice(rng, problem))
        assert (prompt + "".join(completions)).replace("\n", "").isprintable() and prompt.isascii()
        assert num_tokens(TASK, prompt) + max(num_tokens(TASK, text) for text in completions) < 256


def test_texts():
    problem = {"kind": "linear", "given": [3, 0, 5, 0, 20], "answer": "5"}
    assert TASK.prompt(problem, "compact") == "math 3x+5=20 x=?"
    assert TASK.demonstrate(problem, "compact").text == "20-5=15\nx=15/3=5\n<answer>\\boxed{5}</answer>"
    assert TASK.prompt(problem, "chat").startswith("Solve 3x+5=20 for x. Put the reasoning between <think>")
    assert "User: Solve 3x+5=20 for x." in (plain := TASK.prompt(problem, "plain")) and plain.endswith("<think> ")
    expected = "Collect the constants: 20 - 5 = 15\nDivide: x = 15/3 = 5\n</think>\n<answer> \\boxed{5} </answer>"
    assert TASK.demonstrate(problem, "plain").text == expected
    assert TASK.demonstrate(problem, "chat").text == "<think> " + expected


def test_every_subject_and_kind_occurs_and_levels_grow():
    lengths = []
    for level in LEVELS:
        drawn = draw(TASK, MANY, level)
        assert set(Counter(p["subject"] for p in drawn)) == set(SUBJECTS) and len(SUBJECTS) == 5
        assert min(Counter(p["subject"] for p in drawn).values()) > MANY / 6
        lengths.append(sum(len(TASK.demonstrate(p, "compact").steps) for p in drawn) / MANY)
    assert lengths == sorted(lengths)
    assert {p["kind"] for level in LEVELS for p in draw(TASK, MANY, level)} == set(KINDS)


def test_one_key_per_problem():
    def key(kind, content):
        return TASK.key({"kind": kind, "given": content})

    assert key("gcd", [12, 18]) == key("gcd", [18, 12]) != key("lcm", [12, 18])
    assert key("system", [1, 2, 3, 4, 5, 6, "x"]) == key("system", [4, 5, 6, 1, 2, 3, "x"])
    assert key("system", [1, 2, 3, 4, 5, 6, "x"]) != key("system", [1, 2, 3, 4, 5, 6, "y"])
    assert key("urn", [3, 4, 2]) != key("urn", [4, 3, 2])
    for level in LEVELS:
        found = {TASK.key(p): p["answer"] for p in islice(problems(TASK, "train", level), 1000)}
        assert len(found) == 1000
        assert all(found.get(TASK.key(p), p["answer"]) == p["answer"] for p in draw(TASK, MANY, level))


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("level", LEVELS)
def test_chance_is_the_success_rate_of_practice(level, count):
    rng = random.Random(7)
    drawn = [p for p in draw(TASK, 300, level) if TASK.chance(p) > 0.05][:count]
    assert drawn
    for problem in drawn:
        hits = sum(TASK.verify(problem, TASK.practice(rng, problem)).correct for _ in range(4000))
        assert hits / 4000 == pytest.approx(TASK.chance(problem), abs=0.03)


def test_practice_has_the_form_and_honest_lines():
    rng = random.Random(8)
    for problem in draw(TASK, 500, "level-4"):
        text = TASK.practice(rng, problem)
        assert TASK.verify(problem, text).reward > 0
        for line in text.split("\n")[:-1]:
            left, result = line.rsplit("=", 1)
            assert eval_line(left) == Fraction(result.strip("()"))


def eval_line(text):
    """Value of ``a+b`` with numbers that may stand in parentheses."""
    for place in range(1, len(text)):
        first, operator, second = text[:place], text[place], text[place + 1 :]
        balanced = first.count("(") == first.count(")")
        if operator in "+-*/" and balanced and second:
            one, two = Fraction(first.strip("()")), Fraction(second.strip("()"))
            return {"+": one + two, "-": one - two, "*": one * two, "/": one / two if two else None}[operator]
    raise AssertionError(text)

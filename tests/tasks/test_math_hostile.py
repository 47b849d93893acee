"""Hostile completions of math problems: never correct, always with a reason, within bounded time."""

import functools
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks._math.compare import compare_answers
from tasks.math_ import TASK
from tests.helpers.timing import timed
from tests.tasks.math_hostile import BOMBS, FORMULAS, GOLDS, LARGE, PIECES, hostile_answer
from tests.tasks.samples import draw

SECONDS = 0.25  # of CPU time per verdict, the worst
USUAL = 0.05  # 99.9 % of verdicts
EXACT = {
    "story": draw(TASK, 1, "3")[0] | {"goal": "now", "end": 97},
    "generated": {"kind": "chain", "given": ["5", ["+", "7914"]], "answer": "7919"},
    "row": TASK.from_row({"problem": "p", "solution": "It is $\\boxed{7919}$."}),
}
LATEX = TASK.from_row({"problem": "p", "solution": "It is $\\boxed{7919\\sqrt{3}-x^{7}}$."})
hostile = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=20).map("".join)


@pytest.fixture(scope="module", autouse=True)
def loaded():
    """The first irrational number imports mpmath, which is no part of a verdict's time."""
    compare_answers("\\sqrt{2}", "\\sqrt{3}")


def refused(problem, text):
    """The CPU seconds that a verdict took."""
    verdict, seconds = timed(lambda: TASK.verify(problem, text))
    assert not verdict.correct and verdict.reward in (0.0, 0.1) and verdict.reason, text[:200]
    assert len(verdict.reason) < 300
    return seconds


@pytest.mark.parametrize("name", ["story", "generated", "row"])
@settings(max_examples=700, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=hostile, tag=st.booleans())
def test_hostile_strings_are_never_correct(name, text, tag):
    assert refused(EXACT[name], f"<answer>{text}</answer>" if tag else text) < SECONDS


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("text", LARGE, ids=lambda text: text[:24])
def test_large_and_nested_strings(name, text):
    assert min(refused(EXACT[name], text) for _ in range(3)) < USUAL


@pytest.mark.parametrize("answer", BOMBS, ids=lambda text: text[:24])
@pytest.mark.parametrize("problem", [EXACT["row"], LATEX], ids=["number", "expression"])
def test_costly_answers_are_refused_before_they_cost(problem, answer):
    """On several golds at once: least of three times, as the machine may be busy."""

    def seconds():
        compare_answers.cache_clear()
        return refused(problem, f"\\boxed{{{answer}}}")

    assert min(seconds() for _ in range(3)) < SECONDS


def test_an_expensive_answer_that_is_right():
    """The dearest comparison that is known: fifty-eight terms in another order."""
    terms = [f"\\sin({k}x)" for k in range(2, 60)]
    verdict, seconds = timed(lambda: compare_answers(", ".join(terms), ", ".join(reversed(terms))))
    assert verdict[0] and seconds < 2 * SECONDS


def attack(seed, many):
    """Judges hostile answers to all sorts of gold answers; the paid ones and the sorted times."""
    rng = random.Random(seed)
    paid, times = [], []
    for index in range(many):
        gold = GOLDS[index % len(GOLDS)]
        answer = hostile_answer(rng, gold)
        (equal, reason), seconds = timed(functools.partial(compare_answers, gold, answer))
        times.append(seconds)
        if equal:
            paid.append((gold, answer, reason))
        assert reason and len(reason) < 300
    return paid, sorted(times)


def judge(seed, many):
    paid, times = attack(seed, many)
    assert not paid, (len(paid), paid[:20])
    assert times[int(0.999 * many)] < USUAL and times[-1] < 2 * SECONDS, times[-5:]


def test_answers_with_hostile_parts():
    judge("quick", 4000)


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_hostile_answers():
    judge("slow", 100_000)


def test_formulas_for_an_expression():
    rng = random.Random(11)
    for _ in range(500):
        refused(LATEX, f"\\boxed{{{''.join(rng.choices(FORMULAS, k=rng.randint(1, 8)))}}}")

"""Our readings against the problems that reasoning-gym generates (``pip install reasoning-gym``; skipped without)."""

import re

import pytest

from tasks._logic.claims import consistent_kinds, read_statements
from tasks._logic.text import claims_question
from tasks.countdown import TASK as COUNTDOWN
from tasks.logic import TASK

gym = pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")


@pytest.mark.parametrize(("count", "depth"), [(2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (3, 3), (4, 4)])
def test_knights_and_knaves(count, depth):
    items = gym.create_dataset("knights_knaves", seed=5, size=100, n_people=count, depth_constraint=depth)
    for item in items:
        truth, words = item["metadata"], item["metadata"]["knight_knave_terms"]
        names, statements = list(map(str, truth["names"])), read_statements(str(truth["statements"]), count)
        assert consistent_kinds(statements) == [truth["solution"]]
        problem = {"names": names, "statements": statements, "solution": list(truth["solution"])}
        answer = item["answer"].replace(words["a_knight"], "a knight").replace(words["a_knave"], "a knave")
        assert TASK.verify(problem, f"<answer>{answer}</answer>").correct, answer
        assert TASK.verify(problem, TASK.demonstrate(problem, "chat").text).correct
        assert all(f"{name} says: " in claims_question(names, statements) for name in names)


@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_countdown(count):
    """Its expressions pass unless they begin with a sign, which our form of an answer lacks; all have solutions."""
    items = gym.create_dataset("countdown", seed=5, size=100, min_numbers=count, max_numbers=count)
    for item in items:
        truth = item["metadata"]
        problem = {"numbers": list(map(int, truth["numbers"])), "target": int(truth["target"])}
        verdict = COUNTDOWN.verify(problem, f"<answer>{truth['expression']}</answer>")
        assert verdict.correct or "a sign before a number" in verdict.reason, (truth["expression"], verdict)
        assert verdict.correct != ("-" in (truth["expression"][0], *re.findall(r"\((-)", truth["expression"])))
        assert COUNTDOWN.solutions(problem) > 0, (problem, truth["expression"])

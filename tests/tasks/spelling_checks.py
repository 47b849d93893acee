"""What the tests of spelled answers share."""

import pytest

from tests.tasks.hostile import tagged

SEEDS = pytest.mark.parametrize(
    "seeds", [range(1000), pytest.param(range(1000, 10_000), marks=pytest.mark.exhaustive)], ids=["1,000", "9,000 more"]
)


def check(task, problem, answer, right):
    """The verdict and its reward are those of a right answer, or of a wrong one."""
    verdict = task.verify(problem, f"so {tagged(answer)}\n")
    assert verdict.correct is right, (problem, answer, verdict)
    assert verdict.reward == (1 if right else 0.1) and verdict.reason

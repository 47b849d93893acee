"""Hostile completions of math problems: never correct, always with a reason, within bounded time."""

import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks._math.judge import CPU_SECONDS, WALL_SECONDS
from tasks.math_ import TASK
from tests.tasks.samples import draw

SECONDS = 0.05  # of this process's CPU time per verdict
PIECES = (
    *(
        "<answer>",
        "</answer>",
        "\\boxed{",
        "}",
        "{",
        "(",
        ")",
        "[",
        "$",
        "\\",
        "<think>",
        "</think>",
        "\n",
        " ",
        "\x00",
    ),
    *(
        "9**9**9",
        "__import__('os').system('true')",
        "\\frac{",
        "\\frac{1}{0}",
        "\\text{",
        "\\sqrt",
        "^",
        "_",
        "&",
        "\\\\",
    ),
    *(
        "\u0661\u0662",
        "\u00b2",
        "\uff11",
        "\ud800",
        "\u202e",
        "1e999",
        "nan",
        "-",
        "+",
        "/",
        ",",
        ".",
        "=",
        "<",
        "x",
        "i",
    ),
    *(
        "3",
        "0",
        "\\pi",
        "or",
        "\\left(",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "{}{0.__class__}%s",
        "\\text{ or }",
        "%",
    ),
)
FORMULAS = (
    *("x", "3", "+", "-", "^{2}", "_1", "!", "\\frac{x}{2}", "\\sqrt{x}", "(x+1)", "\\pi", "\\sin", "\\cdot", " "),
    *("\\int", "\\lim", "\\log_{0}", "|x|", "\\infty", "\\begin{pmatrix} 1 & x \\end{pmatrix}", "\\cup", "<", "e", "'"),
)
LARGE = (
    "<answer>" * 200_000,
    "</answer>" * 200_000,
    "<answer>" + "9" * 2_000_000 + "</answer>",
    "\\boxed{" * 200_000,
    "\\boxed{" + "{" * 1_000_000,
    "\\boxed{" + " " * 1_000_000 + "}",
    "\\boxed" + " " * 1_000_000 + "{5}",
    "<answer>" + "(" * 990 + "</answer>",
    "<answer>" + "((" * 240 + "1" + "))" * 240 + "</answer>",
    "<answer>" + "{" * 400 + "1" + "}" * 400 + "</answer>",
    "<answer>" + "\\frac" * 190 + "</answer>",
    "<answer>" + "\\frac1" * 160 + "</answer>",
    "<answer>" + "1," * 490 + "</answer>",
    "<answer>" + "1/" * 490 + "</answer>",
    "<answer>" + "9" * 999 + "</answer>",
    "<answer>" + "1." * 490 + "</answer>",
    "<answer>" + "a " * 490 + "</answer>",
    "<answer>" + "<" * 990 + "</answer>",
    "<answer>" + "x=" * 490 + "</answer>",
    "<answer>5" + "\\text{" * 160 + "</answer>",
    "<answer>" + "$" * 990 + "</answer>",
    "\\boxed{" + "\\text{ or }" * 80 + "}",
    "x" * 5_000_000,
)
EXACT = {
    "story": draw(TASK, 1, "3")[0] | {"goal": "now", "end": 97},
    "generated": {"kind": "chain", "given": ["5", ["+", "7914"]], "answer": "7919"},
    "row": TASK.from_row({"problem": "p", "solution": "It is $\\boxed{7919}$."}),
}
LATEX = TASK.from_row({"problem": "p", "solution": "It is $\\boxed{7919\\sqrt{3}-x^{7}}$."})
hostile = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=20).map("".join)


def refused(problem, text):
    """The CPU seconds that this process took."""
    start = time.process_time()
    verdict = TASK.verify(problem, text)
    seconds = time.process_time() - start
    assert not verdict.correct and verdict.reward in (0.0, 0.1) and verdict.reason, text[:200]
    assert len(verdict.reason) < 300
    return seconds


@pytest.mark.parametrize("count", [400, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["story", "generated"])
def test_hostile_strings_are_never_correct(name, count):
    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(text=hostile, tag=st.booleans())
    def judge(text, tag):
        assert refused(EXACT[name], f"<answer>{text}</answer>" if tag else text) < SECONDS

    judge()


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("text", LARGE, ids=lambda text: text[:24])
def test_large_and_nested_strings(name, text):
    assert any(refused(EXACT[name], text) < SECONDS for _ in range(3))


@pytest.mark.slow
def test_hostile_strings_for_the_judge():
    """2,000 strings for an answer that only math-verify can judge: here within our CPU time, there within its limit.

    Most of a first half are refused before the judge, most of the second reach it.
    """
    rng = random.Random(11)
    slowest, judged = 0.0, 0
    for index in range(2000):
        text = "".join(rng.choices(PIECES if index % 2 else FORMULAS, k=rng.randint(1, 8)))
        start = time.monotonic()
        assert refused(LATEX, f"\\boxed{{{text}}}" if index % 3 else f"<answer>{text}</answer>") < SECONDS
        slowest = max(slowest, time.monotonic() - start)
        judged += TASK.verify(LATEX, f"\\boxed{{{text}}}").reason.startswith("math-verify")
    assert slowest < WALL_SECONDS + 5 and judged > 700


@pytest.mark.slow
@pytest.mark.parametrize("text", ["9^{9^{9^9}}", "(10^{100000})!", "(x+y+z)^{300}", "9**9**9", "99999!", "x" * 900])
def test_costly_answers_end_in_time(text):
    start = time.monotonic()
    assert refused(LATEX, f"\\boxed{{{text}}}") < SECONDS
    assert time.monotonic() - start < WALL_SECONDS + 5 and CPU_SECONDS == 2

"""Answers of Countdown, Logic and Sudoku with stray characters in them, and of hostile lengths and depths."""

import functools
import random
import re

import pytest

from tasks.countdown import TASK as COUNTDOWN
from tasks.logic import TASK as LOGIC
from tasks.sudoku import TASK as SUDOKU
from tests.helpers.timing import timed
from tests.tasks import spellings, sudoku_layouts
from tests.tasks.hostile import tagged
from tests.tasks.spelling_checks import SEEDS
from tests.tasks.spellings import SIXTEEN, other, solution, taught

STRAY = (
    *" \n\t.,;:|-+*/=()[]{}<>\\`$~\"'_#&%!?0123456789xaAn",
    "not ",
    "no ",
    "**",
    "or ",
    " and ",
    "is ",
)  # no kind: it could make the answer right
STRAY += (
    "−",
    "×",
    "“",
    "”",
    "’",
    "—",
    "\u0301",
    "\u200b",
    "\u00a0",
    "１",
    "²",
    "\\text{",
    "\\boxed{",
    "}",
    "||",
    "a ",
    "```",
)


def edited(rng, text):
    """A text with one to three places where something is put in, taken out or exchanged."""
    for _ in range(rng.randint(1, 3)):
        at, gone = rng.randint(0, len(text)), rng.choice((0, 0, 1, 1, 2, 5))
        text = text[:at] + rng.choice(("", *STRAY)) + text[at + gone :]
    return text


@SEEDS
def test_stray_edits_make_no_wrong_answer_right(seeds):
    for seed in seeds:
        rng = random.Random(f"edits {seed}")
        problem = spellings.logic_case(rng)
        pairs = solution(problem)
        place = rng.randrange(len(pairs))
        pairs[place] = (pairs[place][0], other(pairs[place][1]))
        answer = edited(rng, spellings.logic_answer(rng, pairs))
        assert not LOGIC.verify(problem, tagged(answer)).correct, (problem, answer)

        problem, rows = sudoku_layouts.sudoku_case(rng)
        answer = edited(rng, sudoku_layouts.sudoku_answer(rng, rows))
        if SUDOKU.verify(problem, tagged(answer)).correct:
            digits = re.sub("[^1-9]", "", answer)
            kept = [digits[i : i + len(rows)] for i in range(0, len(digits), len(rows))]
            assert sudoku_layouts.obeys(problem["clues"], kept), (problem, answer)

        problem, text = spellings.countdown_case(rng)
        answer = edited(rng, spellings.countdown_answer(rng, text, problem["target"]))
        if COUNTDOWN.verify(problem, tagged(answer)).correct:
            used, given = sorted(map(int, re.findall("[0-9]+", answer))), sorted(problem["numbers"])
            assert used in (given, sorted([*given, problem["target"]])), (problem, answer)
            assert (
                re.search("not|no|or|and|is|knight|[?!<>~#%&_a²]", re.sub(r"\\[a-z]+|```[a-z]*", "", answer)) is None
            ), answer


CHANGING = ("not ", " not", "no ", "never ", "if ", "or ", "says ", "false", "un", "non-", "?", "!", "≠", "~", "¬", "<")
CHANGING += ("^", "%", "#", "'", '"', "“", "\u0336", "\u0301")


@SEEDS
def test_words_and_signs_put_into_a_right_answer_are_never_overlooked(seeds):
    for seed in seeds:
        rng = random.Random(f"words {seed}")
        knights, (sums, text), (grid, rows) = (
            spellings.logic_case(rng),
            spellings.countdown_case(rng),
            sudoku_layouts.sudoku_case(rng),
        )
        for task, problem, answer in (
            (LOGIC, knights, spellings.logic_answer(rng, solution(knights))),
            (COUNTDOWN, sums, spellings.countdown_answer(rng, text, sums["target"])),
            (SUDOKU, grid, sudoku_layouts.sudoku_answer(rng, rows)),
        ):
            at = rng.randint(0, len(answer))
            changed = answer[:at] + rng.choice(CHANGING) + answer[at:]
            assert not task.verify(problem, tagged(changed)).correct, (problem, changed)


# --- time ---

PIECES = (
    "(",
    "[",
    "{",
    "\\frac{",
    "\\boxed{",
    "\\text{",
    "**",
    "*",
    "`",
    "```",
    "$",
    "$a",
    "* a ",
    '"',
    "“",
    "|",
    "| ",
)
PIECES += (
    "a ",
    "a: ",
    "A knight ",
    "A knight, ",
    "knights: ",
    "1",
    "1 ",
    "1,",
    "[1],",
    "1 & ",
    "\\\\",
    "-",
    "—",
    "=",
    "x",
)
PIECES += (
    "(1+",
    "1=",
    "\\left(",
    "\n",
    "\n|",
    "a-",
    "a'",
    "\u0301",
    "é",
    "e\u0301",
    "┼",
    "\\hline",
    "and ",
    ". ",
    "a. ",
)


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (COUNTDOWN, SIXTEEN),
        (LOGIC, taught(*(("A" * 60 + str(i), True) for i in range(8)))),
        (SUDOKU, {"clues": "." * 9 + "/........." * 8}),
    ],
    ids=["countdown", "logic", "sudoku"],
)
def test_hostile_lengths_and_depths_are_judged_quickly(task, problem):
    worst = 0.0
    for piece in PIECES:
        for length in (190, 390, 700, 790, 100_000):
            inside = (piece * length)[:length]
            for text in (inside, inside + "}" * 9, inside[: length // 2] + "}" * (length // 2)):
                verdict, seconds = timed(functools.partial(task.verify, problem, tagged(text)))
                assert not verdict.correct
                worst = max(worst, seconds)
    assert worst < 0.05

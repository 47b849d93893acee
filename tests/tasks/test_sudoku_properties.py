"""Properties of the Sudoku verifier: 10,000 demonstrations, 10,000 mutations of answers, 2,000 hostile strings."""

import functools
import multiprocessing
import os
import random
import re
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.common import FORMAT_REWARD
from tasks.sudoku import TASK, cells_text
from tests.helpers.timing import timed
from tests.tasks.samples import draw

COUNTS = {"4x4-easy": 1800, "4x4": 2200, "4x4-hard": 2000, "6x6-easy": 1800, "6x6": 500, "6x6-hard": 60}
COUNTS |= {"9x9-easy": 1000, "9x9": 580, "9x9-hard": 25, "9x9-search": 35}  # 10,000 in all
BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
CPU_LIMIT = 0.05  # seconds per verdict


@functools.cache
def pool() -> tuple[dict, ...]:
    return tuple(problem for level, count in COUNTS.items() for problem in draw(TASK, count, level))


def is_right(clues: str, cells: str) -> bool:
    """Brute force: every digit of an answered grid is compared with the clues and with every other cell."""
    size = round(len(clues) ** 0.5)
    height, width = BOXES[size]
    if len(cells) != len(clues) or set(cells) - set("123456789"[:size]):
        return False
    places = [(i // size, i % size, i // size // height * size + i % size // width) for i in range(len(cells))]
    clash = any(
        cells[i] == cells[j] and any(one == two for one, two in zip(places[i], places[j]))
        for i in range(len(cells))
        for j in range(i)
    )
    return not clash and all(clue in (".", cell) for clue, cell in zip(clues, cells))


@pytest.mark.exhaustive
def test_ten_thousand_demonstrations_pass():
    assert len(pool()) == 10_000
    for i, problem in enumerate(pool()):
        gold = TASK.demonstrate(problem, TASK.templates[i % 3])
        verdict = TASK.verify(problem, gold.text)
        assert verdict.correct and verdict.reward == 1 and gold.steps, (problem, gold.text)


def layout(cells: str, style: int) -> str:
    """A grid as text in one of the readable layouts."""
    size = round(len(cells) ** 0.5)
    rows = [cells[i : i + size] for i in range(0, len(cells), size)]
    if style == 3:
        width = BOXES[size][1]
        rows = ["| " + " | ".join(" ".join(r[i : i + width]) for i in range(0, size, width)) + " |" for r in rows]
        return "\n+---+\n" + "\n".join(rows) + "\n+---+\n"
    return ("/", "\n", " ")[style].join(rows)


@st.composite
def mutations(draw_from):
    """A problem, its solution with cells changed, exchanged or renamed, the text of the result, and a stray edit."""
    problem = pool()[draw_from(st.integers(0, len(pool()) - 1))]
    cells = list(cells_text(problem["solution"]))
    size = round(len(cells) ** 0.5)
    where = st.integers(0, len(cells) - 1)
    kind = draw_from(st.sampled_from(("cell", "cell", "swap", "rows", "names", "text", "none")))
    if kind == "cell":
        cells[draw_from(where)] = draw_from(st.sampled_from("0123456789."))
    elif kind == "swap":
        a, b = draw_from(where), draw_from(where)
        cells[a], cells[b] = cells[b], cells[a]
    elif kind == "rows":
        a, b = draw_from(where) // size * size, draw_from(where) // size * size
        cells[a : a + size], cells[b : b + size] = cells[b : b + size], cells[a : a + size]
    elif kind == "names":
        a, b = draw_from(st.integers(1, size)), draw_from(st.integers(1, size))
        cells = list("".join(cells).translate(str.maketrans(f"{a}{b}", f"{b}{a}")))
    text = layout("".join(cells), draw_from(st.integers(0, 3)))
    if kind == "text":
        at, gone = draw_from(st.integers(0, len(text))), draw_from(st.integers(0, 2))
        text = text[:at] + draw_from(st.sampled_from(("", "1", "/", "\n", "x", "-"))) + text[at + gone :]
    return problem, kind, "".join(cells), text


@pytest.mark.exhaustive
def test_ten_thousand_mutations_fail_unless_brute_force_finds_them_right():
    seen = {True: 0, False: 0}

    @settings(
        max_examples=10_000,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations())
    def judge(case):
        problem, kind, cells, text = case
        verdict = TASK.verify(problem, f"<answer>{text}</answer>")
        digits = re.sub(r"[\s/|+-]", "", text) if kind == "text" else cells
        right = is_right(cells_text(problem["clues"]), digits)
        assert verdict.correct <= right, (text, verdict)
        assert kind == "text" or verdict.correct == right, (text, verdict)
        assert verdict.reward == (1 if verdict.correct else FORMAT_REWARD)
        assert (verdict.reason == "correct") is verdict.correct
        seen[verdict.correct] += 1

    judge()
    assert sum(seen.values()) >= 10_000 and min(seen.values()) > 500


# --- hostile strings -------------------------------------------------------------------------------------------

PIECES = (
    "9**9**9",
    "__import__('os').system('true')",
    "{0.__class__}%s%n",
    "\x00",
    "\ud800",
    "\u0661\u0662\u0663",
    "\uff11\uff12",
    "\u00b2",
    "1\u03084",
    "\u202e1234",
    "<answer>",
    "</answer>",
    "<answer><answer>",
    "<think>",
    "[" * 50,
    "(" * 5000,
    "/" * 40,
    "|" * 40,
    "+-" * 40,
    "\n" * 60,
    "\r",
    "1" * 90,
    "1e999",
    "0x10",
    "NaN",
    "None",
    "1234",
    "1234/2143/3412/4321",
    "${jndi:x}",
    "'; DROP TABLE runs; --",
    "\\u0031",
    "%31%32",
)
MEGABYTES = (" ", "1", "/", "\n", "<answer>", "</answer>", "<answer>1", "(", "1 2 3 4\n", "\x00", "\u0661", "|-+")


def hostile(rng: random.Random) -> str:
    """Pieces in random order around and inside answer tags; every tenth string has a megabyte or two of something."""
    inside = "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 12)))
    outside = "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 4)))
    if rng.random() < 0.1:
        piece = rng.choice(MEGABYTES)
        bulk = piece * (rng.randint(1_000_000, 2_000_000) // len(piece))
        inside, outside = (inside + bulk, outside) if rng.random() < 0.5 else (inside, outside + bulk)
    return f"{outside}<answer>{inside}</answer>{rng.choice(PIECES)}" if rng.random() < 0.8 else outside + inside


def children() -> set[str]:
    """Process ids of this process's children, as the kernel lists them; empty where it does not."""
    lists = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {pid for path in lists for pid in path.read_text().split()}


def test_two_thousand_hostile_strings_earn_no_more_than_the_format():
    rng = random.Random(23)
    problems = [problem for level in ("4x4", "6x6", "9x9") for problem in draw(TASK, 5, level)]
    before, threads = children(), threading.active_count()
    reasons = set()
    for _ in range(2000):
        problem, text = rng.choice(problems), hostile(rng)
        verdict, spent = timed(functools.partial(TASK.verify, problem, text))
        assert spent < CPU_LIMIT, (spent, text[:200])
        assert not verdict.correct and verdict.reward in (0.0, FORMAT_REWARD) and verdict.reason
        reasons.add(verdict.reason.partition(":")[0])
    assert {"no <answer>...</answer> found", "unreadable answer"} <= reasons
    assert children() == before and threading.active_count() == threads and not multiprocessing.active_children()

"""Answers of Countdown, Logic and Sudoku in many spellings: right ones are paid, wrong ones never are."""

import random
import re
import time

import pytest

from tasks.countdown import TASK as COUNTDOWN
from tasks.logic import TASK as LOGIC
from tasks.sudoku import TASK as SUDOKU
from tests.tasks import spellings, sudoku_layouts
from tests.tasks.hostile import tagged

SEEDS = pytest.mark.parametrize(
    "seeds", [range(1000), pytest.param(range(1000, 10_000), marks=pytest.mark.slow)], ids=["1,000", "9,000 more"]
)


def check(task, problem, answer, right):
    verdict = task.verify(problem, f"so {tagged(answer)}\n")
    assert verdict.correct is right, (problem, answer, verdict)
    assert verdict.reward == (1 if right else 0.1) and verdict.reason


# --- Countdown -----------------------------------------------------------------------------------------------------


@SEEDS
def test_countdown_spellings_of_right_expressions(seeds):
    for seed in seeds:
        rng = random.Random(f"right {seed}")
        problem, text = spellings.countdown_case(rng)
        check(COUNTDOWN, problem, spellings.countdown_answer(rng, text, problem["target"]), True)


@SEEDS
def test_countdown_spellings_of_wrong_expressions(seeds):
    for seed in seeds:
        rng = random.Random(f"wrong {seed}")
        problem, text = spellings.countdown_case(rng)
        target, numbers, kind = problem["target"], problem["numbers"], rng.randrange(4)
        other = target + rng.choice((1, 2, 10))
        if kind == 0:  # another target, which the answer may claim to reach, or may not
            check(COUNTDOWN, {**problem, "target": other}, spellings.countdown_answer(rng, text, target), False)
            check(COUNTDOWN, {**problem, "target": other}, spellings.countdown_answer(rng, text, other), False)
        elif kind == 1:  # the right expression and another result
            answer = rng.choice(spellings.RESULTS[2:]).format(text, other)
            check(COUNTDOWN, problem, rng.choice(spellings.WRAPPINGS).format(answer), False)
        elif kind == 2:  # a number that is given is not used
            given = [*numbers, rng.randint(1, 30)]
            check(COUNTDOWN, {**problem, "numbers": given}, spellings.countdown_answer(rng, text, target), False)
        else:  # a number is used that is not given
            given = numbers[1:]
            check(COUNTDOWN, {**problem, "numbers": given}, spellings.countdown_answer(rng, text, target), False)


SIXTEEN = {"numbers": [1, 3, 4], "target": 16}


@pytest.mark.parametrize(
    "answer",
    [
        "(1+3)*4 = 4*4 = 16",
        "(1+3)*4 == 16",
        "(1+3)*4 != 16",
        "(1+3)*4 ≠ 16",
        r"(1+3)*4 \neq 16",
        "(1+3)*4 ≈ 16",
        "(1+3)*4 >= 16",
        "(1+3)*4 = 16.0",
        "(1+3)*4 = 16 = 17",
        "(1+3)*4 = 17 - 1",
        "(1+3)*4 =",
        "= 16",
        "16",
        "16 = 16",
        "x = (1+3)*4",
        "1+3=4\n4*4=16",
        "(1+3)*4, (1+3)*4",
        "(1+3)*4 or 1+3+4",
        "(1+3)*4 is wrong",
        r"(1+3)*4 \text{ is wrong}",
        r"\text{not } (1+3)*4",
        "not (1+3)*4",
        "¬((1+3)*4)",
        "(1+3)4",
        "4(1+3)",
        "(1+3)(4)",
        r"4\frac{1+3}{1}",
        r"\frac{4}{1}\cdot 4",
        r"\frac{(1+3)*4}",
        r"\frac12",
        r"\boxed{1+3+4} \boxed{(1+3)*4}",
        r"\boxed{1+3+4}, so \boxed{(1+3)*4}",
        r"1+3+4 \boxed{(1+3)*4}",
        r"\boxed{(1+3)*4",
        r"\boxed{\boxed{}}",
        r"\phantom{(1+3)*4}",
        r"\cancel{(1+3)*4}",
        "~~(1+3)*4~~",
        "(1+3)∗4 = １６",
        "（1+3）*4",
        "(１+3)*4",
        "(1+3)*4²",
        "[1+3]*4",
        "(1+3):4",
        "(1+3)^4",
        "(1+3)**4",
        "```\n(1+3)*4\n```\n```\n1+3+4\n```",
        "Use 1, 3 and 4 to reach 16: (1+3)*4",
        "$(1+3)*4$ and $1+3+4$",
        "0x10",
        "(0x1+3)*4",
        "eval('(1+3)*4')",
    ],
)
def test_countdown_refuses_what_may_mean_something_else(answer):
    check(COUNTDOWN, SIXTEEN, answer, False)


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{(1+3)*4}",  # no tag
        "<answer>(1+3)*4</answer> no: <answer>1+3+4</answer>",  # the last tag counts
        r"<answer>1+3+4</answer> \boxed{(1+3)*4}",
        "(1+3)*4 = 16 <answer></answer>",
    ],
)
def test_only_the_last_tag_is_judged(text):
    assert not COUNTDOWN.verify(SIXTEEN, text).correct
    assert COUNTDOWN.verify(SIXTEEN, text + "<answer>(1+3)*4</answer> 1+3+4 \\boxed{7}").correct


# --- Knights & Knaves ----------------------------------------------------------------------------------------------


def solution(problem):
    return [(name, "knight" if kind else "knave") for name, kind in zip(problem["names"], problem["solution"])]


def other(kind):
    return "knave" if kind == "knight" else "knight"


@SEEDS
def test_logic_spellings_of_the_right_assignment(seeds):
    for seed in seeds:
        rng = random.Random(f"right {seed}")
        problem = spellings.logic_case(rng)
        check(LOGIC, problem, spellings.logic_answer(rng, solution(problem)), True)


@SEEDS
def test_logic_spellings_of_wrong_assignments(seeds):
    for seed in seeds:
        rng = random.Random(f"wrong {seed}")
        problem = spellings.logic_case(rng)
        pairs, kind = solution(problem), rng.randrange(6)
        place = rng.randrange(len(pairs))
        name, found = pairs[place]
        strangers = [n for n in spellings.NAMES if n not in problem["names"]]
        if kind <= 1:
            for i in {place, *rng.sample(range(len(pairs)), rng.randint(0, len(pairs) - 1))}:
                pairs[i] = (pairs[i][0], other(pairs[i][1]))
        elif kind == 2:
            del pairs[place]
        elif kind == 3:
            pairs.append((name, rng.choice((found, other(found)))))
        elif kind == 4:
            pairs[place] = (rng.choice(strangers), found)
        else:
            pairs.append((rng.choice(strangers), found))
        check(LOGIC, problem, spellings.logic_answer(rng, pairs), False)


@SEEDS
def test_logic_answers_with_a_word_that_changes_them(seeds):
    for seed in seeds:
        rng = random.Random(f"words {seed}")
        problem = spellings.logic_case(rng)
        lines = [f"{name} is a {kind}" for name, kind in solution(problem)]
        name, kind = solution(problem)[0]
        lines[0] = rng.choice(
            (
                f"{name} is not a {kind}",
                f"{name} is not a {other(kind)}",
                f"{name} isn't a {kind}",
                f"{name} is no {kind}",
                f"{name} is never a {kind}",
                f"{name} is a *not* {kind}",
                f"{name} is a {kind} or {other(kind)}",
                f"{name} is a {kind}/{other(kind)}",
                f"{name} is a {kind} or a {other(kind)}",
                f"{name} is a ~~{other(kind)}~~ {kind}",
                f"{name} may be a {kind}",
                f"{name} is a {kind}?",
                f"if {name} is a {kind}",
                f"it is false that {name} is a {kind}",
                f"“{name} is a {kind}” is false",
                f"{name} says “{name} is a {kind}”",
                f"{name} says that {name} is a {kind}",
                f"{name}: {name} is a {kind}",
                f"non-{name} is a {kind}",
                f"{name} is a non-{kind}",
                rf"{name} is a $\neg$ {kind}",
                rf"\cancel{{{name} is a {kind}}}",
                f"| {name} | not | {kind} |",
                f"everyone is a {kind}",
            )
        )
        check(LOGIC, problem, rng.choice((", ", "\n", "; ")).join(lines), False)


def taught(*people):
    """A problem whose knights say something that is always true and whose knaves say something that never is."""
    claims = [["or" if knight else "and", ["knight", i], ["knave", i]] for i, (_, knight) in enumerate(people)]
    return {"names": [name for name, _ in people], "statements": claims, "solution": [k for _, k in people]}


TWO = taught(("Zoe", True), ("Mary Ann", False))


@pytest.mark.parametrize(
    "answer",
    [
        "Zoe: knight, Ann: knave",
        "Zoe: knight, Mary: knave",
        "Zoe: knight, mary ann: knave",
        "Zoe: knight, MaryAnn: knave",
        "Zoe: knight, Mary-Ann: knave",
        "Zoe: knight, Mary Ann: knave, Mary: knave",
        "Zoë: knight, Mary Ann: knave",
        "Zoe\u200b: knight, Mary Ann: knave",
        "Zoe: knight Mary Ann: knave",
        "Zoe and Mary Ann are knights",
        "Zoe is a knight & Mary Ann is a knave",
        "So: Zoe is a knight, Mary Ann is a knave",
        "Zoe is a knight, Mary Ann is a knave, as she lies",
        "Zoe is a truth-teller, Mary Ann is a liar",
        "Z: knight, M: knave",
        "Zoe: K, Mary Ann: N",
        "knight, knave",
        "Zoe:\nknight\nknave\nMary Ann:",
        "Zoe: knight\nMary Ann:",
        "Zoe:\nMary Ann:\nknave",
        "| Person | is not a |\n|---|---|\n| Zoe | knight |\n| Mary Ann | knave |",
        "| Name | Knight | Knave |\n|---|---|---|\n| Zoe | x | |\n| Mary Ann | | x |",
        "| Knight | Knave |\n|---|---|\n| Zoe | Mary Ann |",
        r"\boxed{Zoe is a knight, Mary Ann is a knave} \boxed{Zoe is a knave, Mary Ann is a knave}",
        r"\boxed{Zoe is a knave, Mary Ann is a knave}, \boxed{Zoe is a knight, Mary Ann is a knave}",
        "Zoe is a knight, Mary Ann is a knave\n\nor\n\nZoe is a knave, Mary Ann is a knight",
        '{"Zoe": "knight", "Mary Ann": "knave"} {"Zoe": "knave"}',
        '{"Zoe": {"kind": "knight"}, "Mary Ann": {"kind": "knave"}}',
        '{"Zoe": true, "Mary Ann": false}',
        "knights: Zoe, Mary Ann; knaves: Mary Ann",
        "knights: all; knaves: none",
        "not (Zoe is a knight, Mary Ann is a knave)",
        "Zoe is a knight, Mary Ann is a knave; not",
        "Zoe says that Mary Ann is a knave. Mary Ann says that Zoe is a knight.",
        r"\begin{aligned} Zoe &= knight \\ Mary Ann &= knave \end{aligned}",
    ],
)
def test_logic_refuses_what_may_mean_something_else(answer):
    check(LOGIC, TWO, "Zoe is a knight\nMary Ann is a knave", True)
    check(LOGIC, TWO, answer, False)


def test_names_that_hold_other_names_are_told_apart():
    people = (("Ann", True), ("Mary Ann", False), ("Mary", True), ("Ann-Lena", False), ("Lena", True), ("A", False))
    problem = taught(*people)
    right = [f"{name} is a {'knight' if knight else 'knave'}" for name, knight in people]
    for seed in range(200):
        rng = random.Random(seed)
        check(LOGIC, problem, rng.choice((", ", "\n- ", "; ", " and ")).join(rng.sample(right, len(right))), True)
        wrong = list(right)
        place = rng.randrange(len(wrong))
        wrong[place] = " ".join((*wrong[place].split(" ")[:-1], "knave" if people[place][1] else "knight"))
        check(LOGIC, problem, ", ".join(wrong), False)


# --- Sudoku --------------------------------------------------------------------------------------------------------


@SEEDS
def test_sudoku_layouts_of_right_grids(seeds):
    for seed in seeds:
        rng = random.Random(f"right {seed}")
        problem, rows = sudoku_layouts.sudoku_case(rng)
        assert sudoku_layouts.obeys(problem["clues"], rows)
        check(SUDOKU, problem, sudoku_layouts.sudoku_answer(rng, rows), True)


@SEEDS
def test_sudoku_layouts_of_wrong_grids(seeds):
    wrong = 0
    for seed in seeds:
        rng = random.Random(f"wrong {seed}")
        problem, rows = sudoku_layouts.sudoku_case(rng)
        rows = sudoku_layouts.sudoku_mistake(rng, rows)
        right = sudoku_layouts.obeys(problem["clues"], rows)
        wrong += not right
        check(SUDOKU, problem, sudoku_layouts.sudoku_answer(rng, rows), right)
    assert wrong > 0.8 * len(seeds)


FOUR = {"clues": "2341/4.3./3..4/14..", "solution": "2341/4132/3214/1423"}


@pytest.mark.parametrize(
    "answer",
    [
        "2341\n4132\n3214\n1423\n\n2341\n4132\n3214\n1423",
        "not 2341/4132/3214/1423",
        "2341/4132/3214/1423 is wrong",
        "2341/4132/3214/1423 or 2341/4132/3214/1432",
        "2341/4.3./3..4/14..\n2341/4132/3214/1423",
        r"\boxed{2341/4132/3214/1423} \boxed{2341/4132/3214/1423}",
        "a: 2341\nb: 4132\nc: 3214\nd: 1423",
        "| | 1 | 2 | 3 | 4 |\n|---|---|---|---|---|\n| a | 2 | 3 | 4 | 1 |\n| b | 4 | 1 | 3 | 2 |",
        "[[2,3,4,1],[4,1,3,2],[3,2,1,4],[1,4,2,3]",
        "[[2,3,4,1],[4,1,3,2],[3,2,1,4],[1,4,2,-3]]",
        "[[[2,3,4,1],[4,1,3,2],[3,2,1,4],[1,4,2,3]]]",
        "[[2,3,4,1],[4,1,3,2]],[[3,2,1,4],[1,4,2,3]]",
        '{"grid": [[2,3,4,1],[4,1,3,2],[3,2,1,4],[1,4,2,3]]}',
        "23,41\n41,32\n32,14\n14,23",
        "-2341\n4132\n3214\n1423",
        "2341\n4132\n3214\n142３",
        "2341\n4132\n3214\n142③",
        "3²41",
        "2341 4132 3214 1423 1423",
        "23414132321414231",
        "b2=1 b4=2 c2=2 c3=1 d3=2 d4=3",
    ],
)
def test_sudoku_refuses_what_is_no_grid_or_more_than_one(answer):
    check(SUDOKU, FOUR, "2341\n4132\n3214\n1423", True)
    check(SUDOKU, FOUR, answer, False)


# --- stray edits ---------------------------------------------------------------------------------------------------

STRAY = (
    *" \n\t.,;:|-+*/=()[]{}<>\\`$~\"'_#&%!?0123456789xaAn",
    "not ",
    "no ",
    "**",
    "or ",
    " and ",
    "is ",
    "knight",
    "knave",
)
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


# --- time ----------------------------------------------------------------------------------------------------------

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
                start = time.process_time()
                assert not task.verify(problem, tagged(text)).correct
                worst = max(worst, time.process_time() - start)
    assert worst < 0.05

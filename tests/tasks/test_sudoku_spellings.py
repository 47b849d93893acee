"""Sudoku answers in many layouts: right ones are paid, wrong ones never are."""

import random

import pytest

from tasks.sudoku import TASK as SUDOKU
from tests.tasks import sudoku_layouts
from tests.tasks.spelling_checks import SEEDS, check


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

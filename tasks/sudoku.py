"""Sudoku: fill the blanks so that every row, column and box holds each digit once.

Problem: ``{"clues": "1..4/.4.1/4.../..2.", "solution": "1324/..."}``, rows joined by "/", blanks as dots.  Cell b3 is
the third cell of the second row.  Rewards: 1 correct, 0.1 answer tag found, 0 otherwise; the strict score is 0/1.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Mapping
from typing import Any

from bench.types import Demonstration, Verdict
from tasks.common import last_answer

MAX_ANSWER = 200  # characters of an answer that are worth parsing
FORMAT_REWARD = 0.1
SIZE = 4
BLANKS = {"4x4-easy": (4, 5), "4x4": (6, 8)}  # level -> fewest and most blanks


@functools.cache
def units(size: int) -> tuple[tuple[int, ...], ...]:
    """Cell numbers of every row, column and box of a square grid with square boxes."""
    box = math.isqrt(size)
    cells = [(row, column) for row in range(size) for column in range(size)]
    names = [(("row", row), ("column", column), ("box", row // box * box + column // box)) for row, column in cells]
    every = sorted({name for triple in names for name in triple})
    return tuple(tuple(cell for cell, triple in enumerate(names) if name in triple) for name in every)


@functools.cache
def peers(size: int) -> tuple[tuple[int, ...], ...]:
    """For each cell, the other cells that must hold a different digit."""
    return tuple(
        tuple(sorted({other for unit in units(size) if cell in unit for other in unit} - {cell}))
        for cell in range(size * size)
    )


@functools.cache
def complete_grids() -> tuple[str, ...]:
    """All 288 complete 4x4 grids as strings of 16 digits."""
    grids = [""]
    for cell in range(SIZE * SIZE):
        earlier = [other for other in peers(SIZE)[cell] if other < cell]
        grids = [grid + d for grid in grids for d in "1234" if all(grid[other] != d for other in earlier)]
    return tuple(grids)


def deduce(cells: str) -> list[tuple[int, str]] | None:
    """Fill naked singles, always the first in reading order; None where a blank remains.

    Every step is forced by the clues, so a filled grid is the only solution.
    """
    size = math.isqrt(len(cells))
    digits = "123456789"[:size]
    grid = list(cells)
    blanks = [cell for cell, digit in enumerate(grid) if digit == "."]
    steps = []
    while blanks:
        for cell in blanks:
            taken = {grid[other] for other in peers(size)[cell]}
            options = [digit for digit in digits if digit not in taken]
            if len(options) == 1:
                break
        else:
            return None
        grid[cell] = options[0]
        blanks.remove(cell)
        steps.append((cell, options[0]))
    return steps


def joined(cells: str) -> str:
    """Cells as rows joined by "/"."""
    size = math.isqrt(len(cells))
    return "/".join(cells[start : start + size] for start in range(0, len(cells), size))


def flat(grid: str) -> str:
    return grid.replace("/", "")


def line(cell: int, digit: str, size: int) -> str:
    """One reasoning step, such as ``b3=1``."""
    return f"{'abcdefghi'[cell // size]}{cell % size + 1}={digit}\n"


class Sudoku:
    name = "sudoku"
    version = 1
    levels = {
        "4x4-easy": "4x4 grid, 4 or 5 blanks, solved by naked singles",
        "4x4": "4x4 grid, 6 to 8 blanks, solved by naked singles",
    }
    default_level = "4x4"
    templates = ("compact",)
    words = (  # whole tokens of the embedded tokenizer: one per cell name
        "sudoku ",
        *(row + column for row in "abcd" for column in "1234"),
        "<answer>",
        "</answer>",
    )

    def generate(self, rng: random.Random, level: str) -> dict[str, Any]:
        fewest, most = BLANKS[level]
        while True:
            solution = rng.choice(complete_grids())
            blanks = set(rng.sample(range(SIZE * SIZE), rng.randint(fewest, most)))
            clues = "".join("." if cell in blanks else digit for cell, digit in enumerate(solution))
            if deduce(clues) is not None:
                return {"clues": joined(clues), "solution": joined(solution)}

    def key(self, problem: Mapping[str, Any]) -> str:
        """The clues with digits renamed by first appearance: which symbols are used does not matter."""
        names: dict[str, str] = {".": ".", "/": "/"}
        return "".join(names.setdefault(digit, str(len(names) - 1)) for digit in problem["clues"])

    def prompt(self, problem: Mapping[str, Any], template: str) -> str:
        return f"sudoku {problem['clues']}:"

    def demonstrate(self, problem: Mapping[str, Any], template: str) -> Demonstration:
        clues = flat(problem["clues"])
        steps = deduce(clues)
        if steps is None:
            raise ValueError("the clues cannot be solved by naked singles")
        size = math.isqrt(len(clues))
        lines = tuple(line(cell, digit, size) for cell, digit in steps)
        return Demonstration(lines, f"<answer>{problem['solution']}</answer>")

    def verify(self, problem: Mapping[str, Any], text: str) -> Verdict:
        answer = last_answer(text)
        if answer is None:
            return Verdict(False, 0.0, "no <answer>...</answer> found")
        if len(answer) > MAX_ANSWER:
            return Verdict(False, FORMAT_REWARD, f"unreadable answer: longer than {MAX_ANSWER} characters")
        fault = grid_fault("".join(answer.split()), flat(problem["clues"]))
        return Verdict(False, FORMAT_REWARD, fault) if fault else Verdict(True, 1.0, "correct")

    def chance(self, problem: Mapping[str, Any]) -> float:
        ways = [math.factorial(row.count(".")) for row in problem["clues"].split("/")]
        return 1 / math.prod(ways)

    def practice(self, rng: random.Random, problem: Mapping[str, Any]) -> str:
        clues = flat(problem["clues"])
        size = math.isqrt(len(clues))
        grid = list(clues)
        blanks = [cell for cell, digit in enumerate(grid) if digit == "."]
        rng.shuffle(blanks)
        lines = []
        for cell in blanks:
            start = cell // size * size
            grid[cell] = rng.choice([d for d in "123456789"[:size] if d not in grid[start : start + size]])
            lines.append(line(cell, grid[cell], size))
        return "".join(lines) + f"<answer>{joined(''.join(grid))}</answer>"

    def from_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        raise ValueError("reading rows is not supported for task sudoku yet")


def grid_fault(answer: str, clues: str) -> str:
    """What is wrong with an answered grid, empty if nothing is."""
    size = math.isqrt(len(clues))
    rows = answer.split("/")
    digits = set("123456789"[:size])
    if len(rows) != size or any(len(row) != size or not digits.issuperset(row) for row in rows):
        return f"unreadable answer: not {size} rows of {size} digits from 1 to {size} joined by /"
    cells = flat(answer)
    if any(clue not in (".", digit) for clue, digit in zip(clues, cells)):
        return "a clue was changed"
    if any({cells[cell] for cell in unit} != digits for unit in units(size)):
        return "a row, column or box holds a digit twice"
    return ""


TASK = Sudoku()

r"""Sudoku: fill the blanks so that every row, column and box holds each digit once.

Problem: ``{"clues": "1..4/.4.1/4.../..2.", "solution": "1324/..."}``, rows joined by "/", blanks as dots; the solution
is the only one.  Cell b3 is the third cell of the second row; boxes of a 6x6 grid have 2 rows and 3 columns.  Compact
lines: ``b3=1`` fills a cell, ``b3-15 b4-5`` strikes candidates, a question mark before either marks search.  Rewards: 1
correct, 0.1 answer tag found, 0 otherwise; the strict score is 0/1.

Answers are full grids in any layout that leaves no doubt: rows joined by slashes, line breaks, blanks or commas;
drawings with bars and lines, tables of markdown, matrices of LaTeX, a list of lists; all cells in one line, row by row.
All of it may stand in a code fence, bold print, dollar signs or ``\boxed{}``.  Refused: names of rows or columns, other
words, two grids, flat lists and lists of strings, one cell per line, digits other than ASCII, a slash at the end.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.foreign import parse_json
from bench.plan.cells import is_missing, plain
from bench.types import Demonstration, Verdict
from tasks._sudoku import grid as grids
from tasks._sudoku import logic
from tasks._sudoku import text as phrases
from tasks._sudoku.answers import read_grid
from tasks._sudoku.dig import Pit
from tasks._sudoku.symmetry import grid_class
from tasks.common import conversation, dialogue, judge

MAX_ANSWER = {4: 200, 6: 400, 9: 800}  # size -> characters of an answer that are worth reading


@dataclass(frozen=True)
class Level:
    """What a level's problems have: ``needs`` is the lowest tier that solves them, ``upto`` the highest allowed."""

    size: int
    blanks: tuple[int, int]  # fewest and most
    needs: int
    upto: int
    text: str


LEVELS = {
    "4x4-easy": Level(4, (4, 5), logic.NAKED, logic.NAKED, "4x4 grid, 4 or 5 blanks, solved by naked singles"),
    "4x4": Level(4, (6, 8), logic.NAKED, logic.NAKED, "4x4 grid, 6 to 8 blanks, solved by naked singles"),
    "4x4-hard": Level(4, (9, 12), logic.NAKED, logic.NAKED, "4x4 grid, 9 to 12 blanks, solved by naked singles"),
    "6x6-easy": Level(6, (12, 18), logic.NAKED, logic.NAKED, "6x6 grid, 12 to 18 blanks, solved by naked singles"),
    "6x6": Level(6, (20, 28), logic.HIDDEN, logic.HIDDEN, "6x6 grid, 20 to 28 blanks, needs hidden singles"),
    "6x6-hard": Level(6, (20, 30), logic.PATTERN, logic.SEARCH, "6x6 grid, 20 to 30 blanks, singles are not enough"),
    "9x9-easy": Level(9, (36, 46), logic.NAKED, logic.NAKED, "9x9 grid, 36 to 46 blanks, solved by naked singles"),
    "9x9": Level(9, (48, 54), logic.HIDDEN, logic.HIDDEN, "9x9 grid, 48 to 54 blanks, needs hidden singles"),
    "9x9-hard": Level(
        9,
        (50, 64),
        logic.PATTERN,
        logic.PATTERN,
        "9x9 grid, 50 to 64 blanks, needs pointing, claiming, pairs, triples or an X-wing",
    ),
    "9x9-search": Level(
        9, (50, 64), logic.SEARCH, logic.SEARCH, "9x9 grid, 50 to 64 blanks, logic ends before it does"
    ),
}


@functools.cache
def complete_grids() -> tuple[str, ...]:
    """All 288 complete 4x4 grids as strings of 16 digits, in their order."""
    grid = grids.shape(4)
    boards = grids.solve_board(grid, [grid.full] * 4, grid.full)
    return tuple(sorted(grids.board_text(grid, board) for board in boards))


def draw_small(rng: random.Random, level: Level) -> tuple[str, str]:
    """Clues and solution of a 4x4 problem: random blanks in a random grid until naked singles solve it."""
    grid = grids.shape(4)
    while True:
        solution = rng.choice(complete_grids())
        blanks = set(rng.sample(range(16), rng.randint(*level.blanks)))
        clues = "".join("." if cell in blanks else digit for cell, digit in enumerate(solution))
        # What naked singles solve has one solution, since each of them is forced.
        begun = grids.start_board(grid, clues)
        if begun and logic.solvable(grid, *begun, logic.NAKED):
            return clues, solution


def draw_large(rng: random.Random, level: Level) -> tuple[str, str]:
    """Clues and solution of a larger problem: clues taken out of a random grid until it is as hard as it should be."""
    grid = grids.shape(level.size)
    fewest, most = level.blanks
    while True:
        pit = Pit(grid, grids.random_grid(grid, rng))
        order = list(range(grid.size * grid.size))
        rng.shuffle(order)
        # Patterns are too slow to test at every cell: dig as deep as uniqueness allows, then see what is needed.
        through = level.needs if level.needs <= logic.HIDDEN else logic.SEARCH
        pit.dig(order, through, rng.randint(fewest, most) if level.needs <= logic.HIDDEN else most)
        if pit.blank.bit_count() < fewest:
            continue
        easier = level.needs > logic.NAKED and logic.solvable(grid, pit.boards(), pit.blank, level.needs - 1)
        if not easier and (through <= level.upto or logic.solvable(grid, pit.boards(), pit.blank, level.upto)):
            return pit.clues(), pit.solution


def rows_text(cells: str) -> str:
    """Cells as rows joined by "/"."""
    size = math.isqrt(len(cells))
    return "/".join(cells[start : start + size] for start in range(0, len(cells), size))


def cells_text(grid: str) -> str:
    return grid.replace("/", "")


def renamed_digits(grid: str) -> str:
    """The grid with digits named by their first appearance; blanks and slashes stay."""
    names: dict[str, str] = {".": ".", "/": "/"}
    return "".join(names.setdefault(digit, str(len(names) - 1)) for digit in grid)


class Sudoku:
    name = "sudoku"
    version = 3
    template_versions = {"compact": 2}  # of the embedded model, whose answers are judged as before
    levels = {name: level.text for name, level in LEVELS.items()}
    default_level = "4x4"
    templates = ("compact", "plain", "chat")
    harder = {
        **{"4x4-easy": "4x4", "4x4": "4x4-hard", "4x4-hard": "6x6-easy", "6x6-easy": "6x6", "6x6": "6x6-hard"},
        **{"9x9-easy": "9x9", "9x9": "9x9-hard", "9x9-hard": "9x9-search"},
    }
    words = (  # whole tokens of the embedded tokenizer: one per cell name
        "sudoku ",
        *(row + column for row in "abcd" for column in "1234"),
        "<answer>",
        "</answer>",
    )

    def generate(self, rng: random.Random, level: str) -> dict[str, Any]:
        chosen = LEVELS[level]
        clues, solution = (draw_small if chosen.size == 4 else draw_large)(rng, chosen)
        return {"clues": rows_text(clues), "solution": rows_text(solution)}

    def key(self, problem: Mapping[str, Any]) -> str:
        """The clues with digits renamed by first appearance: which symbols are used does not matter."""
        # Else a training problem could stand among the test problems with its digits swapped.
        return renamed_digits(problem["clues"])

    def near_keys(self, problem: Mapping[str, Any]) -> dict[str, str]:
        """The solution with its digits renamed, and its class: what moving rows and columns besides leads to."""
        solution = cells_text(problem["solution"])
        return {"solution grid": renamed_digits(solution), "grid class": grid_class(solution)}

    def cluster(self, problem: Mapping[str, Any]) -> str:
        """The solution as it is."""
        return str(problem["solution"])

    def prompt(self, problem: Mapping[str, Any], template: str) -> str:
        if template == "compact":
            return f"sudoku {problem['clues']}:"
        return dialogue(phrases.grid_question(problem["clues"]), template)

    def reword(self, problem: Mapping[str, Any], template: str) -> str:
        """Compact: zeros for blanks."""
        clues = problem["clues"]
        if template == "compact":
            return f"sudoku {clues.replace('.', '0')}:"
        return conversation(phrases.other_grid_question(clues), template)

    def demonstrate(self, problem: Mapping[str, Any], template: str) -> Demonstration:
        """The easiest step at each point, and trial only where no technique applies; ValueError without a solution."""
        clues = cells_text(problem["clues"])
        grid = grids.shape(grids.size_of(clues))
        steps = logic.deduce(clues, logic.SEARCH)
        if steps is None:
            raise ValueError("the clues do not have exactly one solution")
        if template == "compact":
            lines = tuple(phrases.compact_line(grid, step) for step in steps)
            return Demonstration(lines, f"<answer>{problem['solution']}</answer>")
        sentences = phrases.plain_lines(grid, clues, steps)
        if template == "chat":
            sentences[0] = f"<think> {sentences[0]}"
        solution = problem["solution"].replace("/", "\n")
        return Demonstration(tuple(sentences), f"</think>\n<answer>\n{solution}\n</answer>")

    def verify(self, problem: Mapping[str, Any], text: str) -> Verdict:
        return judge(text, lambda answer: grid_fault(answer, cells_text(problem["clues"])))

    def chance(self, problem: Mapping[str, Any]) -> float:
        # A random answer puts the missing digits of each row into its blanks in a random order.
        ways = [math.factorial(row.count(".")) for row in problem["clues"].split("/")]
        return 1 / math.prod(ways)

    def practice(self, rng: random.Random, problem: Mapping[str, Any]) -> str:
        clues = cells_text(problem["clues"])
        shape = grids.shape(math.isqrt(len(clues)))
        grid = list(clues)
        blanks = [cell for cell, digit in enumerate(grid) if digit == "."]
        rng.shuffle(blanks)
        lines = []
        for cell in blanks:
            start = cell // shape.size * shape.size
            row = grid[start : start + shape.size]
            # Right in form and within the row; columns and boxes are the goal, which practice ignores.
            grid[cell] = rng.choice([d for d in grids.DIGITS[: shape.size] if d not in row])
            lines.append(f"{logic.cell_name(shape, cell)}={grid[cell]}\n")
        return "".join(lines) + f"<answer>{rows_text(''.join(grid))}</answer>"

    def from_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Columns ``puzzle`` (or ``clues``) and ``solution``, or ``reward_model.ground_truth`` that holds them.

        Both are digits row by row, blanks as . or 0; slashes and white space do not matter.
        """
        fields, place = row, ""
        if is_missing(row.get("puzzle")) and is_missing(row.get("clues")):
            fields, place = ground_truth(row), "reward_model.ground_truth."
        name = "puzzle" if not is_missing(fields.get("puzzle")) else "clues"
        clues = read_column(fields, name, place)
        solution = read_column(fields, "solution", place)
        if "." not in clues:
            raise ValueError(f"column '{place}{name}' has no blanks")
        state, solved = grids.solve_clues(clues)
        if state != grids.UNIQUE:
            problem = "no solution" if state == grids.NONE else "more than one solution"
            raise ValueError(f"column '{place}{name}' has {problem}")
        if solution != solved:
            raise ValueError(f"column '{place}solution' is not the solution of '{name}'")
        return {"clues": rows_text(clues), "solution": rows_text(solution)}

    def gold(self, problem: Mapping[str, Any]) -> tuple[str, str]:
        """The solution, and its size."""
        size = problem["solution"].count("/") + 1
        return problem["solution"], f"{size}x{size} grid"


def ground_truth(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping in ``reward_model.ground_truth``, itself or as JSON; ValueError names what is missing."""
    reward_model = row.get("reward_model")
    if not isinstance(reward_model, Mapping):
        raise ValueError("column 'puzzle' (or 'clues') is missing")
    truth = reward_model.get("ground_truth")
    if isinstance(truth, str):
        try:
            truth = parse_json(truth)
        except ValueError:
            raise ValueError("column 'reward_model.ground_truth' is not JSON") from None
    if not isinstance(truth, Mapping):
        raise ValueError("column 'reward_model.ground_truth' must hold 'puzzle' (or 'clues') and 'solution'")
    return truth


def read_column(fields: Mapping[str, Any], name: str, place: str) -> str:
    """The cells of a column with blanks as dots; ValueError names the column."""
    if is_missing(fields.get(name)):
        raise ValueError(f"column '{place}{name}' is missing")
    value = plain(fields[name])
    if isinstance(value, int) and not isinstance(value, bool):
        # A number has lost the zeros in front; a solution has none, so it tells how many there were.
        value = str(value).zfill(len(cells_text("".join(str(fields.get("solution")).split()))))
    cells = "".join(value.split()).replace("/", "").replace("0", ".") if isinstance(value, str) else ""
    size = math.isqrt(len(cells))
    if len(cells) not in (16, 36, 81) or set(cells) - set("." + grids.DIGITS[:size]):
        kind = f" as a text, not as a {type(value).__name__}" if not isinstance(value, str) else ""
        raise ValueError(
            f"column '{place}{name}' must hold 16, 36 or 81 digits from 1 to 4, 6 or 9, with . or 0 as blanks{kind}"
        )
    return cells


def grid_fault(answer: str, clues: str) -> str:
    """What is wrong with an answered grid, empty if nothing is; ValueError if it cannot be read."""
    size = math.isqrt(len(clues))
    if len(answer) > MAX_ANSWER[size]:
        raise ValueError(f"longer than {MAX_ANSWER[size]} characters")
    rows = read_grid(answer, size)
    if rows is None:
        raise ValueError(f"not {size} rows of {size} digits from 1 to {size} joined by /")
    cells = "".join(rows)
    # The stored solution is not looked at: a grid that keeps the clues and the rules is right.
    if any(clue not in (".", digit) for clue, digit in zip(clues, cells)):
        return "a clue was changed"
    if any(len({cells[cell] for cell in unit}) < size for unit in unit_cells(size)):
        return "a row, column or box holds a digit twice"
    return ""


@functools.cache
def unit_cells(size: int) -> tuple[tuple[int, ...], ...]:
    """Cell numbers of every row, column and box."""
    return tuple(tuple(grids.bits(unit)) for unit in grids.shape(size).units)


TASK = Sudoku()

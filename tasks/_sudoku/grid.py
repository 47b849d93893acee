"""Sudoku grids as bit boards, and a solver that proves uniqueness.

A board is a list with one integer per digit; bit ``row * size + column`` says that the digit can still stand in that
cell.  A filled cell keeps the bit of its digit alone; ``open`` holds the bits of the cells that are not filled yet.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}  # size -> rows and columns of a box
DIGITS = "123456789"
ROWS = "abcdefghi"
UNIQUE, NONE, MANY = "unique", "none", "many"


@dataclass(frozen=True)
class Shape:
    """Geometry of one size; masks have one bit per cell."""

    size: int
    full: int
    units: tuple[int, ...]  # rows, then columns, then boxes
    names: tuple[str, ...]  # of the units: "row a", "column 1", "box 1"
    homes: tuple[tuple[int, int, int], ...]  # cell -> numbers of its row, column and box in ``units``
    peers: tuple[int, ...]  # cell -> the other cells of its units
    keep: tuple[int, ...]  # cell -> every cell but its peers


@functools.cache
def shape(size: int) -> Shape:
    """The geometry of a 4x4, 6x6 or 9x9 grid; boxes of a 6x6 grid have 2 rows and 3 columns."""
    height, width = BOXES[size]
    homes = []
    units = [0] * (3 * size)
    for cell in range(size * size):
        row, column = divmod(cell, size)
        box = row // height * (size // width) + column // width
        homes.append((row, size + column, 2 * size + box))
        for unit in homes[-1]:
            units[unit] |= 1 << cell
    peers = [(units[r] | units[c] | units[b]) & ~(1 << cell) for cell, (r, c, b) in enumerate(homes)]
    full = (1 << size * size) - 1
    names = [f"row {ROWS[i]}" for i in range(size)] + [f"column {i + 1}" for i in range(size)]
    names += [f"box {i + 1}" for i in range(size)]
    keep = tuple(full & ~mask for mask in peers)
    return Shape(size, full, tuple(units), tuple(names), tuple(homes), tuple(peers), keep)


def size_of(cells: str) -> int:
    """Side of the grid with that many cells; ValueError if it is neither 16, 36 nor 81."""
    sizes = {size * size: size for size in BOXES}
    if len(cells) not in sizes:
        raise ValueError(f"{len(cells)} cells, expected 16, 36 or 81")
    return sizes[len(cells)]


def bits(mask: int) -> Iterator[int]:
    """Cell numbers of a mask, ascending."""
    while mask:
        # The lowest bit alone, by two's complement.
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def union(masks: Iterable[int]) -> int:
    """The cells of any of the masks."""
    return functools.reduce(int.__or__, masks, 0)


def start_board(grid: Shape, cells: str) -> tuple[list[int], int] | None:
    """Board and open cells of clues (blanks are dots); None where two equal clues see each other."""
    given = [0] * grid.size
    boards = [grid.full] * grid.size
    for cell, digit in enumerate(cells):
        if digit != ".":
            index = int(digit) - 1
            given[index] |= 1 << cell
            boards[index] &= grid.keep[cell]
    filled = union(given)
    if any(board & mine != mine for board, mine in zip(boards, given)):
        return None
    return [board & ~filled | mine for board, mine in zip(boards, given)], grid.full & ~filled


def fill_cell(grid: Shape, boards: list[int], cell: int, index: int) -> None:
    """Put digit ``index + 1`` into a cell, in place; its peers lose the digit."""
    others = ~(1 << cell)
    mine = boards[index] & grid.keep[cell]
    for i, board in enumerate(boards):
        boards[i] = board & others
    boards[index] = mine | 1 << cell


def fill_naked_singles(grid: Shape, boards: list[int], open: int) -> int | None:
    """Fill naked singles until none is left, in place; the cells still open, None at a contradiction."""
    while True:
        # A counter for all cells at once: ``once`` has the cells with a candidate, ``twice`` those with two or more.
        once = twice = 0
        for board in boards:
            twice |= once & board
            once |= board
        # A cell has no candidate left.
        if once != grid.full:
            return None
        single = open & ~twice
        if not single:
            return open
        for i, board in enumerate(boards):
            hits = left = board & single
            if not hits:
                continue
            while left:
                low = left & -left
                board &= grid.keep[low.bit_length() - 1]
                left ^= low
            # Two singles with the same digit see each other.
            if board & hits != hits:
                return None
            boards[i] = board
        open &= ~single


def fill_singles(grid: Shape, boards: list[int], open: int) -> int | None:
    """Fill naked and hidden singles until none is left, in place; the cells still open, None at a contradiction."""
    while True:
        left = fill_naked_singles(grid, boards, open)
        if not left:
            return left
        open = left
        for i, board in enumerate(boards):
            if not board & left:
                continue
            for unit in grid.units:
                place = board & unit
                # More than one bit: x & (x - 1) clears the lowest.
                if place & (place - 1):
                    continue
                if not place:
                    return None
                if place & open:
                    fill_cell(grid, boards, place.bit_length() - 1, i)
                    board = boards[i]
                    open ^= place
        if open == left:
            return open


def branches(grid: Shape, boards: list[int], open: int) -> list[tuple[int, int]]:
    """Fillings (cell, digit index) of which exactly one is right: all digits of a cell, or all places of a digit.

    A cell with two candidates is taken at once, else a digit with two places in a unit, else the first open cell.
    """
    once = twice = thrice = 0
    for board in boards:
        thrice |= twice & board
        twice |= once & board
        once |= board
    # Fewest branches first.  ``thrice`` has the cells with three candidates or more, so the pool is those with two.
    pool = open & ~thrice
    if not pool:
        places = [(board & unit & open, i) for i, board in enumerate(boards) for unit in grid.units]
        most, index = min((p for p in places if p[0]), key=lambda p: p[0].bit_count())
        if most.bit_count() <= 2:
            return [(cell, index) for cell in bits(most)]
    pool = pool or open
    cell = (pool & -pool).bit_length() - 1
    return [(cell, i) for i, board in enumerate(boards) if board >> cell & 1]


def solve_board(grid: Shape, boards: list[int], open: int, rng: random.Random | None = None) -> Iterator[list[int]]:
    """Every solution as a filled board, by singles and trial; the board that is handed in changes.

    With ``rng`` digits are tried in random order, and by naked singles alone: faster where almost any choice is right.
    """
    left = fill_singles(grid, boards, open) if rng is None else fill_naked_singles(grid, boards, open)
    if left is None:
        return
    if not left:
        yield boards
        return
    choices = branches(grid, boards, left)
    if rng is not None:
        rng.shuffle(choices)
    for cell, i in choices:
        trial = boards.copy()
        fill_cell(grid, trial, cell, i)
        yield from solve_board(grid, trial, left & ~(1 << cell), rng)


def can_hold(grid: Shape, boards: list[int], open: int, cell: int, index: int) -> bool:
    """Whether some solution has digit ``index + 1`` in this open cell."""
    trial = boards.copy()
    fill_cell(grid, trial, cell, index)
    return next(solve_board(grid, trial, open & ~(1 << cell)), None) is not None


def board_text(grid: Shape, boards: list[int]) -> str:
    """A filled board as a string of digits, row by row."""
    cells = [""] * (grid.size * grid.size)
    for i, board in enumerate(boards):
        for cell in bits(board):
            cells[cell] = DIGITS[i]
    return "".join(cells)


def solve_clues(cells: str) -> tuple[str, str]:
    """(UNIQUE, the solution), (NONE, "") or (MANY, one solution) for clues with dots as blanks.

    ValueError if the clues are not 16, 36 or 81 cells.
    """
    grid = shape(size_of(cells))
    begun = start_board(grid, cells)
    filled = solve_board(grid, *begun) if begun else iter(())
    first = next(filled, None)
    if first is None:
        return NONE, ""
    solution = board_text(grid, first)
    # A second solution is enough to know; the rest of them, which may be millions, is never made.
    return (UNIQUE if next(filled, None) is None else MANY), solution


def random_grid(grid: Shape, rng: random.Random) -> str:
    """A complete grid: random units that do not touch, the rest by random trial.

    These are the boxes on the diagonal of a 9x9 grid (any three fillings of them can be completed), else a row.
    """
    free = (18, 22, 26) if grid.size == 9 else (0,)
    boards, open = [grid.full] * grid.size, grid.full
    for unit in free:
        digits = list(range(grid.size))
        rng.shuffle(digits)
        for cell, i in zip(bits(grid.units[unit]), digits):
            fill_cell(grid, boards, cell, i)
        open &= ~grid.units[unit]
    return board_text(grid, next(solve_board(grid, boards, open, rng)))

"""Which complete Sudoku grids are the same up to the symmetries of the game."""

from __future__ import annotations

import functools
import itertools

import numpy as np

from tasks._sudoku.grid import BOXES, size_of


@functools.cache
def column_orders(size: int) -> np.ndarray:
    """Every order of the columns that keeps stacks of boxes together, [orders, size]."""
    width = BOXES[size][1]
    stacks = itertools.permutations(range(0, size, width))
    within = list(itertools.permutations(range(width)))
    orders = [
        [start + place for start, places in zip(stack, inside) for place in places]
        for stack in stacks
        for inside in itertools.product(within, repeat=size // width)
    ]
    return np.array(orders)


@functools.lru_cache(maxsize=4096)
def grid_class(cells: str) -> str:
    """The first, by its text, of all grids that a complete 4x4, 6x6 or 9x9 grid can be turned into.

    The symmetries are: renaming digits, moving rows within a band and bands, columns within a stack and stacks, and
    where boxes are square reflection in the diagonal.  Exact for every size.  The first grid has 123... in its first
    row, so each order of the columns and each choice of the first row fixes the digits' names.  The other rows are
    then sorted by their first cells, which differ, within their bands and band by band.  That leaves 18 x 1,296 grids
    of the 3,359,232 arrangements of a 9x9 grid to compare.
    """
    size = size_of(cells)
    height, width = BOXES[size]
    grid, orders = np.array([int(digit) - 1 for digit in cells]).reshape(size, size), column_orders(size)
    every = np.arange(len(orders))[:, None, None]
    forms = []
    for side in (grid, grid.T) if height == width else (grid,):
        moved = side[:, orders].transpose(1, 0, 2)  # [orders, rows, columns]
        for first in range(size):
            names = np.argsort(moved[:, first], axis=1)  # new name of each digit: its place in the first row
            renamed = names[every, moved]
            firsts = renamed[:, :, 0]
            bands = firsts.reshape(len(orders), -1, height).min(axis=2).repeat(height, axis=1)
            rows = np.argsort(bands * size + firsts, axis=1)
            arranged = np.take_along_axis(renamed, rows[:, :, None], axis=1)
            forms.append(min(map(bytes, arranged.reshape(len(orders), -1).astype(np.uint8))))
    return "".join(str(digit + 1) for digit in min(forms))

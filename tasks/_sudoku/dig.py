"""Sudoku problems of a chosen difficulty: clues are taken out of a complete grid as long as it stays solvable."""

from __future__ import annotations

from tasks._sudoku import grid as grids
from tasks._sudoku import logic
from tasks._sudoku.grid import Shape, bits


class Pit:
    """A grid whose clues are being removed: for each digit its clue cells and the cells that see one."""

    def __init__(self, grid: Shape, solution: str) -> None:
        self.grid, self.solution = grid, solution
        self.digits = [int(digit) - 1 for digit in solution]
        self.given = [0] * grid.size
        for cell, index in enumerate(self.digits):
            self.given[index] |= 1 << cell
        self.seen = [self._sight(index) for index in range(grid.size)]
        self.blank = 0

    def _sight(self, index: int) -> int:
        return grids.union(self.grid.peers[cell] for cell in bits(self.given[index]))

    def toggle(self, cell: int) -> None:
        """Take a clue out, or put it back."""
        index = self.digits[cell]
        self.given[index] ^= 1 << cell
        self.blank ^= 1 << cell
        # Only the cells that see this digit change: the others need no new look.
        self.seen[index] = self._sight(index)

    def boards(self) -> list[int]:
        return [self.blank & ~seen | given for seen, given in zip(self.seen, self.given)]

    def is_single(self, cell: int, tier: int) -> bool:
        """Whether a blank is a naked single (or a hidden one, from that tier on) of the clues alone."""
        bit, index = 1 << cell, self.digits[cell]
        if all(seen & bit for i, seen in enumerate(self.seen) if i != index):
            return True
        if tier == logic.NAKED:
            return False
        free = self.blank & ~self.seen[index]
        return any(self.grid.units[unit] & free == bit for unit in self.grid.homes[cell])

    def still_solvable(self, cell: int, tier: int) -> bool:
        """Whether the problem still is of this tier after ``cell`` was taken out, given that it was before."""
        # The blank can be filled first, and what is left is the problem that was of this tier before.
        if self.is_single(cell, tier):
            return True
        boards = self.boards()
        if tier < logic.SEARCH:
            return logic.solvable(self.grid, boards, self.blank, tier)
        # It had one solution with the clue.  A second one can only have another digit in this cell.
        others = [i for i, board in enumerate(boards) if i != self.digits[cell] and board >> cell & 1]
        return not any(grids.can_hold(self.grid, boards, self.blank, cell, i) for i in others)

    def dig(self, order: list[int], tier: int, most: int) -> None:
        """Take clues out in this order while the problem is of this tier and has fewer than ``most`` blanks."""
        for cell in order:
            if self.blank.bit_count() >= most:
                return
            self.toggle(cell)
            if not self.still_solvable(cell, tier):
                self.toggle(cell)

    def clues(self) -> str:
        return "".join("." if self.blank >> cell & 1 else str(i + 1) for cell, i in enumerate(self.digits))

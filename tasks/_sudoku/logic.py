"""Human Sudoku techniques, from easy to hard, and whether those of a tier solve a problem.

A step names its technique and the cells it rests on.  Trial and error ("search") comes last and only where asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from tasks._sudoku import grid as grids
from tasks._sudoku.grid import Shape, bits, fill_cell

NAKED, HIDDEN, PATTERN, SEARCH = 1, 2, 3, 4  # tiers of difficulty
Gone = tuple[tuple[int, int], ...]  # (digit index, mask of the cells that lose it)


@dataclass(frozen=True)
class Step:
    """One deduction: fills ``cell`` with ``index``, or (cell -1) strikes the candidates ``gone``.

    ``basis`` masks the cells of the pattern, ``digits`` are its digit indexes, ``unit`` is where it stands, ``other``
    the unit that it acts on (both numbers in ``Shape.units``, -1 if unused).  ``chain`` and ``end`` belong to a trial:
    the fillings that follow, as (cell, digit index), and the contradiction they end in.
    """

    technique: str
    cell: int = -1
    index: int = -1
    gone: Gone = ()
    basis: int = 0
    digits: tuple[int, ...] = ()
    unit: int = -1
    other: int = -1
    chain: tuple[tuple[int, int], ...] = ()
    end: str = ""


# --- singles -------------------------------------------------------------------------------------------------


def first_single(grid: Shape, boards: list[int], open: int, tier: int) -> Step | None:
    """The first naked single in reading order, else the first hidden single: boxes before rows and columns."""
    once = twice = 0
    for board in boards:
        twice |= once & board
        once |= board
    single = open & once & ~twice
    if single:
        low = single & -single
        index = next(i for i, board in enumerate(boards) if board & low)
        return Step("naked single", low.bit_length() - 1, index)
    if tier < HIDDEN:
        return None
    for unit in (*range(2 * grid.size, 3 * grid.size), *range(2 * grid.size)):
        for i, board in enumerate(boards):
            place = board & grid.units[unit]
            if place & open and not place & (place - 1):
                return Step("hidden single", place.bit_length() - 1, i, unit=unit)
    return None


# --- patterns that strike candidates ---------------------------------------------------------------------------


def locked_candidates(grid: Shape, boards: list[int], open: int) -> Iterator[Step]:
    """Pointing: in a box the digit stands only in one line; claiming: in a line it stands only in one box."""
    lines, boxes = range(2 * grid.size), range(2 * grid.size, 3 * grid.size)
    pairs = [(b, line) for b in boxes for line in lines if grid.units[b] & grid.units[line]]
    for technique, crossings in (("pointing", pairs), ("claiming", [(line, b) for b, line in pairs])):
        for unit, other in crossings:
            inside, outside = grid.units[unit] & ~grid.units[other], grid.units[other] & ~grid.units[unit] & open
            for i, board in enumerate(boards):
                if not board & inside and board & outside:
                    basis = board & grid.units[unit]
                    yield Step(
                        technique, gone=((i, board & outside),), basis=basis, digits=(i,), unit=unit, other=other
                    )


def naked_subset(grid: Shape, boards: list[int], open: int, size: int) -> Iterator[Step]:
    """``size`` cells of a unit with that many candidates between them: the unit's other cells lose these."""
    options = {cell: sum((board >> cell & 1) << i for i, board in enumerate(boards)) for cell in bits(open)}
    for unit, mask in enumerate(grid.units):
        cells = [cell for cell in bits(mask & open) if options[cell].bit_count() <= size]
        for chosen in itertools.combinations(cells, size):
            held = grids.union(options[cell] for cell in chosen)
            # Fewer digits than cells would be a contradiction, more would be no subset.
            if held.bit_count() != size:
                continue
            basis = sum(1 << cell for cell in chosen)
            digits = tuple(bits(held))
            gone = tuple((i, boards[i] & mask & open & ~basis) for i in digits if boards[i] & mask & open & ~basis)
            if gone:
                yield Step(f"naked {'pair' if size == 2 else 'triple'}", -1, -1, gone, basis, digits, unit)


def hidden_pair(grid: Shape, boards: list[int], open: int) -> Iterator[Step]:
    """Two digits that a unit can hold only in the same two cells: these cells lose every other digit."""
    for unit, mask in enumerate(grid.units):
        places = [(i, board & mask & open) for i, board in enumerate(boards)]
        twos = [(i, place) for i, place in places if place.bit_count() == 2]
        for (i, basis), (j, same) in itertools.combinations(twos, 2):
            if basis == same:
                gone = tuple((k, board & basis) for k, board in enumerate(boards) if k not in (i, j) and board & basis)
                if gone:
                    yield Step("hidden pair", -1, -1, gone, basis, (i, j), unit)


def x_wing(grid: Shape, boards: list[int], open: int) -> Iterator[Step]:
    """A digit with two places in each of two parallel lines, the same two crosswise: those cross lines lose it."""
    size = grid.size
    for i, board in enumerate(boards):
        for parallel, stride in ((range(size), size), (range(size, 2 * size), 1)):
            lines = [(n, board & grid.units[n] & open) for n in parallel]
            twos = [(n, place) for n, place in lines if place.bit_count() == 2]
            for (n, one), (m, two) in itertools.combinations(twos, 2):
                # Moved onto the first of the parallel lines, both show the same two places.
                if one >> (n - parallel[0]) * stride == two >> (m - parallel[0]) * stride:
                    crossing = grids.union(grid.units[grid.homes[cell][int(stride == size)]] for cell in bits(one))
                    gone = board & crossing & open & ~one & ~two
                    if gone:
                        yield Step("X-wing", gone=((i, gone),), basis=one | two, digits=(i,), unit=n, other=m)


def first_pattern(grid: Shape, boards: list[int], open: int) -> Step | None:
    """The first pattern that strikes a candidate, from easy to hard."""
    steps = itertools.chain(
        locked_candidates(grid, boards, open),
        naked_subset(grid, boards, open, 2),
        hidden_pair(grid, boards, open),
        naked_subset(grid, boards, open, 3),
        x_wing(grid, boards, open),
    )
    return next(steps, None)


# --- search ----------------------------------------------------------------------------------------------------


def contradiction(grid: Shape, boards: list[int]) -> str:
    """Why the board cannot be filled any more ("no digit is left for e7"); empty if nothing shows it."""
    possible = grids.union(boards)
    if possible != grid.full:
        cell = next(bits(grid.full & ~possible))
        return f"no digit is left for {cell_name(grid, cell)}"
    for unit, mask in enumerate(grid.units):
        for i, board in enumerate(boards):
            if not board & mask:
                return f"{grid.names[unit]} has no place for {i + 1}"
    return ""


def refute(grid: Shape, boards: list[int], open: int, cell: int, index: int) -> Step | None:
    """A trial of one digit in one cell that singles lead to a contradiction; None if they do not."""
    trial = boards.copy()
    fill_cell(grid, trial, cell, index)
    left = open & ~(1 << cell)
    if grids.fill_singles(grid, trial.copy(), left) is not None:
        return None
    chain = []
    while not (end := contradiction(grid, trial)):
        step = first_single(grid, trial, left, HIDDEN)
        assert step is not None, "the singles that found a contradiction have run out"
        fill_cell(grid, trial, step.cell, step.index)
        left &= ~(1 << step.cell)
        chain.append((step.cell, step.index))
    return Step("search", gone=((index, 1 << cell),), chain=tuple(chain), end=end)


def search_step(grid: Shape, boards: list[int], open: int) -> Step | None:
    """A trial that singles refute, cells with few candidates first; else a cell that full search leaves one digit.

    None if the clues have no solution or several.
    """
    counts = {cell: sum(board >> cell & 1 for board in boards) for cell in bits(open)}
    order = sorted(counts, key=counts.__getitem__)
    for cell in order:
        for index, board in enumerate(boards):
            step = refute(grid, boards, open, cell, index) if board >> cell & 1 else None
            if step is not None:
                return step
    cell = order[0]
    candidates = [index for index, board in enumerate(boards) if board >> cell & 1]
    possible = [index for index in candidates if grids.can_hold(grid, boards, open, cell, index)]
    return Step("search", cell, possible[0]) if len(possible) == 1 else None


# --- the ladder ------------------------------------------------------------------------------------------------


def apply_step(grid: Shape, boards: list[int], open: int, step: Step) -> int:
    """Carry a step out, in place; the cells still open."""
    if step.cell >= 0:
        fill_cell(grid, boards, step.cell, step.index)
        return open & ~(1 << step.cell)
    for index, cells in step.gone:
        boards[index] &= ~cells
    return open


def deduce(cells: str, tier: int = NAKED) -> list[Step] | None:
    """Steps of this tier or below that fill every blank, each the easiest available; None if they cannot.

    Without search every step is forced by the clues, so a filled grid is the only solution.
    """
    grid = grids.shape(grids.size_of(cells))
    begun = grids.start_board(grid, cells)
    if begun is None:
        return None
    boards, open = begun
    steps: list[Step] = []
    proved = False
    while open:
        step = first_single(grid, boards, open, tier)
        if step is None and tier >= PATTERN:
            step = first_pattern(grid, boards, open)
        if step is None and tier >= SEARCH:
            # With several solutions the trials could go on for long and end in nothing, so uniqueness is proved first.
            proved = proved or grids.solve_clues(cells)[0] == grids.UNIQUE
            step = search_step(grid, boards, open) if proved else None
        if step is None:
            return None
        open = apply_step(grid, boards, open, step)
        steps.append(step)
    return None if contradiction(grid, boards) else steps


def solvable(grid: Shape, boards: list[int], open: int, tier: int) -> bool:
    """Whether ``deduce`` would fill every blank at this tier, at a fraction of its cost; the board changes."""
    # The order of steps does not matter: a struck candidate can make a pattern simpler, but takes no deduction away.
    left = grids.fill_naked_singles(grid, boards, open) if tier == NAKED else grids.fill_singles(grid, boards, open)
    while left and tier >= PATTERN:
        step = first_pattern(grid, boards, left)
        if step is None:
            return False
        left = grids.fill_singles(grid, boards, apply_step(grid, boards, left, step))
    return left == 0


def cell_name(grid: Shape, cell: int) -> str:
    """Name of a cell, row and column: b3."""
    return f"{grids.ROWS[cell // grid.size]}{cell % grid.size + 1}"

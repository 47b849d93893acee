"""Sudoku in words: prompts and reasoning lines."""

from __future__ import annotations

from tasks._sudoku import grid as grids
from tasks._sudoku.grid import DIGITS, Shape, bits
from tasks._sudoku.logic import Step, cell_name
from tasks.common import listed

# --- prompts ---------------------------------------------------------------------------------------------------


def grid_question(clues: str) -> str:
    """The task in natural language; ``clues`` are rows joined by "/"."""
    rows = clues.split("/")
    size = len(rows)
    height, width = grids.BOXES[size]
    return (
        f"Solve this {size}x{size} Sudoku, in which a dot is a blank cell:\n" + "\n".join(rows) + "\n"
        f"Fill the blanks with digits from 1 to {size} so that every row, every column and every box ({height} rows by "
        f"{width} columns) holds each digit once. The rows are named a to {grids.ROWS[size - 1]} from the top and the "
        f"columns 1 to {size} from the left, so b3 is the third cell of the second row. Put the reasoning between "
        "<think> and </think> and the full grid, one row per line, between <answer> and </answer>."
    )


def other_grid_question(clues: str) -> str:
    """The task in other words, with underscores for blanks."""
    rows = clues.replace(".", "_").split("/")
    size = len(rows)
    height, width = grids.BOXES[size]
    return (
        f"Here is a {size}x{size} grid; empty cells are shown as underscores.\n" + "\n".join(rows) + "\n"
        f"Complete it: in each row, in each column and in each block of {height} by {width} cells (rows by columns) "
        f"the digits 1 to {size} all occur. A cell's name is the letter of its row, a to {grids.ROWS[size - 1]} from "
        "top to bottom, and the number of its column from left to right: b3 is row 2, column 3. Think between <think> "
        "and </think>, then write the completed grid row by row, each on a line of its own, between <answer> and "
        "</answer>."
    )


# --- reasoning lines -------------------------------------------------------------------------------------------


def compact_line(grid: Shape, step: Step) -> str:
    """``b3=1`` fills a cell, ``b3-15 b4-5`` strikes candidates; a question mark before it: found by search."""
    if step.cell >= 0:
        told = f"{cell_name(grid, step.cell)}={step.index + 1}"
    else:
        struck = struck_digits(step).items()
        told = " ".join(f"{cell_name(grid, cell)}-{''.join(map(str, digits))}" for cell, digits in struck)
    return f"{'?' if step.technique == 'search' else ''}{told}\n"


def plain_lines(grid: Shape, clues: str, steps: list[Step]) -> list[str]:
    """One sentence per step: what follows, the technique, and why it applies."""
    cells = list(clues)
    lines = []
    for step in steps:
        searched = step.technique == "search"
        lines.append(f"{search_sentence(grid, step) if searched else step_sentence(grid, cells, step)}\n")
        if step.cell >= 0:
            cells[step.cell] = DIGITS[step.index]
    return lines


def step_sentence(grid: Shape, cells: list[str], step: Step) -> str:
    """The sentence of one logical step; ``cells`` is the grid before it."""
    if step.technique == "naked single":
        held = digits_seen(grid, cells, step.cell)
        rest = sorted(set(range(1, grid.size + 1)) - held - {step.index + 1})
        why = f"its row, column and box hold {listed(sorted(held))}"
        why += f", and {listed(rest)} {'is' if len(rest) == 1 else 'are'} ruled out above" if rest else ""
        return f"{cell_name(grid, step.cell)} = {step.index + 1}: naked single, {why}."
    if step.technique == "hidden single":
        digit, unit = step.index + 1, grid.names[step.unit]
        return f"{cell_name(grid, step.cell)} = {digit}: hidden single, {digit} fits nowhere else in {unit}."
    return f"{struck_text(grid, step)}: {step.technique}, {pattern_reason(grid, step)}."


def pattern_reason(grid: Shape, step: Step) -> str:
    """Why a pattern applies."""
    cells = listed(cell_name(grid, cell) for cell in bits(step.basis))
    digits = listed(i + 1 for i in step.digits)
    where = grid.names[step.unit]
    if step.technique in ("pointing", "claiming"):
        return f"in {where} the digit {digits} fits only in {grid.names[step.other]}"
    if step.technique == "X-wing":
        return f"in {where} and {grid.names[step.other]} the digit {digits} fits only in {cells}"
    if step.technique == "hidden pair":
        return f"in {where} the digits {digits} fit only in {cells}"
    return f"in {where} the cells {cells} can hold only {digits}"


def search_sentence(grid: Shape, step: Step) -> str:
    """The sentence of a trial, which says that logic has ended."""
    begin = "No technique applies, so by search:"
    if step.cell >= 0:
        name = cell_name(grid, step.cell)
        return f"{begin} {name} = {step.index + 1}, because a full trial of every other digit of {name} fails."
    cell, (digit,) = next(iter(struck_digits(step).items()))
    chain = ", ".join(f"{cell_name(grid, cell)} = {i + 1}" for cell, i in step.chain)
    then = f"by singles to {chain}, and then {step.end}" if chain else f"to a grid in which {step.end}"
    return f"{begin} {cell_name(grid, cell)} = {digit} would lead {then}, so {struck_text(grid, step)}."


def struck_text(grid: Shape, step: Step) -> str:
    """``b3 is not 1 or 5 and b4 is not 5``."""
    struck = struck_digits(step).items()
    return listed(f"{cell_name(grid, cell)} is not {listed(digits, 'or')}" for cell, digits in struck)


def struck_digits(step: Step) -> dict[int, list[int]]:
    """Digits that each cell loses in a step, in reading order."""
    digits: dict[int, list[int]] = {}
    for i, mask in step.gone:
        for cell in bits(mask):
            digits.setdefault(cell, []).append(i + 1)
    return dict(sorted(digits.items()))


def digits_seen(grid: Shape, cells: list[str], cell: int) -> set[int]:
    """Digits that stand in the row, the column or the box of a cell."""
    return {int(cells[peer]) for peer in bits(grid.peers[cell]) if cells[peer] != "."}

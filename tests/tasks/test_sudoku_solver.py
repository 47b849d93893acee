"""The solver against an exact-cover oracle and published grids; each technique's claim against brute force."""

import functools
import itertools
import json
import random
import statistics
from collections import Counter
from pathlib import Path

import pytest

from tasks._sudoku import grid as grids
from tasks._sudoku import logic
from tasks.sudoku import LEVELS, TASK, cells_text
from tests.helpers.timing import timed
from tests.tasks.exact_cover import sudoku_solutions
from tests.tasks.samples import draw

PUBLISHED = json.loads((Path(__file__).parent / "sudoku_grids.json").read_text())
COUNTS = {"4x4": 60, "4x4-hard": 60, "6x6-easy": 40, "6x6": 40, "6x6-hard": 30, "9x9-easy": 20, "9x9": 20}
COUNTS |= {"9x9-hard": 12, "9x9-search": 25}
STATES = {0: grids.NONE, 1: grids.UNIQUE, 2: grids.MANY}
CLASHES = (("11", 16), ("3...3", 36), ("7" + "." * 8 + "7", 81))  # in a row, in a row, in a column


def is_valid(cells: str) -> bool:
    """Independent check of a complete grid."""
    size = round(len(cells) ** 0.5)
    height, width = {4: (2, 2), 6: (2, 3), 9: (3, 3)}[size]
    rows = [cells[i : i + size] for i in range(0, len(cells), size)]
    boxes = [
        {rows[r + i][c + j] for i in range(height) for j in range(width)}
        for r in range(0, size, height)
        for c in range(0, size, width)
    ]
    digits = set("123456789"[:size])
    return all(set(group) == digits for group in (*rows, *zip(*rows), *boxes))


@pytest.mark.parametrize("level", COUNTS)
def test_solutions_and_uniqueness_agree_with_the_oracle(level):
    """Generated problems are unique; with clues taken out, or one replaced, the oracle says what is expected."""
    rng = random.Random(17)
    seen = Counter()
    for problem in draw(TASK, COUNTS[level], level):
        clues = cells_text(problem["clues"])
        assert sudoku_solutions(clues) == [cells_text(problem["solution"])]
        assert grids.solve_clues(clues) == (grids.UNIQUE, cells_text(problem["solution"]))
        cells = list(clues)
        given = [i for i, c in enumerate(cells) if c != "."]
        for cell in rng.sample(given, rng.randint(0, len(given) // 3)):
            cells[cell] = "."
        if rng.random() < 0.5:
            cells[rng.choice(given)] = rng.choice("123456789"[: LEVELS[level].size])
        found = sudoku_solutions("".join(cells))
        state, solution = grids.solve_clues("".join(cells))
        seen[state] += 1
        assert state == STATES[len(found)]
        assert state == grids.NONE or is_valid(solution)
        assert all(a in (".", b) for a, b in zip(cells, solution))
        assert state != grids.UNIQUE or [solution] == found
    assert seen[grids.NONE] and seen[grids.MANY]


@pytest.mark.parametrize(("clues", "size"), CLASHES)
def test_clues_that_clash_have_no_solution(clues, size):
    cells = clues.ljust(size, ".")
    assert grids.solve_clues(cells) == (grids.NONE, "") and sudoku_solutions(cells) == []
    assert logic.deduce(cells, logic.SEARCH) is None


@pytest.mark.parametrize("size", [4, 6, 9])
def test_an_empty_grid_has_many_solutions(size):
    state, solution = grids.solve_clues("." * size * size)
    assert state == grids.MANY and is_valid(solution)
    assert logic.deduce("." * size * size, logic.SEARCH) is None


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="25 cells, expected 16, 36 or 81"):
        grids.solve_clues("." * 25)


@pytest.mark.parametrize("grid", PUBLISHED, ids=lambda grid: grid["name"])
def test_published_grids(grid):
    state, solution = grids.solve_clues(grid["clues"])
    assert state == grid["state"]
    steps = logic.deduce(grid["clues"], logic.SEARCH)
    if state == grids.NONE:
        assert steps is None
        return
    assert is_valid(solution) and all(a in (".", b) for a, b in zip(grid["clues"], solution))
    filled = {step.cell: step.index + 1 for step in steps if step.cell >= 0}
    assert filled == {cell: int(solution[cell]) for cell, clue in enumerate(grid["clues"]) if clue == "."}


def test_the_hardest_are_solved_in_milliseconds():
    times = [timed(functools.partial(grids.solve_clues, grid["clues"]))[1] for grid in PUBLISHED]
    assert statistics.median(times) < 0.05, times


@pytest.mark.parametrize("size", [4, 6, 9])
def test_random_grids_are_complete_and_differ(size):
    rng = random.Random(size)
    found = [grids.random_grid(grids.shape(size), rng) for _ in range(100)]
    assert all(map(is_valid, found)) and len(set(found)) > 75


# --- levels and techniques -------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_levels_keep_their_promise(level):
    """Blanks in range; the tier below does not solve the problem, the highest allowed one does."""
    chosen = LEVELS[level]
    for problem in draw(TASK, 12 if chosen.needs >= logic.PATTERN else 100, level):
        clues = cells_text(problem["clues"])
        assert len(clues) == chosen.size**2
        assert chosen.blanks[0] <= clues.count(".") <= chosen.blanks[1]
        assert chosen.needs == logic.NAKED or logic.deduce(clues, chosen.needs - 1) is None
        steps = logic.deduce(clues, chosen.upto)
        assert steps is not None
        for tier in (logic.NAKED, logic.HIDDEN, logic.PATTERN):
            begun = grids.start_board(grids.shape(chosen.size), clues)
            assert logic.solvable(grids.shape(chosen.size), *begun, tier) == (logic.deduce(clues, tier) is not None)


def candidates(problem: str, size: int) -> list[set[int]]:
    """Digits that no clue rules out, cell by cell, from the rules alone."""
    height, width = {4: (2, 2), 6: (2, 3), 9: (3, 3)}[size]
    found = []
    for a, clue in enumerate(problem):
        taken = set()
        for b, other in enumerate(problem):
            (r, c), (s, d) = divmod(a, size), divmod(b, size)
            if b != a and (r == s or c == d or (r // height, c // width) == (s // height, d // width)):
                taken.add(other)
        digits = {d for d in range(1, size + 1) if str(d) not in taken}
        found.append(digits if clue == "." else {int(clue)})
    return found


def fits(options: list[set[int]]) -> list[set[int]]:
    """Digits of each cell of a unit that belong to some filling of the whole unit."""
    kept = [set() for _ in options]
    order = sorted(range(len(options)), key=lambda i: len(options[i]))

    def walk(at, used):
        if at == len(order):
            return True
        any_way = False
        for digit in options[order[at]] - used:
            if walk(at + 1, used | {digit}):
                kept[order[at]].add(digit)
                any_way = True
        return any_way

    walk(0, frozenset())
    return kept


def check(grid, step, options, solution):
    """A step's claim from the candidates before it, without the code that found it."""
    if step.technique == "naked single":
        assert options[step.cell] == {step.index + 1}
    elif step.technique == "hidden single":
        cells = list(grids.bits(grid.units[step.unit]))
        assert step.cell in cells and [c for c in cells if step.index + 1 in options[c]] == [step.cell]
    elif step.technique.startswith(("naked", "hidden")):
        cells = list(grids.bits(grid.units[step.unit]))
        possible = dict(zip(cells, fits([options[c] for c in cells])))
        assert all(i + 1 not in possible[cell] for i, mask in step.gone for cell in grids.bits(mask))
    elif step.technique != "search":
        ((index, mask),) = step.gone
        lines = [step.unit, step.other] if step.technique == "X-wing" else [step.unit]
        places = [[c for c in grids.bits(grid.units[u]) if index + 1 in options[c]] for u in lines]
        for chosen in itertools.product(*places):  # wherever the digit goes, it sees every struck cell
            struck = set(grids.bits(mask))
            legal = len(chosen) < 2 or not grid.peers[chosen[0]] >> chosen[1] & 1
            assert not legal or all(any(grid.peers[c] >> s & 1 for c in chosen) for s in struck)
    for i, mask in step.gone:
        for cell in grids.bits(mask):
            assert i + 1 in options[cell] and str(i + 1) != solution[cell]


def test_every_step_is_justified():
    """Replayed on candidates of the test's own; all techniques occur, search only where nothing else applies."""
    used = Counter()
    counts = {"4x4": 20, "6x6": 20, "6x6-hard": 30, "9x9": 10, "9x9-hard": 20, "9x9-search": 30}
    problems = [p for level, count in counts.items() for p in draw(TASK, count, level)]
    for problem in problems:
        clues, solution = cells_text(problem["clues"]), cells_text(problem["solution"])
        grid = grids.shape(grids.size_of(clues))
        options = candidates(clues, grid.size)
        for step in logic.deduce(clues, logic.SEARCH):
            check(grid, step, options, solution)
            used[step.technique] += 1
            if step.cell >= 0:
                assert str(step.index + 1) == solution[step.cell]
                for peer in grids.bits(grid.peers[step.cell]):
                    options[peer] = options[peer] - {step.index + 1}
                options[step.cell] = {step.index + 1}
            for i, mask in step.gone:
                for cell in grids.bits(mask):
                    options[cell] = options[cell] - {i + 1}
        assert options == [{int(digit)} for digit in solution]
    techniques = {"naked single", "hidden single", "pointing", "claiming", "naked pair", "hidden pair", "naked triple"}
    assert set(used) == techniques | {"X-wing", "search"}


def test_a_trial_says_where_it_ends():
    """The chain of a refuted trial is replayed: each filling is a single, and the last leaves the named hole."""
    trials = 0
    for problem in draw(TASK, 6, "9x9-search"):
        clues = cells_text(problem["clues"])
        grid = grids.shape(9)
        boards, open = grids.start_board(grid, clues)
        for step in logic.deduce(clues, logic.SEARCH):
            if step.technique == "search" and step.gone:
                assert logic.first_single(grid, boards, open, logic.HIDDEN) is None
                assert logic.first_pattern(grid, boards, open) is None
                ((index, mask),) = step.gone
                trial = boards.copy()
                for cell, i in ((mask.bit_length() - 1, index), *step.chain):
                    assert trial[i] >> cell & 1 and not logic.contradiction(grid, trial)
                    grids.fill_cell(grid, trial, cell, i)
                assert logic.contradiction(grid, trial) == step.end != ""
                trials += 1
            open = logic.apply_step(grid, boards, open, step)
    assert trials >= 6

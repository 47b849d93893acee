"""What near duplicates share: known numbers of classes, symmetries that change nothing, and splits by a key."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.plan import registry
from bench.study.groups import LEAST, check_level
from bench.types import UserError
from tasks import common
from tasks._logic import symmetry as people
from tasks._logic.claims import canonical_text
from tasks._near import Grouped
from tasks._sudoku import grid as grids
from tasks._sudoku.symmetry import grid_class
from tasks.sudoku import complete_grids, renamed_digits

COUNTDOWN, LOGIC, MATH, SUDOKU = (registry.task(name) for name in ("countdown", "logic", "math", "sudoku"))
QUICK = [(COUNTDOWN, "3"), (COUNTDOWN, "3to4"), (LOGIC, "2"), (LOGIC, "5"), (LOGIC, "3-nested"), (MATH, "3")]
QUICK += [(MATH, "level-2"), (SUDOKU, "4x4"), (SUDOKU, "6x6-easy")]


def drawn(task: Any, level: str, count: int) -> list[dict[str, Any]]:
    return [task.generate(random.Random(f"{level} {n}"), level) for n in range(count)]


# --- Sudoku ------------------------------------------------------------------------------------------------------


def test_small_grids_have_two_classes() -> None:
    """There are 288 grids, 12 up to renaming digits, and 2 essentially different ones of 96 and 192 grids."""
    assert sorted(Counter(map(grid_class, complete_grids())).values()) == [96, 192]
    assert Counter(Counter(map(renamed_digits, complete_grids())).values()) == {24: 12}


def test_6x6_grids_have_49_classes() -> None:
    """The published number of essentially different 6x6 grids with boxes of 2x3; rare ones are seldom drawn."""
    rng = random.Random(0)
    found = {grid_class(grids.random_grid(grids.shape(6), rng)) for _ in range(1500)}
    assert 45 <= len(found) <= 49


def turned(cells: str, rng: random.Random) -> str:
    """A grid after random symmetries, step by step on lists."""
    size = grids.size_of(cells)
    height, width = grids.BOXES[size]

    def order(step: int) -> list[int]:
        groups = [rng.sample(range(start, start + step), step) for start in range(0, size, step)]
        rng.shuffle(groups)
        return [line for group in groups for line in group]

    rows = [list(cells[start : start + size]) for start in range(0, size * size, size)]
    rows = [rows[r] for r in order(height)]
    columns = order(width)
    rows = [[row[c] for c in columns] for row in rows]
    if height == width and rng.random() < 0.5:
        rows = [list(column) for column in zip(*rows)]
    digits = rng.sample(grids.DIGITS[:size], size)
    return "".join(digits[int(digit) - 1] for row in rows for digit in row)


@pytest.mark.parametrize(("size", "times"), [(4, 200), (6, 60), (9, 8)])
def test_symmetries_do_not_change_the_class(size: int, times: int) -> None:
    rng = random.Random(size)
    shape = grids.shape(size)
    for _ in range(times):
        cells = grids.random_grid(shape, rng)
        other = turned(cells, rng)
        assert grids.solve_clues(other)[0] == grids.UNIQUE, "the test's symmetries keep the rules"
        assert grid_class(other) == grid_class(cells)
        form = grid_class(cells)
        assert grid_class(form) == form and form[:size] == grids.DIGITS[:size]
        assert grids.solve_clues(form) == (grids.UNIQUE, form)


def test_a_transposed_6x6_grid_is_no_grid() -> None:
    """Its boxes are not square: reflection is no symmetry, and two grids of different classes are told apart."""
    rng = random.Random(1)
    classes = {grid_class(grids.random_grid(grids.shape(9), rng)) for _ in range(6)}
    assert len(classes) == 6  # of 5,472,730,538 classes


# --- Knights and knaves ------------------------------------------------------------------------------------------


def by_brute_force(statements: list[Any]) -> str:
    """The least text over all orders of the people."""
    count = len(statements)
    texts = []
    for places in itertools.permutations(range(count)):
        moved = [None] * count
        for person, place in enumerate(places):
            moved[place] = people.renamed(statements[person], places)
        texts.append(";".join(canonical_text(statement) for statement in moved))
    return min(texts)


@pytest.mark.parametrize("level", ["2", "3", "4", "4-nested", "5"])
def test_puzzle_classes_are_those_of_brute_force(level: str) -> None:
    """Two puzzles have one class exactly if some order of the people turns one into the other."""
    problems = drawn(LOGIC, level, 150 if level < "4" else 40)
    rng = random.Random(0)
    for problem in problems[:30]:
        order = rng.sample(range(len(problem["statements"])), len(problem["statements"]))
        moved: list[Any] = [None] * len(order)
        for person, place in enumerate(order):
            moved[place] = people.renamed(problem["statements"][person], order)
        assert people.puzzle_class(moved) == people.puzzle_class(problem["statements"])
    pairs = {(people.puzzle_class(p["statements"]), by_brute_force(p["statements"])) for p in problems}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_people_who_are_interchangeable() -> None:
    """A ring of eight, whose members nothing tells apart, and its turned copy; ten who speak of themselves alone."""
    ring = [["knave", (person + 1) % 8] for person in range(8)]
    back = [["knave", (person - 1) % 8] for person in range(8)]
    two = [["knave", (person + 1) % 4 + person // 4 * 4] for person in range(8)]
    assert people.puzzle_class(ring) == people.puzzle_class(back) != people.puzzle_class(two)
    alone = [["or", ["knight", person], ["knave", person]] for person in range(10)]
    assert people.puzzle_class(alone).count("knave") == 10


# --- all tasks ---------------------------------------------------------------------------------------------------


def test_numbers_by_hand() -> None:
    assert COUNTDOWN.near_keys({"numbers": [12, 3, 7], "target": 50}) == {"number set": "3,7,12"}
    row = {"kind": "row", "text": "Add 12 and  3."}
    assert MATH.near_keys(row) == {"template": "text:Add # and #."} and MATH.cluster(row) == "text:Add # and #."
    generated = MATH.generate(random.Random(0), "level-1")
    assert MATH.near_keys(generated) == {"kind": generated["kind"]} and MATH.cluster(generated) == ""


def retold(task: Any, problem: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The same problem by its key, in another form."""
    if task is COUNTDOWN:
        return {**problem, "numbers": rng.sample(problem["numbers"], len(problem["numbers"]))}
    if task is SUDOKU:
        digits = "123456789"[: problem["clues"].index("/")]
        names = str.maketrans(digits, "".join(rng.sample(digits, len(digits))))
        return {name: problem[name].translate(names) for name in ("clues", "solution")}
    if task is LOGIC:
        return {**problem, "names": [f"N{n}" for n in range(len(problem["names"]))]}
    return {**problem, "name": "Zoe"} if "kind" not in problem else problem


@pytest.mark.parametrize(("task", "level"), QUICK)
def test_equal_problems_have_equal_keys(task: Any, level: str) -> None:
    assert isinstance(task, Grouped)
    rng, names = random.Random(0), set()
    for problem in drawn(task, level, 20):
        other = retold(task, problem, rng)
        assert task.key(other) == task.key(problem) and task.near_keys(other) == task.near_keys(problem)
        names.add(tuple(task.near_keys(problem)))
    assert len(names) == 1


FEW = {("sudoku", "solution grid"): 12, ("sudoku", "grid class"): 2}
SPLITTABLE = [
    (task, level, name)
    for task, level in QUICK
    for name in task.near_keys(drawn(task, level, 1)[0])
    if (level, name) not in {("4x4", "solution grid"), ("4x4", "grid class"), ("6x6-easy", "grid class")}
    and name not in ("kind", "demonstration")
]


@pytest.mark.parametrize(("task", "level", "name"), SPLITTABLE)
def test_no_key_is_in_two_splits(task: Any, level: str, name: str) -> None:
    check_level(task, level, name)
    splits = {
        split: list(itertools.islice(common.problems(task, split, level, split_by=name), 15))
        for split in ("train", "val", "test")
    }
    keys = {split: {task.near_keys(p)[name] for p in problems} for split, problems in splits.items()}
    assert all(len(problems) == 15 for problems in splits.values())
    assert not keys["train"] & keys["test"] and not keys["train"] & keys["val"] and not keys["val"] & keys["test"]
    contents = {common.split_of(task.name, task.key(p)) for problems in splits.values() for p in problems}
    assert "pretrain" not in contents, "the embedded model has seen these very problems"


@pytest.mark.parametrize(("level", "name", "classes"), [("4x4", "grid class", 2), ("4x4", "solution grid", 12)])
def test_too_few_classes_are_refused(level: str, name: str, classes: int) -> None:
    with pytest.raises(UserError, match=f"has {classes} classes of it, .* expected at least {LEAST} in each"):
        check_level(SUDOKU, level, name)


def test_rows_are_divided_by_their_key(tmp_path: Path) -> None:
    """Every set of numbers with all its targets in one split; without the key they spread."""
    rows = []
    for a, b in itertools.product(range(1, 13), range(13, 25)):
        for answer, target in ((f"{a}+{b}+30", a + b + 30), (f"30+{b}-{a}", 30 + b - a), (f"{a}+30-{b}", a + 30 - b)):
            rows.append({"nums": [a, b, 30], "target": target, "answer": f"<answer>{answer}</answer>"})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split_by in ("number set", ""):
        found = common.from_file(COUNTDOWN, path, "plain", split_by)
        sets = [{COUNTDOWN.near_keys(e.problem)["number set"] for e in examples} for examples in found.values()]
        shared = sum(len(a & b) for a, b in itertools.combinations(sets, 2))
        assert (shared == 0) == bool(split_by) and all(sets)
        assert len(found["train"]) > 200 and sum(map(len, found.values())) > 0.8 * len(rows)
    with pytest.raises(UserError, match="did you mean number set"):
        common.from_file(COUNTDOWN, path, "plain", "number sets")

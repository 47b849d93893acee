"""Countdown rows without an answer: what the solver finds against a search of every plan, and hostile rows."""

from __future__ import annotations

import json
import random
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import common
from tasks._countdown.plans import expression
from tasks._countdown.solve import solve
from tasks.countdown import TASK, expression_fault, plan_of
from tests.helpers.commands import call
from tests.helpers.timing import timed

ROWS = [([44, 19, 35], 98), ([63, 95, 96], 64), ([95, 11, 56], 28), ([19, 74, 45], 48), ([49, 16, 17], 82)]
UNSOLVABLE = ([1, 1, 1], 97)  # at most (1+1)*1, 1+1+1


@cache
def reached(numbers: tuple[int, ...]) -> frozenset[int]:
    """All values over all the numbers whose steps give whole numbers that are not negative, pair by pair."""
    if len(numbers) == 1:
        return frozenset(numbers)
    found: set[int] = set()
    for i, j in combinations(range(len(numbers)), 2):
        a, b = numbers[i], numbers[j]
        rest = [number for k, number in enumerate(numbers) if k not in (i, j)]
        results = {a + b, a * b, abs(a - b)}
        results |= {x // y for x, y in ((a, b), (b, a)) if y and x % y == 0}
        for result in results:
            found |= reached(tuple(sorted([*rest, result])))
    return frozenset(found)


@pytest.mark.parametrize("highest", [3, 9, 25])
@pytest.mark.parametrize("lowest", [0, 1])
def test_what_can_be_solved_is_solved(lowest: int, highest: int) -> None:
    rng = random.Random(f"{lowest} {highest}")
    solved = 0
    for _ in range(120):
        numbers = [rng.randint(lowest, highest) for _ in range(rng.choice((2, 3, 4, 5)))]
        for target in (0, 1, rng.randint(2, 30), rng.randint(10, 100), rng.randint(100, 5000)):
            plan = solve(numbers, target)
            assert (plan is not None) == (target in reached(tuple(sorted(numbers)))), (numbers, target)
            if plan is not None:
                solved += 1
                assert expression_fault(expression(plan), numbers, target) == ""
                assert solve(rng.sample(numbers, len(numbers)), target) == plan
    assert solved > 100


def test_generated_problems_are_solved_by_positive_steps() -> None:
    for level in ("3", "4", "5", "6"):
        rng = random.Random(level)
        for _ in range(10):
            problem = TASK.generate(rng, level)
            plan = solve(problem["numbers"], problem["target"])
            assert plan is not None and min(result for *_, result in plan) > 0
            assert expression_fault(expression(plan), problem["numbers"], problem["target"]) == ""


def test_zero_only_where_nothing_else_helps() -> None:
    assert min(step[3] for step in solve([15, 15, 35, 53], 53) or []) == 0
    assert min(step[3] for step in solve([2, 2, 4], 4) or []) > 0  # 4 + 2 - 2, not 4 + (2 - 2)


@pytest.mark.parametrize("numbers", [[5], [1] * 7, [-1, 2]])
def test_what_the_solver_does_not_take(numbers: list[int]) -> None:
    with pytest.raises(ValueError, match="expected 2 to 6 numbers"):
        solve(numbers, 5)


# --- rows ------------------------------------------------------------------------------------------------------------


def write_rows(path: Path, rows: list[tuple[list[int], int]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"target": [t for _, t in rows], "nums": [n for n, _ in rows]}), path)
    elif path.suffix == ".csv":
        pd.DataFrame({"target": [t for _, t in rows], "nums": [n for n, _ in rows]}).to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps({"target": t, "nums": n}) + "\n" for n, t in rows))
    return path


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("template", ["compact", "plain", "chat"])
def test_rows_with_numbers_and_target_only(tmp_path: Path, suffix: str, template: str) -> None:
    path = write_rows(tmp_path / f"rows.{suffix}", [*ROWS, UNSOLVABLE])
    good, broken = common.problems_of(TASK, path, template)
    assert broken == [(5, "unsolvable in whole numbers: 1, 1, 1 for the target 97")]
    assert [(shown.problem["numbers"], shown.problem["target"]) for _, shown in good] == ROWS
    for _, shown in good:
        assert TASK.verify(shown.problem, shown.demonstration.text).correct
        assert len(shown.demonstration.steps) >= 2


def test_unsolvable_rows_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [([n, n + 1, 2], 2 * n + 3) for n in range(3, 60)]
    path = write_rows(tmp_path / "rows.parquet", [*rows, UNSOLVABLE])
    code, out, _ = call(capsys, "tasks", "check", "countdown", "--data", path)
    assert code == 1 and "row 57 unreadable: unsolvable in whole numbers: 1, 1, 1 for the target 97" in out
    order = ("run", "--methods", "sft", "--data", path, "--dry-run", "--json")
    code, out, err = call(capsys, *order)
    assert (code, out, err.count("\n")) == (2, "", 1) and "row 57 (counted from 0): unsolvable" in err
    code, out, err = call(capsys, *order, "--skip-broken")
    assert (code, err) == (0, "")


def test_other_columns_stay() -> None:
    row = {"nums": [44, 19, 35], "target": 98, "question": "Reach 98.", "reward_model": {"style": "rule"}}
    problem = TASK.from_row(row)
    assert problem["prompt"] == "Reach 98." and plan_of(problem["solution"])
    assert TASK.verify(problem, TASK.demonstrate(problem, "plain").text).correct


@pytest.mark.parametrize("answer", [None, "", float("nan")])
def test_an_empty_answer_is_not_filled_in(answer: Any) -> None:
    with pytest.raises(ValueError, match="column 'answer' is missing"):
        TASK.from_row({"nums": [44, 19, 35], "target": 98, "answer": answer})


@pytest.mark.parametrize(
    ("nums", "target"),
    [
        ([44, 19, 35], 98),
        ((44, 19, 35), "98"),
        (["44", "19", "35"], 98.0),
        ([44.0, 19.0, 35.0], "98.0"),
        (np.array([44, 19, 35]), np.int64(98)),
        (np.array([44.0, 19.0, 35.0]), np.float32(98)),
        ("[44, 19, 35]", 98),
        ("[44 19 35]", 98),
    ],
)
def test_numbers_of_every_type(nums: Any, target: Any) -> None:
    problem = TASK.from_row({"nums": nums, "target": target})
    assert (problem["numbers"], problem["target"]) == ([44, 19, 35], 98) and json.dumps(problem)


def test_large_numbers_are_exact() -> None:
    big = 2**53 + 1
    assert TASK.from_row({"nums": [big, 1], "target": big + 1})["target"] == big + 1


@pytest.mark.parametrize(
    ("nums", "target", "reason"),
    [
        ([1, 2, 3], None, "column 'target' is missing"),
        ([1, 2, 3], float("nan"), "column 'target' is missing"),
        (None, 6, "column 'nums' is missing"),
        (6, 6, "column 'nums' is not a list"),
        ("123", 6, "column 'nums' is not a list"),
        ([1, 2, None], 6, "must hold whole numbers"),
        ([1, 2, float("nan")], 6, "must hold whole numbers"),
        ([1, 2.5, 3], 6, "must hold whole numbers"),
        ([1, True, 3], 6, "must hold whole numbers"),
        ([1, [2], 3], 6, "must hold whole numbers"),
        ([1, 2, 3], [6], "must hold whole numbers"),
        ([1, 2, 3], "six", "must hold whole numbers"),
        ([], 6, "must hold 2 to 8 numbers, not 0"),
        ([6], 6, "must hold 2 to 8 numbers, not 1"),
        ([-3, 9], 6, "a negative number"),
        ([1, 2, 3], -6, "unsolvable in whole numbers"),
        ([1, 3, 4, 6], 24, "unsolvable in whole numbers"),  # 6/(1-3/4) needs a fraction
        ([1] * 7, 7, "problems of up to 6 numbers"),
    ],
)
def test_rows_that_cannot_be_read(nums: Any, target: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TASK.from_row({"nums": nums, "target": target})


@pytest.mark.parametrize(
    ("nums", "target"),
    [
        ([1] * 1_000_000, 5),
        ([1] * 6, 97),
        ([7] * 6, 10**9),
        ([682136, 212819, 761675, 778131, 662064, 505046], 99_991),
        ([93, 97, 89, 83, 79, 73], 1_000_003),
        ([10**300] * 6, 5),
        ([10**300] * 2, 2 * 10**300),
        ([10**4000, 2, 3], 10**4000 + 5),
        ([1, 2, 3], 10**4000),
        ([0] * 6, 1),
        ("[" * 5000, 1),
        ("9" * 10**6, 1),
    ],
)
def test_hostile_rows_are_refused_soon(nums: Any, target: int) -> None:
    def reading() -> str:
        with pytest.raises(ValueError) as caught:
            TASK.from_row({"nums": nums, "target": target})
        return str(caught.value)

    message, seconds = timed(reading)
    assert seconds < 2  # 0.1 s where nothing else runs
    assert len(message) <= 300


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_a_column_that_some_rows_lack_is_empty_there(tmp_path: Path, suffix: str) -> None:
    rows = [{"nums": [1, 2, 3], "target": 6, "answer": "<answer>1+2+3</answer>"}, {"nums": [1, 2, 4], "target": 7}]
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    good, broken = common.problems_of(TASK, path, "compact")
    assert len(good) == 1 and broken == [(1, "column 'answer' is missing")]

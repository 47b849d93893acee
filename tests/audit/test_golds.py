"""`bench tasks check` shows what the golds of a data file are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.audit import data_check, golds
from bench.plan.data import Source
from tasks.countdown import TASK as COUNTDOWN
from tasks.logic import TASK as LOGIC
from tasks.math_ import TASK as MATH
from tasks.sudoku import TASK as SUDOKU
from tests.helpers.commands import call
from tests.plan.test_data import ROWS, write
from tests.tasks.samples import draw


def math_rows(answers: list[str]) -> list[dict[str, Any]]:
    return [
        {"problem": f"What is number {place}?", "solution": f"It is $\\boxed{{{answer}}}$."}
        for place, answer in enumerate(answers)
    ]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        *(("72", "integer"), ("-3", "integer"), ("70,000", "integer"), ("0.5", "decimal"), ("1/2", "fraction")),
        *(("-\\frac{1}{2}", "fraction"), ("\\sqrt{2}", "expression"), ("x^2+1", "expression"), ("(1,2)", "tuple")),
        *(("1, 2", "list"), ("5\\text{ km}", "integer with a unit"), ("x = 3", "assignment")),
        *(("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "matrix"), ("\\text{east}", "words"), ("3:2", "ratio")),
        *(("101_2", "number in another base"), ("36 @ 35", "not understood")),
    ],
)
def test_kinds_of_math_answers(answer: str, kind: str) -> None:
    assert MATH.gold({"kind": "row", "answer": answer}) == (answer, kind)


def test_golds_of_the_other_tasks() -> None:
    assert COUNTDOWN.gold({"numbers": [1, 2, 3], "target": 6}) == ("6", "target of 3 numbers")
    assert LOGIC.gold({"names": ["A", "B"], "solution": [True, False]}) == ("knight, knave", "2 people")
    [problem] = draw(SUDOKU, 1, "6x6")
    assert SUDOKU.gold(problem) == (problem["solution"], "6x6 grid")
    for level in ("3", "level-2"):
        [problem] = draw(MATH, 1, level)
        gold, _ = MATH.gold(problem)
        assert MATH.verify(problem, f"<answer>\\boxed{{{gold}}}</answer>").correct


def test_the_shares_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = ["7"] * 3 + ["1/2"] * 2 + ["(1,2)", "0.5", "8", "9", "10"]
    path = write(tmp_path / "rows.jsonl", math_rows(answers))
    code, out, _ = call(capsys, "tasks", "check", "math", "--data", path, "--json")
    found = json.loads(out)["golds"]
    assert code == 0 and found["distinct"] == 7 and found["dominant"] is None
    assert found["most_frequent"][:2] == [
        {"gold": "7", "rows": 3, "share": 0.3},
        {"gold": "1/2", "rows": 2, "share": 0.2},
    ]
    assert [(entry["kind"], entry["rows"]) for entry in found["kinds"]] == [
        *(("integer", 6), ("fraction", 2), ("decimal", 1), ("tuple", 1))
    ]
    assert [(entry["row"], entry["gold"]) for entry in found["examples"]] == [(0, "7"), (5, "(1,2)"), (9, "10")]
    assert found["examples"][0]["demonstration"].startswith(" It is $\\boxed{7}$.")
    code, out, _ = call(capsys, "tasks", "check", "math", "--data", path)
    assert code == 0 and "golds: 7 distinct; integer 60.0 %, fraction 20.0 %, decimal 10.0 %, tuple 10.0 %" in out
    assert "most frequent: 7 (3 rows, 30.0 %), 1/2 (2 rows, 20.0 %)\n" in out and "dominates" not in out
    assert "row 5: gold (1,2) (tuple)\n   It is $\\boxed{(1,2)}$." in out


@pytest.mark.parametrize(("count", "said"), [(5, False), (6, True)])
def test_one_gold_that_dominates_is_named(tmp_path: Path, count: int, said: bool) -> None:
    answers = ["0"] * count + [str(n) for n in range(1, 11 - count)]
    found = data_check.check_rows(MATH, Source(str(write(tmp_path / "rows.jsonl", math_rows(answers)))), "plain")
    assert found["golds"]["dominant"] == ("0" if said else None)
    assert ("one gold dominates: 60.0 % of the rows have 0" in data_check.check_text(found)) == said


def test_small_files_and_none(tmp_path: Path) -> None:
    one = data_check.check_rows(COUNTDOWN, Source(str(write(tmp_path / "one.jsonl", ROWS[:1]))), "compact")
    assert one["golds"]["dominant"] is None and len(one["golds"]["examples"]) == 1
    assert "each gold comes once" in data_check.check_text(one)
    rows = [{**row, "answer": "none"} for row in ROWS]
    none = data_check.check_rows(COUNTDOWN, Source(str(write(tmp_path / "none.jsonl", rows))), "compact")
    assert none["golds"] == {"distinct": 0, "most_frequent": [], "kinds": [], "dominant": None, "examples": []}
    assert "golds" not in data_check.check_text(none)


def test_long_demonstrations_are_cut_in_the_text_only(tmp_path: Path) -> None:
    solution = "A line.\n" * 40 + "x" * 1000 + "\n$\\boxed{" + "1" * 500 + "}$"
    rows = [{"problem": "?", "solution": solution}]
    found = data_check.check_rows(MATH, Source(str(write(tmp_path / "rows.jsonl", rows))), "plain")
    text = data_check.check_text(found)
    assert max(map(len, text.splitlines())) < 200 and len(text.splitlines()) < 20
    assert solution in found["golds"]["examples"][0]["demonstration"]


def test_a_task_without_golds_of_its_own(tmp_path: Path) -> None:
    class Bare:
        def __getattr__(self, name: str) -> Any:
            if name == "gold":
                raise AttributeError(name)
            return getattr(COUNTDOWN, name)

    found = data_check.check_rows(Bare(), Source(str(write(tmp_path / "rows.jsonl"))), "compact")  # type: ignore[arg-type]
    assert found["golds"]["examples"][0] | {"demonstration": ""} == {
        **{"row": 0, "gold": "3+4+2", "kind": "text", "demonstration": ""}
    }
    assert golds.short("a\n b") == "a b"

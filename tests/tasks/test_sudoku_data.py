"""Sudoku problems from data files."""

import json
import re

import pandas as pd
import pytest

from bench.plan.data import Source, parse_columns
from tasks import common
from tasks.sudoku import TASK, cells_text
from tests.tasks.samples import draw

SIX = {
    "clues": "..4.../.6..2./4...3./....../..13../.451..",
    "solution": "254613/163425/412536/536241/621354/345162",
}


def test_rows_of_every_form_give_the_same_problem():
    clues, solution = cells_text(SIX["clues"]), cells_text(SIX["solution"])
    lines = "\n".join(SIX["clues"].split("/"))
    forms = [
        {"puzzle": clues, "solution": solution},
        {"clues": clues.replace(".", "0"), "solution": solution},
        {"puzzle": SIX["clues"], "solution": SIX["solution"]},
        {"puzzle": lines, "solution": solution, "clues": None},
        {"reward_model": {"ground_truth": {"puzzle": clues, "solution": solution}}, "prompt": "Solve it"},
        {"reward_model": {"ground_truth": json.dumps({"clues": clues, "solution": solution})}},
    ]
    assert [TASK.from_row(row) for row in forms] == [SIX] * len(forms)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_rows_from_a_file(tmp_path, suffix):
    problems = [p for level in ("4x4", "6x6", "9x9", "9x9-search") for p in draw(TASK, 5, level)]
    truths = [{"puzzle": cells_text(p["clues"]), "solution": cells_text(p["solution"])} for p in problems]
    rows = [{"reward_model": {"style": "rule", "ground_truth": truth}} for truth in truths]
    path = tmp_path / f"data.{suffix}"
    if suffix == "parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = common.from_file(TASK, path, "plain")
    found = {e.id: e for part in splits.values() for e in part}
    assert sorted(e.problem["clues"] for e in found.values()) == sorted(p["clues"] for p in problems)
    assert all(TASK.verify(e.problem, e.demonstration.text).correct for e in found.values())


GOOD = {"puzzle": cells_text(SIX["clues"]), "solution": cells_text(SIX["solution"])}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "column 'puzzle' (or 'clues') is missing"),
        ({"answer": "1234"}, "column 'puzzle' (or 'clues') is missing"),
        ({"puzzle": GOOD["puzzle"]}, "column 'solution' is missing"),
        ({"puzzle": None, "solution": GOOD["solution"]}, "column 'puzzle' (or 'clues') is missing"),
        (GOOD | {"puzzle": 123456}, "column 'puzzle' has more than one solution"),
        (GOOD | {"puzzle": float("4e35")}, "with . or 0 as blanks as a text, not as a float"),
        (GOOD | {"puzzle": True}, "as a text, not as a bool"),
        (GOOD | {"puzzle": float("nan")}, "column 'puzzle' (or 'clues') is missing"),
        (GOOD | {"solution": " "}, "column 'solution' is missing"),
        (GOOD | {"puzzle": "." * 25}, "column 'puzzle' must hold 16, 36 or 81 digits"),
        (GOOD | {"puzzle": GOOD["puzzle"].replace("6", "7")}, "column 'puzzle' must hold 16, 36 or 81 digits"),
        (GOOD | {"puzzle": GOOD["puzzle"].replace("6", "\u0666")}, "column 'puzzle' must hold 16, 36 or 81 digits"),
        (GOOD | {"puzzle": GOOD["puzzle"].replace("6", ".")}, "column 'puzzle' has more than one solution"),
        (GOOD | {"puzzle": "44" + GOOD["puzzle"][2:]}, "column 'puzzle' has no solution"),
        (GOOD | {"puzzle": GOOD["solution"]}, "column 'puzzle' has no blanks"),
        (GOOD | {"solution": GOOD["solution"][::-1]}, "column 'solution' is not the solution of 'puzzle'"),
        (GOOD | {"solution": "1" * 16}, "column 'solution' is not the solution of 'puzzle'"),
        (GOOD | {"solution": ["1"]}, "column 'solution' must hold"),
        ({"reward_model": "x"}, "column 'puzzle' (or 'clues') is missing"),
        ({"reward_model": {}}, "column 'reward_model.ground_truth' must hold 'puzzle'"),
        ({"reward_model": {"ground_truth": "12"}}, "column 'reward_model.ground_truth' must hold 'puzzle'"),
        ({"reward_model": {"ground_truth": "{"}}, "column 'reward_model.ground_truth' is not JSON"),
        (
            {"reward_model": {"ground_truth": {"puzzle": GOOD["puzzle"]}}},
            "column 'reward_model.ground_truth.solution' is missing",
        ),
        ({"reward_model": {"ground_truth": {"solution": "1"}}}, "column 'reward_model.ground_truth.clues' is missing"),
    ],
)
def test_rows_are_refused_clearly(row, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TASK.from_row(row)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_zeros_in_front_are_kept(tmp_path, suffix):
    """Digits of a file without types, and grids that someone stored as numbers."""
    problems = [p for p in draw(TASK, 60, "4x4-hard") if p["clues"].startswith(".")][:8]
    clues = [cells_text(p["clues"]).replace(".", "0") for p in problems]
    frame = pd.DataFrame({"puzzle": clues, "solution": [cells_text(p["solution"]) for p in problems]})
    path = tmp_path / f"data.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    else:
        frame = frame.astype("int64")  # 0012... is 12... now
    if suffix == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif suffix == "parquet":
        frame.to_parquet(path)
    good, broken = common.problems_of(TASK, path, "compact")
    assert len(good) == 8 and not broken and [shown.problem for _, shown in good] == problems


def test_large_grids_in_csv(tmp_path):
    problems = draw(TASK, 3, "9x9-easy")
    clues = [cells_text(p["clues"]).replace(".", "0") for p in problems]
    text = "".join(f"{c},{cells_text(p['solution'])}\n" for c, p in zip(clues, problems))
    (tmp_path / "data.csv").write_text(f"quizzes,solutions\n{text}")
    columns = parse_columns("puzzle=quizzes,solution=solutions")
    good, broken = common.problems_of(TASK, Source(str(tmp_path / "data.csv"), columns), "compact")
    assert not broken and [shown.problem for _, shown in good] == problems


def test_rows_of_two_forms_in_one_file(tmp_path):
    rows = [GOOD, {"reward_model": {"ground_truth": GOOD}}]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    good, broken = common.problems_of(TASK, tmp_path / "data.jsonl", "compact")
    assert not broken and [shown.problem for _, shown in good] == [SIX, SIX]

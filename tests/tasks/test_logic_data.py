"""Knights & Knaves from data files in verl's format."""

import json
import random

import numpy as np
import pandas as pd
import pytest

from bench.types import UserError
from tasks import common
from tasks.logic import TASK
from tests.tasks.samples import DATA

REAL_DATA = DATA / "kk_logic_train.parquet"
ROW_TRUTH = {
    "names": ["Zoey", "Owen"],
    "solution": [True, False],
    "statements": "(('->', ('telling-truth', 1), ('lying', 0)), ('not', ('telling-truth', 0)))",
}
STEPS = ["Zoey is a knight, ", "as nothing speaks against it.\n", "Owen lies."]
ANSWER = "".join(STEPS) + " </think>\n<answer> (1) Zoey is a knight\n(2) Owen is a knave </answer>"
TO_ROW = {"knight": "telling-truth", "knave": "lying", "iff": "<=>", "implies": "->"}


def row_with(**changes) -> dict:
    return {"reward_model": {"ground_truth": ROW_TRUTH | changes}}


def as_tuple(statement) -> tuple:
    head, *parts = statement
    return (TO_ROW.get(head, head), *(as_tuple(part) if isinstance(part, list) else part for part in parts))


def verl_row(problem) -> dict:
    shown = TASK.demonstrate(problem, "plain")
    truth = {
        "names": np.array(problem["names"], dtype=object),
        "solution": np.array(problem["solution"]),
        "statements": repr(tuple(map(as_tuple, problem["statements"]))),
    }
    return {
        "question": "Who is who? " + TASK.prompt(problem, "compact"),
        "hint": np.array(shown.steps, dtype=object),
        "answer": shown.text,
        "reward_model": {"ground_truth": truth, "style": "rule"},
    }


def test_rows_are_read():
    problem = TASK.from_row(row_with())
    assert TASK.prompt(problem, "compact") == "logic Zoey:Owen knight implies Zoey knave;Owen:not Zoey knight:"
    assert TASK.verify(problem, "<answer>(1) Zoey is a knight\n(2) Owen is a knave</answer>").correct
    assert "Assume Zoey is a knight. " in TASK.demonstrate(problem, "plain").text


def test_a_row_keeps_its_own_words():
    problem = TASK.from_row(row_with() | {"question": "Who?", "hint": STEPS, "answer": ANSWER})
    assert TASK.prompt(problem, "plain") == "Who?" and TASK.demonstrate(problem, "plain").steps == tuple(STEPS)
    assert TASK.demonstrate(problem, "plain").text == ANSWER
    assert "Who?" not in TASK.prompt(problem, "chat") and "nothing speaks" not in TASK.demonstrate(problem, "chat").text
    other = TASK.from_row(row_with() | {"hint": [*STEPS, "More."], "answer": ANSWER})
    assert "steps" not in other  # the hint is no beginning of the answer


def test_files_of_rows(tmp_path):
    rng = random.Random(3)
    drawn = [TASK.generate(rng, level) for level in ("3to7", "4-nested", "8") for _ in range(12)]
    rows = [verl_row(problem) for problem in drawn]
    pd.DataFrame([*rows, rows[0]]).to_parquet(tmp_path / "data.parquet")
    splits = common.from_file(TASK, tmp_path / "data.parquet", "plain")
    assert sum(map(len, splits.values())) == len(rows)
    for example in (e for part in splits.values() for e in part):
        row = rows[int(example.id.rpartition("/")[2])]
        assert example.prompt == row["question"] and example.demonstration.steps == tuple(row["hint"])
        assert TASK.verify(example.problem, row["answer"]).correct and json.dumps(example.problem)
    rows[5]["answer"] = rows[6]["answer"]
    pd.DataFrame(rows).to_parquet(tmp_path / "data.parquet")
    with pytest.raises(UserError, match=r"row 5 .*column 'answer' is wrong"):
        common.from_file(TASK, tmp_path / "data.parquet", "plain")


@pytest.mark.parametrize(
    "name", ["Zo\u00eb", "Zoe\u0308", "Mary Ann", "Anna-Lena", "O\u2019Brien", "Jean-Luc", "\u674e\u96f7", "Zoey Ann"]
)
def test_names_that_are_more_than_an_english_word(name):
    problem = TASK.from_row(row_with(names=["Zoey", name]))
    for template in TASK.templates:
        assert name in TASK.prompt(problem, template)
        assert TASK.verify(problem, TASK.demonstrate(problem, template).text).correct
    assert TASK.verify(problem, f"<answer>**{name}**: Knave\nZoey is a KNIGHT.</answer>").correct
    assert not TASK.verify(problem, f"<answer>**{name}**: Knight\nZoey is a KNIGHT.</answer>").correct
    answered = row_with(names=["Zoey", name]) | {"answer": f"<answer>Zoey is a knight\n{name} is a knave</answer>"}
    assert TASK.from_row(answered)["names"] == ["Zoey", name]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("statements", "__import__('os')"),
        ("statements", "(" * 3000),
        ("statements", "(" * 5000),
        ("statements", "('lying', 0)"),
        ("statements", "(('lying', 0),)"),
        ("statements", "(('lying', 2), ('lying', 0))"),
        ("statements", "(('lying', True), ('lying', 0))"),
        ("statements", "(('maybe', ('lying', 0)), ('lying', 0))"),
        ("statements", "(('and', ('lying', 0)), ('lying', 0))"),
        ("names", ["Zoey", "Zoey"]),
        ("names", ["Zoey", "a knave"]),
        ("names", ["Zoey", "Mary and Ann"]),
        ("names", ["Zoey", "Is"]),
        ("names", ["Zoey", "Ann (the tall)"]),
        ("names", ["Zoey", "Ann, Mary"]),
        ("names", ["Zoey", "Ann--Lena"]),
        ("names", ["Zoey", "A" * 61]),
        ("names", ["Zoey", ""]),
        ("names", ["Zo\u00eb", "Zoe\u0308"]),
        ("names", ["O'Brien", "O\u2019Brien"]),
        ("solution", [True, True]),
        ("solution", None),
    ],
)
def test_broken_rows_name_the_column(part, value):
    expected = r"reward_model\.ground_truth" + (f".{part}" if value is not None else "")
    with pytest.raises(ValueError, match=expected):
        TASK.from_row(row_with(**{part: value}))


@pytest.mark.parametrize(
    ("column", "value"),
    [("answer", "<answer>Zoey knave, Owen knave</answer>"), ("answer", "Zoey is a knight"), ("hint", "Assume")],
)
def test_broken_texts_name_the_column(column, value):
    with pytest.raises(ValueError, match=f"column '{column}'"):
        TASK.from_row(row_with() | {"answer": ANSWER, column: value})


def test_missing_row_column():
    with pytest.raises(ValueError, match=r"reward_model\.ground_truth"):
        TASK.from_row({"answer": "A knight"})


@pytest.mark.skipif(not REAL_DATA.exists(), reason="the data set is not on this machine")
def test_real_rows():
    """Every row's solution passes, another row's fails; four problems come twice and no row needs an exception."""
    rows = pd.read_parquet(REAL_DATA).to_dict("records")
    problems = [TASK.from_row(row) for row in rows]
    for row, problem, other in zip(rows, problems, [*problems[1:], problems[0]]):
        shown = TASK.demonstrate(problem, "plain")
        assert shown.text == row["answer"] and shown.steps == tuple(row["hint"])
        assert TASK.prompt(problem, "plain") == row["question"]
        assert TASK.verify(problem, shown.text).correct
        assert not TASK.verify(problem, other["ending"]).correct
        for template in ("compact", "chat"):
            assert TASK.verify(problem, TASK.demonstrate(problem, template).text).correct
    assert len(rows) == 4500 and len({TASK.key(problem) for problem in problems}) == 4496


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("solution", [True, None], "must hold true or false for each person"),
        ("solution", ["True", "False"], "must hold true or false for each person"),
        ("solution", "True", "must hold true or false for each person"),
        ("names", ["Zoey", None], "names' must hold texts"),
        ("names", [1, 2], "names' must hold texts"),
        ("statements", None, "column 'statements' is missing"),
        ("statements", [1], "column 'statements' is not a text"),
    ],
)
def test_cells_are_not_made_into_what_they_are_not(part, value, message):
    """A null is no knave and no name, and the text "False" is not true."""
    with pytest.raises(ValueError, match=message):
        TASK.from_row(row_with(**{part: value}))


def test_kinds_as_numbers_and_missing_texts():
    problem = TASK.from_row(row_with(solution=[1, 0]) | {"answer": float("nan"), "question": None, "hint": None})
    assert problem["solution"] == [True, False] and not {"steps", "prompt"} & set(problem)
    for column in ("question", "answer"):
        with pytest.raises(ValueError, match=f"column '{column}' is not a text"):
            TASK.from_row(row_with() | {column: [{"role": "user", "content": "Who?"}]})

"""Gold answers of data rows: missing ones, numbers by type, and rationales as GSM8K writes them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.plan.data import Source, parse_columns
from tasks import common
from tasks.math_ import TASK
from tests.helpers.commands import call

RATIONALE = "She sold 48/2 = <<48/2=24>>24 clips in May.\nIn all she sold 48+24 = <<48+24=72>>72 clips."
RENAMED = parse_columns("problem=question,solution=answer")
VERL = parse_columns("question=extra_info.question,answer=extra_info.answer")


def gsm8k(stated: str = "72", **changes: Any) -> dict[str, Any]:
    return {"question": "How many clips?", "answer": f"{RATIONALE}\n#### {stated}", **changes}


def verl(stated: str, truth: Any) -> dict[str, Any]:
    return {"reward_model": {"style": "rule", "ground_truth": truth}, "extra_info": {**gsm8k(stated), "index": 0}}


def store(folder: Path, suffix: str, rows: list[dict[str, Any]]) -> str:
    path = folder / f"rows.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("columns", [(), RENAMED], ids=["own names", "renamed"])
def test_the_answer_stands_after_the_last_mark(tmp_path: Path, suffix: str, columns: Any) -> None:
    golds = {"72": "72", "70,000": "70000", "-3": "-3", "1,234,567.5": "1234567.5", "$18": "$18", "1,2": "1,2"}
    source = Source(store(tmp_path, suffix, [gsm8k(stated) for stated in golds]), columns)
    good, broken = common.problems_of(TASK, source, "plain")
    assert not broken and [shown.problem["answer"] for _, shown in good] == list(golds.values())
    shown = good[0][1]
    assert shown.demonstration.steps == (
        *(" She sold 48/2 = 24 clips in May.\n",),
        "In all she sold 48+24 = 72 clips.",
    )
    assert shown.demonstration.ending == " </think>\n<answer> \\boxed{72} </answer>"
    assert "How many clips?" in shown.prompt
    for _, each in good:
        assert TASK.verify(each.problem, each.demonstration.text).correct
        assert "####" not in each.demonstration.text and "<<" not in each.demonstration.text
        assert not TASK.verify(each.problem, "<answer>73</answer>").correct


def test_what_follows_the_line_of_the_answer_is_left_out() -> None:
    problem = TASK.from_row({"problem": "?", "solution": "Half of 220 is 110.\n#### 110\nThe answer is: 110"})
    assert problem["answer"] == "110" and problem["steps"] == ["Half of 220 is 110."]


@pytest.mark.parametrize("truth", ["72", 72, 72.0, "72.0", f"{RATIONALE}\n#### 72"])
def test_rows_of_verl(tmp_path: Path, truth: Any) -> None:
    source = Source(store(tmp_path, "parquet", [verl("72", truth)]), VERL)
    [(_, shown)], broken = common.problems_of(TASK, source, "plain")
    assert not broken and TASK.verify(shown.problem, "<answer>72</answer>").correct
    assert shown.demonstration.steps[-1] == "In all she sold 48+24 = 72 clips."


def test_two_answers_of_one_row_agree() -> None:
    rows = [
        {"problem": "?", "solution": f"{RATIONALE}\n#### 73", "answer": 72},
        {"reward_model": {"ground_truth": "72"}, **gsm8k("73")},
    ]
    for row in rows:
        with pytest.raises(ValueError, match="ends in '#### 73', the gold answer is 72"):
            TASK.from_row(row)


def test_a_heading_is_no_answer() -> None:
    text = "#### Step 1\nAdd.\n\n#### Step 2: the sum\nIt is seven."
    problem = TASK.from_row({"problem": "?", "solution": text, "answer": 7})
    assert problem["answer"] == "7" and "".join(problem["steps"]) == text
    boxed = TASK.from_row({"problem": "?", "solution": "#### 3\nIt is $\\boxed{7}$."})
    assert boxed["answer"] == "7" and boxed["steps"] == ["#### 3\n"]
    with pytest.raises(ValueError, match="no readable"):
        TASK.from_row({"problem": "?", "solution": "##### 7"})


@pytest.mark.parametrize("gold", ["NA", "N/A", "n/a", "nil", "inf", "-inf", "Infinity", "+Inf", "#N/A", "NULL", "none"])
def test_texts_of_no_answer(gold: str) -> None:
    for row in (
        {"problem": "?", "solution": "Text", "answer": gold},
        {"reward_model": {"ground_truth": gold}, **gsm8k("7")},
    ):
        with pytest.raises(ValueError, match="no answer, but how a program"):
            TASK.from_row(row)


@pytest.mark.parametrize("stated", ["", "  ", ",", "--", "nan", "None"])
def test_a_mark_without_an_answer(stated: str) -> None:
    for row in (gsm8k(stated), {"problem": "?", "solution": "Text", "answer": gsm8k(stated)["answer"]}):
        with pytest.raises(ValueError, match=r"no answer after '####'|holds '(nan|None)': no answer"):
            TASK.from_row(row)


def test_the_fallback_is_not_the_column_that_was_renamed(tmp_path: Path) -> None:
    rows = [{"question": "How many?", "answer": "It is seven."}]
    source = Source(store(tmp_path, "jsonl", rows), RENAMED)
    assert common.problems_of(TASK, source, "plain") == (
        [],
        [(0, "column 'solution' has no readable \\boxed{} answer")],
    )


# --- golds by type ---------------------------------------------------------------------------------------------------


GOLDS: dict[str, tuple[pa.Array, list[str | None]]] = {  # what a column holds, and the golds of its rows
    "nullable integers": (pa.array([3, None, 2**53 + 1], pa.int64()), ["3", None, "9007199254740993"]),
    "floats": (pa.array([3.0, None, 0.1], pa.float64()), ["3.0", None, "0.1"]),
    "NaN": (pa.array([3.0, math.nan, math.inf], pa.float64()), ["3.0", None, None]),
    "single floats": (pa.array([0.1, None, 2.5], pa.float32()), ["0.1", None, "2.5"]),
    "nothing": (pa.nulls(3), [None, None, None]),
    "texts": (pa.array(["1/2", "", "  "]), ["1/2", None, None]),
    "marks": (pa.array(["nan", "None", "<NA>"]), [None, None, None]),
    "categories": (pa.array(["7", None, "7"]).dictionary_encode(), ["7", None, "7"]),
    "lists": (pa.array([["3"], [], None], pa.list_(pa.string())), [None, None, None]),
    "long": (pa.array(["1" * 1001, "1" * 1000, "x"]), [None, "1" * 1000, "x"]),
}


@pytest.mark.parametrize("name", GOLDS)
def test_golds_by_the_type_of_their_column(tmp_path: Path, name: str) -> None:
    column, golds = GOLDS[name]
    texts = ["one", "two", "three"]
    table = pa.table({"problem": texts, "solution": ["It is so."] * 3, "answer": column})
    pq.write_table(table, tmp_path / "rows.parquet")
    good, broken = common.problems_of(TASK, tmp_path / "rows.parquet", "plain")
    found: list[str | None] = [None] * 3
    for number, shown in good:
        found[number] = shown.problem["answer"]
    assert found == golds and [number for number, _ in broken] == [n for n, gold in enumerate(golds) if gold is None]
    assert all("column '" in reason for _, reason in broken)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_null_among_integers(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Pandas would make them the golds "3.0" and "nan"."""
    frame = pd.DataFrame({"problem": ["one", "two"], "solution": ["So.", "So."]})
    frame["answer"] = pd.array([3, None], dtype="Int64")
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    elif suffix == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    code, out, err = call(capsys, "tasks", "check", "math", "--data", path, "--json")
    found = json.loads(out)
    assert (code, err, found["passed"]) == (1, "", 1) and found["golds"]["most_frequent"][0]["gold"] == "3"
    assert [entry["row"] for entry in found["unreadable"]] == [1]
    code, out, err = call(capsys, "run", "--task", "math", "--methods", "base", "--data", path, "--dry-run")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"rows.{suffix}': row 1 (counted from 0): column 'solution' has no readable" in err
    assert "column 'answer' is missing" in err


@pytest.mark.parametrize(
    ("row", "level", "subject"),
    [
        ({"level": 3, "type": "Algebra"}, 3, "Algebra"),
        ({"level": 3.0, "type": None, "subject": "Number Theory"}, 3, "Number Theory"),
        ({"level": "Level 5", "type": math.nan}, 5, None),
        ({"level": math.nan, "type": ""}, None, None),
        ({"level": None}, None, None),
        ({"level": "Level ?"}, None, None),
    ],
)
def test_levels_and_subjects(row: dict[str, Any], level: int | None, subject: str | None) -> None:
    problem = TASK.from_row({"problem": "?", "solution": "\\boxed{1}", **row})
    assert (problem["level"], problem["subject"]) == (level, subject)


@pytest.mark.parametrize("column", ["problem", "solution"])
@pytest.mark.parametrize("value", [None, math.nan, "", 3, ["x"]])
def test_texts_are_texts(column: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"column '{column}' is (missing|not a text)"):
        TASK.from_row({"problem": "?", "solution": "\\boxed{1}", column: value})

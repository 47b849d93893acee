"""`bench tasks check` counts near duplicates and names rows that contradict each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.audit import near_duplicates
from tasks.countdown import TASK
from tests.helpers.commands import call

CHECK = ("tasks", "check")


def numbers(*sets: str) -> list[dict[str, Any]]:
    """Problems such as "3,7,12=22"."""
    parts = [text.split("=") for text in sets]
    return [{"numbers": [int(n) for n in left.split(",")], "target": int(right)} for left, right in parts]


def test_counts_by_hand() -> None:
    drawn = {
        "train": numbers("3,7,12=22", "1,2,4=7", "1,2,4=8"),
        "val": numbers("5,6,7=18"),
        # The same problem in another order, its numbers with another target twice, numbers of no training problem.
        "test": numbers("12,3,7=22", "7,12,3=84", "3,7,12=3", "2,4,1=10", "9,9,9=27", "9,9,9=9", "8,8,8=24"),
    }
    found = near_duplicates.counted(TASK, drawn, "")
    assert found["keys"]["same problem"] == {
        "val": {"in_train": 0, "classes": 1, "largest": 1},
        "test": {"in_train": 1, "classes": 7, "largest": 1},
    }
    assert found["keys"]["number set"] == {
        "val": {"in_train": 0, "classes": 1, "largest": 1},
        "test": {"in_train": 4, "classes": 4, "largest": 3},
    }
    text = near_duplicates.near_text(found)
    assert "3 train, 1 val, 7 test problems" in text and "4 (4, 3)" in text


def test_generated_problems_of_the_default_level(capsys: pytest.CaptureFixture[str]) -> None:
    """282 of 500 was counted by an independent script, with the embedded model's 4,000 training problems."""
    code, out, err = call(capsys, *CHECK, "countdown", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "") and found["sizes"] == {"train": 4000, "val": 200, "test": 500, "ood": 200}
    assert found["keys"]["number set"]["test"]["in_train"] == 282
    assert {counts["in_train"] for counts in found["keys"]["same problem"].values()} == {0}


def test_a_split_by_the_key_shares_none(capsys: pytest.CaptureFixture[str]) -> None:
    words = (*CHECK, "countdown", "--train-size", "300", "--split-by", "number set")
    code, out, _ = call(capsys, *words)
    assert code == 0 and out.endswith(
        "Split by number set: 0 of 700 problems of val and test share theirs with training.\n"
    )


def math_rows(path: Path, *pairs: tuple[str, str]) -> Path:
    rows = [{"problem": text, "solution": f"It is \\boxed{{{gold}}}."} for text, gold in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_one_prompt_with_two_golds_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [("What is $1+1$?", "2"), ("Half of one?", "0.5"), ("What is $1+2$?", "3"), ("What is  $1+1$?", "3")]
    pairs += [("Half of one?", "\\frac{1}{2}"), ("What is $1+1$?", "2")]
    path = math_rows(tmp_path / "rows.jsonl", *pairs)
    code, out, _ = call(capsys, *CHECK, "math", "--data", path, "--json")
    found = json.loads(out)
    assert code == 1 and found["contradictions"] == [{"row": 3, "contradicts": 0}]
    sizes = found["near_duplicates"]["sizes"]
    assert sum(sizes.values()) == 3  # three different problems
    code, out, _ = call(capsys, *CHECK, "math", "--data", path)
    assert code == 1 and "row 3 contradicts row 0, which has the same prompt" in out
    fine = math_rows(tmp_path / "fine.jsonl", *pairs[:3], pairs[4], pairs[5])
    assert call(capsys, *CHECK, "math", "--data", fine)[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("countdown", "--split-by", "number sets"), "did you mean number set?"),
        (("countdown", "--split-by", ""), "--split-by is empty"),
        (("countdown", "--level", "33"), "did you mean 3"),
        (("countdown", "--level", "3", "--data", "x.jsonl"), "--level chooses generated problems and --data"),
        (("countdown", "--columns", "a=b"), "--columns is for rows of a data file"),
        (("sudoku", "--split-by", "grid class"), "has 2 classes of it, 1 in train, 0 in val, 0 in test"),
    ],
)
def test_wrong_words(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, *CHECK, *words)
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err

"""`bench tasks check` names the rows whose answer fails, that cannot be read, or that accept a foreign answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.audit import data_check
from bench.plan.data import Source
from bench.types import Verdict
from tasks.countdown import TASK
from tests.helpers.commands import call
from tests.plan.test_data import ROWS, write

NAMES = ("failed", "unreadable", "foreign")


def test_right_rows_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "rows.parquet")
    code, out, err = call(capsys, "tasks", "check", "countdown", "--data", path)
    assert (code, err) == (0, "") and f"{len(ROWS)} rows: {len(ROWS)} pass, 0 fail, 0 unreadable; 0 accept" in out
    code, out, _ = call(capsys, "tasks", "check", "countdown", "--data", path, "--json")
    found = json.loads(out)
    assert code == 0 and found["passed"] == found["rows"] == len(ROWS) and not any(found[name] for name in NAMES)


def test_faulty_rows_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [ROWS[0], {**ROWS[1], "answer": "<answer>1+1</answer>"}, {"target": 3}, *ROWS[3:]]
    code, out, _ = call(capsys, "tasks", "check", "countdown", "--data", write(tmp_path / "r.jsonl", rows))
    assert (
        code == 1 and "row 1 unreadable: column 'answer' is wrong" in out and "row 2 unreadable: column 'nums'" in out
    )


@dataclass
class Lenient:
    """Countdown whose verifier accepts everything for one problem, and nothing for another."""

    accepting: list[int]
    refusing: list[int]

    def __getattr__(self, name: str) -> Any:
        return getattr(TASK, name)

    def verify(self, problem: dict[str, Any], text: str) -> Verdict:
        if problem["numbers"] == self.accepting:
            return Verdict(True, 1.0, "anything goes")
        if problem["numbers"] == self.refusing:
            return Verdict(False, 0.0, "nothing goes")
        return TASK.verify(problem, text)


def test_a_lenient_and_a_strict_verifier_are_found(tmp_path: Path) -> None:
    source = Source(str(write(tmp_path / "rows.jsonl")))
    found = data_check.check_rows(Lenient(ROWS[4]["nums"], ROWS[7]["nums"]), source, "compact")  # type: ignore[arg-type]
    assert found["foreign"] == [{"row": 4, "accepts_answer_of": 5}]
    assert found["failed"] == [{"row": 7, "reason": "nothing goes"}]
    assert found["passed"] == len(ROWS) - 1 and not data_check.clean(found)
    assert "row 4 accepts the answer of row 5" in data_check.check_text(found)


def test_equal_answers_are_not_faults(tmp_path: Path) -> None:
    same = [{**ROWS[0], "nums": list(reversed(ROWS[0]["nums"]))}, ROWS[0]]  # the same problem twice
    found = data_check.check_rows(TASK, Source(str(write(tmp_path / "rows.jsonl", same))), "compact")
    assert found["foreign"] == [] and found["untested_against_others"] == 2 and data_check.clean(found)


def test_long_lists_are_cut_in_the_text_only(tmp_path: Path) -> None:
    rows = [{**row, "answer": "none"} for row in ROWS]
    found = data_check.check_rows(TASK, Source(str(write(tmp_path / "rows.jsonl", rows))), "compact")
    assert len(found["unreadable"]) == len(ROWS)
    assert data_check.check_text(found).endswith(f"... and {len(ROWS) - data_check.SHOWN} more (--json lists all)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("check",), "Missing argument 'NAME'"),
        (("check", "countdwn", "--data", "x.jsonl"), "did you mean countdown?"),
        (("check", "countdown", "sudoku", "--data", "x.jsonl"), "(sudoku)"),
        (("check", "countdown", "--data", "x.jsonl", "--template", "plane"), "did you mean plain?"),
        (("check", "countdown", "--data", "x.jsonl"), "data file 'x.jsonl' does not exist"),
    ],
)
def test_wrong_words(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "tasks", *words)
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err

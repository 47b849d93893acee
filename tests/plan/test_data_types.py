"""Every cell keeps the type that its file gives it, in parquet, Arrow, JSON lines and CSV."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.plan.data import Source, data_digest, parse_columns, read_rows, rename_columns
from bench.types import UserError
from tests.helpers.commands import call
from tests.plan.test_data import write

BIG = 2**53 + 1  # the first whole number that no float is
COLUMNS: dict[str, pa.Array] = {
    "integer": pa.array([3, None, BIG], pa.int64()),
    "small": pa.array([3, None, 5], pa.int8()),
    "float": pa.array([3.0, None, 0.1], pa.float64()),
    "single": pa.array([0.1, None, 3.0], pa.float32()),
    "decimal": pa.array([Decimal("3.00"), None, Decimal("0.10")], pa.decimal128(10, 2)),
    "truth": pa.array([True, None, False], pa.bool_()),
    "text": pa.array(["3", None, "004"], pa.large_string()),
    "category": pa.array(["a", None, "a"]).dictionary_encode(),
    "nothing": pa.nulls(3),
    "day": pa.array([datetime.date(2024, 1, 5), None, None], pa.date32()),
    "list": pa.array([[1, None], None, [BIG]], pa.list_(pa.int64())),
    "struct": pa.array([{"n": 3}, None, {"n": None}], pa.struct([("n", pa.int64())])),
}
CELLS: dict[str, list[Any]] = {  # by hand
    "integer": [3, None, 9007199254740993],
    "small": [3, None, 5],
    "float": [3.0, None, 0.1],
    "single": [0.1, None, 3.0],
    "decimal": [Decimal("3.00"), None, Decimal("0.10")],
    "truth": [True, None, False],
    "text": ["3", None, "004"],
    "category": ["a", None, "a"],
    "nothing": [None, None, None],
    "day": [datetime.date(2024, 1, 5), None, None],
    "list": [[1, None], None, [9007199254740993]],
    "struct": [{"n": 3}, None, {"n": None}],
}


def typed(rows: list[dict[str, Any]], column: str) -> list[tuple[type, Any]]:
    return [(type(row[column]), row[column]) for row in rows]


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_columns_of_tables(tmp_path: Path, suffix: str, column: str) -> None:
    table, path = pa.table(COLUMNS), tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    assert typed(read_rows(path), column) == [(type(value), value) for value in CELLS[column]]


def test_columns_that_pandas_wrote(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "integer": pd.array([3, None, BIG], dtype="Int64"),
            "text": pd.array(["3", None, "004"], dtype="string"),
            "truth": pd.array([True, None, False], dtype="boolean"),
            "category": pd.Categorical(["a", None, "a"]),
        },
        index=[7, 5, 3],
    )
    frame.to_parquet(tmp_path / "rows.parquet")
    rows = read_rows(tmp_path / "rows.parquet")
    assert list(rows[0]) == list(frame.columns)  # the index is no column
    for column in frame.columns:
        assert typed(rows, column) == [(type(value), value) for value in CELLS[column]]


def test_json_lines(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f'{{"a": 3, "b": 3.0, "c": "003", "d": null, "e": [{BIG}], "f": true}}\n')
    [row] = read_rows(tmp_path / "rows.jsonl")
    assert row == {"a": 3, "b": 3.0, "c": "003", "d": None, "e": [BIG], "f": True}
    assert [type(value) for value in row.values()] == [int, float, str, type(None), list, bool]


def test_every_cell_of_csv_is_a_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"puzzle": ["0012", "1,2"], "n": pd.array([3, None], dtype="Int64"), "x": [None, 'say "x"\n']})
    frame.to_csv(tmp_path / "rows.csv", index=False, encoding="utf-8-sig")
    expected = [{"puzzle": "0012", "n": "3", "x": None}, {"puzzle": "1,2", "n": None, "x": 'say "x"\n'}]
    assert read_rows(tmp_path / "rows.csv") == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.csv", b"a,b\n1\n", "line 2 has 1 cells, the first line names 2 columns"),
        ("r.csv", b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells"),
        ("r.csv", b"a,a\n1,2\n", "two columns have one name: a, a"),
        ("r.csv", b'a\n"1\n', "not readable as CSV"),
        ("r.csv", b"a\n\xff\n", "not readable as CSV"),
        ("r.csv", b"a\n" + b"1" * 200_000, "not readable as CSV: field larger"),
        ("r.csv", b"a,b\n", "has no rows"),
        ("r.csv", b"", "has no rows"),
        ("r.jsonl", b"\n", "has no rows"),
        ("r.jsonl", b'{"a": ' + b"[" * 200_000, "line 1 is not JSON"),
        ("r.jsonl", b'{"a": ' + b"9" * 5000 + b"}", "line 1 is not JSON"),
    ],
)
def test_broken_files_in_one_line(
    tmp_path: Path, name: str, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    code, out, err = call(capsys, "tasks", "check", "countdown", "--data", tmp_path / name)
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err and name in err


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_tables_without_rows(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    table, path = pa.table({"nums": pa.array([], pa.list_(pa.int64()))}), tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    for words in (("tasks", "check", "countdown"), ("run", "--methods", "base", "--dry-run")):
        code, out, err = call(capsys, *words, "--data", path)
        assert (code, out, err.count("\n")) == (2, "", 1) and "has no rows" in err


def test_a_table_with_one_name_twice(tmp_path: Path) -> None:
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match="not readable as parquet: two columns have one name"):
        read_rows(tmp_path / "rows.parquet")


def test_a_renamed_column_has_one_name() -> None:
    row = {"question": "Q", "answer": "A", "extra": {"text": "T"}}
    moved = rename_columns(row, parse_columns("problem=question,solution=answer"))
    assert moved == {"problem": "Q", "solution": "A", "extra": {"text": "T"}}
    assert rename_columns(row, parse_columns("solution=answer,answer=answer")) == {**row, "solution": "A"}
    nested = rename_columns(row, parse_columns("answer=extra.text"))
    assert nested == {**row, "answer": "T"}


def test_identities_are_those_of_before(tmp_path: Path) -> None:
    """The digests were taken when pandas still read the rows."""
    rows: list[dict[str, Any]] = [
        {"nums": [3, 4, 5], "target": 12, "answer": "<answer>3+4+5</answer>", "score": 0.5, "id": 2**60},
        {"nums": [1, 2], "target": 3, "answer": "x", "score": 1.0, "id": 7},
    ]
    for row, truth in zip(rows, ({"names": ["a"], "ok": [True]}, {"names": ["b"], "ok": [False]})):
        row["truth"] = truth
    order = ("nums", "target", "answer", "score", "truth", "id")
    rows = [{name: row[name] for name in order} for row in rows]
    write(tmp_path / "a.parquet", rows)
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert data_digest(Source(str(tmp_path))) == "0e286e7bafadd7c5dc916fc07347f850"
    assert data_digest(Source(str(tmp_path / "b.jsonl"))) == "15fcf49264a676285af0599df54f028b"

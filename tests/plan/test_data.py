"""Rows from files, folders and the hub: the same rows whatever the form, and one clear line for what is broken."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from bench.plan.data import Source, data_digest, parse_columns, read_rows, rename_columns
from bench.types import UserError
from tasks import common
from tasks.countdown import TASK
from tests.helpers.commands import call

ROWS: list[dict[str, Any]] = [
    {"nums": [i, i + 1, 2], "target": 2 * i + 3, "answer": f"<answer>{i}+{i + 1}+2</answer>"} for i in range(3, 60)
]


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """One file in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".arrow":
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "nums": [int(n) for n in row["nums"]]} for row in rows]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "json", "arrow"])
def test_every_file_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    assert plain(read_rows(write(tmp_path / f"rows.{suffix}"))) == ROWS


def test_folders_as_saved_by_datasets_and_as_on_the_hub(tmp_path: Path) -> None:
    for number, part in enumerate((ROWS[:30], ROWS[30:50])):
        write(tmp_path / "saved" / "train" / f"data-0000{number}-of-00002.arrow", part)
        write(tmp_path / "hub" / "data" / f"train-0000{number}-of-00002.parquet", part)
    write(tmp_path / "saved" / "test" / "data-00000-of-00001.arrow", ROWS[50:])
    write(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet", ROWS[50:])
    for name in ("dataset_info.json", "state.json"):
        (tmp_path / "saved" / "train" / name).write_text("{}")
    write(tmp_path / "saved" / "train" / "cache-1.arrow", ROWS[:1])
    for folder in ("saved", "hub"):
        assert plain(read_rows(f"{tmp_path / folder}@train")) == ROWS[:50]
        assert plain(read_rows(f"{tmp_path / folder}@test")) == ROWS[50:]
        assert plain(read_rows(tmp_path / folder)) == ROWS[50:] + ROWS[:50]  # in order of the files' names
    with pytest.raises(UserError, match="no files of split 'dev' to read"):
        read_rows(f"{tmp_path / 'hub'}@dev")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no files to read: expected"):
        read_rows(tmp_path / "empty")


def test_columns_are_renamed_also_nested_ones(tmp_path: Path) -> None:
    rows = [{"q": {"numbers": row["nums"]}, "goal": row["target"], "text": row["answer"]} for row in ROWS]
    path = write(tmp_path / "rows.jsonl", rows)
    columns = parse_columns("nums=q.numbers, target=goal,answer=text")
    found = common.from_file(TASK, Source(str(path), columns), "compact")
    assert sum(map(len, found.values())) == len(ROWS)
    with pytest.raises(UserError, match=r"no column 'p.nums': it has q, goal, text"):
        read_rows(Source(str(path), parse_columns("nums=p.nums")))
    with pytest.raises(UserError, match=r"row 0 .*: column 'q.nums' is missing; 56 more rows"):
        common.from_file(TASK, Source(str(path), parse_columns("nums=q.nums")), "compact")
    swapped = rename_columns({"answer": "A", "question": "Q"}, parse_columns("answer=question,question=answer"))
    assert swapped == {"answer": "Q", "question": "A"}
    with pytest.raises(UserError, match="a file has no splits"):
        read_rows(f"{path}@test")
    path.write_text(path.read_text() + "\n \n")
    assert len(read_rows(path)) == len(ROWS)
    with pytest.raises(UserError, match="malformed columns 'nums': expected EXPECTED=COLUMN"):
        parse_columns("nums")
    assert parse_columns(None) == ()


def test_broken_rows_are_named_or_skipped(tmp_path: Path) -> None:
    rows = [ROWS[0], {**ROWS[1], "answer": "<answer>1+1</answer>"}, {"target": 3}, *ROWS[3:]]
    path = write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError, match=r"row 1 \(counted from 0\): column 'answer' is wrong.*; 1 more rows are"):
        common.from_file(TASK, path, "compact")
    found = common.from_file(TASK, Source(str(path), skip_broken=True), "compact")
    assert sum(map(len, found.values())) == len(ROWS) - 2
    assert [number for number, _ in common.problems_of(TASK, path, "compact")[1]] == [1, 2]


def test_identity_is_that_of_the_content(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a" / "rows.jsonl"), write(tmp_path / "b" / "other.jsonl")
    assert data_digest(Source(str(one))) == data_digest(Source(str(two)))
    assert data_digest(Source(str(one))) != data_digest(Source(str(write(tmp_path / "c.jsonl", ROWS[1:]))))
    assert data_digest(Source(str(one))) != data_digest(Source(str(one), (("answer", "answer"),)))
    assert data_digest(Source(str(tmp_path / "a"))) == data_digest(
        Source(str(tmp_path / "b"))
    )  # folders, by their rows
    assert Source(str(one)).name == "rows.jsonl" and Source("owner/set:main@test").name == "owner/set:main@test"


def test_names_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*arguments: Any, **named: Any) -> list[dict[str, Any]]:
        asked.append((*arguments, named))
        if arguments[0] == "owner/gone":
            raise ConnectionError("no route\nto the hub")
        return ROWS

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    assert read_rows("owner/set") == ROWS == read_rows("owner/set:hard@test")
    assert asked == [("owner/set", None, {"split": "train"}), ("owner/set", "hard", {"split": "test"})]
    with pytest.raises(UserError, match=r"data 'owner/gone' .* could not be loaded from the hub: no route$"):
        read_rows("owner/gone")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs: pip install 'posttrain-bench\[data\]'"):
        read_rows("owner/set")


@pytest.mark.parametrize("name", ["rows.jsonl", "missing/rows.parquet", "a/b/c", "word"])
def test_missing_files_are_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(UserError, match=f"data file '{name}' does not exist"):
        read_rows(name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", '{"a": 1}\n[1]\n', "line 2 is not a JSON object"),
        ("rows.jsonl", '{"a": 1}\nx\n', "line 2 is not JSON"),
        ("rows.parquet", "x", "not readable as parquet"),
        ("rows.arrow", "x", "not readable as Arrow"),
        ("rows.txt", "x", "expected .parquet, .jsonl, .json, .arrow, .csv"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_rows(tmp_path / name)


def test_a_run_reads_renamed_columns_and_skips_broken_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"nums": row["nums"], "goal": row["target"], "answer": row["answer"]} for row in ROWS]
    path = write(tmp_path / "rows.jsonl", [*rows, {"goal": 1}])
    order = ("run", "--methods", "base", "--seeds", 1, "--results", tmp_path / "runs", "--data", path)
    order += ("--dry-run", "--columns", "target=goal", "--json")
    code, _, err = call(capsys, *order)
    assert code == 2 and "row 57" in err and "'nums' is missing" in err
    code, out, err = call(capsys, *order, "--skip-broken")
    assert (code, err) == (0, "") and len(json.loads(out)) == 1

"""Tables that are kept: shown again only while every file behind them is the same, whatever sizes and times say."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.analysis import records
from bench.plan import registry
from bench.report import kept_tables
from bench.store import passport
from bench.store.files import write_atomic
from bench.store.run_folder import VERDICTS
from benchmarks import scale
from tests.helpers.commands import call
from tests.helpers.synthetic import write_run


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six made-up runs with packed verdicts, and one from before there were any."""
    results = tmp_path / "runs"
    scale.make(scale.planned(6, results), results)
    write_run(results, "sft", "logic", num_items=6)
    monkeypatch.setattr(kept_tables, "FEWEST", 1)
    monkeypatch.setattr(kept_tables, "tables_folder", lambda: tmp_path / "tables")
    return results


def fresh(capsys: Any, monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str, str]:
    """What the command prints where nothing is kept."""
    passport.passport_at.cache_clear()  # what a process remembers; another one begins without it
    passport.checked_at.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(kept_tables, "FEWEST", 10**9)
        return call(capsys, *words)


def changed(file: Path, change: Callable[[bytes], bytes]) -> None:
    """Write another content of the same size, and give the file the times of before."""
    before, content = file.stat(), file.read_bytes()
    new = change(content)
    assert len(new) == len(content) and new != content
    file.write_bytes(new)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def first(results: Path, pattern: str) -> Path:
    return sorted(results.glob(pattern))[0]


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old, new, 1)


def unfinished(results: Path) -> None:
    folder = results / "sft-countdown-tiny-s9-000000000000"
    folder.mkdir()
    plan = json.loads(first(results, "sft-countdown*/plan.json").read_text()) if list(results.glob("sft-c*")) else None
    plan = plan or json.loads(first(results, "*/plan.json").read_text())
    write_atomic(folder / "plan.json", {**plan, "seed": 9})


def other_passport(results: Path) -> None:
    changed(first(results, "passports/*.json"), swap(b'"passed": true', b'"passed": 0   '))


# Each is a change that a table shows: by another figure, a mark, a warning, or a run that is left out.
CHANGES: dict[str, Callable[[Path], Any]] = {
    "verdicts": lambda r: changed(first(r, f"*/{VERDICTS}"), lambda c: c[:200] + bytes([c[200] ^ 1]) + c[201:]),
    "plan": lambda r: changed(first(r, "*/plan.json"), swap(b'"seed": 0', b'"seed": 7')),
    "done": lambda r: changed(first(r, "base*/done.json"), swap(b'"rollouts": 10000', b'"rollouts": 90000')),
    "environment": lambda r: changed(first(r, "base*/env.json"), swap(scale.KEY.encode(), b"f" * 12)),
    "an environment that is no JSON": lambda r: changed(first(r, "base*/env.json"), swap(b'["x", ', b'["\\q",')),
    "completions of a run from before": lambda r: changed(
        first(r, "sft-logic*/items.jsonl"), lambda c: c.replace(b'"correct":true', b'"correct":null')
    ),
    "a record that no table reads": lambda r: os.truncate(first(r, "sft-logic*/metrics.jsonl"), 1),
    "passport": other_passport,
    "a run that is gone": lambda r: first(r, "base*").rename(r.parent / "gone"),
    "an unfinished run": unfinished,
    "a new run": lambda r: write_run(r, "grpo", "logic", num_items=6),
}


def test_a_kept_table_is_shown_without_reading_runs(store: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("leaderboard", "--results", store)
    expected = fresh(capsys, monkeypatch, *words)
    assert expected[::2] == (0, "") and call(capsys, *words) == expected
    assert len(list(kept_tables.tables_folder().iterdir())) == 1
    monkeypatch.setattr(records, "load_run", lambda *_, **__: pytest.fail("a run was read"))
    assert call(capsys, *words) == expected
    monkeypatch.undo()


@pytest.mark.parametrize("name", CHANGES)
def test_no_change_behind_its_back_is_missed(
    store: Path, name: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("leaderboard", "--results", store)
    before = call(capsys, *words)
    CHANGES[name](store)
    expected = fresh(capsys, monkeypatch, *words)
    assert call(capsys, *words) == expected != before
    assert call(capsys, *words) == expected, "and again"


def test_other_options_and_damaged_or_absent_caches(store: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("leaderboard", "--results", store)
    expected = call(capsys, *words)
    for more in (("--json",), ("--metric", "greedy"), ("--task", "logic"), ("--pairs",)):
        assert call(capsys, *words, *more) == fresh(capsys, monkeypatch, *words, *more)
        assert call(capsys, *words, *more) != expected
    for file in kept_tables.tables_folder().iterdir():
        changed(file, swap(b"sft", b"fts"))
    assert call(capsys, *words) == expected
    blocked = store.parent / "file"
    blocked.write_text("")
    monkeypatch.setattr(kept_tables, "tables_folder", lambda: blocked / "tables")
    assert call(capsys, *words) == expected


@pytest.mark.parametrize("name", ["store/stored_run.py", "plan/recipes.py", "report/html/templates/leaderboard.css"])
def test_other_code_makes_other_tables(store: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a run does not load, and those that are no code, make tables too."""
    file, cached = tmp_path / "program" / "bench" / name, tmp_path / "program" / "bench" / "__pycache__" / "x.pyc"
    for path in (file, cached):
        path.parent.mkdir(parents=True)
        path.write_text("before")
    monkeypatch.setattr(registry, "ROOT", tmp_path / "program")
    key = kept_tables.table_key(store, {})
    cached.write_text("after")
    assert key is not None and kept_tables.table_key(store, {}) == key
    changed(file, lambda content: b"behind")
    assert kept_tables.table_key(store, {}) not in (key, None)

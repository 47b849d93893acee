"""Passports: what identifies a stack, how checks are kept, and how the leaderboard marks rows by them."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.board import leaderboard
from bench.audit import stack
from bench.plan import registry
from bench.plan.spec import Stage, resolve
from bench.report.formats import render
from bench.store import passport
from tests.report.test_formats import record

KEY = "0123456789ab"


def one(name: str, method: str = "", passed: bool = True, task: str = "countdown") -> dict[str, Any]:
    """A check, of a method (NAME or NAME:VARIANT) with the settings that it has by default."""
    found = {"name": name, "method": method, "task": task, "passed": passed, "measured": 0.0, "tolerance": 0.0}
    return {**found, "settings": passport.settings(stage(method).fields)} if method else found


def stage(label: str, **changes: Any) -> Stage:
    name, _, variant = label.partition(":")
    return Stage(name=name, share=1.0, fields=resolve(name, variant or None, {}, changes))


def made(*found: dict[str, Any], key: str = KEY) -> dict[str, Any]:
    return {"key": key, "stack": {}, "checks": list(found), "seconds": 1.0, "created": "now"}


# --- identity ----------------------------------------------------------------------------------------------------


def test_the_source_digest_follows_every_python_file(tmp_path: Path) -> None:
    for package in ("bench", "methods", "tasks"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "a.py").write_text("x = 1\n")
    seen = [passport.source_digest(tmp_path)]
    for change in (
        lambda: (tmp_path / "methods" / "a.py").write_text("x = 2\n"),
        lambda: (tmp_path / "tasks" / "b.py").write_text(""),
        lambda: (tmp_path / "tasks" / "b.py").rename(tmp_path / "tasks" / "c.py"),
    ):
        change()
        seen.append(passport.source_digest(tmp_path))
    assert len(set(seen)) == 4
    (tmp_path / "tasks" / "notes.txt").write_text("no code")
    (tmp_path / "bench" / "analysis").mkdir()
    (tmp_path / "bench" / "analysis" / "board.py").write_text("reads finished runs")
    assert passport.source_digest(tmp_path) == seen[-1]


def test_the_source_digest_follows_the_modules_of_other_packages(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "mine.py").write_text("raise RuntimeError('not to be imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen = [passport.source_digest()]
    for module in ("kit.mine", "kit.absent", "absent"):
        found = {"mine": (registry.Source(module, "kit", "1.0"),)}
        monkeypatch.setattr(registry, "installed", lambda package, found=found: found if package == "methods" else {})
        seen.append(passport.source_digest())
    monkeypatch.setattr(registry, "installed", lambda package: {"mine": (registry.Source("kit.mine", "kit", "1.0"),)})
    seen.append(passport.source_digest())
    (tmp_path / "kit" / "mine.py").write_text("x = 2\n")
    seen.append(passport.source_digest())
    assert len(set(seen)) == len(seen) == 6


def test_the_identity_names_source_model_device_and_versions() -> None:
    stack = passport.identity("abc", "cpu")
    assert set(stack) == {"source", "model", "device", "python", *passport.LIBRARIES}
    assert (stack["model"], stack["device"], stack["source"]) == ("abc", "cpu", passport.source_digest())
    keys = {passport.stack_key({**stack, name: "other"}) for name in stack}
    assert len(keys | {passport.stack_key(stack)}) == len(stack) + 1


# --- merging and states ------------------------------------------------------------------------------------------


def test_a_repeated_preflight_keeps_the_other_methods_and_renews_its_own(tmp_path: Path) -> None:
    passport.save(tmp_path, made(one("mask", passed=False), one("micro-batches sft", "sft"), one("mask", task="math")))
    first = passport.read(tmp_path, KEY)
    assert first is not None and (first["passed"], first["methods"]) == (False, ["sft"])
    passport.save(tmp_path, made(one("mask"), one("micro-batches grpo", "grpo")))
    second = passport.read(tmp_path, KEY)
    assert second is not None and (second["passed"], second["methods"]) == (True, ["grpo", "sft"])
    assert [(c["name"], c["task"]) for c in second["checks"]] == [
        *(("mask", "countdown"), ("mask", "math")),
        *(("micro-batches grpo", "countdown"), ("micro-batches sft", "countdown")),
    ]


def test_states_of_a_run(tmp_path: Path) -> None:
    def state(keys: list[str], *methods: str) -> str:
        return passport.state(tmp_path, keys, "countdown", [stage(name) for name in methods])

    assert state([], "sft") == state([KEY], "sft") == "none"
    passport.save(tmp_path, made(one("mask"), one("micro-batches sft", "sft"), one("x", "grpo", passed=False)))
    assert state([KEY], "sft") == state([KEY]) == "passed"
    assert state([KEY], "sft", "uft") == "other methods"
    assert state([KEY], "grpo") == state([KEY], "sft", "grpo") == "failed"
    assert state([KEY, "beef"], "sft") == "none"  # it began on a stack that nobody checked
    passport.save(tmp_path, made(one("mask", passed=False)))
    assert state([KEY], "sft") == state([KEY], "uft") == state([KEY, "beef"]) == "failed"


def test_a_passport_vouches_for_the_settings_that_were_checked(tmp_path: Path) -> None:
    def state(label: str, **changes: Any) -> str:
        return passport.state(tmp_path, [KEY], "countdown", [stage(label, **changes)])

    passport.save(tmp_path, made(one("mask"), one("micro-batches grpo", "grpo")))
    assert state("grpo") == state("grpo", lr=1.0, num_updates=1, betas="0,0", group_size=9) == "passed"
    assert state("grpo:bnpo") == state("grpo", kl_coef=0.5) == "other methods"
    passport.save(tmp_path, made(one("micro-batches grpo:bnpo", "grpo:bnpo", passed=False)))
    assert state("grpo:bnpo") == state("grpo", aggregation="bnpo") == "failed"
    assert (state("grpo"), state("grpo:no-kl")) == ("passed", "other methods")
    assert state("grpo:on-policy") == "passed"  # another number of updates, the same loss


def test_a_passport_vouches_for_the_task_that_the_engine_was_checked_on(tmp_path: Path) -> None:
    def state(task: str) -> str:
        return passport.state(tmp_path, [KEY], task, [stage("sft")])

    passport.save(tmp_path, made(one("mask"), one("micro-batches sft", "sft")))
    assert (state("countdown"), state("math")) == ("passed", "other methods")
    passport.save(tmp_path, made(one("mask", task="math"), one("micro-batches grpo", "grpo", task="math")))
    assert state("math") == "passed"  # the check of the method may come from any task
    passport.save(tmp_path, made(one("mask", task="math", passed=False)))
    assert state("math") == state("countdown") == "failed"


def test_sizes_that_a_check_makes_small_are_no_settings() -> None:
    assert stack.SMALL.keys() <= registry.OPTIMIZER_FIELDS | passport.SIZES


def test_a_check_without_settings_vouches_for_no_method(tmp_path: Path) -> None:
    old = {k: v for k, v in one("micro-batches sft", "sft").items() if k != "settings"}
    passport.save(tmp_path, made(one("mask"), old))
    assert passport.state(tmp_path, [KEY], "countdown", [stage("sft")]) == "other methods"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "other", "checks": []}', '{"key": "0123456789ab"}'])
def test_an_unreadable_passport_vouches_for_nothing_and_is_replaced(tmp_path: Path, text: str) -> None:
    passport.location(tmp_path, KEY).parent.mkdir()
    passport.location(tmp_path, KEY).write_text(text)
    assert passport.state(tmp_path, [KEY], "countdown", []) == "none"
    passport.save(tmp_path, made(one("mask")))
    assert passport.state(tmp_path, [KEY], "countdown", []) == "passed"


def test_the_worst_run_decides() -> None:
    assert passport.worst(["passed", "passed"]) == "passed"
    assert passport.worst(["passed", "other methods"]) == "other methods"
    assert passport.worst(["none", "other methods"]) == "none"
    assert passport.worst(["none", "failed", "passed"]) == "failed"


# --- marks -------------------------------------------------------------------------------------------------------


def test_marks_and_notes_in_every_format() -> None:
    states = {"uft": "failed", "sft": "other methods", "base": "passed"}
    runs = [record(m, seed, [[1], [0]], passport=s) for m, s in states.items() for seed in (0, 1)]
    runs += [record("grpo", seed, [[1], [0]], passport=("none", "passed")[seed]) for seed in (0, 1)]
    board = leaderboard(runs)
    text = render(board, "table")
    for line in (r"^ uft ! +\d", r"^ sft ~ +\d", r"^ base +\d", r"^ grpo \? +\d"):
        assert re.search(line, text, re.M), line
    words = " ".join(text.split())
    assert "? no passport: " in words and "! failed preflight: " in words and "~ passport of other methods: " in words
    markdown = render(board, "markdown")
    assert "| uft ! |" in markdown and "| base |" in markdown and "- ? no passport: " in markdown
    latex = render(board, "latex")
    assert "\nuft ! & " in latex and "\nsft \\textasciitilde{} & " in latex and "? no passport: " in latex
    want = {**states, "grpo": "none"}
    assert {row["method"]: row["passport"] for row in json.loads(render(board, "json"))} == want
    assert {row["method"]: row["passport"] for row in csv.DictReader(io.StringIO(render(board, "csv")))} == want


def test_no_note_without_a_mark() -> None:
    text = render(leaderboard([record("uft", 0, [[1], [0]])]), "markdown")
    assert "passport" not in text and "preflight" not in text

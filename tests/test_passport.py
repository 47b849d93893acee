"""Passports: what identifies a stack, how checks are kept, and how the leaderboard marks rows by them."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench import checks, passport
from bench.evaluations import Split
from bench.formats import render
from bench.models import digest
from bench.records import load_run
from bench.report import leaderboard
from bench.runner import Run, execute
from bench.store import read_json, write_atomic
from tests.commands import call, model_with_defaults
from tests.runs import make_job
from tests.test_report import record

KEY = "0123456789ab"


def one(name: str, method: str = "", passed: bool = True, task: str = "countdown") -> dict[str, Any]:
    return {"name": name, "method": method, "task": task, "passed": passed, "measured": 0.0, "tolerance": 0.0}


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
    assert passport.source_digest(tmp_path) == seen[-1]


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
        return passport.state(tmp_path, keys, methods)

    assert state([], "sft") == state([KEY], "sft") == "none"
    passport.save(tmp_path, made(one("mask"), one("micro-batches sft", "sft"), one("x", "grpo", passed=False)))
    assert state([KEY], "sft") == state([KEY]) == "passed"
    assert state([KEY], "sft", "uft") == "other methods"
    assert state([KEY], "grpo") == state([KEY], "sft", "grpo") == "failed"
    assert state([KEY, "beef"], "sft") == "none"  # it began on a stack that nobody checked
    passport.save(tmp_path, made(one("mask", passed=False)))
    assert state([KEY], "sft") == state([KEY], "uft") == state([KEY, "beef"]) == "failed"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "other", "checks": []}', '{"key": "0123456789ab"}'])
def test_an_unreadable_passport_vouches_for_nothing_and_is_replaced(tmp_path: Path, text: str) -> None:
    passport.location(tmp_path, KEY).parent.mkdir()
    passport.location(tmp_path, KEY).write_text(text)
    assert passport.state(tmp_path, [KEY], []) == "none"
    passport.save(tmp_path, made(one("mask")))
    assert passport.state(tmp_path, [KEY], []) == "passed"


def test_the_worst_run_decides() -> None:
    assert passport.worst(["passed", "passed"]) == "passed"
    assert passport.worst(["passed", "other methods"]) == "other methods"
    assert passport.worst(["none", "other methods"]) == "none"
    assert passport.worst(["none", "failed", "passed"]) == "failed"


# --- marks -------------------------------------------------------------------------------------------------------


def test_marks_and_notes_in_every_format() -> None:
    states = {"uft": "failed", "sft": "other methods", "base": "passed"}
    runs = [record(m, 0, [[1], [0]], passport=s) for m, s in states.items()]
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


# --- the command and the runs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_with_defaults(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with one finished run of SFT."""
    results = tmp_path_factory.mktemp("finished")
    execute(make_job(model, results, "sft", "2steps"), save_policy=False)
    return results


def shown_passports(capsys: pytest.CaptureFixture[str], results: Path) -> list[str]:
    return [row["passport"] for row in json.loads(call(capsys, "leaderboard", "--results", results, "--json")[1])]


def test_a_run_is_stamped_and_its_row_marked_until_preflight_has_passed(
    model: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = [p.parent for p in finished.glob("*/done.json")]
    env = read_json(run / "env.json")
    assert env["stack"] == passport.identity(digest(str(model)), "cpu")
    assert (env["stack_key"], env["earlier_stack_keys"]) == (passport.stack_key(env["stack"]), [])
    options = ("--model", model, "--device", "cpu", "--results", finished)
    assert load_run(run).passport == "none"
    for methods, state in (("grpo", "other methods"), ("sft,sft+grpo", "passed")):
        code, out, _ = call(capsys, "preflight", "--methods", methods, *options)
        count = 12 if methods == "grpo" else 13
        last = rf"passport {env['stack_key']}: {count} of {count} checks passed in \d+\.\d s"
        assert code == 0 and re.fullmatch(last, out.splitlines()[-1]), out
        assert load_run(run).passport == state
    assert passport.read(finished, env["stack_key"])["methods"] == ["grpo", "sft"]
    assert shown_passports(capsys, finished) == ["passed"]


def test_a_failed_check_is_exit_code_1_and_marks_the_row(
    model: Path,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = tmp_path / "results"
    shutil.copytree(finished, results, ignore=shutil.ignore_patterns("passports"))
    monkeypatch.setattr(checks, "collate", lambda rows, device, pad_id=0: 1 / 0)
    options = ("--model", model, "--device", "cpu", "--results", results, "--methods", "sft")
    code, out, _ = call(capsys, "preflight", *options)
    assert code == 1
    assert re.search(r"^mask +error +FAILED$", out, re.M) and "mask: ZeroDivisionError: division by zero" in out
    assert re.search(r"^passport \w{12}: 8 of 12 checks passed", out, re.M)
    assert shown_passports(capsys, results) == ["failed"]
    monkeypatch.undo()
    code, out, _ = call(capsys, "preflight", *options, "--json")
    assert code == 0 and json.loads(out)["passed"] and len(json.loads(out)["checks"]) == 12


def test_a_resumed_run_remembers_the_stacks_it_began_on(model: Path, tmp_path: Path) -> None:
    plan = make_job(model, tmp_path, "sft").plan
    env = tmp_path / "env.json"
    first = passport.stamp(plan, env, resumed=True)
    assert first["earlier_stack_keys"] == []  # there is no record yet
    write_atomic(env, {**first, "stack_key": "old", "earlier_stack_keys": ["older"]})
    again = passport.stamp(plan, env, resumed=True)
    assert again["earlier_stack_keys"] == ["old", "older"]
    assert passport.stamp(plan, env, resumed=False)["earlier_stack_keys"] == []
    write_atomic(env, again)
    assert passport.stack_keys(env) == [first["stack_key"], "old", "older"]
    assert passport.stamp(plan, env, resumed=True)["earlier_stack_keys"] == ["old", "older"]


def test_a_run_interrupted_on_another_stack_needs_the_passports_of_both(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, original = make_job(model, tmp_path, "sft", "2steps"), Run.evaluate

    def evaluate(self: Run, split: Split, fraction: float) -> dict[str, Any]:
        if split.name == "test":
            raise KeyboardInterrupt
        return original(self, split, fraction)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "evaluate", evaluate)
        patch.setattr(passport, "source_digest", lambda: "other code")
        execute(job, save_policy=False)
    first = read_json(job.path / "env.json")
    assert first["stack"]["source"] == "other code"
    execute(job, save_policy=False)
    last = read_json(job.path / "env.json")
    assert last["stack_key"] != first["stack_key"] and last["earlier_stack_keys"] == [first["stack_key"]]
    keys = passport.stack_keys(job.path / "env.json")
    for key, state in zip(keys, ("none", "passed")):
        passport.save(tmp_path, made(one("mask"), one("micro-batches sft", "sft"), key=key))
        assert load_run(job.path).passport == state


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "sfd"), "unknown method 'sfd': did you mean sft"),
        (("--methods", ","), "no methods given"),
        (("--task", "countdwn"), "unknown task 'countdwn': did you mean countdown"),
        (("--device", "gpu"), "unknown device 'gpu'"),
        (("--model", "no-such-model"), "model 'no-such-model' does not exist"),
    ],
)
def test_bad_input_is_one_line(
    options: tuple[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "preflight", *options, "--results", tmp_path / "results")
    assert (code, out, len(err.splitlines())) == (2, "", 1) and err.startswith(f"error: {message}")
    assert not (tmp_path / "results" / "passports").exists()

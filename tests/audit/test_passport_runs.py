"""Passports of the command and of runs: what preflight writes, what runs record, and how leaderboards read both."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.records import load_run
from bench.audit import checks_batches as checks
from bench.audit.preflight import cover
from bench.engine.runner import Run, execute
from bench.engine.splits import Split
from bench.models import model_digest
from bench.store import passport
from bench.store.files import write_atomic
from bench.store.run_folder import read_json
from tests.helpers.commands import call, model_with_defaults
from tests.helpers.runs import make_job
from tests.store.test_passport import made, one, stage


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_with_defaults(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with one finished run of SFT."""
    results = tmp_path_factory.mktemp("finished")
    execute(make_job(model, results, "sft", "2steps"), keep="none")
    return results


def shown_passports(capsys: pytest.CaptureFixture[str], results: Path) -> list[str]:
    return [row["passport"] for row in json.loads(call(capsys, "leaderboard", "--results", results, "--json")[1])]


def test_a_run_is_stamped_and_its_row_marked_until_preflight_has_passed(
    model: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = [p.parent for p in finished.glob("*/done.json")]
    env = read_json(run / "env.json")
    assert env["stack"] == passport.stack_identity(model_digest(str(model)), "cpu")
    assert (env["stack_key"], env["earlier_stack_keys"]) == (passport.stack_key(env["stack"]), [])
    options = ("--model", model, "--device", "cpu", "--results", finished)
    assert load_run(run).passport == "none"
    for methods, state in (("grpo", "other methods"), ("sft,sft+grpo", "passed")):
        code, out, _ = call(capsys, "preflight", "--methods", methods, *options)
        count = 14 if methods == "grpo" else 15
        last = rf"passport {env['stack_key']}: {count} of {count} checks passed in \d+\.\d s"
        assert code == 0 and re.fullmatch(last, out.splitlines()[-1]), out
        assert load_run(run).passport == state
    assert passport.read_passport(finished, env["stack_key"])["methods"] == ["grpo", "sft"]
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
    assert re.search(r"^passport \w{12}: 10 of 14 checks passed", out, re.M)
    assert shown_passports(capsys, results) == ["failed"]
    monkeypatch.undo()
    code, out, _ = call(capsys, "preflight", *options, "--json")
    assert code == 0 and json.loads(out)["passed"] and len(json.loads(out)["checks"]) == 14


def test_a_variant_is_checked_with_its_own_settings(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model", model, "--device", "cpu", "--results", tmp_path)
    code, out, _ = call(capsys, "preflight", "--methods", "sft,grpo:bnpo+sft:authors-divisor@0.5", *options, "--json")
    checks = {c["method"]: (c["name"], c["passed"]) for c in json.loads(out)["checks"] if c["method"]}
    assert code == 1 and checks == {
        "sft": ("micro-batches sft", True),
        "grpo:bnpo": ("micro-batches grpo:bnpo", False),
        "sft:authors-divisor": ("micro-batches sft:authors-divisor", False),
    }
    assert all(c["passed"] for c in json.loads(out)["checks"] if not c["method"])
    key = json.loads(out)["key"]
    states = [
        passport.stages_state(tmp_path, [key], "countdown", [stage(n)]) for n in ("sft", "sft:authors-divisor", "grpo")
    ]
    assert states == ["passed", "failed", "other methods"]


def test_settings_of_the_user_are_checked_too(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--model", model, "--device", "cpu", "--results", tmp_path, "--methods", "uft")
    code, out, _ = call(capsys, "preflight", "--set", "uft.demo_coef=0.5", *options, "--json")
    key = json.loads(out)["key"]
    states = [passport.stages_state(tmp_path, [key], "countdown", [stage("uft", demo_coef=c)]) for c in (0.5, 0.25)]
    assert code == 0 and states == ["passed", "other methods"]
    code, _, err = call(capsys, "preflight", "--set", "grpo.clip=0.1", *options)
    assert code == 2 and "--set names 'grpo', which is not among the methods uft" in err


def test_what_the_passports_lack_of_planned_runs_is_checked_and_no_more(
    model: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    shutil.copytree(finished, results, ignore=shutil.ignore_patterns("passports"))
    asked: list[str] = []
    planned = [make_job(model, results, name, "2steps") for name in ("sft", "uft", "sft+uft")]
    for job in planned[1:]:
        job.path.mkdir(exist_ok=True)
    assert planned[0].done
    assert cover(planned, lambda done, total, now: asked.append(now)) == []
    (key,) = [p.stem for p in (results / "passports").glob("*.json")]
    assert sorted(name.partition(":")[0] for name in asked if name.startswith("micro")) == [
        "micro-batches sft",
        "micro-batches uft",
    ]
    assert all(passport.stages_state(results, [key], "countdown", job.plan.stages) == "passed" for job in planned)
    asked.clear()
    assert cover(planned, lambda done, total, now: asked.append(now)) == [] and asked == []
    with monkeypatch.context() as patch:
        patch.setattr(passport, "checks_digest", lambda: "other checks")
        assert cover(planned, lambda done, total, now: asked.append(now)) == [] and "micro-batches" in " ".join(asked)
    monkeypatch.setattr(checks, "collate", lambda rows, device, pad_id=0: 1 / 0)
    other = make_job(model, results, "grpo", "2steps")
    assert {c.name for c in cover([other], lambda *_: None)} >= {"mask"}


def test_a_resumed_run_remembers_the_stacks_it_began_on(model: Path, tmp_path: Path) -> None:
    job = make_job(model, tmp_path, "sft")
    first = passport.stamp(job)
    assert first["earlier_stack_keys"] == []
    assert passport.stamp(job, ["old", first["stack_key"], "older"])["earlier_stack_keys"] == ["old", "older"]
    write_atomic(tmp_path / "env.json", passport.stamp(job, ["old", "older"]))
    assert passport.stack_keys(tmp_path / "env.json") == [first["stack_key"], "old", "older"]


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
        execute(job, keep="none")
    first = read_json(job.path / "env.json")
    assert first["stack"]["source"] == "other code"
    execute(job, keep="none")
    last = read_json(job.path / "env.json")
    assert last["stack_key"] != first["stack_key"] and last["earlier_stack_keys"] == [first["stack_key"]]
    keys = passport.stack_keys(job.path / "env.json")
    for key, state in zip(keys, ("none", "passed")):
        passport.save_passport(tmp_path, made(one("mask"), one("micro-batches sft", "sft"), key=key))
        assert load_run(job.path).passport == state


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "sfd"), "unknown method 'sfd': did you mean sft"),
        (("--methods", ","), "malformed list ',': one method in it is empty"),
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

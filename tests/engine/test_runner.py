"""Whole runs: the same plan gives the same records and weights, finished runs are left alone, failures stay apart."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.analysis.records import load_run
from bench.cli.running import report_failures
from bench.engine import checkpoint, runner
from bench.engine.runner import Run, execute
from bench.schedule import local
from bench.schedule.executor import run_all
from bench.schedule.local import Local
from bench.store.run_folder import RESOURCES, check_records, finished_runs, read_json, read_lines
from bench.store.run_store import RunStore
from bench.study.slots import Slot
from bench.types import UserError
from tests.helpers.runs import differences, files, make_job, outcome, write_model

SLOTS = [Slot(0), Slot(1)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("method", ["uft", "sft@0.5+grpo"])
def test_the_same_plan_gives_the_same_records_and_weights(model, tmp_path, method):
    first, second, other = (make_job(model, tmp_path / name, method, seeds=[s]) for name, s in zip("abc", (0, 0, 1)))
    assert first.plan == second.plan and first.path.name == second.path.name
    for number, job in enumerate((first, second, other)):
        torch.manual_seed(number)  # the global generator decides nothing
        execute(job)
    assert differences(outcome(first.path), outcome(second.path)) == []
    assert {"weights", "plan"} <= set(differences(outcome(first.path), outcome(other.path)))
    start = load_file(model / "model.safetensors")
    trained = load_file(first.path / "policy" / "model.safetensors")
    assert all(not torch.equal(start[name], trained[name]) for name in start)


def test_a_run_leaves_its_protocol_on_disk(model, tmp_path):
    job = make_job(model, tmp_path)
    execute(job)
    evals = read_lines(job.path / "evals.jsonl")
    # Steps come in twos (two updates): a quarter of 12 is passed at 4.
    assert [(e["split"], e["fraction"], e["step"]) for e in evals] == [
        ("val", 0.25, 4),
        ("val", 0.5, 6),
        ("val", 1.0, 12),
        ("test", 1.0, 12),
        ("selected", 0.25, 4),
    ]
    items = read_lines(job.path / "items.jsonl")
    assert [sum(i["split"] == s for i in items) for s in ("val", "test", "selected")] == [3 * 8, 8, 8]
    assert all(len(i["samples"]) == 2 for i in items)
    assert [m["step"] for m in read_lines(job.path / "metrics.jsonl")] == [2, 4, 6, 8, 10, 12]
    record = load_run(job.path)
    assert record.correct.shape == (8, 2) and record.ledger["steps"] == 12
    assert check_records(job.path)["ledger"]["flops"] == evals[-2]["spent"]["flops"] > 0
    assert finished_runs(tmp_path) == ([job.path], [])
    assert not list(job.path.glob("*checkpoint*"))
    used = read_json(job.path / RESOURCES)
    assert used["seconds"] > 0 and used["peak_host_bytes"] > 1e8 and RESOURCES not in check_records(job.path)["digests"]
    assert read_json(job.path / "progress.json")["accuracy"] == evals[-3]["accuracy"]  # for whoever shows the run's end


def test_a_finished_run_is_left_alone(model, tmp_path, monkeypatch):
    job = make_job(model, tmp_path, "base")
    execute(job)
    before = files(tmp_path)
    monkeypatch.setattr(local, "start_worker", lambda *args: pytest.fail("a process was started"))
    states = run_all([job, job], Local(SLOTS), "last", lambda states: None)
    assert [state.status for state in states] == ["reused", "reused"]
    assert files(tmp_path) == before
    monkeypatch.setattr(runner, "Run", lambda *args: pytest.fail("the run was started"))
    execute(job)
    assert files(tmp_path) == before


class Stop(Exception):
    pass


def stop_after_call(monkeypatch, name: str, number: int) -> None:
    """Make a method of Run raise after its call number ``number``."""
    original, calls = getattr(Run, name), []

    def counted(run, *args):
        value = original(run, *args)
        calls.append(name)
        if len(calls) == number:
            raise Stop
        return value

    monkeypatch.setattr(Run, name, counted)


def test_resume_restores_every_part_of_the_state(model, tmp_path, monkeypatch):
    """What a checkpoint of the second stage brings back, part by part, against the run that wrote it."""
    job = make_job(model, tmp_path, "sft@0.5+grpo")
    monkeypatch.setenv(checkpoint.INTERVAL, "-1")
    stop_after_call(monkeypatch, "log", 8)
    seen = []
    save = Run.save
    monkeypatch.setattr(Run, "save", lambda run, **how: (save(run, **how), seen.append(run)))
    with pytest.raises(Stop):
        execute(job)
    old, new = seen[-1], Run(job, RunStore(job.path))
    assert (
        old.store.marks()["metrics.jsonl"]["size"] > 0 and old.meter.ledger.steps == 10
    )  # one step after the checkpoint
    with (job.path / "items.jsonl").open("a") as file:
        file.write('{"torn')
    new.resume(checkpoint.last_good(job.path, new.store.check))
    assert new.stage_index == 1 and new.stage.name == "1:grpo" and new.stage.step == 1
    assert new.meter.ledger.steps == 8 and (new.meter.start, new.meter.limit) == (6.0, 12.0)
    assert new.meter.seen == old.meter.seen and len(new.meter.seen) > 4 and new.meter.slowest_step > 0
    assert new.fractions_done == [0.25, 0.5]
    assert len(read_lines(job.path / "metrics.jsonl")) == 7 and read_lines(job.path / "items.jsonl")[-1]["step"] == 6
    for one, two in zip(old.stage.reference.parameters(), new.stage.reference.parameters(), strict=True):
        assert torch.equal(one, two) and not two.requires_grad
    assert len(new.stage.optimizer.state) == len(list(new.policy.model.parameters()))
    # The step that was lost is trained again to the same bits, the moments of the optimizer included.
    new.stage.run_step()
    for one, two in zip(old.policy.model.parameters(), new.policy.model.parameters(), strict=True):
        assert torch.equal(one, two)
        a, b = old.stage.optimizer.state[one], new.stage.optimizer.state[two]
        assert a.keys() == b.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_newest_complete_checkpoint_counts(tmp_path):
    layer = torch.nn.Linear(2, 1)
    saved = None
    assert checkpoint.last_good(tmp_path) is None
    for step in range(12):
        saved = checkpoint.save(tmp_path, layer, None, None, {"step": step}, saved)
        assert checkpoint.last_good(tmp_path) == saved and saved.state == {"step": step}
        assert len(list(tmp_path.iterdir())) == min(2, step + 1)  # the one before stays
    for stray in ("checkpoint-9~", "checkpoint-x", "checkpoint-", "part-checkpoint-"):
        shutil.copytree(saved.path, tmp_path / stray)
    (tmp_path / "checkpoint-13").write_text("a file")
    assert checkpoint.last_good(tmp_path) == saved
    (tmp_path / "checkpoint-99").mkdir()  # one without its state is no checkpoint
    assert checkpoint.last_good(tmp_path) == saved
    saved = checkpoint.save(tmp_path, layer, None, None, {"step": 12}, saved)
    assert saved.path.name == "checkpoint-100" and checkpoint.last_good(tmp_path) == saved
    (tmp_path / "checkpoint-13").unlink()
    assert {p.name for p in tmp_path.glob("checkpoint-[0-9]*")} == {"checkpoint-12", "checkpoint-100", "checkpoint-9~"}
    checkpoint.clear(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint-9~", "checkpoint-x", "checkpoint-"}


@pytest.mark.slow
def test_a_failed_run_does_not_stop_the_others(model, tmp_path, capsys):
    """Bad input, a crash and a directory that cannot be made, besides a good run."""
    narrow = make_job(write_model(tmp_path / "narrow", context=32), tmp_path / "results", "base")
    (tmp_path / "results").mkdir()
    broken = make_job(model, tmp_path / "results", "base", seeds=[1])
    broken.path.mkdir()
    (broken.path / "checkpoint-1").mkdir()
    (broken.path / "checkpoint-1" / "state.json").write_text("{")
    blocked = make_job(model, tmp_path / "results", "base", seeds=[2])
    blocked.path.write_text("a file where a directory should be")
    good = make_job(model, tmp_path / "results", "base")
    shown = []
    states = run_all(
        [narrow, broken, blocked, good], Local(SLOTS), "none", lambda states: shown.append([s.status for s in states])
    )
    assert [s.status for s in states] == ["failed", "failed", "failed", "done"]
    assert [s.exit_code for s in states] == [2, 2, 2, 0]
    assert "has a context of 32 tokens" in states[0].message and "--max-new-tokens" in states[0].message
    assert "state.json" in states[1].message
    assert "cannot start" in states[2].message and str(blocked.path) in states[2].message
    assert shown[-1] == [s.status for s in states]
    assert load_run(good.path).correct.shape == (8, 2) and not (good.path / "policy").exists()
    assert report_failures(states) == 2
    assert report_failures([replace(states[0], exit_code=1), states[1]]) == 1  # a fault, not only bad input
    assert report_failures(states[3:]) == 0
    assert f"run {narrow.path.name}: {states[0].message}" in capsys.readouterr().err


def test_what_does_not_fit_is_bad_input(model, tmp_path):
    with pytest.raises(UserError, match=r"budget 1 steps is smaller than one step of uft, which may cost 2 steps"):
        execute(make_job(model, tmp_path, budget="1steps"))
    job = make_job(model, tmp_path, "base")
    with RunStore(job.path).own(), pytest.raises(UserError, match="in progress in another process"):
        execute(job)


def test_a_worker_without_an_order_says_so(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(Path(local.__file__).parents[2])}
    end, _ = os.pipe()  # standard input stays open as long as the parent lives
    for words, expected in (((), "the file of one order"), ((str(tmp_path / "none.json"),), "cannot be followed on")):
        command = [sys.executable, "-m", "bench.engine.worker", *words]
        done = subprocess.run(command, stdin=end, capture_output=True, env=env, timeout=60)
        assert done.returncode == 2 and expected in done.stderr.decode() and done.stderr.count(b"\n") == 1

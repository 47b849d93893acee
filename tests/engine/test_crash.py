"""Runs killed by SIGKILL at chosen moments and at a random one end, once started again, as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import pytest

from bench.engine import checkpoint
from bench.engine.runner import execute
from bench.engine.trainer import Stage
from bench.schedule.executor import run_all
from bench.schedule.local import Local
from bench.store.job import Job
from bench.store.order import order_for
from bench.study.slots import Slot
from tests.helpers.runs import differences, make_job, outcome, write_model

ROOT = Path(__file__).resolve().parents[2]
EVERY_STEP = -1.0  # seconds between checkpoints
# moment, at which call, seconds between checkpoints, steps in the checkpoint that the kill leaves (None: no checkpoint)
MOMENTS = [
    ("writing", 1, checkpoint.SECONDS, None),  # half of the first line
    ("writing", 9, EVERY_STEP, 8),  # half of the line of step 10
    ("checkpointing", 7, EVERY_STEP, 4),  # of the third the policy is written, the optimizer is not
    ("replacing", 3, EVERY_STEP, 6),  # the last but one half removed, the next one not begun
    ("evaluating", 4, checkpoint.SECONDS, 4),  # the second evaluation's samples drawn, its greedy completions not
    ("evaluating", 10, checkpoint.SECONDS, 12),  # the selected weights are in the policy, half of their test made
    ("training", 8, checkpoint.SECONDS, 6),  # weights updated, nothing logged
    ("ending", 1, EVERY_STEP, 12),  # all but the done marker
]


def kill_run(job: Job, moment: str, when: float, seconds: float) -> int:
    """Run a job in a worker that kills itself; its return code."""
    job.path.mkdir(parents=True)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "killer.py"), moment, str(when), str(seconds)]
    order = order_for(job, "last", [])
    pipe = subprocess.PIPE
    with (
        (job.path / "log.txt").open("w") as log,
        subprocess.Popen([*command, str(order.write())], stdin=pipe, stdout=log, stderr=log, env=env) as process,
    ):
        return process.wait(120)


def steps_saved(job: Job) -> int | None:
    saved = checkpoint.last_good(job.path)
    return saved.state["ledger"]["steps"] if saved else None


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.mark.slow
def test_killed_runs_end_as_if_uninterrupted(model, tmp_path, monkeypatch):
    whole = make_job(model, tmp_path / "whole")
    begin = perf_counter()
    execute(whole)
    duration = perf_counter() - begin
    expected = outcome(whole.path)
    assert expected["evals.jsonl"][-1]["split"] == "selected"

    seed = random.SystemRandom().randrange(2**32)
    delay = random.Random(seed).uniform(0.0, duration)
    print(f"seed {seed}: killed {delay:.3f} s after the start of training")  # shown if the test fails
    moments = [*MOMENTS, ("clock", delay, EVERY_STEP, None)]
    killed = [make_job(model, tmp_path / f"{i}") for i in range(len(moments))]
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(lambda pair: kill_run(pair[0], *pair[1][:3]), zip(killed, moments)))

    collected: list[int] = []
    run_step = Stage.run_step

    def counted(stage):
        record = run_step(stage)
        collected[-1] += record is not None
        return record

    monkeypatch.setattr(Stage, "run_step", counted)
    for job, code, (moment, when, _, saved) in zip(killed, codes, moments):
        where = f"killed while {moment}, {when}: {(job.path / 'log.txt').read_text()[-500:]}"
        if moment == "clock":
            assert code in {-signal.SIGKILL, 0}, where
            saved = steps_saved(job)
        else:
            assert code == -signal.SIGKILL and not job.done, where
            assert steps_saved(job) == saved, where
        finished = job.done
        collected.append(0)
        execute(job)
        assert differences(outcome(job.path), expected) == [], where
        assert collected[-1] == (0 if finished else (12 - (saved or 0)) // 2), f"not resumed: {where}"
        left = {p.name for p in job.path.iterdir()} - {"log.txt", "order.json"}
        assert left == {p.name for p in whole.path.iterdir()}, where


@pytest.mark.slow
def test_killed_pipelines_end_as_if_uninterrupted(model, tmp_path):
    """At the border of two stages and in the second one, whose reference model is no longer the policy."""
    moments = [("border", 2, checkpoint.SECONDS, 6), ("training", 6 + 3, EVERY_STEP, 8)]
    whole, *killed = (make_job(model, tmp_path / f"{i}", "sft@0.5+grpo") for i in range(1 + len(moments)))
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(lambda pair: kill_run(pair[0], *pair[1][:3]), zip(killed, moments)))
    assert codes == [-signal.SIGKILL] * len(moments), [(job.path / "log.txt").read_text()[-500:] for job in killed]
    assert [steps_saved(job) for job in killed] == [moment[3] for moment in moments]
    states = run_all([whole, *killed], Local([Slot(0), Slot(1)]), "last", lambda states: None)
    assert [(s.status, s.message) for s in states] == [("done", "")] * 3
    expected = outcome(whole.path)
    assert [differences(outcome(job.path), expected) for job in killed] == [[], []]

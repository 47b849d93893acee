"""The command as the product is used, stopped with all its processes, and given again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from benchmarks import kills


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kills.undisturbed("sft+grpo", tmp_path_factory.mktemp("whole") / "results")[0]


@pytest.mark.parametrize(
    "method", [pytest.param("s3ft+uft", marks=pytest.mark.slow), pytest.param("relift", marks=pytest.mark.exhaustive)]
)
def test_killed_commands_end_as_an_undisturbed_one(tmp_path, method):
    tally = kills.torment(method, 2, 1, tmp_path)
    assert (tally.kills, tally.faults) == (2, [])


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        pytest.param(signal.SIGINT, 130, "interrupted", marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGTERM, 143, "terminated", marks=pytest.mark.slow),
    ],
)
def test_a_stopped_command_says_that_it_can_be_resumed(tmp_path, whole, number, code, word):
    """Ctrl-C reaches the whole group, SIGTERM may reach the command alone; it takes its runs with it."""
    results, log = tmp_path / "results", tmp_path / "results-command.txt"
    for send in (os.killpg, os.kill):
        begin, size = time.time_ns(), log.stat().st_size if log.exists() else 0
        process = kills.start("sft+grpo", results, 0.0)
        assert kills.wait_until(process, lambda since=begin: kills.goes_on(results, since)), log.read_text()
        send(process.pid, number)
        assert process.wait(30) == code, log.read_text()
        said = log.read_text()[size:]
        expected = f"{word}: the same command reuses finished runs and resumes the others"
        assert said.splitlines()[-1] == expected and "Traceback" not in said
        path = kills.run_folder(results)
        assert path is not None and not (path / "done.json").exists()
        assert "Traceback" not in (path / "log.txt").read_text()
    assert kills.start("sft+grpo", results, 0.0).wait(kills.LIMIT) == 0
    assert kills.outcome(path) == kills.outcome(whole)


def test_moments_follow_from_seed_method_and_number():
    drawn = {kills.uniform(seed, method, n) for seed in (0, 1) for method in ("sft", "grpo") for n in range(5)}
    assert len(drawn) == 20 and all(0 <= u < 1 for u in drawn)
    assert kills.uniform(0, "sft", 3) == kills.uniform(0, "sft", 3)


def test_only_seconds_are_left_out_of_the_comparison():
    line = b'{"reward":0.5,"spent":{"seconds":1.25e-3,"seconds_train": 7,"steps":3},"text":"seconds"}'
    assert kills.timeless(line) == b'{"reward":0.5,"spent":{"seconds":0,"seconds":0,"steps":3},"text":"seconds"}'

"""The processes of a run over several devices: how they are started, told of signals and ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.engine import checkpoint
from bench.engine.launch import LOST, exit_code
from bench.engine.runner import execute
from bench.plan.execution import check_devices_per_run
from bench.schedule.local import start_worker
from bench.schedule.states import last_line
from bench.store.order import order_for
from bench.study.slots import FAKE, Slot, make_slots
from bench.types import UserError
from tests.helpers.runs import make_job, outcome, write_model


@pytest.mark.parametrize(
    ("codes", "expected", "said"),
    [
        ({0: 2, 1: LOST}, 2, ""),
        ({1: 75, 0: LOST}, 75, ""),
        ({0: 1, 1: 75}, 1, ""),
        ({1: -9, 0: -15}, 75, "error: process 1 of the run was killed by signal 9\n"),
        ({0: LOST, 1: -9}, 75, "error: process 1 of the run was killed by signal 9\n"),
        ({0: LOST, 1: LOST}, 75, "error: the processes of the run lost each other\n"),
    ],
)
def test_the_rank_that_failed_first_decides(codes: dict[int, int], expected: int, said: str, capfd: object) -> None:
    assert exit_code(codes) == expected
    assert capfd.readouterr().err == said  # type: ignore[attr-defined]


def test_a_run_gets_so_many_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAKE, "5")
    assert make_slots("cuda", 1, per_run=2) == [Slot(0, "0,1"), Slot(1, "2,3")]
    assert make_slots("cuda", 1, devices="1-3", per_device=2, per_run=3) == [Slot(0, "1,2,3"), Slot(1, "1,2,3")]
    with pytest.raises(UserError, match="--devices-per-run 6 are more than the CUDA devices here: expected at most 5"):
        make_slots("cuda", 1, per_run=6)


def test_what_cannot_be_divided_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_devices_per_run(1, "16", "adamw8bit") == 1
    for given in (("16", "adamw"), (None, "adamw8bit")):
        with pytest.raises(UserError, match=r"^--devices-per-run 2 does not go with --(lora|optimizer).*: expected "):
            check_devices_per_run(2, *given)
    monkeypatch.setattr("bench.plan.execution.metadata.version", lambda package: "2.9.1+cpu")
    with pytest.raises(UserError, match=r"needs torch 2\.13 or newer: expected 1 here"):
        check_devices_per_run(2, None, "adamw")


def wait_for(met: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end
        time.sleep(0.05)


def children(parent: int) -> list[int]:
    """Process ids of a process's children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_signals_reach_the_ranks_and_a_killed_one_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGUSR1 to the run's process saves; SIGKILL to a rank ends it with 75; then one process makes the rest."""
    monkeypatch.setenv(checkpoint.INTERVAL, "1e9")
    model = write_model(tmp_path / "model")
    gentle = {"method": "sft", "budget": "100steps", "settings": ["sft.batch_size=4", "sft.lr=0.0001"]}
    job = make_job(model, tmp_path, devices_per_run=2, **gentle)
    order = order_for(job, "last", ())
    order.write()
    process = start_worker(order, Slot(0))
    wait_for(lambda: process.poll() is not None or (job.path / "metrics.jsonl").exists())
    process.send_signal(signal.SIGUSR1)
    wait_for(lambda: process.poll() is not None or list(job.path.glob("checkpoint-*")))
    ranks = children(process.pid)
    assert len(ranks) == 2, (job.path / "log.txt").read_text()
    os.kill(max(ranks), signal.SIGKILL)
    assert process.wait(300) == os.EX_TEMPFAIL
    assert last_line(job.path / "log.txt") == "process 1 of the run was killed by signal 9"
    wait_for(lambda: not any(os.path.exists(f"/proc/{rank}") for rank in ranks))
    alone = make_job(model, tmp_path / "alone", **gentle)
    for each in (make_job(model, tmp_path, **gentle), alone):
        execute(each)
    found, expected = outcome(job.path), outcome(alone.path)
    assert [record["spent"]["flops"] for record in found["metrics.jsonl"]] == [
        record["spent"]["flops"] for record in expected["metrics.jsonl"]
    ]
    losses = [[record["loss"] for record in x["metrics.jsonl"]] for x in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)

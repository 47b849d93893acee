"""`bench status`: every state of a run, its owner, the time left, and a lost machine by name."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from bench.schedule import status
from bench.schedule.status import examine, summary
from bench.store.files import write_atomic
from bench.store.lease import take
from bench.store.owner import HOST, SECONDS
from tests.helpers.commands import call
from tests.helpers.runs import files


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run in each state, two of them on a machine that has been silent for long."""
    folder = tmp_path / "runs"

    def begin(run: str, host: str, share: float | None = None, device: str = "") -> Any:
        monkeypatch.setenv(HOST, host)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", device)
        if share is not None:
            (folder / run).mkdir(parents=True)
            write_atomic(folder / run / "progress.json", {"phase": "training", "share": share, "seconds": 30.0})
        return take(folder / run, 1)

    begin("finished", "alpha", 1.0).release()
    (folder / "finished" / "done.json").write_text("{}")
    begin("going", "alpha", 0.25, "GPU-5d5b")
    begin("stopped", "alpha", 0.5).release()
    for run in ("lost-1", "lost-2"):
        lease = begin(run, "beta", 0.75)
        os.utime(lease.path, (time.time() - 2 * SECONDS,) * 2)
    (folder / "ordered").mkdir()
    (folder / "ordered" / "order.json").write_text(json.dumps({"seconds": 100.0}))
    (folder / "passports").mkdir()
    (folder / ".slurm").mkdir()
    monkeypatch.setenv(HOST, "gamma")
    return folder


def test_every_state_is_told_with_its_owner(results: Path) -> None:
    found = {run.run: run for run in examine(results)}
    expected = {"finished": "done", "going": "running", "stopped": "interrupted", "ordered": "waiting"}
    assert {name: run.state for name, run in found.items()} == {**expected, "lost-1": "lost", "lost-2": "lost"}
    going, lost = found["going"], found["lost-1"]
    assert lost.host == "beta"
    assert (going.host, going.pid, going.device, going.share) == ("alpha", os.getpid(), "GPU-5d5b", 0.25)
    assert going.left == 90.0  # a quarter in 30 s, three quarters to go
    assert going.silent is not None and going.silent < 60 and lost.silent is not None and lost.silent > 2 * SECONDS - 1
    assert [found[name].left for name in ("ordered", "stopped", "finished")] == [100.0, 30.0, None]
    total = summary(list(found.values()))
    assert total["counts"] == {"done": 1, "running": 1, "lost": 2, "interrupted": 1, "waiting": 1}
    assert total["hosts"] == {"alpha": 1} and total["left"] == 90 + 10 + 10 + 100 + 30


def test_a_dead_process_of_this_machine_is_lost_at_once(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOST, "alpha")
    assert {run.run: run.state for run in examine(results)}["going"] == "running"
    monkeypatch.setattr("bench.store.owner.process_start", lambda pid: None)
    assert {run.run: run.state for run in examine(results)}["going"] == "lost"


def test_files_that_make_no_sense_say_nothing(results: Path, capsys: Any) -> None:
    for run, text in (("going", '{"share": null, "phase": [1], "seconds": "x"}'), ("stopped", '{"share": NaN}')):
        (results / run / "progress.json").write_text(text)
    (results / "ordered" / "order.json").write_text('{"seconds": "x"}')
    (results / "lost-1" / "lease" / "1.json").write_text('{"host": ["a"], "seconds": "x"}')
    (results / "lost-2" / "lease" / "2.json").mkdir()
    code, out, err = call(capsys, "status", results)
    assert (code, err) == (0, "") and "6 runs: 1 done, 3 running, 1 interrupted, 1 waiting." in out
    told = json.loads(call(capsys, "status", results, "--json")[1])
    left = {run["run"]: run["left"] for run in told["runs"]}
    assert [left[run] for run in ("going", "stopped", "ordered")] == [None] * 3 and told["left"] is None


def test_a_stopped_process_of_this_machine_is_not_lost(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOST, "beta")
    found = {run.run: run for run in examine(results)}["lost-1"]
    assert found.state == "running" and found.silent is not None and found.silent > SECONDS


def test_a_folder_that_cannot_be_written_tells_what_it_can(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the clock of the file system nobody is called lost for being silent."""
    monkeypatch.setattr(status, "clock_of", lambda folder: None)
    found = {run.run: run for run in examine(results)}
    assert found["lost-1"].state == "running" and found["lost-1"].silent is None
    assert status.clock_of(results / "none") is None


def test_the_command_names_a_lost_machine_and_changes_nothing(results: Path, capsys: Any) -> None:
    before = files(results)
    code, out, err = call(capsys, "status", results)
    assert (code, err) == (0, "") and files(results) == before
    assert "6 runs: 1 done, 1 running, 2 lost, 1 interrupted, 1 waiting." in out
    assert "At work: alpha (1), about 240 s at this pace." in out
    assert "Lost: beta, which had lost-1, lost-2. Any 'bench run' of these runs takes them over." in out
    told = json.loads(call(capsys, "status", results, "--json")[1])
    assert told["lost"] == {"beta": ["lost-1", "lost-2"]} and len(told["runs"]) == 6
    empty = results.parent / "empty"
    empty.mkdir()
    assert "No run was begun or ordered here." in call(capsys, "status", empty)[1]
    assert call(capsys, "status", results.parent / "none")[0] == 2

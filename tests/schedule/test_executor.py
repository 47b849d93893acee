"""Whose a run is, as a command sees it: its own, another one's, lost, done; and the longest runs come first."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.engine.worker import follow
from bench.report.progress import state_cells
from bench.schedule import executor, local, states
from bench.schedule.executor import run_all
from bench.schedule.local import Local
from bench.schedule.states import Handle, State, is_others, look_elsewhere, note_end
from bench.store.job import Job
from bench.store.lease import acquire, take
from bench.store.order import NAME, Order, order_for
from bench.store.owner import HOST, SECONDS
from bench.store.run_folder import CorruptRun
from bench.study.slots import Slot
from tests.helpers.runs import make_job, write_model

WORKER = """
import json, sys
from pathlib import Path

order = Path(sys.argv[1])
with (order.parent.parent / "started").open("a") as file:
    file.write(order.parent.name + "\\n")
(order.parent / "followed").write_bytes(order.read_bytes())
script = (order.parent / "script")
code = 0
if script.exists():
    code = int(script.read_text())
    script.unlink()
if code == 0 and not (order.parent / "late").exists():
    (order.parent / "done.json").write_text("{}")
sys.exit(code)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def jobs(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Three runs whose workers only say that they were started."""
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(local, "WORKER", (sys.executable, "-S", str(tmp_path / "worker.py")))
    monkeypatch.setattr(executor, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(states, "RETRY_SECONDS", 0.0)
    monkeypatch.setenv("BENCH_LEASE_SECONDS", "0.5")
    return [make_job(model, tmp_path / "runs", "sft", seeds=[seed]) for seed in range(3)]


def started(jobs: list[Job]) -> list[str]:
    return (jobs[0].path.parent / "started").read_text().split()


def test_the_longest_run_comes_first(jobs: list[Job]) -> None:
    names = [job.path.name for job in jobs]
    found = run_all(jobs, Local([Slot(0)]), "none", lambda s: None, dict(zip(names, (1.0, 3.0, 2.0))))
    assert [state.status for state in found] == ["done"] * 3
    assert started(jobs) == [names[1], names[2], names[0]]


def test_every_run_has_its_order_before_the_first_one_starts(jobs: list[Job]) -> None:
    seen: list[int] = []
    run_all(jobs, Local([Slot(0)]), "last", lambda s: seen.append(sum((j.path / NAME).exists() for j in jobs)))
    assert seen[0] == 3
    order = Order.read(jobs[1].path / NAME)
    assert order.job.plan.run_id == jobs[1].plan.run_id and order.job.execution == jobs[1].execution
    assert (order.keep, order.path) == ("last", jobs[1].path.absolute() / NAME)


def test_a_worker_follows_the_order_of_its_own_command(jobs: list[Job]) -> None:
    """Another command, which keeps other models, lists the run between the start of a worker and its first look."""

    class Disturbed(Local):
        def start(self, order: Order, avoid: str | None) -> Handle:
            replace(order, keep="last", name=NAME).write()
            return super().start(order, avoid)

    run_all(jobs[:1], Disturbed([Slot(0)]), "none", lambda s: None)
    assert Order.read(jobs[0].path / "followed").keep == "none"
    assert [path.name for path in jobs[0].path.glob("order*")] == [NAME]  # which a worker removes that is no script


def test_orders_that_are_gone_because_the_run_is_done(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker has ended between this one's two looks."""
    path = order_for(jobs[0], "none", ()).write()

    def read(path: Path) -> Order:
        (path.parent / "done.json").write_text("{}")
        raise CorruptRun("no such file")

    monkeypatch.setattr(Order, "read", read)
    assert follow([str(path)]) == 0


def test_a_done_marker_that_is_seen_late_is_no_failure(jobs: list[Job], capsys: Any) -> None:
    """A network file system may hide a new file for a minute from a machine that has asked for it before."""
    jobs[0].path.mkdir(parents=True)
    (jobs[0].path / "late").touch()

    def appear(found: list[State]) -> None:
        if found[0].retries == 2:
            (jobs[0].path / "done.json").write_text("{}")

    (state,) = run_all(jobs[:1], Local([Slot(0)]), "none", appear)
    assert (state.status, len(started(jobs))) == ("done", 2)
    (jobs[0].path / "done.json").unlink()
    (state,) = run_all(jobs[:1], Local([Slot(0)]), "none", lambda s: None)
    assert state.status == "failed" and "no done marker can be seen here (tried 4 times)" in state.message


def test_a_run_of_another_command_is_waited_for(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown with its owner, is not started here, and counts as done when the other one has made it."""
    monkeypatch.setenv(HOST, "there")
    other = acquire(jobs[0].path)
    monkeypatch.setenv(HOST, "here")
    shown: list[str] = []

    def show(found: list[State]) -> None:
        shown.append(state_cells(found[0])[1])
        other.beat()
        if [state.status for state in found[1:]] == ["done", "done"]:
            (jobs[0].path / "done.json").write_text("{}")

    found = run_all(jobs, Local([Slot(0)]), "none", show)
    assert [state.status for state in found] == ["done"] * 3
    assert jobs[0].path.name not in started(jobs) and any(cell.startswith("on there (pid ") for cell in shown)


def test_a_run_of_a_lost_machine_is_taken_over_and_the_machine_named(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv(HOST, "there")
    acquire(jobs[0].path)  # it is never heard of again
    monkeypatch.setenv(HOST, "here")
    found = run_all(jobs[:1], Local([Slot(0)]), "none", lambda s: None)
    assert found[0].status == "done" and started(jobs) == [jobs[0].path.name]
    said = capsys.readouterr().err
    assert f"run {jobs[0].path.name}: there (pid " in said and "is lost (silent for" in said and said.count("\n") == 1
    assert Order.read(jobs[0].path / "followed").lost is not None


def test_a_released_run_is_followed_without_a_word(jobs: list[Job], monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv(HOST, "there")
    other = acquire(jobs[0].path)
    monkeypatch.setenv(HOST, "here")
    state = State(jobs[0])
    assert is_others(state) and state.status == "elsewhere"
    look_elsewhere(state)
    assert state.status == "elsewhere"
    other.release()
    look_elsewhere(state)
    assert state.status == "waiting" and not is_others(state) and capsys.readouterr().err == ""


def test_a_worker_that_finds_its_run_taken_costs_no_try(jobs: list[Job]) -> None:
    jobs[0].path.mkdir(parents=True)
    (jobs[0].path / "script").write_text("69")
    (state,) = run_all(jobs[:1], Local([Slot(0)]), "none", lambda s: None)
    assert (state.status, state.retries, len(started(jobs))) == ("done", 0, 2)


def test_an_owner_that_gives_signs_of_life_keeps_its_run(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_LEASE_SECONDS", str(SECONDS))
    monkeypatch.setenv(HOST, "there")
    other = take(jobs[0].path, 1)
    monkeypatch.setenv(HOST, "here")
    state, now = State(jobs[0]), [0.0]
    state.watch.clock = lambda: now[0]
    assert is_others(state)
    for _ in range(5):
        now[0] += SECONDS - 1
        other.beat()
        look_elsewhere(state)
        assert state.status == "elsewhere"
    note_end(state, 69)
    for expected in ("elsewhere", "waiting"):
        now[0] += SECONDS / 2
        look_elsewhere(state)
        assert state.status == expected

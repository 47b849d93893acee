"""What is shown while runs go on: true shares, time left, and no line twice."""

import pytest

from bench.report.progress import line_printer, state_cells
from bench.schedule.states import State
from bench.store.files import write_atomic
from tests.helpers.runs import make_job, write_model


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A run of 12 steps that is not started."""
    folder = tmp_path_factory.mktemp("progress")
    return make_job(write_model(folder / "small"), folder / "runs", "sft")


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [0.0]
    monkeypatch.setattr("bench.report.progress.time.monotonic", lambda: now[0])
    return now


def name(job) -> str:
    return f"{job.plan.method} countdown seed 0"


def test_the_cells_of_a_running_and_a_waiting_run(job, clock):
    running = State(job, "running", began=70.0, progress={"phase": "training", "share": 0.25, "reward": 0.5})
    clock[0] = 100.0
    assert state_cells(running) == (name(job), "training", "25 %", "0.500", "", "90 s")
    assert state_cells(State(job, "running")) == (name(job), "starting", "", "", "", "")
    assert state_cells(State(job)) == (name(job), "waiting", "", "", "", "")


def test_a_resumed_run_counts_what_this_process_gained(job, clock):
    running = State(job, "running", began=70.0, progress={"share": 0.75}, first_share=0.5)
    clock[0] = 100.0
    assert state_cells(running)[5] == "30 s"  # a quarter in 30 s, a quarter to go
    running.progress = {"share": 0.5}
    assert state_cells(running)[5] == ""


def test_a_finished_run_shows_the_share_that_it_spent(job):
    state = State(job, "done", progress={"share": 0.5, "accuracy": 0.125})
    assert state_cells(state)[2:5] == ("", "", "12.5 %")  # unknown until the done marker is there
    job.path.mkdir(parents=True)
    write_atomic(job.path / "done.json", {"ledger": {"steps": 9}})
    assert state_cells(state)[2] == "75 %"
    assert state_cells(State(job, "reused"))[2] == "75 %"


def test_plain_progress_repeats_nothing(job, clock, capsys):
    """A new phase is printed at once, news within a phase a quarter of a minute later, the same line never."""
    show, state = line_printer(), State(job)
    times = [(1, "waiting", None), (20, "waiting", None), (21, "running", None), (50, "running", None)]
    times += [
        (60, "running", 0.25),
        (61, "running", 0.3),
        (80, "running", 0.5),
        (81, "failed", 0.5),
        (99, "failed", 0.5),
    ]
    for clock[0], status, share in times:
        state.status, state.progress = status, {} if share is None else {"phase": "training", "share": share}
        show([state])
    words = [line.removeprefix(name(job) + ", ") for line in capsys.readouterr().err.splitlines()]
    budgets = ["training, budget 25 %, left 180 s", "training, budget 50 %, left 80 s", "failed, budget 50 %"]
    assert words == ["starting", *budgets]

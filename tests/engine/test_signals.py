"""SIGTERM saves a run between two steps and ends it, SIGUSR1 saves it; both cost nothing of its records."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.engine import checkpoint, evaluate, signals, worker
from bench.engine.ranks import ALONE, Ranks
from bench.engine.runner import Run, execute
from bench.engine.signals import Preempted
from bench.engine.trainer import Stage
from bench.plan.budget import Architecture, Budget, Meter
from bench.store.order import order_for
from tests.helpers.runs import differences, make_job, outcome, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def expected(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    job = make_job(model, tmp_path_factory.mktemp("whole"), "s3ft")
    execute(job)
    return outcome(job.path)


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process follows the signals for a while."""
    followed = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in followed}
    monkeypatch.setattr(signals, "asked", signals.Asked())
    monkeypatch.setattr("bench.engine.runner.asked", signals.asked)
    signals.listen()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def sending(owner: Any, name: str, when: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process get a signal in the middle of call number ``when`` of a function: twice, as from a system."""
    original: Callable[..., Any] = getattr(owner, name)
    calls: list[int] = []

    def counted(*args: Any, **how: Any) -> Any:
        calls.append(1)
        if len(calls) == when:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        return original(*args, **how)

    monkeypatch.setattr(owner, name, counted)


# Where SIGTERM comes, and the updates that are saved then; sft makes 12, and is validated after 3, 6 and 12 of them.
MOMENTS = {
    "in a step": (Stage, "_optimize", 5, 5),
    "in the log": (Run, "log", 2, 2),
    "in a validation": (evaluate, "complete", 3, 6),
    "in the last validation": (evaluate, "complete", 5, 12),
    "in a save": (checkpoint, "save", 3, 7),
    "in a test": (evaluate, "complete", 7, 12),
    "while its data is prepared": (Stage, "prepare", 1, None),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_sigterm_saves_the_last_step_and_ends(
    model: Path, tmp_path: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch, listening: None, moment: str
) -> None:
    owner, name, when, steps = MOMENTS[moment]
    job = make_job(model, tmp_path, "s3ft")
    with monkeypatch.context() as patch, pytest.raises(Preempted):
        number = signal.SIGUSR2 if moment == "in the log" else signal.SIGTERM  # they mean the same
        sending(owner, name, when, number, patch)
        execute(job)
    saved = checkpoint.last_good(job.path)
    assert (saved.state["ledger"]["steps"] if saved else None) == steps and not job.done
    signals.asked.end = False
    execute(job)
    assert differences(outcome(job.path), expected) == []


def test_sigusr1_saves_and_the_run_goes_on(
    model: Path, tmp_path: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch, listening: None
) -> None:
    job = make_job(model, tmp_path, "s3ft")
    sending(Stage, "_optimize", 5, signal.SIGUSR1, monkeypatch)
    saved = []
    save = Run.save
    monkeypatch.setattr(Run, "save", lambda run, **how: (save(run, **how), saved.append(run.meter.ledger.steps)))
    execute(job)
    assert saved == [0, 3, 5, 6, 12]  # targets, validation, the signal, validation, validation
    assert differences(outcome(job.path), expected) == []


class Meeting(Ranks):
    """Ranks of which none had a signal when they began to tell each other; this one gets two meanwhile."""

    def any(self, *flags: bool) -> list[bool]:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        return [False for _ in flags]


def test_a_signal_that_comes_while_ranks_agree_waits_until_they_meet_again(listening: None) -> None:
    """Acting on it alone, a rank would wait for the others in a save for ever."""
    signals.asked.alone, saved = False, []
    run: Any = SimpleNamespace(policy=SimpleNamespace(ranks=Meeting()), save=lambda: saved.append(1))
    with signals.holding(True):
        Run.obey_signals(run)
        assert saved == []
        run.policy.ranks = ALONE
        with pytest.raises(Preempted):
            Run.obey_signals(run)
    assert saved == [1] and not signals.asked.save


# --- what may be tried again ---


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "out of memory (CUDA out of"),
        (MemoryError(), "out of memory (MemoryError)"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory ("),
        (OSError(12, "Cannot allocate memory"), "out of memory ("),
        (torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"), "the device failed (CUDA error: u"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), "out of memory ("),
        (RuntimeError("No CUDA GPUs are available"), "the device failed ("),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), None),
        (RuntimeError("size mismatch"), None),
        (OSError(5, "Input/output error"), None),
    ],
)
def test_only_what_may_end_otherwise_is_temporary(error: Exception, reason: str | None) -> None:
    found = worker.temporary(error)
    assert found == reason if reason is None else (found or "").startswith(reason) and "\n" not in str(found)


def test_a_worker_says_by_its_exit_code_that_it_may_be_tried_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def fail(stage: Stage) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Stage, "run_step", fail)
    assert worker.attempt(order_for(make_job(model, tmp_path, "sft"), "none", ())) == os.EX_TEMPFAIL
    assert capfd.readouterr().err.splitlines()[-1] == "error: out of memory (CUDA out of memory.)"


# --- seconds ---


def test_phases_begin_and_end_when_the_device_has_done_its_work() -> None:
    """A device that is told what to do and does it later: its time belongs to the phase that told it."""
    clock = {"now": 0.0, "owed": 0.0}

    def wait() -> None:
        clock["now"] += clock["owed"]
        clock["owed"] = 0.0

    meter = Meter(Architecture(1, 1, 1), Budget("steps", 1), wait=wait)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.plan.budget.perf_counter", lambda: clock["now"])
        clock["owed"] = 1.0
        with meter.timed("score"):
            clock["owed"] = 4.0
        with meter.timed("train"):
            clock["owed"] = 8.0
    assert (meter.ledger.seconds_score, meter.ledger.seconds_train) == (4.0, 8.0)

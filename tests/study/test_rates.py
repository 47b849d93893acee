"""Where rates and the time of a preflight come from: the slots of the runs, and the last preflight on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.audit import preflight
from bench.cli import running
from bench.store.job import Job
from bench.study import rates
from bench.study.estimate import parts, total_seconds
from bench.study.preflight_time import check_seconds, note_preflight
from bench.study.slots import VISIBLE, Slot
from tests.helpers.runs import make_job, write_model

RUN_PROBES = rates.run_probes  # before conftest.py replaces it


@pytest.fixture
def job(tmp_path: Path) -> Any:
    return make_job(write_model(tmp_path / "model"), tmp_path / "runs", "sft")


def on_cuda(job: Job) -> Job:
    return Job(job.plan, job.execution.model_copy(update={"device": "cuda"}), job.path, job.model_path, job.data)


def test_rates_are_measured_on_the_devices_of_the_runs(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Stop(Exception):
        pass

    def popen(command: list[str], env: dict[str, str], **_: Any) -> None:
        seen.append(env.get(VISIBLE))
        raise Stop

    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setattr(rates, "run_probes", RUN_PROBES)
    monkeypatch.setattr(subprocess, "Popen", popen)
    for slots in ([Slot(0, "GPU-b"), Slot(1, "GPU-c")], [Slot(0, "GPU-c")]):
        with pytest.raises(Stop):
            rates.measured_rates(on_cuda(job), slots)
    assert seen == ["GPU-b", "GPU-c"]
    cpu = [Slot(n) for n in range(3)]
    assert rates.measuring(job, cpu) == cpu and rates.measuring(on_cuda(job), cpu) == cpu[:1]
    keys = {rates.rates_key(on_cuda(job), [Slot(0, device)]) for device in ("GPU-b", "GPU-c")}
    assert len(keys) == 2 and rates.rates_key(job, cpu) != rates.rates_key(job, cpu[:2])


def test_the_preflight_is_part_of_the_estimate_until_it_has_passed(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    note_preflight(job, 0, 1.0)  # of another version: no time of a check
    assert check_seconds(job) is None
    ahead = running.upcoming_preflight([job])
    assert ahead is not None and ahead.seconds is None and "not known" in parts([], ahead)
    note_preflight(job, 10, 25.0)
    ahead = running.upcoming_preflight([job])
    assert ahead is not None and ahead.checks == len(preflight.GENERAL) + 1
    assert ahead.seconds == 2.5 * ahead.checks and ahead.text == f"preflight about {ahead.seconds:.0f} s"
    assert total_seconds([], 2, ahead) == ahead.seconds
    assert running.upcoming_preflight([on_cuda(job)]) is None
    monkeypatch.setattr(preflight.passport, "stages_state", lambda *_: "passed")
    assert running.upcoming_preflight([job]) is None and running.upcoming_preflight([]) is None

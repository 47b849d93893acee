"""Which devices and slots there are, and that workers are spread over them: one device each, no two on one."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.cli.running import report_failures
from bench.schedule import executor, local, states
from bench.schedule.executor import run_all
from bench.schedule.local import Local
from bench.schedule.states import State
from bench.study.slots import FAKE, VISIBLE, Slot, choose, listed_devices, make_slots, visible_devices
from bench.types import UserError
from tests.helpers.runs import make_job, write_model

# What the driver's program prints, by its documentation: the second card is divided.
LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a78)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 3g.20gb     Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)
"""
FIRST = "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77"
PARTS = ["MIG-c7384736-a75d-5afc-978f-d2f1294409fd", "MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d"]


def test_devices_are_those_of_the_driver_or_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed_devices(LISTED) == [FIRST, *PARTS]
    for name in (FAKE, VISIBLE):
        monkeypatch.delenv(name, raising=False)
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ntest \"$1\" = -L && cat <<'END'\n{LISTED}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert visible_devices() == [FIRST, *PARTS]
    monkeypatch.setenv(VISIBLE, "3, GPU-abc")
    assert visible_devices() == ["3", "GPU-abc"]


def test_the_user_chooses_among_the_devices() -> None:
    found = ["a", "b", "c", "d"]
    assert choose("all", found) == found and choose("1-3", found) == ["b", "c", "d"]
    assert choose("2,0", found) == ["c", "a"] and choose("d,0-1", found) == ["d", "a", "b"]
    assert choose("all", ["3", "5"]) == ["3", "5"] and choose("1", ["3", "5"]) == ["5"]
    for text in ("4", "3-1", "0-4", "", "e", "-1", "0,,1", "nan", "1000000000"):
        with pytest.raises(UserError, match=r"there is no device .*numbers from 0 to 3 such as 0-3 or 0,3, or UUIDs"):
            choose(text, found)
    with pytest.raises(UserError, match="names a device twice"):
        choose("0-1,1", found)


def test_slots_alternate_between_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAKE, "2")
    assert make_slots("cpu", 1) == [Slot(0, "0"), Slot(1, "1")]
    assert [s.device for s in make_slots("cuda", 1, per_device=2)] == ["0", "1", "0", "1"]
    assert make_slots("cuda", 1, workers=3, devices="1", per_device=4) == [Slot(n, "1") for n in range(3)]
    with pytest.raises(UserError, match=r"--workers 5 are more than the 2 slots .* or --per-device 3"):
        make_slots("cuda", 1, workers=5)
    monkeypatch.delenv(FAKE)
    assert make_slots("cpu", 1, workers=3) == [Slot(0), Slot(1), Slot(2)]
    for given in ({"devices": "all"}, {"per_device": 1}):
        with pytest.raises(UserError, match="these runs are on the CPU"):
            make_slots("cpu", 1, **given)  # type: ignore[arg-type]


# --- workers that only say where they are ---

WORKER = """
import json, os, signal, sys, time
from pathlib import Path

order = json.loads(Path(sys.argv[1]).read_text())
path = Path(order["job"]["path"])
device = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
with (path / "devices").open("a") as file:
    file.write(device + "\\n")
taken = path.parent / f"device-{device}"
os.close(os.open(taken, os.O_CREAT | os.O_EXCL))  # fails if another one is on this device
for name in ("SIGTERM", "SIGUSR1"):
    def note(number, frame, name=name):
        (path / name).touch()
        if name == "SIGTERM":
            os.remove(taken)
            os._exit(75)
    signal.signal(getattr(signal, name), note)
(path / "ready").touch()
script = (path / "script").read_text().split() if (path / "script").exists() else ["0"]
step = script[min(len((path / "devices").read_text().split()), len(script)) - 1]
time.sleep(float(step[1:]) if step[0] == "s" else 0.1)
os.remove(taken)
if step == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if step == "0":
    (path / "done.json").write_text("{}")
print("error: as told")
sys.exit(0 if step[0] == "s" else int(step))
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Eight runs whose workers leave a note; new tries come at once."""
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(local, "WORKER", (sys.executable, "-S", str(tmp_path / "worker.py")))
    monkeypatch.setattr(executor, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(states, "RETRY_SECONDS", 0.0)
    model = write_model(tmp_path / "model")
    made = [make_job(model, tmp_path / "runs", "sft", seeds=[seed]) for seed in range(8)]
    for job in made:
        job.path.mkdir(parents=True)
    return made


def devices_of(job: Any) -> list[str]:
    return (job.path / "devices").read_text().split()


def test_every_worker_has_a_device_of_its_own(jobs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAKE, "4")
    monkeypatch.setenv(VISIBLE, "0,1,2,3")
    most = []
    states = run_all(
        jobs, Local(make_slots("cpu", 1)), "none", lambda s: most.append(sum(x.status == "running" for x in s))
    )
    assert [(s.status, s.message) for s in states] == [("done", "")] * 8 and max(most) == 4
    used = [device for job in jobs for device in devices_of(job)]
    assert len(used) == 8 and set(used) == {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    ("script", "status", "tries", "code"),
    [
        ("75 0", "done", 2, 0),
        ("kill kill 75 0", "done", 4, 0),
        ("75", "failed", 4, 75),
        ("kill", "failed", 4, 75),
        ("75 1", "failed", 2, 1),
        ("1", "failed", 1, 1),
        ("2", "failed", 1, 2),
    ],
)
def test_what_may_succeed_is_tried_again_elsewhere(
    jobs: list[Any], capsys: Any, script: str, status: str, tries: int, code: int
) -> None:
    (jobs[0].path / "script").write_text(script)
    slots = [Slot(0, "left"), Slot(1, "right")]
    (state,) = run_all(jobs[:1], Local(slots), "none", lambda s: None)
    used = devices_of(jobs[0])
    assert (state.status, used) == (status, ["left", "right", "left", "right"][:tries])
    said = capsys.readouterr().err.splitlines()
    assert len(said) == tries - 1 and all(
        line.startswith(f"warning: run {jobs[0].path.name} on device {device}: ") and f"({n} of 3)" in line
        for n, (line, device) in enumerate(zip(said, used), 1)
    )
    assert report_failures([state]) == code
    assert report_failures([State(jobs[1], "failed", exit_code=2), State(jobs[2], "failed", exit_code=75)]) == 1


def test_a_stopped_command_lets_its_workers_save_and_tries_none_again(jobs: list[Any]) -> None:
    for job in jobs[:2]:
        (job.path / "script").write_text("s9")

    def stop(states: list[State]) -> None:
        if all((job.path / "ready").exists() for job in jobs[:2]):
            raise KeyboardInterrupt(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run_all(jobs[:2], Local([Slot(0, "0"), Slot(1, "1")]), "none", stop)
    assert all((job.path / "SIGTERM").exists() and len(devices_of(job)) == 1 for job in jobs[:2])


def test_a_signal_to_save_reaches_the_workers(jobs: list[Any]) -> None:
    (jobs[0].path / "script").write_text("s0.6")
    sent: list[int] = []

    def ask(states: list[State]) -> None:
        if not sent and (jobs[0].path / "ready").exists():
            sent.append(1)
            os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.getsignal(signal.SIGUSR1)
    run_all(jobs[:1], Local([Slot(0)]), "none", ask)
    assert (jobs[0].path / "SIGUSR1").exists() and signal.getsignal(signal.SIGUSR1) == before

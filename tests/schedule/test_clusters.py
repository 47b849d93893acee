"""Ray tasks and Slurm jobs around a worker that leaves notes: codes, signals, a queue again, a lost node.

What these packages do is theirs; submitit's own local executor stands for Slurm.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.cli.running import make_passports
from bench.schedule import executor, ray_cluster, remote, slurm, states
from bench.schedule.executor import run_all
from bench.schedule.remote import run_command
from bench.store.job import Job
from bench.types import UserError
from tests.helpers.runs import make_job, write_model

# Works for a while, saves when it is told to end, and goes on from there the next time.
WORKER = """
import os, signal, sys, time
from pathlib import Path

run = Path(sys.argv[1]).parent
saved = run / "saved"

def save(number, frame):
    saved.write_text("saved")
    sys.exit(75)

signal.signal(signal.SIGTERM, save)
with (run / "notes").open("a") as notes:
    notes.write(f"{os.getpid()} {os.getppid()} {os.environ.get('OMP_NUM_THREADS')} {saved.exists()} {os.getcwd()}\\n")
(run / "ready").touch()
if (run / "long").exists() and not saved.exists():
    time.sleep(60)
code = int((run / "code").read_text()) if (run / "code").exists() else 0
if code == 0:
    (run / "done.json").write_text("{}")
print("error: as told")
sys.exit(code)
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Three runs whose workers leave notes; paths are relative to the present folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "worker.py").write_text(WORKER)
    for module in (ray_cluster, slurm):
        monkeypatch.setattr(module, "WORKER", (sys.executable, "-S", str(tmp_path / "worker.py")))
    monkeypatch.setattr(executor, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(states, "RETRY_SECONDS", 0.0)
    model = write_model(tmp_path / "model")
    made = [make_job(model, Path("runs"), "sft", seeds=[seed]) for seed in range(3)]
    for job in made:
        job.path.mkdir(parents=True)
    return made


def notes(job: Job) -> list[list[str]]:
    return [line.split() for line in (job.path / "notes").read_text().splitlines()]


# --- what both call ---


def test_a_command_ends_and_saves_when_its_task_is_to_end(jobs: list[Job]) -> None:
    """A task that is cancelled gets an exception in its main thread, whatever it does."""
    run = jobs[0].path
    (run / "long").touch()
    words = [sys.executable, "-S", "worker.py", str(run / "order.json")]

    def cancel(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, cancel)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        while not (run / "ready").exists():
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            started = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 3.0)
            with pytest.raises(KeyboardInterrupt):
                run_command(words, os.getcwd(), "log.txt", {"OMP_NUM_THREADS": "3"})
            assert time.monotonic() - started < 30
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert (run / "saved").exists() and notes(jobs[0])[0][2:] == ["3", "False", os.getcwd()]
    assert run_command(words, os.getcwd(), "log.txt", {}) == 0
    assert Path("log.txt").read_text() == "error: as told\n"


# --- Slurm, as submitit starts it on this machine ---


@pytest.fixture
def queue(jobs: list[Job], tmp_path: Path) -> slurm.Slurm:
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    return slurm.Slurm(Path("runs"), False, 1, slurm.Wishes(minutes=10), cluster="local")


@pytest.mark.slow
def test_jobs_are_sent_off_as_an_array_and_their_codes_come_back(jobs: list[Job], queue: Any, monkeypatch: Any) -> None:
    (jobs[1].path / "code").write_text("2")
    sent: list[int] = []
    submit = queue.submit
    monkeypatch.setattr(queue, "submit", lambda handles: (sent.append(len(handles)), submit(handles)))
    found = run_all(jobs, queue, "none", lambda s: None)
    assert [state.status for state in found] == ["done", "failed", "done"] and sent[0] == 3
    assert (found[1].exit_code, found[1].message) == (2, "as told")
    assert all(line[2:] == ["1", "False", os.getcwd()] for job in jobs for line in notes(job))


@pytest.mark.slow
def test_a_warning_ahead_of_the_time_limit_saves_and_queues_again(jobs: list[Job], queue: Any) -> None:
    run = jobs[0].path
    (run / "long").touch()
    warned: list[int] = []

    def warn(found: list[Any]) -> None:
        if (run / "ready").exists() and not warned:
            parent = int(notes(jobs[0])[0][1])
            os.kill(parent, signal.SIGUSR2)  # what Slurm sends: to submitit's process
            warned.append(parent)

    (state,) = run_all(jobs[:1], queue, "none", warn)
    assert (state.status, state.retries) == ("done", 0)
    assert [line[3] for line in notes(jobs[0])] == ["False", "True"]


@pytest.mark.slow
def test_a_job_that_is_lost_is_tried_again(jobs: list[Job], queue: Any, capsys: Any) -> None:
    run = jobs[0].path
    (run / "long").touch()
    killed: list[int] = []

    def kill(found: list[Any]) -> None:
        if (run / "ready").exists() and not killed:
            (run / "long").unlink()
            os.kill(int(notes(jobs[0])[0][1]), signal.SIGKILL)  # submitit's process
            killed.append(1)

    (state,) = run_all(jobs[:1], queue, "none", kill)
    assert (state.status, state.retries) == ("done", 1) and "ended without a result" in capsys.readouterr().err


@pytest.mark.slow
def test_preflight_is_the_first_job(jobs: list[Job], queue: Any, monkeypatch: Any, capsys: Any, tmp_path: Path) -> None:
    from bench.audit import preflight_process

    (tmp_path / "check.py").write_text(
        "import json, sys\n"
        "asked = json.load(open(sys.argv[1]))\n"
        "fields = dict(name='gradients', method='sft', task='countdown', settings='', passed=False, measured=1.0,\n"
        "    tolerance=0.5, detail=f'of {len(asked)} runs')\n"
        "lines = [dict(progress=[1, 2, 'x']), dict(failed=[fields])] if len(asked) == 3 else [dict(mend='as told')]\n"
        "open(sys.argv[2], 'w').write(''.join(json.dumps(line) + '\\n' for line in lines))\n"
    )
    monkeypatch.setattr(preflight_process, "COMMAND", (sys.executable, "-S", str(tmp_path / "check.py")))
    make_passports(jobs, queue)
    assert "preflight check 'gradients' failed on countdown: of 3 runs" in capsys.readouterr().err
    with pytest.raises(UserError, match="as told"):
        make_passports(jobs[:1], queue)
    monkeypatch.setattr(preflight_process, "COMMAND", (sys.executable, "-S", "-c", "import sys; sys.exit('broken')"))
    make_passports(jobs, queue)
    assert "preflight ended before its time (exit code 1: broken): the runs go on" in capsys.readouterr().err


def test_a_warning_after_the_end_of_a_command_queues_the_job_again(tmp_path: Path) -> None:
    """Its process has ended and is gone, and nobody has looked at its exit code yet."""
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    task = remote.Task()
    process = remote.start_command(["true"], str(tmp_path), str(tmp_path / "log"), {})
    os.waitpid(process.pid, 0)
    task.process = process
    again = task.checkpoint(["true"], "folder", "log", {})
    assert again.args == (["true"], "folder", "log", {})  # type: ignore[attr-defined]
    process.wait()
    assert task.checkpoint().args == ()  # type: ignore[attr-defined]


def test_preflight_is_ended_with_its_command(jobs: list[Job], monkeypatch: Any) -> None:
    stopped: list[object] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    task = SimpleNamespace(poll=interrupt)
    cluster: Any = SimpleNamespace(call=lambda *_: task, stop=stopped.extend)
    with pytest.raises(KeyboardInterrupt):
        make_passports(jobs, cluster)
    assert stopped == [task] and not list(Path("runs").glob(".preflight-*"))


def test_what_slurm_is_asked_for(jobs: list[Job], tmp_path: Path, monkeypatch: Any) -> None:
    """The script that submitit would hand to sbatch."""
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    for name, text in (("srun", "exit 0"), ("sbatch", f"cp $1 {tmp_path}/script; echo Submitted batch job 12")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    wishes = slurm.Wishes(90, "gpu", 2, {"account": "physics", "mem_per_cpu": "4G"})
    queue = slurm.Slurm(Path("runs"), True, 4, wishes)
    handles = [queue.start(SimpleNamespace(path=job.path / "order.json", folder="."), None) for job in jobs]  # type: ignore[arg-type]
    assert queue.flush() is None and all(handle.job is not None for handle in handles)  # type: ignore[attr-defined]
    lines = (tmp_path / "script").read_text().splitlines()
    for line in (
        *("array=0-2%2", "cpus-per-task=4", "gpus-per-node=1", "partition=gpu", "time=90"),
        *("account=physics", "mem-per-cpu=4G", "signal=USR2@120"),
    ):
        assert f"#SBATCH --{line}" in lines, lines
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"Slurm refused the jobs: .*invalid partition"):
        queue.call(["true"], ".", "log")


# --- Ray ---


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The address of a cluster of two nodes on this machine, and a function that kills the second one."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")  # it would end tasks where other programs fill the memory
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    added = [cluster.add_node(num_cpus=1)]

    def kill() -> None:
        cluster.remove_node(added.pop(), allow_graceful=False)

    yield cluster.address, kill
    cluster.shutdown()


@pytest.mark.slow
def test_the_run_of_a_lost_ray_node_goes_on_at_another(jobs: list[Job], nodes: Any, capsys: Any) -> None:
    address, kill = nodes
    with pytest.raises(UserError, match="--address local would start a cluster"):
        ray_cluster.RayCluster("local", False, 1, 3)
    cluster = ray_cluster.RayCluster(address, False, 1, 3)
    for job in jobs[:2]:
        (job.path / "long").touch()
    lost: list[int] = []

    def watch(found: list[Any]) -> None:
        if all((job.path / "ready").exists() for job in jobs[:2]):
            if not lost:
                kill()
                lost.append(1)
            for job in jobs[:2]:
                (job.path / "saved").touch()  # the next try need not be long
            if [state.retries for state in found[:2]] in ([0, 1], [1, 0]):  # the other one still sleeps: let it save
                alive = found[[state.retries for state in found[:2]].index(0)].job
                for line in notes(alive):
                    if subprocess.run(["kill", "-0", line[0]], capture_output=True).returncode == 0:
                        os.kill(int(line[0]), signal.SIGTERM)

    found = run_all(jobs, cluster, "none", watch)
    assert [state.status for state in found] == ["done"] * 3
    assert sorted(len(notes(job)) for job in jobs) == [1, 2, 2]
    assert "the Ray task was lost" in capsys.readouterr().err


def test_no_cluster_at_an_address_is_one_line() -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    with pytest.raises(UserError, match="no Ray cluster answers at --address auto"):
        ray_cluster.RayCluster("auto", False, 1, 1)

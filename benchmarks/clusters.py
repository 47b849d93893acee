"""Runs in a Ray cluster that loses a node, and in submitit's jobs that are queued again, against undisturbed ones.

``python -m benchmarks.clusters [--ray] [--slurm]``, with the extras of these names.  Two runs are made by a worker of
this machine; then in a Ray cluster of two nodes on this machine, one of which is killed while both train; then as jobs
of submitit's local executor, the first of which gets the warning that Slurm sends ahead of a time limit.  Every run
must be the undisturbed one to the byte, but for the values of fields that begin with ``seconds``.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.plan.spec import Evaluation
from bench.schedule.executor import Place, run_all
from bench.schedule.local import Local
from bench.schedule.states import State
from bench.store.job import Job
from bench.store.lease import tokens
from bench.study.jobs import Spec, plan_jobs
from bench.study.slots import Slot
from benchmarks.kills import outcome
from benchmarks.owners import steps_of

BEGUN = 3  # steps of a run, after which it is disturbed


def make_jobs(results: Path) -> list[Job]:
    """Two runs of some seconds on the embedded model."""
    nowhere: dict[str, Any] = {"ood_items": 0, "reworded_items": 0, "other_items": 0, "skill_items": 0}
    evaluation = Evaluation(val_items=8, val_samples=2, test_items=8, test_samples=2, **nowhere)
    spec = Spec(
        ["sft", "grpo"],
        ["countdown"],
        budget="24steps",
        level="3",
        train_size=32,
        max_new_tokens=24,
        settings=["sft.batch_size=8", "grpo.batch_size=4", "grpo.group_size=4"],
        evaluation=evaluation,
        device="cpu",
        results=results,
    )
    return plan_jobs(spec)


def make(results: Path, place: Place, disturb: Callable[[list[State]], None]) -> dict[str, dict[str, bytes]]:
    """What the runs leave, by name; how often each was begun goes to standard error."""
    began = time.monotonic()
    states = run_all(make_jobs(results), place, "last", disturb)
    for state in states:
        if state.status != "done":
            raise RuntimeError(f"{state.job.path.name}: {state.message}")
    begun = {state.job.plan.method: len(tokens(state.job.path)) for state in states}
    seconds = time.monotonic() - began
    print(f"{results.name}: begun {begun}, retries {[s.retries for s in states]}, {seconds:.0f} s", file=sys.stderr)
    return {state.job.path.name: outcome(state.job.path) for state in states}


def once(act: Callable[[list[State]], None], alone: bool = False) -> Callable[[list[State]], None]:
    """Act once, when all runs (or the first ``alone``) have begun to train and none has ended."""
    acted: list[bool] = []

    def watch(states: list[State]) -> None:
        wanted = states[:1] if alone else states
        if not acted and all(steps_of(state.job.path) >= BEGUN and not state.job.done for state in wanted):
            acted.append(True)
            act(states)

    return watch


def on_ray(results: Path) -> dict[str, dict[str, bytes]]:
    """The runs in a cluster of two nodes with room for one run each, of which the second is killed."""
    # Other programs of this machine are not the fault of these runs.
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112
    from ray.cluster_utils import Cluster

    from bench.schedule.ray_cluster import RayCluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        second = cluster.add_node(num_cpus=1)
        place = RayCluster(cluster.address, False, 1, 2)
        return make(results, place, once(lambda states: cluster.remove_node(second, allow_graceful=False)))
    finally:
        cluster.shutdown()


def on_slurm(results: Path) -> dict[str, dict[str, bytes]]:
    """The runs as jobs that submitit starts itself; the first one's process gets the warning of a time limit."""
    from bench.schedule.slurm import Slurm, Wishes

    def warn(states: list[State]) -> None:
        own = next(process for process in Path("/proc").glob("[0-9]*") if is_worker(process, states[0]))
        os.kill(int((own / "stat").read_text().rpartition(")")[2].split()[1]), signal.SIGUSR2)

    return make(results, Slurm(results, False, 1, Wishes(minutes=60), cluster="local"), once(warn, alone=True))


def is_worker(process: Path, state: State) -> bool:
    """Whether a process of this machine is the worker of a run."""
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"bench.engine.worker" in words and any(state.job.path.name.encode() in word for word in words)


def main(
    ray: Annotated[bool, typer.Option("--ray", help="A Ray cluster that loses a node.")] = False,
    slurm: Annotated[bool, typer.Option("--slurm", help="Jobs of submitit that are queued again.")] = False,
) -> None:
    """Disturb runs in clusters and compare them with undisturbed ones."""
    faults = []
    os.environ.setdefault("BENCH_CHECKPOINT_SECONDS", "0")
    with tempfile.TemporaryDirectory() as folder:
        expected = make(Path(folder) / "undisturbed", Local([Slot(0)]), lambda states: None)
        for name, wanted, runs in (("ray", ray, on_ray), ("slurm", slurm, on_slurm)):
            found = runs(Path(folder) / name) if wanted else expected
            faults += [f"{name}: {run}: {part}" for run in expected for part in differing(found[run], expected[run])]
    print("\n".join([f"{len(faults)} differences from undisturbed runs", *faults]))
    sys.exit(1 if faults else 0)


def differing(found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    return [name for name in sorted(found | expected) if found.get(name) != expected.get(name)]


if __name__ == "__main__":
    typer.run(main)

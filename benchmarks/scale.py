"""How long tables and the scan of finished runs take on a large results folder, made up here.

``python benchmarks/scale.py [--runs 1000] [--scan 10000] [--keep DIR]``.  The runs are plans of 8 methods with 5 seeds
under as many budgets and tasks as it takes; each is judged on what a real one is (500 test problems, 4 validations, and
all splits elsewhere), its verdicts are drawn with an accuracy of its own.  The JSONL records, which no table reads, are
of the size of real ones, the same for all runs and links to one file.  ``leaderboard`` is the whole process; ``scan``
is what ``bench run`` does before its first run starts: make all plans, see whether their runs are done and whole.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bench.cli.running import check_corrupt
from bench.store import packed_verdicts, passport
from bench.store.job import Job
from bench.store.run_folder import SELECTED, VERDICTS, digest_of
from bench.study.jobs import Spec, plan_jobs

METHODS = ("base", "sft", "grpo", "uft", "s3ft", "dft", "chord", "sft+grpo")
TASKS = ("countdown", "logic", "math", "sudoku")
NUM_SEEDS = 5
SAMPLES = 4
KEY = "0123456789ab"
RECORDS = {
    "metrics.jsonl": b'{"stage":"0:x","step":1}\n' * 4000,
    "evals.jsonl": b'{"split":"x"}\n' * 300,
    "items.jsonl": (b'{"split":"x","text":"' + b"x" * 200 + b'"}\n') * 5000,
    "targets.jsonl": b"",
}


def planned(num_runs: int, results: Path) -> list[Job]:
    """Plans of this many runs: full tables first."""
    found: list[Job] = []
    size = len(METHODS) * NUM_SEEDS
    for number in range(-(-num_runs // size)):
        budget = f"{1 + number // len(TASKS)}e12flops"
        task = TASKS[number % len(TASKS)]
        found += plan_jobs(Spec(METHODS, [task], range(NUM_SEEDS), budget=budget, device="cpu", results=results))
    return found[:num_runs]


def judged(job: Job, rng: np.random.Generator, ids: dict[str, tuple[str, ...]]) -> list[tuple[dict[str, Any], Any]]:
    """Lines of evals.jsonl and their verdicts: problems of shared difficulty, a level of its own for each run."""
    sizes, found = job.plan.evaluation, []
    splits = [("val", fraction, sizes.val_items) for fraction in sizes.fractions]
    splits += [("test", 1.0, sizes.test_items), ("ood", 1.0, sizes.ood_items), ("reworded", 1.0, sizes.reworded_items)]
    splits += [(f"other:{other.task}", 1.0, sizes.other_items) for other in job.plan.others]
    splits += [(SELECTED, 0.75, sizes.test_items)]
    level = rng.normal(0.0, 0.3) - 1.0
    for split, fraction, num_items in splits:
        pool = "test" if split in (SELECTED, "reworded") else split
        names = ids.setdefault(pool, tuple(f"{job.plan.task}/{pool}/{n}" for n in range(sizes.test_items)))
        ease = np.random.default_rng(len(pool)).normal(size=num_items)
        chances = 1 / (1 + np.exp(-(ease + level)))
        correct, greedy = rng.random((num_items, SAMPLES)) < chances[:, None], rng.random(num_items) < chances
        line = {"split": split, "fraction": fraction, "step": 100, "num_items": num_items, "num_samples": SAMPLES}
        line |= {"accuracy": float(correct.mean()), "greedy": float(greedy.mean()), "chance": 0.05, "formatted": 0.9}
        found.append((line, packed_verdicts.Verdicts(names[:num_items], correct, greedy)))
    return found


def shared(results: Path) -> tuple[dict[str, str], dict[str, int]]:
    """The records that all runs are links to: their digests and sizes."""
    (results / ".shared").mkdir(parents=True)
    digests, sizes = {}, {}
    for name, content in RECORDS.items():
        (results / ".shared" / name).write_bytes(content)
        digests[name], sizes[name] = digest_of(content), len(content)
    return digests, sizes


def make(planned: Sequence[Job], results: Path, distinct: bool = True) -> None:
    """Finished run directories of these plans; not ``distinct``: all have the verdicts of the first of their task."""
    digests, sizes = shared(results)
    rng, packed = np.random.default_rng(0), {}
    ids: dict[str, dict[str, tuple[str, ...]]] = {}
    for job in planned:
        job.path.mkdir()
        for name in RECORDS:
            os.link(results / ".shared" / name, job.path / name)
        task = job.plan.task
        if distinct or task not in packed:
            packed[task] = packed_verdicts.pack(judged(job, rng, ids.setdefault(task, {})))
        plan = json.dumps(job.plan.model_dump(mode="json"), indent=1, sort_keys=True).encode()
        for name, content in (("plan.json", plan), (VERDICTS, packed[task])):
            (job.path / name).write_bytes(content)
            digests[name], sizes[name] = digest_of(content), len(content)
        env = {"stack_key": KEY, "earlier_stack_keys": [], "command": ["x"] * 12}
        (job.path / "env.json").write_text(json.dumps(env))
        flops = 0.0 if job.plan.method == "base" else job.plan.budget_limit * rng.uniform(0.97, 1.0)
        ledger = {"flops": flops, "tokens": 1e6, "rollouts": 1e4, "seconds": 60.0, "demonstrations": 1e4, "steps": 100}
        selection = {"fraction": 0.75, "step": 100, "accuracy": 0.4}
        done = {"ledger": ledger, "digests": digests, "sizes": sizes, "selection": selection}
        (job.path / "done.json").write_text(json.dumps(done))
    passport.save_passport(results, passport_of(planned))


def passport_of(planned: Sequence[Job]) -> dict[str, Any]:
    """The passport of the runs' stack: five checks of the engine and of each method on each task."""
    stages = {(s.name, passport.method_settings(s.fields)) for job in planned for s in job.plan.stages}
    about = [("", ""), *sorted(stages)]
    checks = [
        {"name": f"check {n}", "task": task, "method": method, "settings": settings, "passed": True}
        for method, settings in about
        for task in TASKS
        for n in range(5)
    ]
    return {"key": KEY, "checks": checks, "passed": True, "methods": []}


def leaderboard(results: Path, *options: str) -> tuple[float, float]:
    """Wall and CPU seconds of the whole process."""
    root = Path(__file__).resolve().parents[1]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bench", "leaderboard", "--results", str(results), *options]
    begin, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - begin, spent


def scan(spec: Spec) -> tuple[float, float]:
    """Wall and CPU seconds from the options of ``bench run`` to the list of runs that are missing: none."""
    begin, before = time.perf_counter(), time.process_time()
    found = plan_jobs(spec)
    missing = [job for job in found if not job.done]
    check_corrupt(found)
    assert not missing, f"{len(missing)} of {len(found)} runs are missing"
    return time.perf_counter() - begin, time.process_time() - before


def scanned(num_runs: int, results: Path) -> Spec:
    """Options whose runs are all finished in a new folder."""
    seeds = range(max(1, num_runs // len(METHODS)))
    spec = Spec(METHODS, ["countdown"], seeds, device="cpu", results=results)
    make(plan_jobs(spec), results, distinct=False)
    return spec


def rows(num_runs: int, num_scanned: int, folder: Path) -> Iterator[dict[str, Any]]:
    """One figure after the other: seconds are the best of three."""
    for num in (num_runs // 4, num_runs // 2, num_runs):
        results = folder / f"runs-{num}"
        make(planned(num, results), results)
        for options in ((), ("--json",), ("--verify",)):
            wall, cpu = (min(times) for times in zip(*(leaderboard(results, *options) for _ in range(3))))
            yield {"what": " ".join(("leaderboard", *options)), "runs": num, "seconds": wall, "cpu_seconds": cpu}
    for num in (num_scanned // 4, num_scanned // 2, num_scanned):
        spec = scanned(num, folder / f"scan-{num}")
        wall, cpu = (min(times) for times in zip(*(scan(spec) for _ in range(3))))
        yield {"what": "scan", "runs": len(spec.seeds) * len(METHODS), "seconds": wall, "cpu_seconds": cpu}


def main(
    runs: Annotated[int, typer.Option(help="Runs of the largest table; a quarter and a half come before.")] = 1000,
    scan: Annotated[int, typer.Option(help="Runs of the largest scan; a quarter and a half come before.")] = 10_000,
    keep: Annotated[Path | None, typer.Option(help="Folder to leave the stores in.")] = None,
) -> None:
    """Print one line of JSON per figure."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        for row in rows(runs, scan, keep or Path(folder)):
            print(json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    typer.run(main)

"""How long `bench report` takes on a large results folder, made up here, and how large its file is.

``python benchmarks/report_scale.py [--runs 1000] [--keep DIR]``.  The runs are plans of 8 methods with 5 seeds under as
many budgets of four tasks as it takes, each judged on 500 test problems and 4 times 200 of validation with 4 samples
and greedy decoding.  Verdicts differ from run to run; the records, which only the completions shown are read from, are
links to one file per task of the size of real ones.  One line of JSON per figure; seconds are of the whole process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bench.analysis.run_curves import CURRENCIES
from bench.store import packed_verdicts
from bench.store.job import Job
from bench.store.run_folder import VERDICTS, digest_of
from bench.study.jobs import Spec, plan_jobs

METHODS = ("base", "sft", "grpo", "uft", "s3ft", "dft", "chord", "sft+grpo")
TASKS = ("countdown", "logic", "math", "sudoku")
NUM_SEEDS, SAMPLES = 5, 4


def planned(num_runs: int, results: Path) -> list[Job]:
    """Plans of this many runs, full tables first."""
    found: list[Job] = []
    for number in range(-(-num_runs // (len(METHODS) * NUM_SEEDS))):
        budget, task = f"{1 + number // len(TASKS)}e12flops", TASKS[number % len(TASKS)]
        found += plan_jobs(Spec(METHODS, [task], range(NUM_SEEDS), budget=budget, device="cpu", results=results))
    return found[:num_runs]


def evaluations(job: Job, rng: np.random.Generator) -> list[tuple[dict[str, Any], packed_verdicts.Verdicts]]:
    """Lines of evals.jsonl with their verdicts: problems of shared difficulty, a level for each run."""
    plan, level, found = job.plan, rng.normal(-1.0, 0.3), []
    sizes = plan.evaluation
    for split, share, num in [*(("val", f, sizes.val_items) for f in sizes.fractions), ("test", 1.0, sizes.test_items)]:
        chances = 1 / (1 + np.exp(-(np.random.default_rng(len(split)).normal(size=num) + level)))
        correct, greedy = rng.random((num, SAMPLES)) < chances[:, None], rng.random(num) < chances
        ids = tuple(f"{plan.task}/{plan.level}/{split}/{n}" for n in range(num))
        line = {"split": split, "fraction": share, "step": 100, "num_items": num, "num_samples": SAMPLES}
        line |= {"accuracy": float(correct.mean()), "greedy": float(greedy.mean()), "chance": 0.05}
        line["spent"] = dict.fromkeys(CURRENCIES.values(), share * plan.budget_limit)
        found.append((line, packed_verdicts.Verdicts(ids, correct, greedy)))
    return found


def records(judged: list[tuple[dict[str, Any], packed_verdicts.Verdicts]]) -> bytes:
    """Lines of items.jsonl for these evaluations."""
    lines = []
    for line, found in judged:
        for n, id in enumerate(found.item_ids):
            text = f"step {n} of {id}\n" + "12+34=46\n" * (2 + n % 4) + "<answer>46</answer>"
            drawn = [
                {"text": f"{text} {k}", "tokens": 40, "stopped": True, "correct": bool(right), "reason": f"equals {n}"}
                for k, right in enumerate((found.greedy[n], *found.correct[n]))
            ]
            head = {"fraction": line["fraction"], "step": 100, "split": line["split"], "id": id}
            lines.append(json.dumps({**head, "greedy": drawn[0], "samples": drawn[1:]}))
    return "".join(f"{line}\n" for line in lines).encode()


def make(planned: list[Job], results: Path) -> None:
    """Finished run directories of these plans."""
    rng, shared = np.random.default_rng(0), results / ".shared"
    shared.mkdir(parents=True)
    for job in planned:
        judged = evaluations(job, rng)
        items = shared / f"{job.plan.task}.jsonl"
        if not items.exists():
            items.write_bytes(records(judged))
        job.path.mkdir()
        os.link(items, job.path / "items.jsonl")
        lines = "".join(f"{json.dumps(line)}\n" for line, _ in judged)
        plan = json.dumps(job.plan.model_dump(mode="json"), indent=1, sort_keys=True)
        texts = {"plan.json": plan, "evals.jsonl": lines, "metrics.jsonl": '{"step":1}\n'}
        contents = {name: text.encode() for name, text in texts.items()} | {VERDICTS: packed_verdicts.pack(judged)}
        for name, content in contents.items():
            (job.path / name).write_bytes(content)
        contents["items.jsonl"] = items.read_bytes()
        ledger = {"flops": job.plan.budget_limit, "tokens": 1e6, "rollouts": 1e4, "seconds": 60.0, "steps": 100}
        digests = {name: digest_of(content) for name, content in contents.items()}
        done = {"ledger": ledger, "digests": digests, "sizes": {name: len(c) for name, c in contents.items()}}
        (job.path / "done.json").write_text(json.dumps(done))
        (job.path / "env.json").write_text(json.dumps({"command": ["bench", "run", "--seeds", "5"], "python": "3"}))


def timed(results: Path, out: Path) -> dict[str, Any]:
    """Wall and CPU seconds of one whole process, and the size of its file."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bench", "report", "--results", str(results), "--out", str(out)]
    begin, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)
    wall, after = time.perf_counter() - begin, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": round(wall, 2), "cpu_seconds": round(cpu, 2), "megabytes": round(out.stat().st_size / 1e6, 2)}


def main(
    runs: Annotated[int, typer.Option(help="Runs of the largest folder; a quarter and a half come before.")] = 1000,
    keep: Annotated[Path | None, typer.Option(help="Folder to leave the runs and reports in.")] = None,
) -> None:
    """Print one line of JSON per figure, the best of two."""
    with tempfile.TemporaryDirectory(prefix="scale-") as temporary:
        folder = keep or Path(temporary)
        for num in (runs // 4, runs // 2, runs):
            results = folder / f"runs-{num}"
            make(planned(num, results), results)
            best = min((timed(results, folder / f"report-{num}.html") for _ in range(2)), key=lambda t: t["seconds"])
            print(json.dumps({"what": "report", "runs": num, **best}), flush=True)


if __name__ == "__main__":
    typer.run(main)

"""The time that a dry run states against that of the runs, in seconds of one processor: other programs do not count.

    python benchmarks/estimates.py --model tiny --budget 1e12flops

Each run is a process with one thread; its processor time is compared with the estimate without its factor ``busy``.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from pathlib import Path

from bench.foreign import say
from bench.plan.recipes import load_recipe
from bench.plan.spec import Evaluation
from bench.schedule.local import start_worker
from bench.store.order import order_for
from bench.store.run_folder import NONE
from bench.study import rates
from bench.study.estimate import estimate_runs
from bench.study.jobs import Spec, plan_jobs
from bench.study.slots import Slot


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--methods", default="base,sft,uft")
    parser.add_argument("--budget", default="1e12flops")
    parser.add_argument("--recipe")
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--max-new-tokens", type=int)
    options = parser.parse_args()
    if options.recipe:
        load_recipe(options.recipe)
    few = {"val_items": 10, "test_items": options.items, "ood_items": 0, "reworded_items": 0}
    judging = Evaluation(**few, other_items=0, skill_items=0)
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        spec = Spec(
            options.methods.split(","),
            ["countdown"],
            model=options.model,
            budget=options.budget,
            recipe=options.recipe,
            train_size=1000,
            max_new_tokens=options.max_new_tokens,
            evaluation=judging,
            results=results,
            device="cpu",
        )
        jobs = plan_jobs(spec)
        known = rates.measured_rates(jobs[0], [Slot(0)])
        say(f"{known}")
        say(f"{'run':<12} {'stated s':>9} {'took s':>9} {'ratio':>6}   of it start, train, sample, evaluation")
        for job, estimate in zip(jobs, estimate_runs(jobs, results, NONE, say)):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            order = order_for(job, NONE, ["benchmarks.estimates"])
            order.write()
            process = start_worker(order, Slot(0))
            if process.wait():
                raise SystemExit((job.path / "log.txt").read_text())
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            parts = [getattr(estimate, f"{part}_seconds") for part in ("start", "train", "sample", "evaluation")]
            stated = estimate.seconds / known.busy
            shares = ", ".join(f"{part / known.busy:.0f}" for part in parts)
            say(f"{job.plan.method:<12} {stated:9.1f} {took:9.1f} {stated / took:6.2f}   {shares}")


if __name__ == "__main__":
    main()

"""Learning rates for a model: the same grid and the same number of trials for every method, on validation only.

    python benchmarks/tune.py [--methods sft,grpo,uft] [--lrs 1e-4,...] [--budget 3e12flops] --out trials.json

Each trial is an ordinary run with its own seed, which no reported run uses; the test split is never looked at (its
evaluation is cut to two items).  The best validation accuracy at the end of the budget wins; ties go to the lower rate.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.executor import num_workers, run_all
from bench.plan import Spec, jobs
from bench.progress import display
from bench.spec import Evaluation
from bench.store import read_json, read_lines

SEED = 1000
GRID = "1e-4,2e-4,4e-4,8e-4,1.6e-3,3.2e-3"


def trial(path: Path, method: str, lr: str) -> dict[str, Any]:
    """Validation accuracies of a finished trial and what it spent."""
    evals = [e for e in read_lines(path / "evals.jsonl") if e["split"] == "val"]
    ledger = read_json(path / "done.json")["ledger"]
    curve = {str(e["fraction"]): round(e["accuracy"], 4) for e in evals}
    return {
        "method": method,
        "lr": float(lr),
        "val_accuracy": round(evals[-1]["accuracy"], 4),
        "val_greedy": round(evals[-1]["greedy"], 4),
        "curve": curve,
        "flops": ledger["flops"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default="sft,grpo,uft")
    parser.add_argument("--lrs", default=GRID)
    parser.add_argument("--task", default="countdown")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--budget", default=None)
    parser.add_argument("--results", type=Path, default=Path("results/runs-tuning"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    evaluation = Evaluation(test_items=2, test_samples=1, ood_items=0, reworded_items=0, other_items=0, skill_items=0)
    methods, rates = args.methods.split(","), args.lrs.split(",")
    found, owners = [], []
    for rate in rates:
        for method in methods:
            spec = Spec(
                methods=[method],
                tasks=[args.task],
                seeds=[SEED],
                model=args.model,
                budget=args.budget,
                settings=[f"{method}.lr={rate}"],
                evaluation=evaluation,
                results=args.results,
            )
            found += jobs(spec)
            owners.append((method, rate))
    with display(quiet=False) as show:
        states = run_all(found, num_workers(1), False, show)
    trials = [trial(s.job.path, m, r) for s, (m, r) in zip(states, owners) if s.status in {"done", "reused"}]
    failed = [{"method": m, "lr": float(r), "fault": s.message} for s, (m, r) in zip(states, owners) if s.message]
    best = {}
    for method in methods:
        own = [t for t in trials if t["method"] == method]
        best[method] = max(own, key=lambda t: (t["val_accuracy"], -t["lr"]))["lr"] if own else None
    plan = found[0].plan
    record = {
        "task": plan.task,
        "level": plan.level,
        "model_digest": plan.model_digest,
        "budget": str(plan.budget),
        "seed": SEED,
        "val_items": plan.evaluation.val_items,
        "val_samples": plan.evaluation.val_samples,
        "trials": sorted(trials, key=lambda t: (t["method"], t["lr"])),
        "failed": failed,
        "best": best,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    for t in record["trials"]:
        print(f"{t['method']:<8} lr {t['lr']:<8g} validation {100 * t['val_accuracy']:.1f} % {t['curve']}")
    print(f"best: {best}", file=sys.stderr)


if __name__ == "__main__":
    main()

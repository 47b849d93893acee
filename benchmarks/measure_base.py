"""Measure a base model on every task and base skill: greedy, pass@1, pass@16, format, end of sequence, chance.

python -m benchmarks.measure_base [--model DIR] [--split test] [--items 500] [--json]
"""

from __future__ import annotations

import argparse
import json
from time import perf_counter

import torch

from bench.engine import evaluate
from bench.engine.policy import Policy, load_model
from bench.models import model_path, model_settings
from bench.plan import registry
from bench.types import Example
from tasks import common, skills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--split", default="test")
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--levels", default="", help="task=level,... instead of the default levels")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = model_path(args.model)
    policy = Policy(*load_model(path))
    defaults = model_settings(path)
    chosen = dict(part.split("=") for part in args.levels.split(",") if part)
    rows = []

    def measure(judge: evaluate.Judge, level: str, drawn: list[Example], template: str, split: str) -> None:
        examples = [policy.encode(e, template) for e in drawn]
        limit = defaults.get("max_new_tokens", 64)
        if split.startswith("skill:"):
            limit = max(len(e.demo_ids) for e in examples) + skills.MARGIN
        begin = perf_counter()
        found, _ = evaluate.evaluate_split(
            policy, judge, examples, split, evaluate.Settings(args.samples, limit, 1.0, 256, 0)
        )
        rows.append({"task": judge.name, "level": level, **found, "wall": perf_counter() - begin})

    for name in registry.names("tasks"):
        task = registry.task(name)
        level = chosen.get(name, task.default_level)
        measure(
            task, level, common.load_examples(task, args.split, args.items, level, "compact"), "compact", args.split
        )
    for skill in skills.SKILLS.values():
        measure(skill, "compact", skills.load_skill(skill, args.items, "compact"), "plain", f"skill:{skill.name}")
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    print("| task | level | chance | pass@1 | greedy | pass@16 | formatted | ends by itself | tokens |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for r in rows:
        shares = [r["chance"], r["accuracy"], r["greedy"], r["pass_at"]["16"], r["formatted"], r["stopped"]]
        cells = " | ".join(f"{100 * x:.1f} %" for x in shares)
        print(f"| {r['task']} | {r['level']} | {cells} | {r['mean_tokens']:.1f} |")


if __name__ == "__main__":
    main()

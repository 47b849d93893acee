"""Finished run directories without training: plans as real ones, verdicts drawn by known rules, chosen texts."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.plan import registry
from bench.plan.spec import Evaluation, RunPlan, parse_method
from bench.store.files import write_atomic
from bench.store.run_store import RunStore

LEDGER = {"flops": 3e12, "tokens": 1e6, "rollouts": 512, "demonstrations": 64, "seconds": 60.0, "steps": 10}
Text = Callable[[str, int, bool], str]  # method, item and whether it is right


def plain_text(method: str, item: int, right: bool) -> str:
    return f"{method} on item {item}\n<answer>{item if right else -1}</answer>"


def plan(method: str, task: str, seed: int, evaluation: Evaluation, **changes: Any) -> RunPlan:
    judge = registry.task(task)
    level, template = judge.default_level, judge.templates[0]
    version = registry.task_version(judge, level, template)
    values = {
        **{"method": method, "stages": parse_method(method, {}, {})[1], "task": task, "task_version": version},
        **{"level": level, "template": template, "model": "tiny", "model_digest": "0" * 32},
        **{"seed": seed, "budget_unit": "flops", "budget_limit": 3e12, "train_size": 100, "max_new_tokens": 64},
        "evaluation": evaluation,
    }
    return RunPlan(**{**values, **changes})


def write_run(
    results: Path,
    method: str,
    task: str = "countdown",
    seed: int = 0,
    accuracy: float = 0.3,
    num_items: int = 40,
    num_samples: int = 2,
    text: Text = plain_text,
    env: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """One finished run: validations that rise to ``accuracy``, then the test; the item's number makes it hard."""
    sizes = {"val_items": num_items, "val_samples": num_samples, "test_items": num_items, "test_samples": num_samples}
    nowhere = {"ood_items": 0, "reworded_items": 0, "other_items": 0}
    made = plan(method, task, seed, Evaluation(**sizes, **nowhere, fractions=(0.5, 1.0)), **changes)
    store = RunStore(results / made.directory)
    rng = random.Random(f"{method} {task} {seed}")
    shares = [("val", 1.0), ("test", 1.0)] if method == "base" else [("val", 0.5), ("val", 1.0), ("test", 1.0)]
    for split, fraction in shares:
        reached = accuracy * (0.6 + 0.4 * fraction)
        items = [item(made, split, fraction, n, reached, num_samples, rng, text) for n in range(num_items)]
        drawn = [s["correct"] for i in items for s in i["samples"]]
        store.append("items.jsonl", items)
        store.append("evals.jsonl", [evaluation(split, fraction, num_items, num_samples, sum(drawn) / len(drawn))])
    store.append("metrics.jsonl", [{"step": 1, "progress": 0.0}])
    write_atomic(store.path / "plan.json", made.model_dump(mode="json"))
    command = ["/usr/lib/bench/__main__.py", "run", "--methods", method, "--task", task]
    write_atomic(store.path / "env.json", {"command": command, "python": "3.11.7", **(env or {})})
    store.finish(LEDGER if method != "base" else dict.fromkeys(LEDGER, 0))
    return store.path


def item(
    made: RunPlan, split: str, fraction: float, n: int, reached: float, num_samples: int, rng: random.Random, text: Text
) -> dict[str, Any]:
    hard = (n * 37 % 40 + 0.5) / 40

    def draw() -> dict[str, Any]:
        right = hard < reached + rng.uniform(-0.1, 0.1)
        words = {"text": text(made.method, n, right), "reason": "correct" if right else f"equals {n}, target is -1"}
        return {**words, "tokens": 9, "stopped": True, "correct": right, "reward": float(right)}

    id = f"{made.task}/{made.level}/{split}/{n}"
    samples = [draw() for _ in range(num_samples)]
    return {"fraction": fraction, "step": 10, "split": split, "id": id, "greedy": draw(), "samples": samples}


def evaluation(split: str, fraction: float, num_items: int, num_samples: int, accuracy: float) -> dict[str, Any]:
    found = {"fraction": fraction, "step": 10, "split": split, "num_items": num_items, "num_samples": num_samples}
    spent = {key: value * fraction for key, value in LEDGER.items()}
    return {**found, "accuracy": accuracy, "greedy": accuracy, "chance": 0.08, "spent": spent}


def two_tasks(results: Path, seeds: int = 3, text: Text = plain_text) -> Path:
    """Base, SFT, UFT and a pipeline on two tasks."""
    for task, shift in (("countdown", 0.0), ("logic", 0.1)):
        for method, accuracy in (("base", 0.2), ("sft", 0.45), ("uft", 0.6), ("sft+grpo", 0.6)):
            for seed in range(seeds):
                write_run(results, method, task, seed, accuracy + shift, text=text)
    return results

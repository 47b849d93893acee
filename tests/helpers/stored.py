"""Finished runs written by hand, with real problems of Countdown and no training; for tests of what reads records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.plan import registry
from bench.plan.budget import Ledger
from bench.plan.spec import Evaluation, Execution, Other, RunPlan, Stage
from bench.store.files import write_atomic
from bench.store.run_store import RunStore
from tasks.common import load_examples

SIZES = {"test": 6, "val": 4, "ood": 3, "reworded": 5, "other:logic": 2}
EXECUTION = Execution(device="cpu", threads=1, micro_batch_tokens=256, sample_rows=8)
ENV = {
    "python": "3.11.7",
    "versions": {"torch": "2.13.0", "transformers": "5.19.0"},
    "system": "Linux",
    "stack_key": "abc",
    "execution": EXECUTION.model_dump(),
    "command": ["/somewhere/bench/__main__.py", "run", "--methods", "sft", "--set", "sft.lr=1e-3; echo `id`"],
}


def plan(**changes: Any) -> RunPlan:
    """A resolved plan of SFT on Countdown, level 3, with every split elsewhere."""
    sizes = {"val_items": 4, "test_items": 6, "ood_items": 3, "reworded_items": 5, "other_items": 2}
    countdown, logic = (registry.task_version(registry.task(name), "3", "compact") for name in ("countdown", "logic"))
    fields = {"method": "sft", "task": "countdown", "task_version": countdown, "level": "3"}
    fields |= {"model": "tiny", "model_digest": "00ff", "template": "compact", "ood_level": "4"}
    numbers = {"seed": 7, "budget_limit": 1e6, "train_size": 40, "max_new_tokens": 24}
    given: dict[str, Any] = {
        **fields,
        **numbers,
        "stages": (Stage(name="sft", share=1.0, fields={"lr": 0.001, "batch_size": 4, "betas": [0.9, 0.95]}),),
        "budget_unit": "flops",
        "evaluation": Evaluation(**sizes, val_samples=2, test_samples=2, fractions=(0.5, 1.0)),
        "others": (Other(task="logic", level="3", version=logic),),
    }
    return RunPlan(**{**given, **changes})


def spent(step: int) -> dict[str, float]:
    """The ledger after so many steps."""
    return Ledger(flops=1e5 * step, trained_tokens=100 * step, steps=step, seconds_train=0.5 * step).record()


def ids(made: RunPlan, split: str) -> list[str]:
    """Item ids as runs have them."""
    task, level = ("logic", made.others[0].level) if split == "other:logic" else (made.task, made.level)
    level = made.ood_level if split == "ood" else level
    source = "val" if split == "val" else "test"
    return [e.id for e in load_examples(registry.task(task), source, SIZES[split], level, "compact")]


def completion(correct: bool, text: str) -> dict[str, Any]:
    return {"text": text, "tokens": 3, "stopped": True, "correct": correct, "reward": 1.0 if correct else 0.1}


def item(split: str, number: int, name: str, fraction: float, text: str) -> dict[str, Any]:
    """Greedy completions of even items are right, and the first of two samples of every third."""
    samples = [completion(number % 3 == 0, text), completion(False, text)]
    greedy = completion(number % 2 == 0, text)
    return {"fraction": fraction, "step": 4, "split": split, "id": name, "greedy": greedy, "samples": samples}


def summary(split: str, items: list[dict[str, Any]], fraction: float) -> dict[str, Any]:
    step = round(4 * fraction)
    right = sum(s["correct"] for i in items for s in i["samples"]) / (2 * len(items))
    found = {"fraction": fraction, "step": step, "num_items": len(items), "num_samples": 2, "accuracy": right}
    found |= {
        "greedy": sum(i["greedy"]["correct"] for i in items) / len(items),
        "pass_at": {"1": right, "2": 2 * right},
    }
    return {**found, "reward": 0.5, "chance": 0.08, "split": split, "seconds": 0.25, "spent": spent(step)}


def write_run(results: Path, made: RunPlan | None = None, text: str = "<answer>1</answer>") -> Path:
    """A finished run of four steps with validation at half and at the end; every completion is ``text``."""
    made = made or plan()
    store = RunStore(results / made.directory)
    write_atomic(store.path / "plan.json", made.record())
    write_atomic(store.path / "env.json", ENV)
    for step in range(1, 5):
        line = {"stage": "0:sft", "step": step, "loss": 1 / step, "demo_nll": 0.1 + step, "spent": spent(step)}
        store.append("metrics.jsonl", [line])
    for split, fraction in (("val", 0.5), ("val", 1.0), *((s, 1.0) for s in SIZES if s != "val")):
        items = [item(split, n, name, fraction, text) for n, name in enumerate(ids(made, split))]
        store.append("items.jsonl", items)
        store.append("evals.jsonl", [summary(split, items, fraction)])
    store.finish(spent(4))
    return store.path

"""Peak memory and time of training steps: all weights or an adapter, rows padded or packed.

``python -m benchmarks.adapters [--model NAME] [--cases sft:full:padded,sft:lora:packed] [--steps N]``.  Each case runs
alone in a process of its own, whose largest resident size is measured (``ru_maxrss``), on CUDA the allocator's peak.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from itertools import product
from typing import Annotated, Any

import torch
import typer

from bench.engine.adapters import attach
from bench.engine.policy import Policy, load_model
from bench.engine.trainer import Stage
from bench.foreign import say
from bench.models import model_path, model_settings
from bench.plan import registry
from bench.plan.budget import Budget, Meter
from bench.plan.lora import parse_lora
from bench.study.jobs import choose_device
from benchmarks.memory import MIB, peak
from tasks.common import load_examples

SIZES: dict[str, dict[str, Any]] = {
    "sft": {"batch_size": 8},
    "grpo": {"batch_size": 2, "group_size": 4, "num_updates": 1, "kl_coef": 0.04},
}
CASES = [":".join(parts) for parts in product(("sft", "grpo"), ("full", "lora"), ("padded", "packed"))]


def measure(model: str, case: str, steps: int, rank: str) -> dict[str, float]:
    """Seconds of the steps and of their training, FLOPs, last loss and peak bytes of METHOD:full|lora:padded|packed."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    name, trained, layout = case.split(":")
    path, task = model_path(model), registry.task("countdown")
    network, tokenizer = load_model(path, choose_device("auto"))
    if trained == "lora":
        attach(network, parse_lora(rank), 0)
    policy = Policy(network, tokenizer, packing=layout == "packed")
    policy.meter = Meter(policy.architecture, Budget("steps", math.inf))
    template = model_settings(path).get("template", "plain")
    pool = [policy.encode(e, template) for e in load_examples(task, "train", 64, "3", template)]
    method = registry.build_method(name, {"lr": 1e-5, **SIZES[name]})
    limits: dict[str, Any] = {"max_new_tokens": 32, "temperature": 1.0, "max_grad_norm": 1.0, "sample_rows": 64}
    stage = Stage(policy, method, task, pool, 0, f"0:{name}", micro_batch_tokens=2048, **limits)
    before, begin = peak(), time.perf_counter()
    records = [stage.run_step() for _ in range(steps)]
    last, ledger = records[-1], policy.meter.ledger
    assert last is not None
    return {
        "steps_per_second": steps / (time.perf_counter() - begin),
        "train_seconds": ledger.seconds_train,
        "flops": ledger.flops,
        "trained_tokens": ledger.trained_tokens,
        "padding_tokens": ledger.padding_tokens,
        "loss": last["loss"],
        "before_mib": before / MIB,
        "peak_mib": peak() / MIB,
    }


def main(
    model: Annotated[str, typer.Option(help="tiny, or a model of `bench models`.")] = "tiny",
    cases: Annotated[str, typer.Option(help="Comma-separated METHOD:full|lora:padded|packed.")] = ",".join(CASES),
    steps: Annotated[int, typer.Option(help="Steps of each case.")] = 3,
    rank: Annotated[str, typer.Option(help="Of the adapter, as bench run takes it.")] = "16",
    alone: Annotated[str, typer.Option(help="This case alone, in this process.")] = "",
) -> None:
    """Measure each case in a process of its own, one after the other."""
    if alone:
        say(json.dumps(measure(model, alone, steps, rank)))
        return
    for case in cases.split(","):
        words = ["--model", model, "--steps", str(steps), "--rank", rank, "--alone", case]
        child = subprocess.run([sys.executable, "-m", "benchmarks.adapters", *words], capture_output=True, text=True)
        if child.returncode:
            raise SystemExit(child.stderr)
        found = json.loads(child.stdout.splitlines()[-1])
        say(f"{case:16} " + ", ".join(f"{key} {value:.6g}" for key, value in found.items()))


if __name__ == "__main__":
    typer.run(main)

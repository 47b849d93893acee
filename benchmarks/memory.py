"""Peak memory and time of one training step, with all activations kept and with layers computed again.

``python -m benchmarks.memory [--model NAME] [--methods sft,uft] [--micro-batch-tokens N]``.  Each case runs alone in a
process of its own, whose largest resident size is measured (``ru_maxrss``), and on CUDA the allocator's peak.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import time
from typing import Annotated, Any

import torch
import typer

from bench.engine.policy import Policy, load_model
from bench.engine.trainer import Stage
from bench.foreign import say
from bench.models import model_path, model_settings
from bench.plan import registry
from bench.plan.budget import Budget, Meter
from bench.study.jobs import choose_device
from tasks.common import load_examples

SIZES = {"batch_size": 8, "group_size": 4, "num_updates": 1}
MIB = 2**20


def measure(model: str, name: str, recompute: str, tokens: int, new_tokens: int) -> dict[str, float]:
    """Seconds, loss, gradient norm and peak bytes of one step; of ``none`` or ``full``."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    path, device, task = model_path(model), choose_device("auto"), registry.task("countdown")
    policy = Policy(*load_model(path, device))
    policy.meter = Meter(policy.architecture, Budget("steps", math.inf))
    policy.recompute = recompute == "full"
    template = model_settings(path).get("template", "plain")
    pool = [policy.encode(e, template) for e in load_examples(task, "train", 64, "3", template)]
    method = registry.build_method(name, {"lr": 1e-6})
    fields = {k: v // (4 if name != "sft" and k == "batch_size" else 1) for k, v in SIZES.items() if hasattr(method, k)}
    method = registry.build_method(name, {"lr": 1e-6, **fields})
    limits: dict[str, Any] = {"max_new_tokens": new_tokens, "temperature": 1.0, "max_grad_norm": 1.0, "sample_rows": 64}
    stage = Stage(policy, method, task, pool, 0, f"0:{name}", micro_batch_tokens=tokens, **limits)
    before = peak()
    begin = time.perf_counter()
    record = stage.run_step()
    assert record is not None
    return {
        "seconds": time.perf_counter() - begin,
        "train_seconds": policy.meter.ledger.seconds_train,
        "trained_tokens": policy.meter.ledger.trained_tokens,
        "loss": record["loss"],
        "grad_norm": record["grad_norm"],
        "before_mib": before / MIB,
        "peak_mib": peak() / MIB,
    }


def peak() -> int:
    """Most memory so far, in bytes: of the allocator on CUDA, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(
    model: Annotated[str, typer.Option(help="tiny, or a model of `bench models`.")] = "tiny",
    methods: Annotated[str, typer.Option(help="Comma-separated names.")] = "sft,uft",
    micro_batch_tokens: Annotated[int, typer.Option(help="Padded tokens of one pass.")] = 2048,
    max_new_tokens: Annotated[int, typer.Option(help="Longest completion.")] = 64,
    case: Annotated[str, typer.Option(help="METHOD:none or METHOD:full: this case alone, in this process.")] = "",
) -> None:
    """Measure each method with and without recomputation, one process after the other."""
    if case:
        name, _, recompute = case.partition(":")
        say(json.dumps(measure(model, name, recompute, micro_batch_tokens, max_new_tokens)))
        return
    for name in methods.split(","):
        for recompute in ("none", "full"):
            sizes = ["--micro-batch-tokens", str(micro_batch_tokens), "--max-new-tokens", str(max_new_tokens)]
            words = ["--model", model, *sizes, "--case", f"{name}:{recompute}"]
            child = subprocess.run([sys.executable, "-m", "benchmarks.memory", *words], capture_output=True, text=True)
            if child.returncode:
                raise SystemExit(child.stderr)
            found = json.loads(child.stdout.splitlines()[-1])
            figures = ", ".join(f"{key} {value:.6g}" for key, value in found.items())
            say(f"{name:8} recompute {recompute}: {figures}")


if __name__ == "__main__":
    typer.run(main)

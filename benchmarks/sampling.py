"""Decoding rate, and seconds and peak memory of prefill, of the sampler on one model.

``python -m benchmarks.sampling --model smollm2``.  Every case runs in a process of its own on one thread: random
prompts, completions that never end by themselves, so that the number of tokens is known.  Memory is the process's peak
above what it had after loading the model and running one prompt of four tokens (Linux only).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from bench.engine.policy import Policy, load_model
from bench.models import model_path

# name -> prompts, tokens of a prompt, completions of each, new tokens
CASES = {
    "decode 8 rows": (1, 124, 8, 64),
    "decode 32 rows": (4, 124, 8, 64),
    "decode 128 rows": (16, 124, 8, 64),
    "prefill 64 x 124": (64, 124, 1, 1),
    "prefill 32 x 800": (32, 800, 1, 1),
}


def memory(name: str) -> float:
    """MB of this process: ``VmRSS`` now, ``VmHWM`` at most."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name)) / 1024


def measure(path: str, prompts: int, width: int, group: int, new: int) -> dict[str, float]:
    """Seconds of the processor, and MB above those after loading."""
    torch.set_num_threads(1)
    policy = Policy(*load_model(path))
    policy.eos_ids = frozenset()
    vocabulary = policy.model.config.vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, vocabulary, (prompts, width), generator=generator).tolist()
    policy.sample([ids[0][:4]], 1, 2, [0])
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak counts from here
    begin = time.process_time()
    policy.sample(ids, group, new, list(range(prompts * group)))
    return {"seconds": time.process_time() - begin, "megabytes": memory("VmHWM") - before}


def main(
    model: str = "smollm2", only: str = "", repeats: int = 1, case: Annotated[str, typer.Option(hidden=True)] = ""
) -> None:
    path = str(model_path(model))
    if case:
        print(json.dumps(measure(path, *CASES[case])))
        return
    for name, (prompts, width, group, new) in CASES.items():
        if only not in name:
            continue
        command = [sys.executable, "-m", "benchmarks.sampling", "--model", model, "--case", name]
        for _ in range(repeats):
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            tokens = prompts * (group * new if new > 1 else width)
            rate = tokens / found["seconds"]
            print(f"{name}: {found['seconds']:.2f} s, {rate:.0f} tokens/s, {found['megabytes']:.0f} MB", flush=True)


if __name__ == "__main__":
    typer.run(main)

"""Memory, speed and rounding of training and sampling on one GPU: random weights in the shapes of Qwen2.5, no network.

``python -m benchmarks.gpu [--shapes 0.5b,1.5b] [--seconds 420] [--device cuda|cpu] [--json FILE]``

For each shape: training with two sizes of micro-batches, with and without recomputed activations where this version has
them; sampling of 64 and 512 rows; the gap between log-probabilities under bfloat16 autocast and in float32.  For the
first one also: the most rows by each sampler engine that is installed; a checkpoint saved, restored and continued; a
step on a card too small for its passes.  Rates stand beside the card's own: the share is FLOPs of the ledger per second
over those of bfloat16 products.  No new case is begun after ``--seconds``.
On a CPU tiny shapes go the same way in seconds: there the figures say nothing, and the checks do.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import gpu_cases
from benchmarks.gpu_cases import CASES, FULL, SHAPES, SMALL, Row, Sizes, clear, matrix_rate, random_model
from benchmarks.gpu_engines import engines

ONCE = (*gpu_cases.ONCE, engines)  # of the first shape alone: vLLM takes a minute to start


def derived(row: Row) -> Row:
    """Rates of a row that was timed."""
    if "seconds" not in row:
        return row
    share = row["flops"] / row["seconds"] / row["matrix_rate"]
    return {**row, "tokens_per_second": row["tokens"] / row["seconds"], "share_of_matrix_rate": share}


def describe(row: Row) -> str:
    """A row as a line; bytes in GiB."""
    hidden = ("shape", "case", "seconds", "flops", "matrix_rate", "tokens")
    shown = {name: value for name, value in row.items() if name not in hidden and value is not None}
    for name in [name for name in shown if name.endswith("bytes")]:
        shown[name] = f"{shown[name] / 2**30:.2f} GiB"
    values = {k.replace("_", " "): f"{v:.4g}" if isinstance(v, float) else v for k, v in shown.items()}
    texts = [f"{name} {value}" for name, value in values.items()]
    return f"{row['shape']:<5} {row['case']:<14} {', '.join(texts)}"


def measure(shapes: list[str], device: str, sizes: Sizes, limit: float, say: Callable[[str], None]) -> list[Row]:
    """All rows; what no longer fits into ``limit`` seconds is a row that says so."""
    begin, rate, found = time.monotonic(), matrix_rate(device), list[Row]()
    say(f"matrix products: {rate / 1e12:.4g} TFLOP/s")
    for shape in shapes:
        model = random_model(shape, device)
        for case in (*CASES, *ONCE) if shape == shapes[0] else CASES:
            if time.monotonic() - begin > limit:
                found.append({"shape": shape, "case": case.__name__, "fault": "left out: no time"})
                say(describe(found[-1]))
                continue
            for row in case(model, device, sizes, rate):
                found.append(derived({"shape": shape, **row}))
                say(describe(found[-1]))
        del model
        clear(device)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=None, help="comma-separated: 0.5b, 1.5b, tiny")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is here: expected --device cpu")
    cpu = given.device == "cpu"
    shapes = (given.shapes or ("tiny" if cpu else "0.5b,1.5b")).split(",")
    if unknown := set(shapes) - set(SHAPES):
        parser.error(f"unknown shape '{min(unknown)}': expected {', '.join(SHAPES)}")
    name = platform.processor() or platform.machine() if cpu else torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}")
    found = measure(shapes, given.device, SMALL if cpu else FULL, given.seconds, print)
    if given.json:
        given.json.write_text(json.dumps({"device": name, "torch": torch.__version__, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()

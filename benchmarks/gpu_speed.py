"""What ``benchmarks/gpu.py`` ends with: `bench speed` in the time that is left, its figures as rows of the table."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.gpu_cases import Row

SHAPE = "shape:qwen2.5-0.5b"
ARGUMENTS: dict[str, Sequence[str]] = {
    "cuda": (
        *("--model", SHAPE, "--parts", "sample,sft,grpo,grpo-update", "--against", "trl,hf,vllm"),
        *("--rows", "64", "--tokens", "256", "--seconds", "10", "--device", "cuda"),
    ),
    "cpu": ("--parts", "problems", "--seconds", "0"),
}
LEAST = 60.0  # seconds, below which it is not begun


def speed(device: str, left: float) -> list[Row]:
    """Rows of `bench speed`, which is ended after ``left`` seconds."""
    row: Row = {"shape": "", "case": "bench speed"}
    if left < LEAST:
        return [row | {"fault": "left out: no time"}]
    command = [sys.executable, "-m", "bench", "speed", "--json", *ARGUMENTS[device]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=left)
    except subprocess.TimeoutExpired:
        return [row | {"fault": f"ended after {left:.0f} s"}]
    if done.returncode:
        return [row | {"fault": (done.stderr.strip().splitlines() or ["no message"])[-1]}]
    return list(rows_of(json.loads(done.stdout)))


def rows_of(record: Mapping[str, Any]) -> Iterator[Row]:
    """A row for each side of each case: its rate by the clock, and how many times as fast bench is."""
    for part in record["parts"]:
        start: Row = {"shape": "", "case": part["part"]}
        for name, what in part["missing"].items():
            yield start | {"side": name, "fault": f"not installed: {what['install']}"}
        for name, fault in part["faults"].items():
            yield start | {"side": name, "fault": fault}
        for case in part["cases"]:
            for name, side in case["sides"].items():
                row = start | {"side": name, "work": case["case"], f"{part['unit']}s/s": side["per_second"]["median"]}
                ratio = {"bench is faster by": side["ratio"]["seconds"]["median"]} if "ratio" in side else {}
                share = side["share_of_matrix_rate"]
                peak = part["memory"][name]["peak"]
                most = peak.get("device_peak_bytes", peak["peak_bytes"])
                yield row | ratio | {"share of matrix rate": share and share["median"], "peak_bytes": most}

"""What stored runs are handed on as: one module per receiver, imported when it is asked for.

A new receiver is one line of KINDS and a function that takes a Request and returns the lines to print.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """``source`` is a run or a folder of runs; ``out`` None is the receiver's default; ``project`` groups the runs."""

    source: str
    results: Path
    out: Path | None
    project: str


KINDS = {  # name: "module:function"
    "lm-eval": "bench.export.lm_eval_results:to_lm_eval",
    "trackio": "bench.export.trackio:to_trackio",
    "wandb": "bench.export.wandb:to_wandb",
    "tensorboard": "bench.export.tensorboard:to_tensorboard",
    "mlflow": "bench.export.mlflow:to_mlflow",
    "archive": "bench.export.archive:to_archive",
}

"""How far a sampler engine's log-probabilities are from the trainer's, on the same tokens.

No loss sees the engine's values: they are compared and forgotten.  A gap that rounding cannot explain means that the
engine samples from another model (old weights, another position encoding), and ends the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.engine.batching import MicroBatch
from bench.engine.engines import weights_version
from bench.types import UserError

# Largest mean distance in nats: of float32 on a CPU (measured: below 1e-5), of bfloat16 on CUDA.
LIMITS = {"cpu": 1e-3, "cuda": 0.05}


class SamplerGap:
    """Differences of one step or evaluation, row by row; nothing is compared for torch, the trainer's own engine."""

    def __init__(self, engine: str, device: torch.device) -> None:
        self.engine, self.limit = engine, LIMITS[device.type]
        self.wanted = engine != "torch"
        self.version: int | None = None  # of the weights that sampled last; None: at another temperature than 1
        self.rows: dict[int, tuple[object, np.ndarray[Any, Any]]] = {}  # with each row, lest its id be reused

    def note(self, row: object, engine: Sequence[float], trained: Tensor) -> None:
        """A row's log-probabilities by both; one that is noted again, as after running out of memory, counts once."""
        apart = trained.detach().double().cpu().numpy() - np.asarray(engine, dtype=np.float64)
        self.rows[id(row)] = row, apart

    def compare(self, micro: MicroBatch, trained: Tensor, model: Any | None) -> None:
        """Note the completions of a micro-batch, whose log-probabilities [B, T] the trainer has found.

        ``model``: by which it found them just now, None for the one that sampled; of changed weights nothing is noted.
        """
        if not self.wanted or self.version is None or (model is not None and weights_version(model) != self.version):
            return
        for row, values, mask in zip(micro.rows, trained, micro.policy):
            if row.completion_ids and len(row.old_logprobs) == len(row.completion_ids):
                self.note(row, row.old_logprobs, values[mask])

    def taken(self, when: str) -> dict[str, float]:
        """What was noted since this was last asked, nothing without rows; UserError above the limit.

        Mean and 99th percentile of the distances, and the divergence from engine to trainer by its estimator k3.
        """
        if not self.rows:
            return {}
        log_ratio, self.rows = np.concatenate([apart for _, apart in self.rows.values()]), {}
        distance = np.abs(log_ratio)
        mean = float(distance.mean())
        if not mean <= self.limit:
            raise UserError(
                f"--sampler {self.engine}: its log-probabilities are {mean:.2g} nats a token from the trainer's {when}"
                f", and rounding explains {self.limit:g}: expected --sampler torch, or a tested version"
            )
        # k3 = r - 1 - log r with r = trainer / engine: unbiased and never negative (Schulman, 2020).
        k3 = np.expm1(log_ratio) - log_ratio
        p99 = float(np.quantile(distance, 0.99))
        return {"sampler_gap": mean, "sampler_gap_p99": p99, "sampler_kl": float(k3.mean())}

"""Control: the model as it is, without any training.

It costs nothing and marks where the other methods start.  Not from a paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory

EQUATION = "theta = theta_0"
EVIDENCE = "nothing to read: a control of this project"
DATA_FLOW = "nothing is sampled, trained or charged"
PUBLISHED: tuple[str, ...] = ()


@dataclass(frozen=True)
class Base:
    """theta = theta_0: collects nothing, so no update ever happens; batch_size 0 tells the trainer to take no step."""

    lr: float = 0.0
    warmup: float = 0.0
    decay: str = "constant"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 0
    num_updates: int = 1

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        return []

    def loss(self, batch: Batch) -> Loss:
        return Loss(batch.logprobs.sum() * 0.0)

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        return Rows()


METHOD = Base
VARIANTS: dict[str, dict[str, Any]] = {}
SYMBOLS: dict[str, str] = {
    "lr": "no symbol; 0: nothing is trained",
    "warmup": "no symbol; unused",
    "decay": "no symbol; unused",
    "weight_decay": "no symbol; unused",
    "betas": "no symbol; unused",
    "batch_size": "no symbol; 0: no step is taken",
    "num_updates": "no symbol; unused",
}
SEARCH: dict[str, Any] = {}

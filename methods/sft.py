"""Supervised fine-tuning on demonstrations.

Source: the SFT baseline of UFT (arXiv 2505.16984, section 5; authors' ``scripts/sft.sh`` and
``verl/trainer/fsdp_sft_trainer.py``), whose settings are the defaults here.

Departures:
- The divisor counts the demonstration tokens of the whole optimizer batch; the authors average micro-batch means,
  which over-weights micro-batches with few tokens (``divisor="micro-batch"`` restores it).
- Duration is a budget, not five epochs; warm-up and cosine run over the budget.
- Nothing is truncated to 1024 tokens: tasks whose rows do not fit the model are refused before training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.types import Batch, Loss
from methods import common

EQUATION = "L = -(1/N) sum_{(x, y*)} sum_t log pi(y*_t | x, y*_<t),  N = demonstration tokens (with EOS) of the step"
EVIDENCE = "UFT paper and authors' code read (its SFT baseline); TRL's SFTTrainer read"
DATA_FLOW = """\
prompt | demonstration with EOS
likelihood: every demonstration token; nothing is sampled
charged: forward and backward over prompt and demonstration"""
PUBLISHED: tuple[str, ...] = (
    "UFT Table 2, mean of nine columns, base -> SFT: Qwen2.5-0.5B 1.55 -> 4.46, 1.5B 14.29 -> 9.36, 3B 17.13 -> 15.25",
    "2604.23747 (notes only), Qwen2.5-Math-7B with a repaired SFT baseline: SFT 52.2, SFT then RL 57.0",
)


@dataclass(frozen=True)
class SFT:
    """L = -(1/N) sum_{(x, y*)} sum_t log pi(y*_t | x, y*_<t).

    The sum runs over the tokens of the demonstration y* and its EOS, never over the prompt x; N counts them.
    """

    divisor: str = "step"
    lr: float = 1e-5
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    batch_size: int = 256
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_choices(self, divisor=common.DIVISORS)

    collect = common.collect_demonstrations
    worst_case = common.demonstrations_worst_case

    def loss(self, batch: Batch) -> Loss:
        # Cross-entropy: at the logits of a target token its gradient is (softmax - onehot) / N.
        value = common.demo_mean(batch, -batch.logprobs, self.divisor)
        nll = common.demo_mean(batch, -batch.logprobs.detach(), "step")
        return Loss(value, {"demo_nll": nll})


METHOD = SFT
VARIANTS: dict[str, dict[str, Any]] = {
    "authors-divisor": {"divisor": "micro-batch"},
}
SYMBOLS: dict[str, str] = {
    "divisor": "N; this project's choice (authors: micro-batch, fsdp_sft_trainer.py)",
    "lr": "learning rate; scripts/sft.sh",
    "warmup": "warm-up share; fsdp_sft_trainer.py",
    "decay": "schedule; fsdp_sft_trainer.py (cosine)",
    "weight_decay": "AdamW weight decay; verl SFT config",
    "betas": "AdamW betas; verl SFT config",
    "batch_size": "demonstrations per step; verl SFT config",
    "num_updates": "one update per batch",
}

"""CurioSFT: supervised fine-tuning that keeps each token's surprise near that of a softened copy of the model itself.

Source: "Learning While Staying Curious" (arXiv 2602.02244), of which the abstract was read, and the authors' repository
HaoooWang/CurioSFT (code read: ``recipe/curio_sft/ppo/core_algos.py::custom_loss``, ``dp_actor.py``,
``fsdp_workers.py``, ``scripts/1_sft.sh``).  The code is followed:
- The distillation term is half the squared difference of the two log-probabilities of the demonstration's token, not a
  divergence over the vocabulary.
- The teacher starts as the initial model and every sync_every steps becomes 1 % of itself and 99 % of the policy.
- Its temperature per token raises its entropy H to H + rise sigmoid(2 (H - centre)), within [tau_low, tau_high]; tokens
  with H up to ``certain`` get tau_low.

Departures:
- The divisor counts the demonstration tokens of the whole optimizer batch; the authors average micro-batch means
  (``divisor="micro-batch"`` restores it).
- Entropies are those of the whole vocabulary; the authors search the temperature on its 512 likeliest tokens.
- Duration is a budget, not three epochs; the warm-up of 60 steps is a share of 0.1, and the cosine ends at 0 (authors:
  0.0001 of the rate).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.types import Batch, Loss
from methods import common

SLOPE = 2.0  # of the sigmoid in the entropy's rise
HALVINGS = 20

EQUATION = """\
L = (1/N) sum_{(x, y*)} sum_t [ -log pi(y*_t) + (distill_coef/2) (log pi(y*_t) - log q_t(y*_t))^2 ]
q_t = softmax(z_teacher / tau_t), constant;  N = demonstration tokens (with EOS) of the step
tau_t in [tau_low, tau_high] with entropy(q_t) = H_t + rise sigmoid(2 (H_t - centre)),  tau_low where H_t <= certain
teacher: every sync_every steps (1 - sync_mix) teacher + sync_mix policy"""
EVIDENCE = "authors' code read, abstract of the paper"
DATA_FLOW = """\
prompt | demonstration with EOS
likelihood and squared distance to the softened teacher's log-probability: every demonstration token
charged: as SFT, and one pass of the teacher; nothing is sampled"""
PUBLISHED: tuple[str, ...] = (
    "Abstract (2602.02244), against SFT on mathematical reasoning: +2.5 in-distribution, +2.9 out-of-distribution, "
    "+5.0 after reinforcement learning",
)


def entropy(logits: Tensor) -> Tensor:
    """Entropy in nats [M] of the distributions with logits [M, V]."""
    logp = logits.log_softmax(-1)
    return -(logp.exp() * logp).sum(-1)


def temperatures(logits: Tensor, low: float, high: float, rise: float, centre: float, certain: float) -> Tensor:
    """Temperature per row [M] that raises the entropy as wanted, found by halving [low, high]; low for certain rows."""
    now = entropy(logits)
    wanted = now + rise * torch.sigmoid(SLOPE * (now - centre))
    # Entropy rises with the temperature, so bisection finds it; 20 halvings of 0.4 leave 4e-7.  A rise out of reach
    # ends at an end of the interval.
    below, above = torch.full_like(now, low), torch.full_like(now, high)
    for _ in range(HALVINGS):
        middle = (below + above) / 2
        short = entropy(logits / middle.unsqueeze(1)) < wanted
        below, above = torch.where(short, middle, below), torch.where(short, above, middle)
    return torch.where(now <= certain, low, (below + above) / 2)


@dataclass(frozen=True)
class CurioSFT:
    """L = (1/N) sum_t [ -log pi(y*_t) + (distill_coef/2) (log pi(y*_t) - log q_t(y*_t))^2 ].

    The second term pulls a token's probability up where it is below the softened teacher's, and down where it is above.
    """

    distill_coef: float = 1.0
    tau_low: float = 1.1
    tau_high: float = 1.5
    rise: float = 0.5
    centre: float = 1.2
    certain: float = 0.03
    sync_every: int = 5
    sync_mix: float = 0.99
    divisor: str = "step"
    lr: float = 1e-5
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 256
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_choices(self, divisor=common.DIVISORS)
        common.require(0 < self.tau_low <= self.tau_high, f"tau_low: {self.tau_low} is not in (0, {self.tau_high}]")
        common.require_shares(self, "sync_mix")
        common.require(self.sync_every >= 0, f"sync_every: {self.sync_every} is below 0 (0: never)")

    uses_reference = common.asks_if("distill_coef")

    @property
    def reference_sync(self) -> int:
        return self.sync_every

    @property
    def reference_mix(self) -> float:
        return self.sync_mix

    def reference_temperatures(self, logits: Tensor) -> Tensor:
        return temperatures(logits, self.tau_low, self.tau_high, self.rise, self.centre, self.certain)

    collect = common.collect_demonstrations
    worst_case = common.demonstrations_worst_case

    def loss(self, batch: Batch) -> Loss:
        # The gradient is (distill_coef gap - 1) grad log pi.  A token below its softened teacher is pulled up harder
        # than in SFT, one above it less, and beyond a gap of 1 / distill_coef it is pushed down.
        gap = batch.logprobs - batch.ref_logprobs
        values = -batch.logprobs
        if self.distill_coef != 0:
            values = values + self.distill_coef / 2 * gap**2
        metrics = {
            "demo_nll": common.demo_mean(batch, -batch.logprobs.detach(), "step"),
            "teacher_gap": common.demo_mean(batch, gap.detach(), "step"),
        }
        return Loss(common.demo_mean(batch, values, self.divisor), metrics)


METHOD = CurioSFT
VARIANTS: dict[str, dict[str, Any]] = {
    "no-distillation": {"distill_coef": 0.0},
    "fixed-temperature": {"tau_low": 1.1, "tau_high": 1.1},
    "fixed-teacher": {"sync_every": 0},
    "authors-divisor": {"divisor": "micro-batch"},
}
# A teacher that is the policy at temperature 1 is SFT too, but its pass is charged: tests/methods/test_curio_sft.py.
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (({"distill_coef": 0.0}, "sft", {}),)
SYMBOLS: dict[str, str] = {
    "distill_coef": "alpha; core_algos.py::custom_loss",
    "tau_low": "tau_min; dp_actor.py",
    "tau_high": "tau_max; dp_actor.py",
    "rise": "largest rise of the entropy; dp_actor.py::compute_tau_from_logits",
    "centre": "c; dp_actor.py::compute_tau_from_logits",
    "certain": "entropy below which tau_min is taken; dp_actor.py",
    "sync_every": "ref_model_sync_steps; scripts/1_sft.sh",
    "sync_mix": "ref_model_mixup_alpha; scripts/1_sft.sh",
    "divisor": "N; this project's choice (authors: micro-batch, dp_actor.py)",
    "lr": "learning rate; scripts/1_sft.sh",
    "warmup": "warm-up share; scripts/1_sft.sh (60 steps of about 540)",
    "decay": "schedule; scripts/1_sft.sh (cosine)",
    "weight_decay": "AdamW weight decay; verl fsdp_workers.py",
    "betas": "AdamW betas; verl fsdp_workers.py",
    "batch_size": "demonstrations per step; scripts/1_sft.sh",
    "num_updates": "one update per batch; scripts/1_sft.sh",
}

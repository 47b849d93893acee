"""iw-SFT: supervised fine-tuning in which a demonstration weighs more, the likelier the policy has made it.

Source: importance-weighted SFT (arXiv 2507.12856, code read; of the paper the abstract only).  The reference of the
weights is the model at the start of training, as in the code.

Departures:
- Divisor: demonstration tokens of the whole optimizer batch, as in ``sft``; how the authors reduce was not verified.
- Batch size, warm-up, decay and betas are those of this project's ``sft``: the authors' were not verified.
- Duration is a budget, not five epochs; warm-up and cosine run over the budget.

At the start every weight is 1, so the first update is SFT's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bench.types import Batch, Loss
from methods import common

WEIGHTS = ("sequence", "token")

EQUATION = """\
L = -(1/N) sum_{(x, y*)} sg(w) sum_t log pi(y*_t | x, y*_<t),  N = demonstration tokens (with EOS) of the step
w = clamp(exp(scale (1/|y*|) sum_t [log pi(y*_t | x, y*_<t) - log pi_ref(y*_t | x, y*_<t)]), low, high)
weight="token": w_t = clamp(exp(scale [log pi(y*_t | x, y*_<t) - log pi_ref(y*_t | x, y*_<t)]), low, high)"""
EVIDENCE = "authors' code read, abstract of the paper"
DATA_FLOW = """\
prompt | demonstration with EOS
likelihood weighted by how much likelier the policy has made it than the reference: every demonstration token
charged: as SFT, and one pass of the reference model"""
PUBLISHED: tuple[str, ...] = (
    "Abstract (not verified), Qwen2.5-32B-Instruct on s1K-1.1: AIME24 66.7, GPQA 64.1",
    "DFT paper, iw-SFT on SFT data: Qwen2.5-Math-1.5B 30.28 (DFT 31.58), 7B 39.60 (DFT 37.15)",
)


@dataclass(frozen=True)
class ImportanceWeightedSFT:
    """L = -(1/N) sum_{(x, y*)} sg(w) sum_t log pi(y*_t | x, y*_<t),  w = clamp(exp(scale mean_t(log pi/pi_ref))).

    One weight per demonstration, or one per token; sg is the stop-gradient.
    """

    weight: str = "sequence"
    scale: float = 1.0
    low: float = 0.0
    high: float = 16.0
    divisor: str = "step"
    lr: float = 1e-5
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    batch_size: int = 256
    num_updates: int = 1

    uses_reference = True  # for batch.ref_logprobs; no field, as it cannot be switched off

    def __post_init__(self) -> None:
        common.require_choices(self, weight=WEIGHTS, divisor=common.DIVISORS)
        common.require(self.low <= self.high, f"low: {self.low} is above high ({self.high})")

    collect = common.collect_demonstrations
    worst_case = common.demonstrations_worst_case

    def weights(self, batch: Batch) -> Tensor:
        """Detached weight per token, within [low, high]; exactly 1 where policy and reference agree."""
        # log(pi / pi_ref); its mean gives a geometric mean of ratios
        gap = batch.logprobs.detach() - batch.ref_logprobs
        if self.weight == "sequence":
            gap = common.row_mean(gap, batch.demo).expand_as(gap)
        # The gap is detached: through w the loss could also fall by making the demonstration less likely.
        return (self.scale * gap).exp().clamp(self.low, self.high)

    def loss(self, batch: Batch) -> Loss:
        return common.weighted_likelihood(batch, self.weights(batch), self.divisor)


METHOD = ImportanceWeightedSFT
VARIANTS: dict[str, dict[str, Any]] = {
    "per-token": {"weight": "token", "low": 0.2, "high": 1.8},
    "micro-batch": {"divisor": "micro-batch"},
}
SYMBOLS: dict[str, str] = {
    "weight": "no symbol; authors' code (both forms)",
    "scale": "c; authors' code",
    "low": "lower clamp of w; authors' code (0.2 per token)",
    "high": "upper clamp of w; authors' code (1.8 per token)",
    "divisor": "N; this project's choice",
    "lr": "learning rate; authors' code",
    "warmup": "warm-up share; this project's SFT",
    "decay": "schedule; this project's SFT (cosine)",
    "weight_decay": "AdamW weight decay; authors' code",
    "betas": "AdamW betas; this project's SFT",
    "batch_size": "demonstrations per step; this project's SFT",
    "num_updates": "one update per batch; this project's SFT",
}

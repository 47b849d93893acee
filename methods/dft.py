"""DFT: supervised fine-tuning in which every token is weighted by its own probability.

Source: Dynamic fine-tuning (arXiv 2508.05629 v3, paper read; authors' ``verl/verl/trainer/fsdp_dft_trainer.py``, the
branch without sequence parallelism, code read).  The coarser weights are those of the paper's ablation; how it reduces
them to a loss is not stated.  Here they replace the token's weight, and nothing else changes.

Departures:
- The divisor counts the demonstration tokens of the whole optimizer batch; the authors average micro-batch means
  (``divisor="micro-batch"`` restores it).
- The authors' sequence-parallel branch carries no weight (plain SFT); it is not followed.
- Duration is a budget, not one epoch; warm-up and cosine run over the budget.
- Nothing is truncated to 2048 tokens: tasks whose rows do not fit the model are refused before training.

``detach=False`` is a control, not a method: it shows what the stop-gradient is for.  A token's gradient is then that of
-p log p, p (1 + log p) times SFT's, which pushes tokens with p < 1/e away from the demonstration.

Within the paper, Table 7 prints 30.67 for the setting that is 31.58 in Table 1.  ASFT's authors report that DeepSpeed's
rounding harms DFT.

The weight vanishes where the model gives the demonstration no chance: tokens it would never say are not learnt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bench.types import Batch, Loss
from methods import common

WEIGHTS = ("token", "sentence", "geometric")

EQUATION = """\
L = -(1/N) sum_{(x, y*)} sum_t sg(w_t) log pi(y*_t | x, y*_<t),  N = demonstration tokens (with EOS) of the step
w_t = pi(y*_t | x, y*_<t);  sentence: w = pi(y* | x);  geometric: w = pi(y* | x)^(1/|y*|);  sg = stop-gradient"""
EVIDENCE = "paper and authors' code read"
DATA_FLOW = """\
prompt | demonstration with EOS
likelihood weighted by the token's own probability: every demonstration token; nothing is sampled
charged: as SFT"""
PUBLISHED: tuple[str, ...] = (
    "Table 1, mean of five benchmarks, base -> SFT -> DFT: LLaMA-3.2-3B 1.19 -> 3.24 -> 4.65, "
    "Qwen2.5-Math-1.5B 15.92 -> 18.01 -> 31.58, Qwen2.5-Math-7B 21.25 -> 23.62 -> 37.15",
    "Table 5, weight per token / geometric mean / sentence: 31.58 / 17.21 / 15.75",
    "Natural Questions, base / SFT / DFT: 31.24 / 36.62 / 30.14",
)


@dataclass(frozen=True)
class DFT:
    """L = -(1/N) sum_{(x, y*)} sum_t sg(w_t) log pi(y*_t | x, y*_<t),  w_t = pi(y*_t | x, y*_<t).

    The gradient of a token is that of -pi(y*_t | x, y*_<t): the sum of probabilities grows instead of their product.
    """

    weight: str = "token"
    detach: bool = True  # False: the gradient flows through the weight, too (control)
    divisor: str = "step"
    lr: float = 5e-5
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    batch_size: int = 256
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_choices(self, weight=WEIGHTS, divisor=common.DIVISORS)

    collect = common.collect_demonstrations
    worst_case = common.demonstrations_worst_case

    def weights(self, batch: Batch) -> Tensor:
        """Weight per token, detached unless ``detach`` is off; of a row's tokens together for the coarser ones."""
        logprobs = batch.logprobs.detach() if self.detach else batch.logprobs
        if self.weight == "sentence":
            # A product over tokens: 50 of them at p = .8 give 1e-5, so long demonstrations hardly count.
            return logprobs.masked_fill(~batch.demo, 0.0).sum(dim=1, keepdim=True).exp().expand_as(logprobs)
        if self.weight == "geometric":
            return common.row_mean(logprobs, batch.demo).exp().expand_as(logprobs)
        return logprobs.exp()

    def loss(self, batch: Batch) -> Loss:
        # sg(p) grad log p = grad p: a token counts as much as it is likely, one that the policy rules out not at all.
        return common.weighted_likelihood(batch, self.weights(batch), self.divisor)


METHOD = DFT
VARIANTS: dict[str, dict[str, Any]] = {
    "sentence": {"weight": "sentence"},
    "geometric": {"weight": "geometric"},
    "authors-divisor": {"divisor": "micro-batch"},
    "lr-2e-4": {"lr": 2e-4},  # the paper's grids; 5e-5 and 256 are the defaults
    "lr-1e-4": {"lr": 1e-4},
    "lr-1e-5": {"lr": 1e-5},
    "batch-32": {"batch_size": 32},
    "batch-64": {"batch_size": 64},
    "batch-128": {"batch_size": 128},
    "no-stop-gradient": {"detach": False},  # control
}
SYMBOLS: dict[str, str] = {
    "weight": "sg(pi); paper Table 5 (ablation: sentence-level, geometric mean)",
    "detach": "sg; paper, the objective (False: this project's control)",
    "divisor": "N; this project's choice (authors: micro-batch, fsdp_dft_trainer.py)",
    "lr": "learning rate; paper, training settings",
    "warmup": "warm-up share; paper, training settings",
    "decay": "schedule; paper, training settings (cosine)",
    "weight_decay": "AdamW weight decay; authors' training settings",
    "betas": "AdamW betas; authors' training settings",
    "batch_size": "demonstrations per step; paper, training settings",
    "num_updates": "one update per batch",
}

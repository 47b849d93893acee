"""ASFT: DFT held near the initial model by its divergence over the whole vocabulary.

Source: Anchored Supervised Fine-Tuning (arXiv 2509.23753; authors' ``train_v2.py`` at 6f6f51c, modes ``asft`` and
``sft+kl``, code read; of the paper the abstract, its settings from notes).  The defaults are those of its mathematics
setting.  For kl_coef the paper has 0.05, as the README's command, and the code 0.1; another note says 0.03 for bf16.

Departures:
- The divisor counts the demonstration tokens of the whole optimizer batch, in both terms; the authors average
  micro-batch means (``divisor="micro-batch"`` restores it).
- The reference is the model at the start of the stage, in full precision, also where the authors train adapters.
- Weight decay and betas are those of ``dft``, so that without the divergence nothing differs from it; the authors'
  were not verified.
- Duration is a budget, not one epoch; warm-up and cosine run over the budget.  Nothing is truncated to 2048 tokens.

At the start policy and reference agree: the divergence and its gradient are 0, and the first update is DFT's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.types import Batch, Loss
from methods import common

WEIGHTS = ("token", "none")

EQUATION = """\
L = (1/N) sum_{(x, y*)} sum_t [ -sg(w_t) log pi(y*_t | x, y*_<t) + kl_coef KL_t ],  w_t = pi(y*_t | x, y*_<t)
KL_t = sum_v pi_ref(v | x, y*_<t) log(pi_ref(v | x, y*_<t) / pi(v | x, y*_<t)),  v over the whole vocabulary
N = demonstration tokens (with EOS) of the step;  weight="none": w_t = 1;  sg = stop-gradient"""

EVIDENCE = "authors' code read; of the paper the abstract, its settings from notes"

DATA_FLOW = """\
sampled:       nothing
row:           prompt x | demonstration y* with EOS | no policy part
prompt:        no loss
demonstration: every token -sg(pi) log pi + kl_coef KL(reference || policy)
charged:       one training pass and, unless kl_coef is 0, one scoring pass of the reference per row"""

PUBLISHED = (
    "mathematics, 100k examples: +17.89 over the base; DFT +13.04 (an early README of the authors; notes: +13.43)",
    "medical knowledge, 10k examples: +10.65 over the base; DFT -2.19 (an early README of the authors)",
    "23.7 % more training time than SFT (an early README of the authors)",
)


@dataclass(frozen=True)
class ASFT:
    """L = (1/N) sum_{(x, y*)} sum_t [ -sg(w_t) log pi(y*_t | x, y*_<t) + kl_coef KL(pi_ref || pi)_t ].

    Per token the gradient with respect to the logits is [w_t (p - onehot) + kl_coef (p - p_ref)] / N.
    """

    kl_coef: float = 0.05
    weight: str = "token"
    divisor: str = "step"
    lr: float = 5e-5
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    batch_size: int = 256
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_at_least(self, 0, "kl_coef")
        common.require_choices(self, weight=WEIGHTS, divisor=common.DIVISORS)

    uses_reference_kl = common.asks_if("kl_coef")  # without the divergence no reference is kept or charged

    collect = common.collect_demonstrations
    worst_case = common.demonstrations_worst_case

    def weights(self, batch: Batch) -> Tensor:
        """Detached weight per token [B, T]."""
        return torch.ones_like(batch.logprobs) if self.weight == "none" else batch.logprobs.detach().exp()

    def loss(self, batch: Batch) -> Loss:
        weighted = common.weighted_likelihood(batch, self.weights(batch), self.divisor)
        # Not 0 times a divergence: the reference would still be run and charged.
        if not self.uses_reference_kl:
            return weighted
        assert batch.reference_kl is not None
        # Its gradient at the logits is p - p_ref: it pulls every token's probability back, not only the target's.
        value = weighted.value + self.kl_coef * common.demo_mean(batch, batch.reference_kl, self.divisor)
        kl = common.demo_mean(batch, batch.reference_kl.detach(), "step")
        return Loss(value, {**weighted.metrics, "reference_kl": kl})


METHOD = ASFT
VARIANTS: dict[str, dict[str, Any]] = {
    "kl-0.1": {"kl_coef": 0.1},
    "kl-0.03": {"kl_coef": 0.03},
    "no-kl": {"kl_coef": 0.0},
    "sft-anchored": {"weight": "none"},
    "authors-divisor": {"divisor": "micro-batch"},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (
    ({"kl_coef": 0.0, "weight": "token"}, "dft", {"weight": "token", "detach": True}),
    ({"kl_coef": 0.0, "weight": "none"}, "sft", {}),
)
SYMBOLS: dict[str, str] = {
    "kl_coef": "lambda; paper, from notes (train_v2.py: kl_weight, default 0.1)",
    "weight": "sg(pi), as DFT; train_v2.py (none: its mode sft+kl)",
    "divisor": "N; this project's choice (authors: micro-batch, train_v2.py)",
    "lr": "learning rate; mathematics setting, from notes",
    "warmup": "warm-up share; mathematics setting, from notes",
    "decay": "schedule; mathematics setting, from notes (cosine)",
    "weight_decay": "AdamW weight decay; this project's DFT",
    "betas": "AdamW betas; this project's DFT",
    "batch_size": "demonstrations per step; mathematics setting, from notes",
    "num_updates": "one update per batch",
}

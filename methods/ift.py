"""IFT: fine-tuning on inputs that are partly the model's own predictions, with weights that look ahead.

Source: Intuitive Fine-Tuning (arXiv 2405.11870 v3), of which the abstract and summaries were read, and the authors'
repository TsinghuaC3I/Intuitive-Fine-Tuning (code read: ``src/trainers.py``, branch "ift" of ``get_batch_metrics``,
``get_cumsum_weight``; ``config/loss/ift.yaml``, ``commands/run_mistral_ift.sh``).  A first pass without gradient gives
the likeliest token at each place of the demonstration.  In the second pass each demonstration token goes in as a
mixture of its own embedding and that of the token the model would have put there (temporal residual connection).  A
token's loss is weighted by the discounted losses that follow it.

Departures:
- The divisor counts the demonstration tokens of the whole optimizer batch; the authors average the rows' means
  (``divisor="row"`` restores it).  Weights have mean 1 in each row, so that without them this is SFT.
- Embeddings are the policy's own at that moment; the authors keep a frozen copy of the initial ones for its inputs.
- AdamW in place of RMSprop; duration is a budget, not three epochs.
- The authors let the gradient flow through the weights, too; ``detach=True`` stops it.

With decay_rate 0 the authors give every token the weight 1, which is not the limit of small rates; so it is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.types import Batch, Loss
from methods import common

DIVISORS = ("step", "row")

EQUATION = """\
L = (1/N) sum_{(x, y*)} sum_t w_t l_t,  l_t = -log pi(y*_t | x, s_<t),  N = demonstration tokens (with EOS) of the step
s_i = (1 - residual) E(y*_i) + residual E(argmax_v pi(v | x, y*_<i)),  E: the embedding of a token
w_t = c sum_{k >= t} decay_rate^(k - t) l_k,  c: mean of w over the row is 1;  decay_rate 0: w = 1"""
EVIDENCE = "authors' code read; of the paper the abstract and summaries"
DATA_FLOW = """\
prompt | demonstration with EOS
first pass: the likeliest token at every demonstration token, without gradient
weighted likelihood on mixed inputs: every demonstration token; nothing is sampled
charged: as SFT, and the first pass"""
PUBLISHED: tuple[str, ...] = ()


def propagated(values: Tensor, rate: float) -> Tensor:
    """Discounted sums [B, T] of the values at and after each place: v_t + rate v_{t+1} + rate^2 v_{t+2} + ..."""
    total, sums = torch.zeros_like(values[:, 0]), []
    for column in reversed(values.unbind(dim=1)):
        total = column + rate * total
        sums.append(total)
    return torch.stack(sums[::-1], dim=1)


@dataclass(frozen=True)
class IFT:
    """L = (1/N) sum_t w_t l_t on inputs mixed with the model's own predictions.

    What the model would have said enters the later tokens' losses, and the weights count a token by what follows it.
    """

    residual: float = 0.2
    decay_rate: float = 0.95
    detach: bool = False
    divisor: str = "step"
    lr: float = 5e-7
    warmup: float = 0.15
    decay: str = "cosine"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 512
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_choices(self, divisor=DIVISORS)
        common.require_shares(self, "residual", "decay_rate")

    @property
    def input_residual(self) -> float:
        return self.residual

    collect = common.collect_demonstrations
    worst_case = common.demonstrations_worst_case

    def weights(self, losses: Tensor, mask: Tensor) -> Tensor:
        """Weight per token [B, T], with mean 1 over each row's masked-in ones."""
        if self.decay_rate == 0:
            return torch.ones_like(losses)
        ahead = propagated(losses.masked_fill(~mask, 0.0), self.decay_rate).masked_fill(~mask, 0.0)
        weights = ahead / common.row_mean(ahead, mask).clamp(min=torch.finfo(ahead.dtype).tiny)
        return weights.detach() if self.detach else weights

    def loss(self, batch: Batch) -> Loss:
        losses = -batch.logprobs
        values = self.weights(losses, batch.demo) * losses
        if self.divisor == "row":
            lengths = batch.demo.sum(dim=1, keepdim=True).clamp(min=1)
            value = common.token_mean(values / lengths, batch.demo, batch.num_trajectories)
        else:
            value = common.demo_mean(batch, values, "step")
        return Loss(value, {"demo_nll": common.demo_mean(batch, losses.detach(), "step")})


METHOD = IFT
VARIANTS: dict[str, dict[str, Any]] = {
    "no-residual": {"residual": 0.0},
    "no-weights": {"decay_rate": 0.0},
    "detached": {"detach": True},
    "authors-divisor": {"divisor": "row"},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (
    ({"residual": 0.0, "decay_rate": 0.0, "divisor": "step"}, "sft", {"divisor": "step"}),
)
SYMBOLS: dict[str, str] = {
    "residual": "lambda; ift.yaml (min_lambda, max_lambda)",
    "decay_rate": "gamma; ift.yaml",
    "detach": "no symbol; trainers.py (not detached)",
    "divisor": "N; as sft (authors: row, trainers.py)",
    "lr": "learning rate; run_mistral_ift.sh",
    "warmup": "warm-up share; run_mistral_ift.sh",
    "decay": "schedule; run_mistral_ift.sh (cosine)",
    "weight_decay": "none in the authors' trainer",
    "betas": "AdamW betas; torch's defaults (authors: RMSprop)",
    "batch_size": "demonstrations per step; run_mistral_ift.sh",
    "num_updates": "one update per batch",
}

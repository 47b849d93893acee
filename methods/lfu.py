"""LfU: fine-tuning that keeps hidden states where they are when the weights take a step in the wrong direction.

Source: "Learning from the Undesirable" (arXiv 2511.13052; the paper of AAAI 2026 read without its appendices, where the
pseudocode and most settings are; the authors' repository yunpal/LfU could not be had).  Before each update low-rank
parts beside the linear layers take one normalised step of ascent on the loss.  The distance between the hidden states
of all layers with and without the parts is added to the loss.  The states without the parts are the fixed target, so
the gradient reaches the weights through the moved ones.

Departures and choices:
- The step follows the gradient of the whole optimizer batch, so that micro-batches do not matter.
- Parts lie beside every linear layer, of rank 8, scaled by 1, A as peft draws it, drawn anew for each update: the paper
  leaves this to an appendix.  Its other parts, steering vectors, are not here.
- The distance is averaged over a state's entries, as in a mean squared error, which the paper calls it; its formula has
  the squared norm: ``distance="sum"``.
- The divisor counts the demonstration tokens of the whole optimizer batch, in both terms; the paper averages over each
  demonstration's tokens first.
- Optimizer settings are those of this project's ``sft``; the authors' were not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bench.types import Batch, Loss
from methods import common

DETACHED = ("original", "moved", "none")
DISTANCES = ("mean", "sum")

EQUATION = """\
L = (1/N) sum_{(x, y*)} sum_t [ -log pi(y*_t | x, y*_<t) + coef (1/K) sum_l d(sg(h_lt), h'_lt) ]
h_lt = state of layer l at token t, h'_lt the same with the parts;  d(a, b) = mean (sum) of (a - b)^2 over entries
parts: W_l + B_l A_l, A_l random, B_l = alpha g_l / |g|,  g = gradient at B = 0 of (1/N) sum -log pi(y*_t | x, y*_<t)
N = demonstration tokens (with EOS) of the step, K = layers, sg = stop-gradient"""
EVIDENCE = "paper read without its appendices; the authors' code could not be had"
DATA_FLOW = """\
prompt | demonstration with EOS
likelihood, and distance of hidden states to those after a step of ascent: every demonstration token
charged: as SFT; for the step, a forward pass and a backward one to activations; a training pass with the parts"""
PUBLISHED: tuple[str, ...] = (
    "Table 1, trained on GSM8K, mean of three mathematics tasks, SFT -> LfU: Llama-3.1-8B 51.5 -> 54.2, "
    "Llama-2-7B 35.9 -> 37.0, Mistral-7B-v0.3 48.2 -> 50.5",
    "Table 3, Llama-3.1-8B, time per step: SFT 1387 ms, LfU 4142 ms",
    "Table 5, coef 5 and alpha 0.1 / 0.01 / 0.001 / 0.5: 54.2 / 53.0 / 52.5 / 44.5",
)


@dataclass(frozen=True)
class LfU:
    """L = (1/N) sum_{(x, y*)} sum_t [ -log pi(y*_t | x, y*_<t) + coef (1/K) sum_l d(sg(h_lt), h'_lt) ].

    h' are the hidden states once low-rank parts of the weights have taken a step of length alpha up the likelihood's
    loss.
    """

    coef: float = 5.0
    alpha: float = 0.1
    rank: int = 8
    detach: str = "original"
    distance: str = "mean"
    lr: float = 1e-5
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    batch_size: int = 256
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_choices(self, detach=DETACHED, distance=DISTANCES)
        common.require_at_least(self, 0, "coef", "alpha")
        common.require_at_least(self, 1, "rank")

    @property
    def ascent_step(self) -> float:
        return self.alpha if self.coef else 0.0

    @property
    def ascent_rank(self) -> int:
        return self.rank

    def ascent_loss(self, batch: Batch) -> Tensor:
        return common.demo_mean(batch, -batch.logprobs, "step")

    collect = common.collect_demonstrations
    worst_case = common.demonstrations_worst_case

    def apart(self, original: Tensor, moved: Tensor) -> Tensor:
        """Distance [B, T] between the states [B, T, D] of one layer."""
        # With the original as the target, weights are pulled to where a bad step would not move the states.
        if self.detach == "original":
            original = original.detach()
        if self.detach == "moved":
            moved = moved.detach()
        square = (original - moved) ** 2
        return square.mean(-1) if self.distance == "mean" else square.sum(-1)

    def loss(self, batch: Batch) -> Loss:
        value = common.demo_mean(batch, -batch.logprobs, "step")
        metrics = {"demo_nll": value.detach()}
        if self.ascent_step:
            assert batch.hidden is not None and batch.moved_hidden is not None
            layers = [self.apart(h, m) for h, m in zip(batch.hidden, batch.moved_hidden, strict=True)]
            distance = common.demo_mean(batch, sum(layers[1:], layers[0]) / len(layers), "step")
            value, metrics["moved"] = value + self.coef * distance, distance.detach()
        return Loss(value, metrics)


METHOD = LfU
VARIANTS: dict[str, dict[str, Any]] = {
    "squared-norm": {"distance": "sum"},
    "target-moved": {"detach": "moved"},
    "no-target": {"detach": "none"},
    "alpha-0.01": {"alpha": 0.01},
    "coef-1": {"coef": 1.0},
    "no-step": {"alpha": 0.0},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (
    ({"alpha": 0.0}, "sft", {"divisor": "step"}),
    ({"coef": 0.0}, "sft", {"divisor": "step"}),
)
SYMBOLS: dict[str, str] = {
    "coef": "lambda; paper, Table 5",
    "alpha": "alpha; paper, Table 5",
    "rank": "rank of LoRA_l; this project's choice",
    "detach": "detach(h); paper, equation 5 (moved, none: this project's controls)",
    "distance": "mean squared error; paper, section 3.1 (sum: its equation 5)",
    "lr": "learning rate; not read, as sft",
    "warmup": "warm-up share; not read, as sft",
    "decay": "schedule; not read, as sft",
    "weight_decay": "AdamW weight decay; not read, as sft",
    "betas": "AdamW betas; not read, as sft",
    "batch_size": "demonstrations per step; not read, as sft",
    "num_updates": "one update per batch",
}

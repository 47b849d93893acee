"""PoFT: fine-tuning that prefers the policy over a reference model on each demonstration.

Source: Preference-Oriented Supervised Fine-Tuning (arXiv 2412.12865; authors' Savannah120/alignment-handbook-PoFT at
40d33d7: ``scripts/run_poft.py``, ``generate_preference_scores.py`` and the recipe ``config_full_poft.yaml``, code read;
of the paper the abstract, its formula from notes).  A demonstration is scored by the mean log-probability of its
tokens, by the policy and by the reference.  Bradley and Terry's model of the preference between the two is the loss.

Departures:
- One reference, the model at the start of its stage: ``sft+poft`` prefers the policy over the fine-tuned model.  The
  authors take the mean over three aligned chat models with tokenizers of their own, scored once before training.
- The mean runs over the demonstration with EOS; the authors' over all tokens of the text, the prompt's too.
- Duration is a budget, not one epoch; warm-up and cosine run over the budget.  Nothing is truncated to 4096 tokens.

At the start policy and reference agree, and each demonstration counts half of what it does in length-normalised SFT.
Where the reference is far above the policy it counts whole, where it is far below not at all.  ``preference=False`` is
the first of these limits for all demonstrations; with ``reduce="token"`` it is SFT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import softplus

from bench.types import Batch, Loss
from methods import common

REDUCTIONS = ("sequence", "token")

EQUATION = """\
L = -(1/B) sum_{(x, y*)} log sigmoid(scale (l(y*) - l_ref(y*)) + shift),  B = demonstrations of the step
l(y*) = (1/|y*|) sum_t log pi(y*_t | x, y*_<t);  l_ref: the same under the reference
gradient: -(1/B) sum tau scale grad l(y*),  tau = sigmoid(-(scale (l - l_ref) + shift)), 1/2 where both agree
reduce="token": a demonstration weighs |y*| / N instead of 1/B, N = demonstration tokens (with EOS) of the step"""
EVIDENCE = "authors' code read; of the paper the abstract, its formula from notes"
DATA_FLOW = """\
prompt | demonstration with EOS
preference of the policy over the reference, by mean log-probabilities: every demonstration token
charged: as SFT, and one pass of the reference model; nothing is sampled"""
PUBLISHED: tuple[str, ...] = ()


@dataclass(frozen=True)
class PoFT:
    """L = -(1/B) sum_{(x, y*)} log sigmoid(scale (l(y*) - l_ref(y*)) + shift).

    l is the mean log-probability of the demonstration's tokens, l_ref that of the reference; B counts demonstrations.
    """

    preference: bool = True  # False: -l(y*) in place of the preference's loss (control)
    scale: float = 1.0
    shift: float = 0.0
    reduce: str = "sequence"
    lr: float = 1e-6
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 512
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_choices(self, reduce=REDUCTIONS)
        common.require(self.scale > 0, f"scale: {self.scale} is not above 0")

    uses_reference = common.asks_if("preference")

    collect = common.collect_demonstrations
    worst_case = common.demonstrations_worst_case

    def loss(self, batch: Batch) -> Loss:
        values, metrics = -batch.logprobs, {}
        if self.preference:
            gap = common.row_mean(batch.logprobs - batch.ref_logprobs, batch.demo)
            margin = self.scale * gap + self.shift
            # -log sigmoid(m) = softplus(-m), which is finite for any margin; every token carries its row's value.
            values = softplus(-margin).expand_as(batch.logprobs)
            tau = torch.sigmoid(-margin.detach()).expand_as(values)
            metrics = {"tau": common.demo_mean(batch, tau, "step")}
        if self.reduce == "token":
            value = common.demo_mean(batch, values, "step")
        else:
            lengths = batch.demo.sum(dim=1, keepdim=True).clamp(min=1)
            value = common.token_mean(values / lengths, batch.demo, batch.num_trajectories)
        return Loss(value, {"demo_nll": common.demo_mean(batch, -batch.logprobs.detach(), "step"), **metrics})


METHOD = PoFT
VARIANTS: dict[str, dict[str, Any]] = {
    "token-mean": {"reduce": "token"},
    "length-normalised-sft": {"preference": False},  # the limit of a reference far above the policy
    "strict": {"shift": -2.0},  # the policy has to be above the reference by two nats per token
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (
    ({"preference": False, "reduce": "token"}, "sft", {"divisor": "step"}),
    ({"preference": False}, "poft", {"scale": 1.0, "shift": 0.0}),
)
SYMBOLS: dict[str, str] = {
    "preference": "no symbol; this project's control",
    "scale": "1/T (beta); run_poft.py",
    "shift": "gamma; run_poft.py",
    "reduce": "mean over demonstrations; run_poft.py (token: this project's variant)",
    "lr": "learning rate; config_full_poft.yaml",
    "warmup": "warm-up share; config_full_poft.yaml",
    "decay": "schedule; config_full_poft.yaml (cosine)",
    "weight_decay": "AdamW weight decay; the default of the authors' trainer",
    "betas": "AdamW betas; the default of the authors' trainer",
    "batch_size": "demonstrations per step; config_full_poft.yaml (16 rows, 4 micro-batches, 8 devices)",
    "num_updates": "one update per batch",
}

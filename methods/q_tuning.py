"""Q-Tuning: each batch keeps demonstrations on which error and uncertainty disagree, and of some the tame tokens.

Source: "Winning the Pruning Gamble" (arXiv 2509.23873; abstract, the authors' project page with its formulas and notes
on the paper read; the authors' repository Q-tuning/Q-tuning at 057d9b3 has no code yet).  Every step the policy gives
each demonstration a perplexity (error) and a mean entropy (uncertainty).  Two of the four quadrants are kept: high
error with low uncertainty (misconceptions) and low error with high uncertainty (calibration).  Misconceptions lose the
tokens of the highest perplexity, smoothed over neighbours; calibration data stay whole.

Choices where the sources were silent or differ:
- Thresholds are the quantiles q and 1 - q of both measures, one q for both, and the authors search it by bisection.  A
  demonstration enters a kept quadrant at a q of its own, so taking those with the smallest q is the same, hits the
  wanted number exactly, and goes on beyond q = 1/2, where both quadrants are used up: ``sample_share=1`` keeps all.
- The page adds both neighbours' perplexities with weight lambda; a token at an end counts itself for the one it lacks.
- Pruned tokens stay in the context and in the cost; only their loss is dropped, and the mean is over those kept.
- Optimizer settings are those of this project's ``sft``; the authors' were not verified.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench.types import Batch, Context, Example, Loss, Rows, Scores, Trajectory
from methods import common

EQUATION = """\
L = -(1/N) sum_{kept (x, y*)} sum_{kept t} log pi(y*_t | x, y*_<t),  N = kept tokens of the step
kept rows: the sample_share with the smallest q = min(max(1 - p, e), max(p, 1 - e)),
p, e = ranks in [0, 1] of exp(mean_t(-log pi)) and of the mean entropy;  first term smaller: misconception
kept tokens of a misconception: the token_share with the smallest
s_t = (1 - lambda) PPL_t + lambda (PPL_{t-1} + PPL_{t+1}),  PPL_t = 1 / pi(y*_t | x, y*_<t)"""
EVIDENCE = "abstract, project page and notes; the authors' code is not published yet"
DATA_FLOW = """\
every demonstration of the step is scored by the policy; a share of them becomes rows
prompt | demonstration with EOS;  likelihood: its kept tokens
charged: a scoring pass of all, forward and backward over the kept rows"""
PUBLISHED: tuple[str, ...] = (
    "Project page, 25 % of samples and 70 % of tokens: LLaMA2-7B 36.9 (all data: close), Mistral-7B 46.2 (above)",
    "Project page, LLaMA3-8B on GSM8K: 48.07 with 35 % of the data, 6.0 above training on all",
    "Notes, 12.5 % of samples and 50 % of tokens: LLaMA2-7B 37.74, all data 35.36",
)


def ranks(values: Tensor) -> Tensor:
    """Rank of each value in [0, 1]; equal ones share their mean rank, a single one has 1/2."""
    if len(values) == 1:
        return torch.full_like(values, 0.5)
    below = (values.unsqueeze(0) < values.unsqueeze(1)).sum(1)
    equal = (values.unsqueeze(0) == values.unsqueeze(1)).sum(1) - 1
    return (below + equal / 2).to(values.dtype) / (len(values) - 1)


def levels(scores: Sequence[Scores]) -> tuple[Tensor, Tensor]:
    """The q [n] at which each demonstration becomes a misconception, and that at which it becomes calibration data."""
    error = ranks(torch.stack([-s.logprobs.double().mean() for s in scores]))  # exp keeps the order
    doubt = ranks(torch.stack([s.entropies.double().mean() for s in scores]))
    return torch.maximum(1 - error, doubt), torch.maximum(error, 1 - doubt)


def token_scores(logprobs: Tensor, neighbour_share: float) -> Tensor:
    """Smoothed perplexity [n] of each token."""
    perplexity = (-logprobs.double()).exp()
    before = torch.cat([perplexity[:1], perplexity[:-1]])
    after = torch.cat([perplexity[1:], perplexity[-1:]])
    return (1 - neighbour_share) * perplexity + neighbour_share * (before + after)


@dataclass(frozen=True)
class QTuning:
    """L = -(1/N) sum over kept tokens of kept demonstrations of log pi(y*_t | x, y*_<t); N counts them.

    Both kinds of kept demonstrations have error and uncertainty at odds; only confident errors lose tokens.
    """

    sample_share: float = 0.125
    token_share: float = 0.5
    neighbour_share: float = 0.5
    lr: float = 1e-5
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    batch_size: int = 256
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_shares(self, "sample_share", "token_share", "neighbour_share")
        common.require(self.sample_share > 0, "sample_share: 0 keeps nothing")
        common.require(self.token_share > 0, "token_share: 0 keeps nothing")
        common.require(self.num_updates == 1, f"num_updates: {self.num_updates}, expected 1: the mean is over a step")

    @property
    def prunes(self) -> bool:
        return self.sample_share < 1 or self.token_share < 1

    def count(self, total: int) -> int:
        """How many of a step's demonstrations are kept."""
        return min(total, max(1, round(self.sample_share * total)))

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        rows = common.demonstrations(examples)
        if not self.prunes:
            return rows
        scores = ctx.score(rows)
        misconception, calibration = levels(scores)
        order = torch.minimum(misconception, calibration).argsort(stable=True)[: self.count(len(rows))]
        kept = {}
        for i in sorted(order.tolist()):
            whole = torch.ones(len(scores[i].logprobs), dtype=torch.float64)
            kept[i] = self.mask(scores[i].logprobs) if misconception[i] < calibration[i] else whole
        # The loss divides by all tokens of the rows: so much more weighs each that is kept.
        factor = sum(map(len, kept.values())) / float(sum(mask.sum() for mask in kept.values()))
        return [replace(rows[i], demo_weights=tuple((factor * mask).tolist())) for i, mask in kept.items()]

    def mask(self, logprobs: Tensor) -> Tensor:
        """1 for the tokens of a misconception that are kept, 0 for the others; the first of equal ones goes first."""
        least = token_scores(logprobs, self.neighbour_share).argsort(stable=True)
        found = torch.zeros(len(logprobs), dtype=torch.float64)
        found[least[: math.ceil(self.token_share * len(logprobs))]] = 1.0
        return found

    def loss(self, batch: Batch) -> Loss:
        if batch.demo_weights is None or not self.prunes:
            weighted = -batch.logprobs
        else:
            weighted = -batch.demo_weights * batch.logprobs
        value = common.demo_mean(batch, weighted, "step")
        return Loss(value, {"demo_nll": common.demo_mean(batch, -batch.logprobs.detach(), "step")})

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        rows = common.demonstration_rows(examples)
        if not self.prunes:
            return rows
        return Rows(train=common.longest_rows(rows.train, self.count(len(examples))), score=rows.train)


METHOD = QTuning
VARIANTS: dict[str, dict[str, Any]] = {
    "samples-25": {"sample_share": 0.25},
    "samples-50": {"sample_share": 0.5},
    "samples-alone": {"token_share": 1.0},
    "tokens-alone": {"sample_share": 1.0},
    "tokens-70": {"token_share": 0.7},
    "no-neighbours": {"neighbour_share": 0.0},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (
    ({"sample_share": 1.0, "token_share": 1.0}, "sft", {"divisor": "step"}),
    ({"token_share": 1.0}, "q_tuning", {"neighbour_share": 0.5}),
)
SYMBOLS: dict[str, str] = {
    "sample_share": "r_sample; notes, the paper's smallest budget",
    "token_share": "r_token; notes, the paper's smallest budget",
    "neighbour_share": "lambda; notes",
    "lr": "learning rate; not verified, as sft",
    "warmup": "warm-up share; not verified, as sft",
    "decay": "schedule; not verified, as sft",
    "weight_decay": "AdamW weight decay; not verified, as sft",
    "betas": "AdamW betas; not verified, as sft",
    "batch_size": "demonstrations per step, before pruning; not verified, as sft",
    "num_updates": "one update per batch",
}

"""GSPO: GRPO with one probability ratio per answer, that of its whole sequence per token, in place of one per token.

Source: Group Sequence Policy Optimization (arXiv 2507.18071).  The paper was not read; its settings (section 5.1 of v2:
clip range, four updates per batch of rollouts) are from TRL's documentation (paper index).  Code read: TRL 1.16
(``grpo_trainer.py::_compute_loss``, importance_sampling_level="sequence") and verl (``core_algos.py``, loss mode
``gspo``).  Both give every token of an answer the same ratio s_i and the mean of the answer's tokens as its loss.

The gradient of s_i A_i is spread evenly over the answer's log-probabilities, so that it is written here per token: the
value is log s_i for each of them, the gradient that of its own log-probability.  The clip then keeps or drops an answer
as a whole.  With one update per step the ratio is 1, and nothing but the mean per answer is left: ``grpo`` with
aggregation="grpo", without KL and entropy bonus.

Departures:
- |log s_i| is limited to 20 before exp, as in all methods here (verl limits it to 10 from above, TRL does not).
- Group size, learning rate, weight decay, betas and batch size are those of this project's ``grpo``: the paper's were
  not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory
from methods import common

EQUATION = """\
L = -(1/M) sum_i min(s_i A_i, clip(s_i, 1 - clip_low, 1 + clip_high) A_i),  M = rollouts of the step
s_i = (pi(y_i | x) / pi_old(y_i | x))^(1/|y_i|) = exp((1/|y_i|) sum_t log(pi(y_t) / pi_old(y_t)))
A_i = (R_i - mean(R)) / (std(R) + eps) within the group of a prompt"""
EVIDENCE = "TRL's and verl's code read, the paper's settings from TRL's documentation"
DATA_FLOW = """\
as GRPO: group_size rollouts per prompt at the run's temperature
prompt | rollout with the group-normalised advantage of its reward
policy gradient: every token of a rollout alike, or none of them where its ratio is clipped
charged: prompts once per group, rollouts, old-policy pass where num_updates is above 1, forward and backward"""
PUBLISHED: tuple[str, ...] = ()  # of the paper only curves are known here


@dataclass(frozen=True)
class GSPO:
    """L = -(1/M) sum_i min(s_i A_i, clip(s_i, 1 - clip_low, 1 + clip_high) A_i),  s_i a sequence's ratio per token.

    Its gradient is -s_i A_i (1/|y_i|) sum_t grad log pi(y_t), and 0 for an answer that is clipped.
    """

    group_size: int = 4
    clip_low: float = 3e-4
    clip_high: float = 4e-4
    scale: str = "std"
    eps: float = 1e-6
    lr: float = 1e-6
    warmup: float = 0.0
    decay: str = "constant"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 256
    num_updates: int = 4

    def __post_init__(self) -> None:
        common.require_choices(self, scale=common.SCALES)
        common.require_at_least(self, 1, "group_size")
        common.require_at_least(self, 0, "clip_low", "clip_high")

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        completions = ctx.sample(examples, [()] * len(examples), self.group_size)
        return common.grouped(examples, completions, self.scale, self.eps)

    def loss(self, batch: Batch) -> Loss:
        now = batch.logprobs.detach()
        level = common.row_mean(now - batch.old_logprobs, batch.policy)  # log s_i, one per row
        # Adding a 0 with a gradient keeps the value exact: (x + log s) - x would round it, and the clip is narrow.
        ratios = level + (batch.logprobs - now)
        whole = replace(batch, logprobs=ratios, old_logprobs=torch.zeros_like(now))
        return common.policy_gradient_loss(whole, clip_low=self.clip_low, clip_high=self.clip_high, aggregation="grpo")

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        return common.plain_rollout_rows(examples, self.group_size, max_new_tokens)


METHOD = GSPO
VARIANTS: dict[str, dict[str, Any]] = {
    "no-std": {"scale": "none"},
    "wide-clip": {"clip_low": 0.2, "clip_high": 0.2},
    "on-policy": {"num_updates": 1},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (
    ({"num_updates": 1}, "grpo", {"aggregation": "grpo", "kl_coef": 0.0, "entropy_coef": 0.0, "max_tokens": 1024}),
)
SYMBOLS: dict[str, str] = {
    "group_size": "G; this project's GRPO",
    "clip_low": "epsilon (left); paper v2 section 5.1, from TRL's documentation",
    "clip_high": "epsilon (right); paper v2 section 5.1, from TRL's documentation",
    "scale": "std of the rewards; as GRPO",
    "eps": "no symbol; as GRPO",
    "lr": "learning rate; this project's GRPO",
    "warmup": "warm-up share; this project's GRPO",
    "decay": "schedule; this project's GRPO (constant)",
    "weight_decay": "AdamW weight decay; this project's GRPO",
    "betas": "AdamW betas; this project's GRPO",
    "batch_size": "prompts per step; this project's GRPO",
    "num_updates": "mini-batches per batch of rollouts; paper v2 section 5.1, from TRL's documentation",
}

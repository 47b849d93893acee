"""CISPO: policy gradient whose importance weights are clipped, so that no token ever loses its gradient.

Source: MiniMax-M1 (arXiv 2506.13585, equations 4 and 5).  The paper was not read, only notes on it; code read: TRL
1.16 (``grpo_trainer.py::_compute_loss``, loss type ``cispo``) and verl (``core_algos.py``, loss mode ``cispo``).
GRPO's clip takes the gradient from tokens that the policy has moved away from; here such a token keeps its gradient, at
a bounded weight, which is a constant for the gradient.

The paper uses no lower bound and does not say its upper one (notes).  clip_low = 1 is no lower bound, since a ratio is
above 0; clip_high = 4 bounds the weight at 5, which TRL's documentation takes from ScaleRL (arXiv 2510.13786).  With
one update per step all weights are 1, and the gradient is that of ``grpo`` without KL and entropy bonus to the bit; the
value of the loss differs, as it is the mean of -A log pi, not of -A.

Departures:
- Token mean over the whole optimizer batch ("dapo"), as in TRL; the paper divides by the tokens of a prompt's group.
- DAPO's dynamic sampling and length penalty, which the paper uses as well (notes), are left out, so that the loss is
  all that differs from ``grpo``.
- Group size, number of updates, learning rate, weight decay, betas and batch size are those of this project's ``grpo``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory
from methods import common

EQUATION = """\
L = -(1/N) sum_i sum_t sg(w_t) A_i log pi(y_t | x, y_<t),  N = policy tokens of the step,  sg = stop-gradient
w_t = clip(pi(y_t) / pi_old(y_t), 1 - clip_low, 1 + clip_high)
A_i = (R_i - mean(R)) / (std(R) + eps) within the group of a prompt"""
EVIDENCE = "TRL's and verl's code read, the paper from notes"
DATA_FLOW = """\
as GRPO: group_size rollouts per prompt at the run's temperature
prompt | rollout with the group-normalised advantage of its reward
policy gradient: every rollout token, at its clipped weight
charged: prompts once per group, rollouts, old-policy pass where num_updates is above 1, forward and backward"""
PUBLISHED: tuple[str, ...] = ()  # no figure was read at its source


@dataclass(frozen=True)
class CISPO:
    """L = -(1/N) sum_i sum_t sg(w_t) A_i log pi(y_t),  w_t = clip(pi / pi_old, 1 - clip_low, 1 + clip_high).

    Per token the gradient is -w_t A_i grad log pi / N: where GRPO's is clipped to 0, this one is bounded.
    """

    group_size: int = 4
    clip_low: float = 1.0
    clip_high: float = 4.0
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
        common.require_at_least(self, 0, "clip_high")
        common.require_shares(self, "clip_low")

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        completions = ctx.sample(examples, [()] * len(examples), self.group_size)
        return common.grouped(examples, completions, self.scale, self.eps)

    def loss(self, batch: Batch) -> Loss:
        log_ratio = batch.logprobs.detach() - batch.old_logprobs
        ratio = log_ratio.clamp(-common.MAX_LOG_RATIO, common.MAX_LOG_RATIO).exp()
        weight = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        values = -weight * batch.advantages * batch.logprobs
        value = common.token_mean(values, batch.policy, batch.num_policy)
        bounded = ((weight != ratio) & (batch.advantages != 0)).to(values.dtype)
        clip_share = common.token_mean(bounded, batch.policy, batch.num_policy)
        return Loss(value, {"policy_loss": value.detach(), "clip_share": clip_share})

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        return common.plain_rollout_rows(examples, self.group_size, max_new_tokens)


METHOD = CISPO
VARIANTS: dict[str, dict[str, Any]] = {
    "both-bounds": {"clip_low": 0.2, "clip_high": 0.28},
    "unweighted": {"clip_low": 0.0, "clip_high": 0.0},  # REINFORCE with GRPO's advantage, whatever the ratio is
    "no-std": {"scale": "none"},
    "on-policy": {"num_updates": 1},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (  # without older policies nothing is clipped
    ({"num_updates": 1}, "cispo", {"clip_low": 0.0, "clip_high": 0.0}),
)
SYMBOLS: dict[str, str] = {
    "group_size": "G; this project's GRPO",
    "clip_low": "epsilon_low^IS; paper, from notes (no lower bound)",
    "clip_high": "epsilon_high^IS; bound of 5 in ScaleRL, from TRL's documentation (the paper does not say)",
    "scale": "std of the rewards; as GRPO",
    "eps": "no symbol; as GRPO",
    "lr": "learning rate; this project's GRPO",
    "warmup": "warm-up share; this project's GRPO",
    "decay": "schedule; this project's GRPO (constant)",
    "weight_decay": "AdamW weight decay; this project's GRPO",
    "betas": "AdamW betas; this project's GRPO",
    "batch_size": "prompts per step; this project's GRPO",
    "num_updates": "updates per batch of rollouts; this project's GRPO",
}

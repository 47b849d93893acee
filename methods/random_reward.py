"""Control: GRPO whose rewards are drawn by lot.

Whatever this gains over ``base`` does not come from the reward: it measures what sampling, clipping, KL and entropy
bonus do by themselves.  Not from a paper; every other setting is that of ``grpo``, whose sources and departures apply.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.types import Batch, Completion, Context, Example, Loss, Rows, Trajectory
from methods import common, grpo

EQUATION = """\
L = (1/N) sum_i sum_t [ -min(r A_i, clip(r, 1 - clip_low, 1 + clip_high) A_i) + kl_coef k3 - entropy_coef H ]
A_i = (R_i - mean(R)) / (std(R) + eps) within the group of a prompt,  R_i ~ Bernoulli(chance), drawn anew each time"""
EVIDENCE = "nothing to read: a control of this project"
DATA_FLOW = """\
as GRPO, with rewards drawn by lot
charged: as GRPO, the verifier's calls included"""
PUBLISHED: tuple[str, ...] = ()


def redrawn(completion: Completion, chance: float, rng: random.Random) -> Completion:
    """The completion with its reward drawn by lot; correctness stays what the verifier said."""
    reward = float(rng.random() < chance)
    return replace(completion, verdict=replace(completion.verdict, reward=reward))


@dataclass(frozen=True)
class RandomReward:
    """GRPO's loss, its R_i being 1 with probability ``chance`` and 0 otherwise, whatever the completion says.

    Verdicts are still asked for, as they are charged and logged ("correct"); "reward" in the logs is the drawn one.
    """

    chance: float = 0.5
    group_size: int = 4
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coef: float = 0.001
    entropy_coef: float = 0.001
    aggregation: str = "dapo"
    max_tokens: int = 1024  # read by dr_grpo only
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
        common.require_choices(self, aggregation=common.AGGREGATIONS, scale=common.SCALES)
        common.require_shares(self, "chance")
        common.require_at_least(self, 1, "group_size", "max_tokens")

    uses_reference = common.asks_if("kl_coef")
    uses_entropies = common.asks_if("entropy_coef")

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        completions = ctx.sample(examples, [()] * len(examples), self.group_size)
        # Such rewards have an expected policy gradient of 0; noise, clipping, KL and entropy bonus are what is left.
        drawn = [[redrawn(completion, self.chance, ctx.rng) for completion in group] for group in completions]
        return common.grouped(examples, drawn, self.scale, self.eps)

    def loss(self, batch: Batch) -> Loss:
        return common.policy_gradient_loss(
            batch,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            kl_coef=self.kl_coef,
            entropy_coef=self.entropy_coef,
            aggregation=self.aggregation,
            max_tokens=self.max_tokens,
        )

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        return common.plain_rollout_rows(examples, self.group_size, max_new_tokens)


METHOD = RandomReward
VARIANTS: dict[str, dict[str, Any]] = {
    "no-kl": {"kl_coef": 0.0},
    "no-entropy": {"entropy_coef": 0.0},
    "dr-grpo": {"aggregation": "dr_grpo", "scale": "none", "kl_coef": 0.0, "entropy_coef": 0.0},
    "on-policy": {"num_updates": 1},
    "rare": {"chance": 0.125},
}
SYMBOLS: dict[str, str] = {
    "chance": "probability of reward 1; this project's choice",
    **dict.fromkeys(grpo.SYMBOLS, "as in GRPO"),
}

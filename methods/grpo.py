"""GRPO: reinforcement learning with group-relative advantages and no value network.

Source: DeepSeekMath (arXiv 2402.03300, equation 3 and section 4.1); settings of the "RFT" baseline of UFT
(arXiv 2505.16984, Table 1; authors' ``verl/trainer/ppo/core_algos.py`` and ``verl/workers/actor/dp_actor.py``);
aggregations as in TRL's ``grpo_trainer.py``.

Departures:
- Token mean over the whole optimizer batch ("dapo"); the paper averages sequence means ("grpo"), the authors of UFT
  average micro-batch token means ("bnpo").
- The reference is the model at the start of training; the paper renews it each outer iteration.
- Entropy bonus of 0.001, which the paper lacks and every RL run of the UFT code has.
- Standard deviation unbiased plus 1e-6, k3 clamped to 10 (both verl); the paper states neither.
- |log ratio| is limited to 20 before exp, which keeps gradients finite and touches no plausible token.
- dr_grpo here divides by a fixed max_tokens, its authors by their generation limit.
- "deepseekmath" keeps group_size and batch_size; the paper samples 64 per prompt and trains on 1024.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory
from methods import common

SCALES = (*common.SCALES, "batch")

EQUATION = """\
L = (1/N) sum_i sum_t [ -min(r A_i, clip(r, 1 - clip_low, 1 + clip_high) A_i) + kl_coef k3 - entropy_coef H ]
A_i = (R_i - mean(R)) / (std(R) + eps) within the group of a prompt (std of the step: scale),  r = pi / pi_old,
k3 = pi_ref/pi - log(pi_ref/pi) - 1,  N = policy tokens of the step (other divisors: aggregation)"""
EVIDENCE = "papers 2402.03300 and 2503.20783 read, DAPO from notes; TRL's and verl's code read"
DATA_FLOW = """\
group_size rollouts per prompt at the run's temperature
prompt | rollout with the group-normalised advantage of its reward
policy gradient, KL and entropy bonus: every rollout token
charged: prompts once per group, rollouts, old-policy and reference passes, forward and backward over the rows"""
PUBLISHED: tuple[str, ...] = (
    "2402.03300, DeepSeekMath-Instruct 7B -> with GRPO: GSM8K 82.9 -> 88.2, MATH 46.8 -> 51.7",
    "UFT Table 2 (RFT), mean of nine columns: Qwen2.5-0.5B 3.25, 1.5B 16.08, 3B 32.15",
)


def scaled_by_batch(rows: Sequence[Trajectory], eps: float) -> list[Trajectory]:
    """Advantages divided by the unbiased standard deviation (+ eps) of all rewards of the step, as in TRL."""
    # The advantages are centred by group already: here only their size is made that of the step.
    mean = math.fsum(row.reward for row in rows) / len(rows)
    std = math.sqrt(math.fsum((row.reward - mean) ** 2 for row in rows) / (len(rows) - 1))
    std = std or 1.0  # equal rewards: the advantages are 0 already
    return [replace(row, advantage=row.advantage / (std + eps)) for row in rows]


@dataclass(frozen=True)
class GRPO:
    """L = (1/N) sum_i sum_t [ -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) + kl_coef k3 - entropy_coef H ].

    A_i = (R_i - mean(R)) / (std(R) + eps) within the group_size rollouts of a prompt; sums run over sampled tokens.
    """

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
        common.require_choices(self, aggregation=common.AGGREGATIONS, scale=SCALES)
        common.require_at_least(self, 1, "group_size")
        common.require(self.scale != "batch" or self.group_size >= 2, "scale: 'batch' needs a group_size of at least 2")
        common.require_at_least(self, 1, "max_tokens")

    uses_reference = common.asks_if("kl_coef")
    uses_entropies = common.asks_if("entropy_coef")

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        completions = ctx.sample(examples, [()] * len(examples), self.group_size)
        if self.scale == "batch":
            return scaled_by_batch(common.grouped(examples, completions, "none"), self.eps)
        return common.grouped(examples, completions, self.scale, self.eps)

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


METHOD = GRPO
VARIANTS: dict[str, dict[str, Any]] = {
    "no-kl": {"kl_coef": 0.0},
    "kl-0.04": {"kl_coef": 0.04},
    "no-entropy": {"entropy_coef": 0.0},
    "grpo-mean": {"aggregation": "grpo"},
    "bnpo": {"aggregation": "bnpo"},
    "constant-divisor": {"aggregation": "dr_grpo"},
    "no-std": {"scale": "none"},  # with the default token mean; below with the others
    "grpo-mean-no-std": {"aggregation": "grpo", "scale": "none"},
    "bnpo-no-std": {"aggregation": "bnpo", "scale": "none"},
    "constant-divisor-no-std": {"aggregation": "dr_grpo", "scale": "none"},
    "batch-std": {"scale": "batch"},
    "dapo-clip": {"clip_high": 0.28},
    "on-policy": {"num_updates": 1},
    "deepseekmath": {"aggregation": "grpo", "kl_coef": 0.04, "entropy_coef": 0.0, "num_updates": 1},
    "dr-grpo": {"aggregation": "dr_grpo", "scale": "none", "kl_coef": 0.0, "entropy_coef": 0.0},
    "dapo-loss": {"clip_high": 0.28, "kl_coef": 0.0, "entropy_coef": 0.0},  # without its sampling and length penalty
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = tuple(  # max_tokens is read by dr_grpo only
    ({"aggregation": kind}, "grpo", {"max_tokens": 1024}) for kind in ("dapo", "grpo", "bnpo")
)
SYMBOLS: dict[str, str] = {
    "group_size": "G (n in UFT); UFT Table 1",
    "clip_low": "epsilon; verl clip_ratio, UFT Table 1",
    "clip_high": "epsilon (epsilon_high in DAPO); verl clip_ratio, UFT Table 1",
    "kl_coef": "beta; UFT scripts/train.sh",
    "entropy_coef": "no symbol; verl default of the UFT repository",
    "aggregation": "1/|o_i| and 1/G of equation 3; this project's choice (verl: bnpo)",
    "max_tokens": "L_max of Dr.GRPO; response length of UFT",
    "scale": "std(r) of section 4.1; verl core_algos.py (batch: TRL's scale_rewards)",
    "eps": "no symbol; verl core_algos.py",
    "lr": "learning rate; UFT Table 1",
    "warmup": "warm-up share; verl default of the UFT repository",
    "decay": "schedule; verl default of the UFT repository (constant)",
    "weight_decay": "AdamW weight decay; verl fsdp_workers.py",
    "betas": "AdamW betas; verl fsdp_workers.py",
    "batch_size": "prompts per step; UFT Table 1",
    "num_updates": "mu; 256 prompts / mini-batch of 64, UFT scripts/train.sh",
}

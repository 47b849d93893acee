"""LUFFY: the demonstration joins the rollouts of its prompt as an off-policy member with a shaped weight.

Source: LUFFY (arXiv 2504.14945); the authors' ``mix_src/mix_core_alg.py::compute_token_on_off_policy_loss`` and
training scripts were read, the paper itself only through them and notes.  The code is followed throughout: no division
by the standard deviation, no clip, no KL, the demonstration's own probability taken as 1.

Departures:
- The sum is divided by the step's trajectories times max_tokens; the code divides the sum of a micro-batch by the
  response width (8192) and by the number of micro-batches.
- The entropy bonus is added per token with the divisor of the rest, over rollout tokens alone; the code's own divisor
  and set of tokens were not noted.
- Seven rollouts are sampled; the code samples an eighth one after the whole demonstration and masks it out.
- |log ratio| is limited to 20 before exp; duration is a budget.

Choices: the demonstration's reward is 1 (every demonstration here passes its verifier); clip is 0 (none) as in the
scripts; AdamW settings as for GRPO here.  "importance" replaces f by p (gamma to infinity, times gamma).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory
from methods import common

SHAPINGS = ("shaped", "importance")
NO_CLIP = float("inf")

EQUATION = """\
L = -(1/(M max_tokens)) [ sum_{rollout tokens} (r A + entropy_coef H) + sum_{demonstration tokens} f(p) A ]
A = R_i - mean(R) over group_size - 1 rollouts and the demonstration of a prompt,  r = pi / pi_old,
p = pi(y*_t | x, y*_<t),  f(p) = p / (p + gamma),  M = trajectories of the step"""
EVIDENCE = "authors' code read; paper from notes"
DATA_FLOW = """\
group_size - 1 rollouts per prompt, and the whole demonstration as one more member of the group
prompt | rollout: policy gradient;  prompt | demonstration with EOS: shaped off-policy gradient with its advantage
charged: as GRPO without reference, and the demonstration as trained tokens"""
PUBLISHED: tuple[str, ...] = (
    "Qwen2.5-Math-7B, mean of six: 50.1 (own paper); 46.3, 49.8 and 55.5 in the tables of others",
)


@dataclass(frozen=True)
class LUFFY:
    """L = -(1/(M max_tokens)) [ sum_{rollout tokens} (r A + entropy_coef H) + sum_{demonstration tokens} f(p) A ].

    f(p) = p / (p + gamma) gives each demonstration token the weight A gamma p / (p + gamma)^2, largest at p = gamma.
    Without demonstrations this is REINFORCE with the group's mean as baseline.
    """

    guided: bool = True
    shaping: str = "shaped"
    gamma: float = 0.1
    demo_reward: float = 1.0
    group_size: int = 8
    clip: float = 0.0  # 0: none
    entropy_coef: float = 0.001
    max_tokens: int = 8192
    lr: float = 1e-6
    warmup: float = 0.0
    decay: str = "constant"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 128
    num_updates: int = 2

    def __post_init__(self) -> None:
        common.require_choices(self, shaping=SHAPINGS)
        common.require_at_least(self, 2, "group_size")
        common.require(self.gamma > 0, f"gamma: {self.gamma} is not above 0")
        common.require_at_least(self, 0, "clip")
        common.require_at_least(self, 1, "max_tokens")

    uses_entropies = common.asks_if("entropy_coef")

    @property
    def num_rollouts(self) -> int:
        """Rollouts per prompt: the demonstration takes the place of one."""
        return self.group_size - int(self.guided)

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        completions = ctx.sample(examples, [()] * len(examples), self.num_rollouts)
        rows = common.grouped(examples, completions, "none")
        if not self.guided:
            return rows
        guided_rows = []
        for demo in common.demonstrations(examples):
            rollouts = rows[demo.group * self.num_rollouts : (demo.group + 1) * self.num_rollouts]
            # The demonstration counts in its group's mean.  Where all rollouts are right, even its own advantage is 0.
            rewards = [*(row.reward for row in rollouts), self.demo_reward]
            *ours, theirs = common.group_advantages(rewards, "none")
            guided_rows += [replace(row, advantage=advantage) for row, advantage in zip(rollouts, ours, strict=True)]
            guided_rows.append(replace(demo, demo_advantage=theirs, reward=self.demo_reward, correct=True))
        return guided_rows

    def loss(self, batch: Batch) -> Loss:
        clip = self.clip or NO_CLIP
        surrogate = common.clipped_surrogate(batch.logprobs, batch.old_logprobs, batch.advantages, clip, clip)
        values = surrogate - self.entropy_coef * batch.entropies
        # The ratio of a demonstration token is p / 1: who wrote it is taken to have been sure.  p alone would leave
        # unlikely tokens with hardly any gradient, f lets them count.
        # f = p / (p + gamma) has the slope gamma / (p + gamma)^2: 1 / gamma at p = 0, and less the larger p is.
        shaped = common.shaped_probability(batch.logprobs, 0.0 if self.shaping == "importance" else self.gamma)
        off_policy = -shaped * batch.advantages
        total = common.token_sum(values, batch.policy) + common.token_sum(off_policy, batch.demo)
        metrics = {
            "policy_loss": common.token_mean(surrogate.detach(), batch.policy, batch.num_policy),
            "demo_loss": common.demo_mean(batch, off_policy.detach(), "step"),
            "demo_nll": common.demo_mean(batch, -batch.logprobs.detach(), "step"),
        }
        if self.entropy_coef != 0:
            metrics["entropy"] = common.token_mean(batch.entropies.detach(), batch.policy, batch.num_policy)
        return Loss(total / (batch.num_trajectories * self.max_tokens), metrics)

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        rollouts = common.plain_rollout_rows(examples, self.num_rollouts, max_new_tokens)
        return common.joined(rollouts, common.demonstration_rows(examples)) if self.guided else rollouts


METHOD = LUFFY
VARIANTS: dict[str, dict[str, Any]] = {
    "importance": {"shaping": "importance"},
    "clip": {"clip": 0.2},
    "no-demo": {"guided": False},
    "no-entropy": {"entropy_coef": 0.0},
    "gamma-1": {"gamma": 1.0},
    "on-policy": {"num_updates": 1},
}
SYMBOLS: dict[str, str] = {
    "guided": "one demonstration among 8; training scripts (prefix ratio 1)",
    "shaping": "f; mix_core_alg.py",
    "gamma": "gamma; mix_core_alg.py",
    "demo_reward": "R of the demonstration; this project's choice",
    "group_size": "7 rollouts and 1 demonstration; training scripts",
    "clip": "epsilon; removed in the training scripts",
    "entropy_coef": "no symbol; training scripts",
    "max_tokens": "response width; training scripts",
    "lr": "learning rate; training scripts",
    "warmup": "warm-up share; this project's choice",
    "decay": "schedule; this project's choice",
    "weight_decay": "AdamW weight decay; verl fsdp_workers.py",
    "betas": "AdamW betas; verl fsdp_workers.py",
    "batch_size": "prompts per step; training scripts",
    "num_updates": "128 prompts / mini-batch of 64; training scripts",
}

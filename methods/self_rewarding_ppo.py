"""Self-Rewarding PPO: reinforcement whose reward is how much likelier fine-tuning has made an answer.

Source: "Self-Rewarding PPO: Aligning Large Language Models with Demonstrations Only" (arXiv 2510.21090), of which the
abstract and notes were read; no authors' code was found.  After fine-tuning, the log ratio of the fine-tuned to the
initial model is the reward of an answer, given at its end (notes), and the fine-tuned model is trained on it with PPO.
No verifier and no further demonstration is needed, only prompts.

It is a second stage: ``sft+self_rewarding_ppo``.  pi_SFT is the policy as the stage begins, pi_0 the run's model before
its first stage.  As a first stage the two are equal, every reward is 0, and at the start the KL's gradient is 0 too, so
that nothing but weight decay moves the weights.

Departures, and choices where the paper was not available:
- The baseline is the mean of a group of rollouts, scaled by its deviation, in place of a learned value function with
  generalised advantages, as for the baseline ``r3``.  Clip, number of updates and KL to pi_SFT are those of ``grpo``.
- The reward is the sum over the answer's tokens, EOS included (notes); reduce="mean" divides by their number.  An
  answer cut at the limit gets the reward of the tokens that it has.
- The verifier is asked, charged and logged ("correct"), but not heard; "reward" in the logs is the log ratio.
- Optimizer settings are those of this project's ``grpo``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory
from methods import common, grpo

REDUCTIONS = ("sum", "mean")

EQUATION = """\
L = (1/N) sum_i sum_t [ -min(r A_i, clip(r, 1 - clip_low, 1 + clip_high) A_i) + kl_coef k3 ],  N = policy tokens
R_i = log pi_SFT(y_i | x) - log pi_0(y_i | x),  A_i = (R_i - mean(R)) / (std(R) + eps) within the group of a prompt
r = pi / pi_old,  k3 = pi_SFT/pi - log(pi_SFT/pi) - 1,  pi_SFT: at the stage's start, pi_0: at the run's"""
EVIDENCE = "abstract and notes; no authors' code found"
DATA_FLOW = """\
group_size rollouts per prompt at the run's temperature, scored by the fine-tuned and by the initial model
prompt | rollout with the group-normalised advantage of its log ratio
policy gradient and KL: every rollout token
charged: as GRPO without entropy bonus, and two scoring passes per rollout; both models are kept beside the policy"""
PUBLISHED: tuple[str, ...] = ()  # the abstract has no figures


@dataclass(frozen=True)
class SelfRewardingPPO:
    """GRPO's loss without entropy bonus, on the reward R_i = log pi_SFT(y_i | x) - log pi_0(y_i | x).

    Answers that fine-tuning has made likelier than others to the same prompt become likelier still.
    """

    reduce: str = "sum"
    group_size: int = 4
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coef: float = 0.001
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
        common.require_choices(self, reduce=REDUCTIONS, scale=common.SCALES)
        common.require_at_least(self, 2, "group_size")

    scored_under = ("reference", "initial")
    uses_reference = common.asks_if("kl_coef")

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        answers = ctx.sample(examples, [()] * len(examples), self.group_size)
        pairs = list(enumerate(zip(examples, answers, strict=True)))
        rows = [common.rollout(example, answer, group) for group, (example, some) in pairs for answer in some]
        tuned, initial = (ctx.score(rows, under=model) for model in self.scored_under)
        rewards = []
        for after, before in zip(tuned, initial, strict=True):
            # Where two models agree token by token the reward is 0 exactly, and so are the advantages below.
            ratio = after.logprobs.double() - before.logprobs.double()
            rewards.append(float(ratio.sum() if self.reduce == "sum" else ratio.mean()))
        advantages: list[float] = []
        for first in range(0, len(rows), self.group_size):
            advantages += common.group_advantages(rewards[first : first + self.group_size], self.scale, self.eps)
        priced = zip(rows, rewards, advantages, strict=True)
        return [replace(row, reward=reward, advantage=advantage) for row, reward, advantage in priced]

    def loss(self, batch: Batch) -> Loss:
        return common.policy_gradient_loss(
            batch, clip_low=self.clip_low, clip_high=self.clip_high, kl_coef=self.kl_coef
        )

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        rows = common.plain_rollout_rows(examples, self.group_size, max_new_tokens)
        return replace(rows, score=[*rows.train, *rows.train])


METHOD = SelfRewardingPPO
VARIANTS: dict[str, dict[str, Any]] = {
    "mean-reward": {"reduce": "mean"},
    "no-kl": {"kl_coef": 0.0},
    "no-std": {"scale": "none"},
    "on-policy": {"num_updates": 1},
}
SYMBOLS: dict[str, str] = {
    "reduce": "sum over t of log pi_SFT - log pi_0; from notes",
    "group_size": "no symbol; the baseline of this project, as GRPO",
    "clip_low": "epsilon; not verified, as GRPO",
    "clip_high": "epsilon; not verified, as GRPO",
    "kl_coef": "beta; not verified, as GRPO",
    **dict.fromkeys(list(grpo.SYMBOLS)[list(grpo.SYMBOLS).index("scale") :], "not verified, as GRPO"),
}

"""SRFT: imitation, off-policy and on-policy reinforcement in one loss, weighted by the policy's entropy.

Source: SRFT (arXiv 2506.19767, paper read through notes; no authors' code).  A re-implementation was read:
TsinghuaC3I/Unify-Post-Training, ``hpt/verl/verl/mix_src/mix_actor.py`` (offline_loss_type "srft"), ``mix_core_alg.py``
and ``exp_scripts/train_srft.sh``.  Its authors report 44.2 where the paper reports 59, so it is open which
version the paper ran.

Departures and choices:
- The entropy is the mean over a sequence's own target tokens, as in the re-implementation; the paper does not say over
  what it is taken.  "token-entropy" takes each token's own.
- The demonstration's advantage is centred over its prompt's rollouts and itself, not divided by the standard deviation
  (re-implementation); "std" divides.  The paper's importance weight p is the default, the re-implementation's shaped
  p / (p + 0.1) is the variant "shaped".
- Own rollouts count by reward +1 or -1 (strict correctness), without baseline, ratio and clip; in later
  updates, too, their gradient is that of log pi at the current policy, as in both sources.
- Both terms on demonstrations are means over demonstration tokens, the term on rollouts is one mean over all rollout
  tokens, right and wrong ones together.  The re-implementation divides the reinforcement terms by 8192 alone.
- The re-implementation's entropy bonus of 0.001, absent from the paper, is left out.
- Ablations: "without w_SFT" and "without w_RL" set the weight to 1; notes give their scores, not their definition.
- Duration is a budget, not 500 steps; AdamW settings are those of GRPO here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory
from methods import common

LEVELS = ("sequence", "token")

EQUATION = """\
L = (1/N_demo) sum_{demonstration tokens} [ -w_SFT log p - f(p) A ]
  + (1/N_own) [ -sum_{tokens of right rollouts} w_RL log pi + sum_{tokens of wrong rollouts} log pi ]
w_SFT = sft_coef sg(exp(sft_slope H)),  w_RL = rl_coef sg(exp(rl_slope H)),  H = entropy of pi, mean of the sequence
A = 1 - mean(R) over the rollouts (R = +1 or -1) and the demonstration (R = 1),  p = pi(y*_t | x, y*_<t),
f(p) = p (gamma > 0: p / (p + gamma)),  sg = no gradient"""
EVIDENCE = "paper read through notes; no authors' code; one re-implementation read"
DATA_FLOW = """\
group_size rollouts per prompt, and its whole demonstration beside them, which the policy is not shown
prompt | rollout: log-likelihood, raised by w_RL where right, lowered by 1 where wrong
prompt | demonstration with EOS: likelihood times w_SFT, and the off-policy gradient with the group's advantage
charged: rollouts and their training as GRPO without reference, and the demonstration as trained tokens"""
PUBLISHED: tuple[str, ...] = (
    "Qwen2.5-Math-7B, mean of five (own paper): 59.5 in Table 2, 59.1 in the text; SFT 54.3, GRPO 49.3, LUFFY 55.5",
    "the same: SFT then RL 54.5 (52.5 in Table 1), ReLIFT 54.0; without w_SFT -4.0, without w_RL -2.9",
    "Qwen2.5-Math-7B: 44.2 in the reproduction of HPT's authors (2509.04419)",
)


@dataclass(frozen=True)
class SRFT:
    """L = w_SFT NLL(demonstrations) - f(p) A (demonstrations) + w_RL NLL(right rollouts) - NLL(wrong rollouts).

    w_SFT = sft_coef exp(sft_slope H) falls and w_RL = rl_coef exp(rl_slope H) rises with the entropy H; neither carries
    a gradient.  Slopes of 0 give fixed weights.
    """

    group_size: int = 8
    sft_coef: float = 0.5
    sft_slope: float = -1.0
    rl_coef: float = 0.1
    rl_slope: float = 1.0
    entropy_level: str = "sequence"
    gamma: float = 0.0  # 0: f(p) = p
    scale: str = "none"
    lr: float = 1e-6
    warmup: float = 0.0
    decay: str = "constant"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 128
    num_updates: int = 2

    def __post_init__(self) -> None:
        common.require_choices(self, entropy_level=LEVELS, scale=common.SCALES)
        common.require_at_least(self, 1, "group_size")
        common.require_at_least(self, 0, "gamma")

    @property
    def uses_entropies(self) -> bool:
        return self.sft_slope != 0 or self.rl_slope != 0

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        completions = ctx.sample(examples, [()] * len(examples), self.group_size)
        rows = []
        for demo in common.demonstrations(examples):
            signs = [1.0 if c.verdict.correct else -1.0 for c in completions[demo.group]]
            for completion, sign in zip(completions[demo.group], signs, strict=True):
                rows.append(common.rollout(examples[demo.group], completion, demo.group, advantage=sign))
            advantage = common.group_advantages([*signs, 1.0], self.scale)[-1]
            rows.append(replace(demo, demo_advantage=advantage, reward=1.0, correct=True))
        return rows

    def loss(self, batch: Batch) -> Loss:
        demo_weights = self.weights(batch.entropies, batch.demo, self.sft_coef, self.sft_slope)
        own_weights = self.weights(batch.entropies, batch.policy, self.rl_coef, self.rl_slope)
        nll = common.demo_mean(batch, -demo_weights * batch.logprobs, "step")
        shaped = common.shaped_probability(batch.logprobs, self.gamma)
        off_policy = common.demo_mean(batch, -shaped * batch.advantages, "step")
        # A rollout's advantage is +1 or -1, so the wrong ones are pushed down; the weight is for the right ones only.
        signed = batch.advantages * own_weights.where(batch.advantages > 0, 1.0)
        own = common.token_mean(-signed * batch.logprobs, batch.policy, batch.num_policy)
        metrics = {
            "demo_loss": nll.detach(),
            "off_policy_loss": off_policy.detach(),
            "policy_loss": own.detach(),
            "demo_nll": common.demo_mean(batch, -batch.logprobs.detach(), "step"),
            "demo_weight": common.demo_mean(batch, demo_weights, "step"),
            "policy_weight": common.token_mean(own_weights, batch.policy, batch.num_policy),
        }
        return Loss(nll + off_policy + own, metrics)

    def weights(self, entropies: Tensor, mask: Tensor, coef: float, slope: float) -> Tensor:
        """coef exp(slope H) without gradient, [B, 1] or [B, T]; H is the mean over the row's masked-in tokens."""
        # Attached, the loss could also fall by making the policy more or less certain, whatever the answers.
        entropies = entropies.detach()
        level = common.row_mean(entropies, mask).expand_as(entropies) if self.entropy_level == "sequence" else entropies
        return coef * (slope * level).exp()

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        rollouts = common.plain_rollout_rows(examples, self.group_size, max_new_tokens)
        return common.joined(rollouts, common.demonstration_rows(examples))


METHOD = SRFT
VARIANTS: dict[str, dict[str, Any]] = {
    "no-sft-weight": {"sft_coef": 1.0, "sft_slope": 0.0},
    "no-rl-weight": {"rl_coef": 1.0, "rl_slope": 0.0},
    "fixed-weights": {"sft_slope": 0.0, "rl_slope": 0.0},
    "token-entropy": {"entropy_level": "token"},
    "shaped": {"gamma": 0.1},
    "std": {"scale": "std"},
    "on-policy": {"num_updates": 1},
}
SYMBOLS: dict[str, str] = {
    "group_size": "rollouts per prompt, the demonstration not counted; paper",
    "sft_coef": "0.5 of w_SFT; paper",
    "sft_slope": "sign of H in w_SFT; paper",
    "rl_coef": "0.1 of w_RL; paper",
    "rl_slope": "sign of H in w_RL; paper",
    "entropy_level": "H; mean of the sequence in the re-implementation, open in the paper",
    "gamma": "no symbol; none in the paper, 0.1 in the re-implementation",
    "scale": "std of the advantage; grpo_use_std of the re-implementation's script (False)",
    "lr": "learning rate; paper",
    "warmup": "warm-up share; not stated, none as in GRPO here",
    "decay": "schedule; not stated, constant as in GRPO here",
    "weight_decay": "AdamW weight decay; not stated, as in GRPO here",
    "betas": "AdamW betas; not stated, as in GRPO here",
    "batch_size": "prompts per step; re-implementation's script",
    "num_updates": "128 prompts / mini-batch of 64; re-implementation's script",
}

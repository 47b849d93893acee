"""HPT: each prompt trains by imitation while its rollouts fail, by reinforcement learning once they succeed.

Source: hybrid post-training (arXiv 2509.04419, paper and code read; authors' ``exp_scripts/train.sh``,
``hpt/verl/verl/mix_src/mix_trainer.py`` and ``mix_actor.py``).  The paper's formula divides the advantage by the
standard deviation; the code neither divides nor clips (Dr.GRPO), and the code is followed.  Defaults are those for Qwen
7B; the gate of 2/8 for LLaMA and the likelihood's weight of 0.3 for 1.5B models are variants.

Departures:
- Updates with a gradient norm above 80 are not skipped: the trainer treats all methods alike.
- Both parts are divided over the whole optimizer batch: likelihood by its demonstration tokens, reward by its rollouts
  times max_tokens.  The authors reduce each micro-batch apart and average.
- The entropy bonus covers rollout tokens only, with the divisor of the reward part; the authors average it over all
  response tokens, demonstrations included.
- max_tokens is a constant of the method, not the sampler's limit; it sets how much a rollout weighs against a
  demonstration, so lower it together with --max-new-tokens.
- |log ratio| is limited to 20 before exp.
- Duration is a budget, not 500 steps.  The "soft" coefficients in the authors' code are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory
from methods import common

EQUATION = """\
P(x) = share of correct ones among K rollouts of prompt x
P <= gamma:  - demo_coef (1/N) sum_t log pi(y*_t | x, y*_<t),  N = demonstration tokens of the step; rollouts dropped
P >  gamma:  - (1/(M max_tokens)) sum_i sum_t [ r A_i + entropy_coef H ],  A_i = R_i - mean(R),  r = pi / pi_old,
M = rollouts kept in the step; L is the sum of both parts"""
EVIDENCE = "paper and authors' code read"
DATA_FLOW = """\
group_size rollouts per prompt; their share of correct ones decides
above gamma: prompt | rollout with Dr.GRPO's advantage;  else: prompt | demonstration with EOS, the rollouts dropped
charged: all rollouts, kept or not, and forward and backward over what is kept"""
PUBLISHED: tuple[str, ...] = (
    "Qwen2.5-Math-7B: SFT 44.5, GRPO 43.1, SFT then GRPO 46.5, LUFFY 49.8, SRFT 44.2, HPT 52.7",
    "LLaMA-3.1-8B: LUFFY 13.2, HPT 18.2; Qwen2.5-Math-1.5B: HPT 41.9",
)


@dataclass(frozen=True)
class HPT:
    """L = demo_coef NLL(demonstrations of prompts with P <= gamma) + Dr.GRPO(rollouts of the others).

    P is the share of correct ones among the group_size rollouts of a prompt.  gamma = 1: always imitation; gamma < 0:
    always reinforcement.  Dropped rollouts cost their samples all the same.
    """

    gamma: float = 0.0
    group_size: int = 8
    demo_coef: float = 1.0
    entropy_coef: float = 0.001
    max_tokens: int = 8192
    lr: float = 5e-6
    warmup: float = 0.0
    decay: str = "constant"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 128
    num_updates: int = 2

    def __post_init__(self) -> None:
        common.require(self.gamma <= 1, f"gamma: {self.gamma} is above 1")
        common.require_at_least(self, 1, "group_size", "max_tokens")

    uses_entropies = common.asks_if("entropy_coef")

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        completions = ctx.sample(examples, [()] * len(examples), self.group_size)
        shares = [sum(c.verdict.correct for c in rollouts) / len(rollouts) for rollouts in completions]
        # By the strict verdict, not by the reward: an answer that is only well-formed does not pass.
        failed = [share <= self.gamma for share in shares]
        own = [row for row in common.grouped(examples, completions, "none") if not failed[row.group]]
        shown = [row for row in common.demonstrations(examples) if failed[row.group]]
        # In order of the prompts, so that each update has its share of both kinds.
        return sorted(own + shown, key=lambda row: row.group)

    def loss(self, batch: Batch) -> Loss:
        # Both parts run over all rows, but each has tokens on its own rows only: rollouts of prompts that are solved
        # often enough, demonstrations of the others.
        policy = common.policy_gradient_loss(
            replace(batch, num_trajectories=batch.num_rollouts),  # each part has its own divisor
            entropy_coef=self.entropy_coef,
            aggregation="dr_grpo",
            max_tokens=self.max_tokens,
        )
        nll = common.demo_mean(batch, -batch.logprobs, "step")
        return Loss(policy.value + self.demo_coef * nll, {**policy.metrics, "demo_nll": nll.detach()})

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        """A group trains on its rollouts or on the demonstration: its first row is as long as the longer one."""
        rows = common.plain_rollout_rows(examples, self.group_size, max_new_tokens)
        train = list(rows.train)
        for i, e in enumerate(examples):
            most = max(len(e.demo_ids), max_new_tokens)
            train[i * self.group_size] = (len(e.prompt_ids) + most, most)
        return Rows(rows.prefill, rows.decode, train)


METHOD = HPT
VARIANTS: dict[str, dict[str, Any]] = {
    "llama-gate": {"gamma": 0.25},
    "demo-coef-0.3": {"demo_coef": 0.3},
    "no-entropy": {"entropy_coef": 0.0},
    "always-demo": {"gamma": 1.0},
    "never-demo": {"gamma": -1.0},
    "on-policy": {"num_updates": 1},
}
SYMBOLS: dict[str, str] = {
    "gamma": "gamma; paper (0 for Qwen, 2/8 for LLaMA), switch_gate of exp_scripts/train.sh",
    "group_size": "n; paper, exp_scripts/train.sh",
    "demo_coef": "weight of the SFT loss; exp_scripts/train.sh (0.3 for 1.5B models)",
    "entropy_coef": "no symbol; exp_scripts/train.sh",
    "max_tokens": "constant of Dr.GRPO; response length of exp_scripts/train.sh",
    "lr": "learning rate; exp_scripts/train.sh",
    "warmup": "warm-up share; not stated, none as in GRPO here",
    "decay": "schedule; paper (constant)",
    "weight_decay": "AdamW weight decay; not stated, as in GRPO here",
    "betas": "AdamW betas; not stated, as in GRPO here",
    "batch_size": "prompts per step; exp_scripts/train.sh",
    "num_updates": "no symbol; 128 prompts / mini-batch of 64, exp_scripts/train.sh",
}

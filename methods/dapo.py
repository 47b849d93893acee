"""DAPO: GRPO that samples until its batch is full of prompts with a signal, clips higher and charges for length.

Source: DAPO (arXiv 2503.14476).  The paper was taken from notes; its authors' recipe in verl was read
(``recipe/dapo/dapo_ray_trainer.py``, ``run_dapo_qwen2.5_32b.sh``), and TRL's ``get_soft_overlong_punishment``, which
states equation 13.  Four changes of GRPO:
- clip higher: the upper bound of the ratio is 1.28;
- dynamic sampling: groups without a correct or without a wrong answer are dropped, and further prompts are sampled
  until enough groups are kept;
- token mean over the batch, which is this project's default anyway;
- soft overlong punishment: the last overlong_tokens before max_tokens cost up to one point of reward.
KL term and entropy bonus are left out.

Departures:
- A step gets batch_size prompts and keeps batch_size / oversampling groups at most.  It asks for as many prompts as are
  missing, again and again; the recipe samples whole batches of three times the kept size and cuts what is too much.
  Prompts of a step that were not needed wait for the next epoch.
- Where the prompts are used up before enough groups are kept, the update is smaller; the recipe stops with an error
  after ten batches.
- Right answers earn 1 and others what the task's verifier gives them; the paper has 1 and -1.
- max_tokens is a field, not the run's limit, which a method does not know; the verdict that a cut answer gets stays.
- Reward and correctness logged during training are those of the kept groups, the punishment of length included.
- Warm-up over 10 steps is left out: its share of the authors' duration is not known.  Standard deviation unbiased plus
  1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.types import Batch, Completion, Context, Example, Loss, Rows, Trajectory
from methods import common

KEEPS = ("mixed", "all")

EQUATION = """\
L = -(1/N) sum_i sum_t min(r A_i, clip(r, 1 - clip_low, 1 + clip_high) A_i),  N = policy tokens of the step
A_i = (R_i - mean(R)) / (std(R) + eps) within the group of a prompt;  kept: 0 < correct answers < group_size
R_i = reward - min(max(|y_i| - (max_tokens - overlong_tokens), 0) / overlong_tokens, 1),  r = pi / pi_old"""
EVIDENCE = "authors' recipe in verl read, the paper from notes; parity of the loss with TRL (comparison grpo:dapo)"
DATA_FLOW = """\
group_size rollouts per prompt, prompt after prompt until batch_size / oversampling groups have right and wrong answers
prompt | rollout of a kept group with the group-normalised advantage of its reward, length punished
policy gradient: every token of the kept rollouts
charged: all rollouts, kept or not; the old-policy pass, forward and backward over the kept ones"""
PUBLISHED: tuple[str, ...] = (
    "README of the authors' recipe: Qwen2.5-32B, AIME 2024: DAPO 52 %, without dynamic sampling 50 %, without it and "
    "without the token mean 44 %",
)


def is_mixed(rollouts: Sequence[Completion]) -> bool:
    """Whether some of a prompt's rollouts are correct and some are not."""
    return 0 < sum(rollout.verdict.correct for rollout in rollouts) < len(rollouts)


def punished(completion: Completion, max_tokens: int, overlong_tokens: int) -> Completion:
    """The completion with its reward lowered by the share of the last overlong_tokens that it uses, at most by 1."""
    if overlong_tokens == 0:
        return completion
    used = len(completion.token_ids) - (max_tokens - overlong_tokens)
    penalty = min(max(used / overlong_tokens, 0.0), 1.0)
    verdict = completion.verdict
    return replace(completion, verdict=replace(verdict, reward=verdict.reward - penalty))


@dataclass(frozen=True)
class DAPO:
    """L = -(1/N) sum_i sum_t min(r A_i, clip(r, 1 - clip_low, 1 + clip_high) A_i) over groups with both verdicts.

    batch_size prompts at most are sampled per step, batch_size / oversampling groups at most are trained on.
    """

    group_size: int = 16
    clip_low: float = 0.2
    clip_high: float = 0.28
    keep: str = "mixed"
    oversampling: int = 3
    max_tokens: int = 20480
    overlong_tokens: int = 4096
    scale: str = "std"
    eps: float = 1e-6
    lr: float = 1e-6
    warmup: float = 0.0
    decay: str = "constant"
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 1536
    num_updates: int = 16

    def __post_init__(self) -> None:
        common.require_choices(self, keep=KEEPS, scale=common.SCALES)
        common.require_at_least(self, 1, "group_size", "oversampling", "max_tokens")
        common.require_at_least(self, 0, "overlong_tokens", "clip_low", "clip_high")
        fits = self.overlong_tokens <= self.max_tokens
        common.require(fits, f"overlong_tokens: {self.overlong_tokens} is above max_tokens, {self.max_tokens}")

    def wanted(self, num_prompts: int) -> int:
        """Groups that a step with so many prompts trains on at most."""
        return num_prompts if self.keep == "all" else math.ceil(num_prompts / self.oversampling)

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        kept: list[tuple[int, Sequence[Completion]]] = []  # place of the example in the list, its rollouts
        start, wanted = 0, self.wanted(len(examples))
        while start < len(examples) and len(kept) < wanted:
            asked = examples[start : start + wanted - len(kept)]
            answers = ctx.sample(asked, [()] * len(asked), self.group_size)
            kept += [(i, a) for i, a in enumerate(answers, start) if self.keep == "all" or is_mixed(a)]
            start += len(asked)
        rows = []
        for place, rollouts in kept:
            charged = [punished(rollout, self.max_tokens, self.overlong_tokens) for rollout in rollouts]
            group = common.grouped([examples[place]], [charged], self.scale, self.eps)
            rows += [replace(row, group=place) for row in group]
        return rows

    def loss(self, batch: Batch) -> Loss:
        return common.policy_gradient_loss(batch, clip_low=self.clip_low, clip_high=self.clip_high)

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        """All prompts are sampled, and those with the longest prompts are kept."""
        rows = common.plain_rollout_rows(examples, self.group_size, max_new_tokens)
        longest = sorted(rows.train, reverse=True)[: self.wanted(len(examples)) * self.group_size]
        return Rows(rows.prefill, rows.decode, longest)


METHOD = DAPO
VARIANTS: dict[str, dict[str, Any]] = {
    "all-groups": {"keep": "all"},
    "filter-only": {"oversampling": 1},
    "symmetric-clip": {"clip_high": 0.2},
    "no-std": {"scale": "none"},
    "on-policy": {"num_updates": 1},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (
    ({"keep": "all", "overlong_tokens": 0}, "grpo", {"aggregation": "dapo", "kl_coef": 0.0, "entropy_coef": 0.0}),
)
RECIPE = "run_dapo_qwen2.5_32b.sh"
SYMBOLS: dict[str, str] = {
    "group_size": f"G; {RECIPE}",
    "clip_low": f"epsilon_low; {RECIPE}",
    "clip_high": f"epsilon_high; {RECIPE}",
    "keep": f"0 < correct < G; {RECIPE} (filter_groups on acc)",
    "oversampling": f"no symbol; {RECIPE} (gen_prompt_bsz / train_prompt_bsz)",
    "max_tokens": f"L_max; {RECIPE}",
    "overlong_tokens": f"L_cache; {RECIPE} (overlong_buffer_len; 0: no punishment)",
    "scale": "std of the rewards; as GRPO",
    "eps": "no symbol; as GRPO",
    "lr": f"learning rate; {RECIPE}",
    "warmup": "warm-up share; not known (10 steps of an unknown number), none as in GRPO here",
    "decay": "schedule; verl's default (constant)",
    "weight_decay": f"AdamW weight decay; {RECIPE}",
    "betas": "AdamW betas; verl fsdp_workers.py",
    "batch_size": f"most prompts sampled per step; {RECIPE} (gen_prompt_bsz)",
    "num_updates": f"512 prompts / mini-batch of 32; {RECIPE}",
}

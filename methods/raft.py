"""RAFT: fine-tuning on one's own correct answers (rejection sampling).

Source: RAFT (arXiv 2304.06767) keeps the best of K samples by reward, STaR (2203.14465) the correct ones.  The rule was
taken from descriptions; neither paper nor code was read; K = 4 at temperature 1 is the rejection-sampling baseline of
DFT (2508.05629, paper read).  Optimizer settings are not known; they are those of this project's ``sft``.

Departures:
- Samples come from the current policy and are used for one update; RAFT trains an epoch on each stage's samples, the
  baseline of DFT draws all samples once from the base model.
- Kept answers count by their tokens ("token mean"); all correct ones are kept, repetitions included.
- "best" keeps exactly one answer per prompt, the first drawn of those with the highest reward, be it correct or not.
- STaR's rationalisation (hints for failures) and its restarts from the base model are left out.
- Duration is a budget; warm-up and cosine run over the budget.

A step that keeps nothing costs its samples and makes no update.  Reward and correctness logged during training are
those of the kept answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.types import Batch, Completion, Context, Example, Loss, Rows, Trajectory
from methods import common

KEEPS = ("correct", "best")

EQUATION = """\
L = -(1/N) sum_{kept y} sum_t log pi(y_t | x, y_<t),  N = tokens of the kept answers of the step
y_1, ..., y_K ~ pi(. | x);  kept: the correct ones (keep="best": argmax_i R(y_i), one per prompt)"""
EVIDENCE = "descriptions only; settings from the DFT paper's baseline (read)"
DATA_FLOW = """\
group_size rollouts per prompt; the correct ones are kept
prompt | kept rollout with EOS;  likelihood: every rollout token
charged: all rollouts, kept or not, and forward and backward over the kept ones"""
PUBLISHED: tuple[str, ...] = (
    "DFT paper, offline setting, Qwen2.5-Math-1.5B: rejection-sampling fine-tuning 23.97, GRPO 32.00, DFT 35.43",
)


def chosen(rollouts: Sequence[Completion], keep: str) -> list[Completion]:
    """The rollouts of one prompt that are trained on."""
    if keep == "best":
        return [max(rollouts, key=lambda rollout: rollout.verdict.reward)]  # the first of equal ones
    return [rollout for rollout in rollouts if rollout.verdict.correct]


@dataclass(frozen=True)
class RAFT:
    """L = -(1/N) sum_{kept y} sum_t log pi(y_t | x, y_<t) over the correct ones of group_size samples per prompt.

    This is REINFORCE with rewards 0 and 1, without baseline, clip and KL, but for the divisor.
    """

    group_size: int = 4
    keep: str = "correct"
    lr: float = 1e-5
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    batch_size: int = 256
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_choices(self, keep=KEEPS)
        common.require_at_least(self, 1, "group_size")

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        completions = ctx.sample(examples, [()] * len(examples), self.group_size)
        return [
            common.rollout(example, completion, group)
            for group, (example, rollouts) in enumerate(zip(examples, completions, strict=True))
            for completion in chosen(rollouts, self.keep)
        ]

    def loss(self, batch: Batch) -> Loss:
        # With reward 1 for a kept answer and 0 for any other, REINFORCE is the likelihood of the kept ones.
        nll = -batch.logprobs
        # The divisor counts kept tokens only, so the size of a step does not shrink with the share of right answers.
        value = common.token_mean(nll, batch.policy, batch.num_policy)
        return Loss(value, {"kept_nll": value.detach()})

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        rows = common.plain_rollout_rows(examples, self.group_size, max_new_tokens)
        if self.keep == "best":
            return Rows(rows.prefill, rows.decode, rows.train[:: self.group_size])
        return rows


METHOD = RAFT
VARIANTS: dict[str, dict[str, Any]] = {
    "best-of": {"keep": "best"},
    "k-8": {"group_size": 8},
    "k-16": {"group_size": 16},
}
SYMBOLS: dict[str, str] = {
    "group_size": "K; DFT paper, rejection-sampling baseline",
    "keep": "no symbol; STaR: correct, RAFT: best",
    "lr": "learning rate; this project's SFT",
    "warmup": "warm-up share; this project's SFT",
    "decay": "schedule; this project's SFT (cosine)",
    "weight_decay": "AdamW weight decay; this project's SFT",
    "betas": "AdamW betas; this project's SFT",
    "batch_size": "prompts per step; this project's choice (that of GRPO)",
    "num_updates": "one update per step: strictly on-policy; this project's choice",
}

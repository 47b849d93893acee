"""RIF-RFT: GRPO on those prompts alone that the initial model can learn from, found by rollouts before training.

Source: "Reinforcement Fine-Tuning Naturally Mitigates Forgetting in Continual Post-Training" (arXiv 2507.05386), of
which the abstract was read; no authors' code was found.  The abstract says that its rollout-based instance filtering
keeps learnable samples, which makes reinforcement fine-tuning more efficient; notes say that prompts are dropped whose
rollouts are never right.  The reinforcement itself is that of ``grpo``, whose sources and departures apply.

Choices where the paper was not available:
- filter_size rollouts per prompt at the run's temperature, by the model as the stage begins; a prompt stays if at least
  min_correct of them are right by the strict verifier and at least min_wrong are not.  By default 1 and 0: a prompt
  that all rollouts solve stays, although it has no signal yet.
- The filter is applied once; the paper's setting has one filter per task of a sequence, here there is one task.
- Sampling and judging for the filter are charged to the budget.
- Where both limits are 0 nothing is sampled: all prompts stay, and the method is GRPO.

What was kept is stored with the run (targets.jsonl).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory
from methods import common, grpo

EQUATION = """\
L = (1/N) sum_i sum_t [ -min(r A_i, clip(r, 1 - clip_low, 1 + clip_high) A_i) + kl_coef k3 - entropy_coef H ], as GRPO,
over the prompts x with  min_correct <= c(x) <= filter_size - min_wrong,
c(x) = correct ones among filter_size rollouts of the initial model, drawn once"""
EVIDENCE = "abstract and notes; no authors' code found"
DATA_FLOW = """\
once: filter_size rollouts per prompt; prompts with too few right or wrong ones leave the pool
then as GRPO on the rest
charged: all rollouts of the filter and the verifier's calls, then as GRPO"""
PUBLISHED: tuple[str, ...] = ()  # the abstract has no figures


@dataclass(frozen=True)
class RIFRFT:
    """GRPO's loss over the prompts of which some of the initial model's rollouts are right.

    A_i = (R_i - mean(R)) / (std(R) + eps) within the group_size rollouts of a kept prompt.
    """

    filter_size: int = 8
    min_correct: int = 1
    min_wrong: int = 0
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
        common.require_at_least(self, 1, "filter_size", "group_size", "max_tokens")
        common.require_at_least(self, 0, "min_correct", "min_wrong")
        asked = self.min_correct + self.min_wrong
        possible = asked <= self.filter_size
        common.require(possible, f"filter_size: {self.filter_size} rollouts cannot be {asked} right and wrong ones")

    uses_reference = common.asks_if("kl_coef")
    uses_entropies = common.asks_if("entropy_coef")

    @property
    def keeps_all(self) -> bool:
        return self.min_correct == self.min_wrong == 0

    def prepare(self, examples: Sequence[Example], ctx: Context) -> list[Example]:
        """The prompts that pass the filter, in their order."""
        if self.keeps_all:
            return list(examples)
        kept = []
        answers = ctx.sample(examples, [()] * len(examples), self.filter_size)
        for example, rollouts in zip(examples, answers, strict=True):
            correct = sum(rollout.verdict.correct for rollout in rollouts)
            if self.min_correct <= correct <= self.filter_size - self.min_wrong:
                kept.append(example)
        return kept

    def prepare_worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        if self.keeps_all:
            return Rows()
        rows = common.plain_rollout_rows(examples, self.filter_size, max_new_tokens)
        return Rows(rows.prefill, rows.decode)

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        completions = ctx.sample(examples, [()] * len(examples), self.group_size)
        return common.grouped(examples, completions, self.scale, self.eps)

    def loss(self, batch: Batch) -> Loss:
        # GRPO's: what the method changes is the prompts, not the loss.
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


METHOD = RIFRFT
VARIANTS: dict[str, dict[str, Any]] = {
    "unsolved-only": {"min_wrong": 1},
    "keep-all": {"min_correct": 0},
    "filter-4": {"filter_size": 4},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (({"min_correct": 0, "min_wrong": 0}, "grpo", {}),)
SYMBOLS: dict[str, str] = {
    "filter_size": "rollouts per prompt of the filter; not verified, this project's choice",
    "min_correct": "no symbol; from notes (prompts that are never solved are dropped)",
    "min_wrong": "no symbol; not verified, this project's choice (1: prompts that are always solved are dropped too)",
    **dict.fromkeys(grpo.SYMBOLS, "as in GRPO"),
}

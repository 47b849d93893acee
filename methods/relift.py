"""ReLIFT: reinforcement learning, interleaved with imitation of the questions that no rollout answered.

Source: ReLIFT (arXiv 2506.07527, paper not read); the authors' ``relift/verl/verl/relift/trainer.py``, ``actor.py``,
``core_algos.py`` and ``examples/math-7b/train.sh`` were read.

Departures:
- The imitation update is the last one of the step after that in which the buffer fills; the authors make it at the end
  of the same step.
- The buffer gives back its oldest questions first, so that none waits forever; the authors' gives its newest.
- A question fails if no rollout is strictly correct; the authors' rule asks for the reward 0 of every rollout, and a
  rollout without their answer format has -1.
- One optimizer for both kinds of updates; the authors' imitation has an AdamW of its own (same learning rate).
- Gradients are clipped by the trainer's norm, the same for all methods; the authors clip at 0.7, imitation at 1.0.
- Divisors cover the whole optimizer batch: reinforcement by its rollouts times max_tokens, imitation by its
  demonstration tokens.  The authors reduce each micro-batch apart and average, and take the reinforcement's entropy
  bonus as a token mean; here it has the divisor of its part.
- |log ratio| is limited to 20 before exp; duration is a budget, not 3 epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory
from methods import common

EQUATION = """\
each step:  L = -(1/(M max_tokens)) sum_i sum_t [ r A_i + entropy_coef H ],  A_i = R_i - mean(R),  r = pi / pi_old
prompts without a correct rollout go to the buffer with their demonstrations; once it holds buffer_size of them, the
next step ends with one more update on the oldest buffer_size:
            L = -(1/N) sum_t [ log pi(y*_t | x, y*_<t) + demo_entropy_coef H ]
M = rollouts of the update,  N = demonstration tokens of the update"""
EVIDENCE = "authors' code read; paper from notes"
DATA_FLOW = """\
group_size rollouts per prompt; prompts that all of them miss enter a first-in-first-out buffer
prompt | rollout: policy gradient, in every step, failed prompts included
prompt | demonstration with EOS: likelihood, in an update of buffer_size recalled prompts, which are not sampled again
charged: as GRPO without reference, and recalled demonstrations as trained tokens"""
PUBLISHED: tuple[str, ...] = (
    "Qwen2.5-Math-7B, mean: 47.8, 48.8 and 54.0 in the tables of different papers",
    "13 % of the demonstrations used (authors' README)",
)


@dataclass(frozen=True)
class ReLIFT:
    """L = Dr.GRPO without clip on rollouts; in updates of their own, NLL of the demonstrations of failed prompts.

    Without failed prompts, or with buffer_size 0, this is GRPO without standard deviation and clip.
    """

    buffer_size: int = 128
    group_size: int = 8
    entropy_coef: float = 0.001
    demo_entropy_coef: float = 0.001
    max_tokens: int = 8192
    lr: float = 1e-6
    warmup: float = 0.0
    decay: str = "constant"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 128
    num_updates: int = 2

    def __post_init__(self) -> None:
        common.require_at_least(self, 0, "buffer_size")
        common.require_at_least(self, 1, "group_size", "max_tokens")

    @property
    def uses_entropies(self) -> bool:
        return self.entropy_coef != 0 or self.demo_entropy_coef != 0

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        prompts, recalled = examples[: self.batch_size], examples[self.batch_size :]
        completions = ctx.sample(prompts, [()] * len(prompts), self.group_size)
        if self.buffer_size:
            # With equal rewards the advantages of these prompts are 0: only imitation can learn from them.
            failed = (not any(c.verdict.correct for c in rollouts) for rollouts in completions)
            ctx.buffer.extend(e for e, none_right in zip(prompts, failed, strict=True) if none_right)
        own = common.grouped(prompts, completions, "none")
        # Groups of recalled prompts get the highest numbers, by which the trainer makes them an update of their own.
        return own + common.demonstrations(recalled, first_group=len(prompts))

    def loss(self, batch: Batch) -> Loss:
        """An update holds rollouts or demonstrations, never both: the other part is 0."""
        policy = common.policy_gradient_loss(
            batch, entropy_coef=self.entropy_coef, aggregation="dr_grpo", max_tokens=self.max_tokens
        )
        nll = common.demo_mean(batch, -batch.logprobs, "step")
        entropy = common.demo_mean(batch, batch.entropies, "step")
        value = policy.value + nll - self.demo_entropy_coef * entropy
        return Loss(value, {**policy.metrics, "demo_nll": nll.detach()})

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        rollouts = common.plain_rollout_rows(examples[: self.batch_size], self.group_size, max_new_tokens)
        return common.joined(rollouts, common.demonstration_rows(examples[self.batch_size :]))


METHOD = ReLIFT
VARIANTS: dict[str, dict[str, Any]] = {
    "no-buffer": {"buffer_size": 0},
    "no-entropy": {"entropy_coef": 0.0, "demo_entropy_coef": 0.0},
    "on-policy": {"num_updates": 1},
}
SYMBOLS: dict[str, str] = {
    "buffer_size": "sft_data_size; examples/math-7b/train.sh",
    "group_size": "n; examples/math-7b/train.sh",
    "entropy_coef": "no symbol; entropy_coeff of examples/math-7b/train.sh",
    "demo_entropy_coef": "no symbol; sft.entropy_coeff of examples/math-7b/train.sh",
    "max_tokens": "response width; max_response_length of examples/math-7b/train.sh",
    "lr": "learning rate; examples/math-7b/train.sh",
    "warmup": "warm-up share; not noted, none as in GRPO here",
    "decay": "schedule; relift/fsdp_worker.py (constant)",
    "weight_decay": "AdamW weight decay; relift/fsdp_worker.py",
    "betas": "AdamW betas; relift/fsdp_worker.py",
    "batch_size": "prompts per step; examples/math-7b/train.sh",
    "num_updates": "128 prompts / mini-batch of 64; examples/math-7b/train.sh",
}

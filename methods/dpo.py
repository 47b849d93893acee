"""DPO: a right answer of the policy is preferred to a wrong one, by their likelihoods against a reference model.

Source: Direct Preference Optimization (arXiv 2305.18290), whose equation 7 was read in the authors' code
(eric-mitchell/direct-preference-optimization: README, ``config/config.yaml``, ``config/loss/dpo.yaml``; its
``preference_loss`` in a copy of the file) and in TRL's ``dpo_trainer.py`` (loss_type "sigmoid"); the paper itself was
not read again.  ``label_smoothing`` is the conservative DPO of the same code.

Departures:
- Pairs come from the current policy in every step (on-policy DPO), one per prompt: the first right and the first wrong
  of group_size rollouts.  The paper trains on a fixed set of pairs, which people or a model have judged; here the
  verifier judges.  Prompts without such a pair are left out of the step, whose samples are charged all the same.
- ``gold=True`` takes the demonstration where no rollout is right.
- AdamW in place of RMSprop; the warm-up of 150 steps is a share of 0.1 and the rate is constant after it, as theirs.
- The reference is the model as the stage begins, so ``sft+dpo`` is the paper's pipeline.
- Log-probabilities are summed over the answer with its EOS, as in the paper; long answers weigh more.

The loss of a pair needs both of its rows, so the engine keeps them in one micro-batch (``whole_groups``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory
from methods import common
from methods.s3ft import accepted

EQUATION = """\
L = -(1/P) sum_{(x, y+, y-)} [ (1 - e) log sigma(beta m) + e log sigma(-beta m) ],  P = pairs of the step
m = log(pi(y+ | x) / pi_ref(y+ | x)) - log(pi(y- | x) / pi_ref(y- | x)),  e = label_smoothing
y+, y- = first right and first wrong of group_size rollouts of the current policy"""
EVIDENCE = "authors' code and TRL's code read, paper not read again"
DATA_FLOW = """\
group_size rollouts per prompt; one right and one wrong are kept, where there are both
prompt | rollout with EOS, twice per pair;  log-ratio to the reference: every rollout token
charged: all rollouts, kept or not; one pass of the reference, and forward and backward, over the pairs"""
PUBLISHED: tuple[str, ...] = (
    "DFT paper, offline setting, Qwen2.5-Math-1.5B: DPO 23.20, rejection-sampling fine-tuning 23.97, GRPO 32.00",
)


@dataclass(frozen=True)
class DPO:
    """L = -(1/P) sum over pairs of log sigma(beta m),  m = log-ratio of the right answer - that of the wrong one.

    The gradient of a pair is -beta sigma(-beta m) (grad log pi(y+) - grad log pi(y-)): it fades as m grows.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    group_size: int = 8
    gold: bool = False
    lr: float = 5e-7
    warmup: float = 0.1
    decay: str = "constant"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 64
    num_updates: int = 1

    uses_reference = True
    whole_groups = True

    def __post_init__(self) -> None:
        common.require(self.beta > 0, f"beta: {self.beta} is not above 0")
        common.require(0 <= self.label_smoothing < 0.5, f"label_smoothing: {self.label_smoothing} is not in [0, 0.5)")
        common.require_at_least(self, 1 if self.gold else 2, "group_size")

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        rows = []
        sampled = ctx.sample(examples, [()] * len(examples), self.group_size)
        for group, (example, rollouts) in enumerate(zip(examples, sampled, strict=True)):
            right = next(filter(accepted, rollouts), None)
            wrong = next((rollout for rollout in rollouts if not rollout.verdict.correct), None)
            if wrong is None or (right is None and not self.gold):
                continue
            # The advantage is the sign with which a row's log-ratio enters the margin.
            if right is None:
                rows.append(Trajectory(example.prompt_ids, example.demo_ids, demo_advantage=1.0, group=group))
            else:
                rows.append(common.rollout(example, right, group, advantage=1.0))
            rows.append(common.rollout(example, wrong, group, advantage=-1.0))
        return rows

    def margins(self, batch: Batch) -> Tensor:
        """m of each pair, [number of pairs in the micro-batch]."""
        assert batch.groups is not None
        signed = batch.advantages * (batch.logprobs - batch.ref_logprobs)
        rows = signed.masked_fill(~(batch.demo | batch.policy), 0.0).sum(dim=1)
        groups, pair = torch.unique(batch.groups, return_inverse=True)
        return torch.zeros(len(groups), dtype=rows.dtype, device=rows.device).index_add(0, pair, rows)

    def loss(self, batch: Batch) -> Loss:
        margins, num_pairs = self.margins(batch), max(batch.num_trajectories / 2, 1)
        # The logistic loss of a classifier whose logit is the difference of two implicit rewards beta log(pi / pi_ref).
        right, wrong = logsigmoid(self.beta * margins), logsigmoid(-self.beta * margins)
        losses = -(1 - self.label_smoothing) * right - self.label_smoothing * wrong
        known = margins.detach()
        metrics = {"margin": known.sum() / num_pairs, "preferred": (known > 0).to(known.dtype).sum() / num_pairs}
        return Loss(losses.sum() / num_pairs, metrics)

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        rollouts = common.plain_rollout_rows(examples, self.group_size, max_new_tokens)
        pairs = []
        for example in examples:
            right = max(len(example.demo_ids), max_new_tokens) if self.gold else max_new_tokens
            pairs += [(len(example.prompt_ids) + n, n) for n in (right, max_new_tokens)]
        return Rows(rollouts.prefill, rollouts.decode, pairs)


METHOD = DPO
VARIANTS: dict[str, dict[str, Any]] = {
    "gold": {"gold": True},
    "conservative": {"label_smoothing": 0.1},
    "beta-0.5": {"beta": 0.5},
}
SEARCH: dict[str, Any] = {"lr": common.LEARNING_RATES, "beta": (0.01, 1.0, "log")}
SYMBOLS: dict[str, str] = {
    "beta": "beta; README (0.1)",
    "label_smoothing": "label_smoothing; preference_loss (0)",
    "group_size": "no symbol; that of this project's GRPO family on the embedded model",
    "gold": "no symbol; this project's addition",
    "lr": "learning rate; config.yaml",
    "warmup": "warm-up share; config.yaml (150 steps)",
    "decay": "schedule; constant after the warm-up in the authors' trainer",
    "weight_decay": "none in the authors' trainer",
    "betas": "AdamW betas; not verified, torch's defaults",
    "batch_size": "prompts per step; README (64 pairs)",
    "num_updates": "one update per step: strictly on-policy; this project's choice",
}

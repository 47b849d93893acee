"""Discriminative fine-tuning: likely wrong answers are pushed down as hard as the model still believes in them.

Source: Discriminative Finetuning (arXiv 2502.18679; authors' PenGuln/DFT at cd7a0fb: ``scripts/dft_trainer.py``,
``generator/gen.py`` and the recipes ``mistral_base_dft.yaml`` and ``mistral_base_dft2.yaml``, code read; of the paper
the abstract).  It maximises the likelihood of the demonstration among all answers, whose sum is estimated from sampled
ones by importance weights; a moving average u of the estimate, kept per demonstration, stands for it.
``reference=False`` is the authors' DFT2.  Not to be confused with ``dft``, dynamic fine-tuning.

Departures:
- Negatives are plain samples of the model as the stage begins, at the run's temperature.  The authors sample at
  temperature 0.7 from the 50 likeliest tokens, for chat data under a prompt that asks for unhelpful answers.
- One set of negatives for all epochs (their ``sample: false``); raise num_drawn for more to choose from at each visit.
- Negatives are what they are, right ones too, as with the authors; ``only_wrong`` asks the verifier.
- Weights come from a scoring pass of the policy before the update, which the authors have for nothing: it is charged.
- With the reference the sum runs over tokens and is divided by the demonstration tokens of the step, as in ``sft``, so
  that without negatives nothing differs from it; the authors divide by demonstrations, one factor for all of a step.
- Duration is a budget, not two epochs; nothing is truncated to 1024 tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench.types import Batch, Completion, Context, Example, Loss, Rows, Scores, Trajectory
from methods import common

EQUATION = """\
L = (1/N) sum_{(x, y*)} [ -log pi(y* | x) + (1/m) sum_j w_j log pi(y_j | x) ],  N = demonstration tokens of the step
y_j ~ pi_ref(. | x),  w_j = exp(s_j - u) without gradient,  s_j = log pi(y_j | x) / tau - log pi_ref(y_j | x)
u <- log((1 - gamma) exp(u) + gamma (1/m) sum_j exp(s_j)), kept per demonstration, u_init at first
reference=False: means over tokens in place of log pi(. | x), s_j = their mean / tau, 1/B in place of 1/N"""
EVIDENCE = "authors' code read; of the paper the abstract"
DATA_FLOW = """\
once: the initial model answers every prompt num_drawn times, and scores its answers
prompt | demonstration with EOS;  likelihood: every demonstration token
prompt | negative;  likelihood with a negative weight: every token of the negative
charged: sampling and scoring once, then a scoring pass of the negatives, forward and backward over all rows"""
PUBLISHED: tuple[str, ...] = (
    "README, Mistral-7B on MetaMathQA, GSM8K / MATH: SFT 77.7 / 28.2, DFT 79.15 / 28.34, DFT2 78.77 / 28.62",
    "README, Mistral-7B on UltraFeedback, mean of seven: SFT 61.79, DFT 62.84, DFT2 62.56",
)


def moving(u: float, values: Sequence[float], gamma: float) -> float:
    """log((1 - gamma) e^u + gamma mean(e^values)): the moving average of the estimate, in the log domain."""
    top = max(values)
    new = math.log(gamma) + top + math.log(math.fsum(math.exp(v - top) for v in values) / len(values))
    if gamma == 1:
        return new
    old = math.log(1 - gamma) + u
    return max(old, new) + math.log1p(math.exp(-abs(old - new)))


def lengths(mask: Tensor) -> Tensor:
    """Masked-in tokens of each row [B, 1], at least 1."""
    return mask.sum(dim=1, keepdim=True).clamp(min=1)


@dataclass(frozen=True)
class DiscriminativeFT:
    """L = (1/N) sum_{(x, y*)} [ -log pi(y* | x) + (1/m) sum_j w_j log pi(y_j | x) ],  w_j = exp(s_j - u).

    The gradient is that of -log pi(y* | x) + tau log u~, u~ the estimate of the sum over all answers.
    """

    num_negatives: int = 2  # of each demonstration, at each visit
    num_drawn: int = 2  # of each demonstration, once
    only_wrong: bool = False
    reference: bool = True
    tau: float = 1.0
    gamma: float = 0.85
    u_init: float = 0.0
    lr: float = 2e-6
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 128
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_at_least(self, 0, "num_negatives")
        enough = self.num_drawn >= self.num_negatives
        common.require(enough, f"num_drawn: {self.num_drawn} is below num_negatives ({self.num_negatives})")
        common.require(self.tau > 0, f"tau: {self.tau} is not above 0")
        common.require(0 < self.gamma <= 1, f"gamma: {self.gamma} is not in (0, 1]")

    # --- negatives, once ---

    def prepare(self, examples: Sequence[Example], ctx: Context) -> list[Example]:
        """Every example with its negatives, whose log-probabilities are those of the model that wrote them."""
        if not self.num_negatives:
            return list(examples)
        drawn = ctx.sample(examples, [()] * len(examples), self.num_drawn)
        kept = [[a for a in answers if not (self.only_wrong and a.verdict.correct)] for answers in drawn]
        if self.reference:
            found = iter(ctx.score([common.rollout(e, a, 0) for e, answers in zip(examples, kept) for a in answers]))
            kept = [[replace(a, logprobs=tuple(next(found).logprobs.tolist())) for a in answers] for answers in kept]
        return [replace(e, answers=tuple(answers)) for e, answers in zip(examples, kept, strict=True)]

    def prepare_worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        if not self.num_negatives:
            return Rows()
        rows = common.plain_rollout_rows(examples, self.num_drawn, max_new_tokens)
        return Rows(rows.prefill, rows.decode, score=rows.train if self.reference else ())

    # --- steps ---

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        demonstrations = common.demonstrations(examples)
        if not self.num_negatives:
            return demonstrations
        rows = [
            common.rollout(e, answer, group)
            for group, e in enumerate(examples)
            for answer in self.chosen(e.answers, ctx)
        ]
        scores = dict(zip(map(id, rows), ctx.score(rows)))
        weighted = []
        for group, e in enumerate(examples):
            own = [row for row in rows if row.group == group]
            values = [self.log_weight(row, scores[id(row)]) for row in own]
            if not own:
                continue
            name = f"u/{e.id}"
            u = moving(float(ctx.memory.get(name, self.u_init)), values, self.gamma)
            ctx.memory[name] = torch.tensor(u, dtype=torch.float64)
            # u is at least log(gamma / m) + s_j: no weight exceeds m / gamma.
            weighted += [replace(row, advantage=-math.exp(s - u) / len(own)) for row, s in zip(own, values)]
        return demonstrations + weighted

    def chosen(self, answers: Sequence[Completion], ctx: Context) -> Sequence[Completion]:
        """The negatives of one visit."""
        few = len(answers) <= self.num_negatives
        return answers if few else ctx.rng.sample(list(answers), self.num_negatives)

    def log_weight(self, row: Trajectory, scores: Scores) -> float:
        """s_j of a negative."""
        logprobs = scores.logprobs.double()
        if self.reference:
            return float(logprobs.sum()) / self.tau - math.fsum(row.old_logprobs)
        return float(logprobs.mean()) / self.tau

    def loss(self, batch: Batch) -> Loss:
        # advantage = -w / m: a negative is pushed down by its share of the estimate of the sum over all answers.
        nll, pushed, divisor = -batch.logprobs, -batch.advantages * batch.logprobs, batch.num_demo
        if not self.reference:
            nll, pushed = nll / lengths(batch.demo), pushed / lengths(batch.policy)
            divisor = batch.num_trajectories - batch.num_rollouts
        value = common.token_mean(nll, batch.demo, divisor)
        metrics = {"demo_nll": common.demo_mean(batch, -batch.logprobs.detach(), "step")}
        if self.num_negatives:
            value = value + common.token_mean(pushed, batch.policy, divisor)
            metrics["weight"] = common.token_mean(-batch.advantages, batch.policy, batch.num_policy)
        return Loss(value, metrics)

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        """Negatives that are not drawn yet are as long as a completion may be."""
        if not self.num_negatives:
            return common.demonstration_rows(examples)
        rows = []
        for e in examples:
            sizes = sorted((len(a.token_ids) for a in e.answers), reverse=True) or [max_new_tokens] * self.num_negatives
            rows += [(len(e.prompt_ids) + n, n) for n in sizes[: self.num_negatives]]
        return common.joined(common.demonstration_rows(examples), Rows(train=rows, score=rows))


METHOD = DiscriminativeFT
VARIANTS: dict[str, dict[str, Any]] = {
    "dft2": {"reference": False, "tau": 0.3, "gamma": 0.9},
    "no-average": {"gamma": 1.0},
    "only-wrong": {"only_wrong": True},
    "negatives-4": {"num_negatives": 4, "num_drawn": 4},
    "fresh": {"num_drawn": 8},
    "no-negatives": {"num_negatives": 0},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (
    ({"num_negatives": 0, "reference": True}, "sft", {"divisor": "step"}),
    ({"num_negatives": 0, "reference": False}, "poft", {"preference": False, "reduce": "sequence"}),
)
SYMBOLS: dict[str, str] = {
    "num_negatives": "m (samples_per_prompt); mistral_base_dft.yaml",
    "num_drawn": "no symbol; this project's (authors: as many for each epoch)",
    "only_wrong": "no symbol; this project's variant",
    "reference": "ref_free: false; mistral_base_dft.yaml (DFT2: true)",
    "tau": "tau; mistral_base_dft.yaml (DFT2: 0.3)",
    "gamma": "gamma; mistral_base_dft.yaml (DFT2: 0.9)",
    "u_init": "u_init; dft_config.py",
    "lr": "learning rate; mistral_base_dft.yaml",
    "warmup": "warm-up share; mistral_base_dft.yaml",
    "decay": "schedule; mistral_base_dft.yaml (cosine)",
    "weight_decay": "AdamW weight decay; the default of the authors' trainer",
    "betas": "AdamW betas; the default of the authors' trainer",
    "batch_size": "demonstrations per step; mistral_base_dft.yaml (4 rows, 8 micro-batches, 4 devices)",
    "num_updates": "one update per batch",
}

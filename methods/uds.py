"""UDS: of every few demonstrations, training on those whose logits are rich and unlike what was trained on lately.

Source: Utility-Diversity Sampling (arXiv 2510.16882; authors' gfyddha/UDS at 6cd1634: ``UDSamplingTrainer.py`` and
``scripts/run_mmlu.sh``, code read; of the paper the abstract).  Each demonstration is scored by the nuclear norm of its
logits (tokens x vocabulary), and by its mean distance to the last chosen ones: distances are between small random
projections of the logits, kept in a queue.  Of each ``candidates`` demonstrations the ``keep`` with the best sums
train.

Departures:
- Logits are those of the demonstration's tokens; the authors' of the whole row with its prompt and padding.
- The projection adds up signed tokens and signed vocabulary entries in buckets (a count sketch) in place of signs, a
  Fourier transform and a choice of its rows: no vector of the vocabulary's size is transformed.  It keeps squared
  distances on average.  The authors' transform is not normalised, so that their distances are sqrt(512 V) / 2 times as
  large, V the vocabulary; their alpha goes with that, and ``unit="authors"`` multiplies by it.
- The divisor counts the demonstration tokens of the whole optimizer batch, as in ``sft``.
- The learning rate is that of the authors' adapters of rank 8; here all weights are trained unless a run asks for one.
- Duration is a budget, not one epoch; the schedule runs over the budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory
from methods import common

UNITS = ("authors", "preserved")
PADDED = 512  # tokens that the authors pad every row to
SKETCHES = "sketches"  # in the memory of a stage: [queue, sketch_tokens * sketch_vocab], the oldest first

EQUATION = """\
L = -(1/N) sum_{chosen (x, y*)} sum_t log pi(y*_t | x, y*_<t),  N = their demonstration tokens (with EOS)
chosen: of each ``candidates`` the ``keep`` with the largest  |Z|_* + alpha mean_{q in queue} |S(Z) - q|
Z = logits of pi at the tokens of y* [T, V];  |Z|_* = sum of its singular values
S(Z) = unit x count sketch of Z, sketch_tokens x sketch_vocab,  unit = sqrt(512 V) / 2 (unit="preserved": 1)
queue: S of the last queue_size chosen ones; a mean of 0 while it is empty"""
EVIDENCE = "authors' code read; of the paper the abstract"
DATA_FLOW = """\
every demonstration of the step is scored by the policy, from all of its logits; a share of them becomes rows
prompt | demonstration with EOS;  likelihood: every demonstration token
charged: a scoring pass of all, forward and backward over the chosen ones; not the singular values"""
PUBLISHED: tuple[str, ...] = ()


@lru_cache(maxsize=8)
def signed_buckets(size: int, count: int, what: str) -> tuple[Tensor, Tensor]:
    """A bucket of ``count`` and a sign for each of ``size`` places: always the same, and longer lists begin alike."""
    generators = (torch.Generator().manual_seed(seed) for seed in ((11, 12) if what == "tokens" else (21, 22)))
    buckets, signs = (torch.randint(high, (size,), generator=g) for high, g in zip((count, 2), generators))
    return buckets, 2.0 * signs - 1.0


def sketch(logits: Tensor, tokens: int, vocabulary: int) -> Tensor:
    """A random projection [tokens * vocabulary] of logits [T, V], linear in them."""
    for dim, (count, what) in enumerate(((tokens, "tokens"), (vocabulary, "vocabulary"))):
        buckets, signs = (t.to(logits.device) for t in signed_buckets(logits.shape[dim], count, what))
        shape = list(logits.shape)
        shape[dim] = count
        signed = logits * (signs.to(logits).unsqueeze(1) if dim == 0 else signs.to(logits))
        logits = torch.zeros(shape, dtype=logits.dtype, device=logits.device).index_add(dim, buckets, signed)
    return logits.flatten()


@dataclass(frozen=True)
class UDS:
    """L = -(1/N) sum over the chosen demonstrations' tokens of log pi(y*_t | x, y*_<t).

    Chosen are the ``keep`` of each ``candidates`` with the best sum of nuclear norm and ``alpha`` times mean distance.
    """

    candidates: int = 4
    keep: int = 1
    alpha: float = 1.5e-3
    unit: str = "authors"  # of distances
    queue_size: int = 1024
    sketch_tokens: int = 8
    sketch_vocab: int = 128
    lr: float = 1.5e-4
    warmup: float = 0.01
    decay: str = "linear"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 128
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_choices(self, unit=UNITS)
        common.require_at_least(self, 1, "candidates", "keep", "queue_size", "sketch_tokens", "sketch_vocab")
        common.require(self.keep <= self.candidates, f"keep: {self.keep} is above candidates ({self.candidates})")

    @property
    def chooses(self) -> bool:
        return self.keep < self.candidates

    def features(self, logits: Tensor) -> Tensor:
        """Nuclear norm and, if it counts, sketch of logits [T, V], in one vector."""
        norm = torch.linalg.svdvals(logits).sum()
        if not self.alpha:
            return norm.view(1)
        unit = math.sqrt(PADDED * logits.shape[1]) / 2 if self.unit == "authors" else 1.0
        return torch.cat([norm.view(1), unit * sketch(logits, self.sketch_tokens, self.sketch_vocab)])

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        rows = common.demonstrations(examples)
        if not self.chooses:
            return rows
        found = torch.stack([s.features for s in ctx.score(rows, features=self.features) if s.features is not None])
        chosen: list[Trajectory] = []
        for first in range(0, len(rows), self.candidates):
            part = slice(first, first + self.candidates)
            best = self.best(found[part], ctx)
            chosen += [rows[part][i] for i in best]
        return chosen

    def best(self, features: Tensor, ctx: Context) -> list[int]:
        """Numbers of the chosen ones, in order; their sketches are remembered."""
        norms, sketches = features[:, 0], features[:, 1:]
        if not self.alpha:
            return sorted(norms.argsort(descending=True, stable=True)[: self.keep].tolist())
        queue = ctx.memory.get(SKETCHES, sketches[:0])
        distances = torch.cdist(sketches, queue).mean(1) if len(queue) else torch.zeros_like(norms)
        ranked = (norms + self.alpha * distances).argsort(descending=True, stable=True)
        best = sorted(ranked[: self.keep].tolist())
        ctx.memory[SKETCHES] = torch.cat([queue, sketches[best]])[-self.queue_size :].clone()
        return best

    def loss(self, batch: Batch) -> Loss:
        # Plain SFT: what the method changes is which demonstrations there are.
        value = common.demo_mean(batch, -batch.logprobs, "step")
        return Loss(value, {"demo_nll": value.detach()})

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        rows = common.demonstration_rows(examples)
        if not self.chooses:
            return rows
        whole, rest = divmod(len(examples), self.candidates)
        count = whole * self.keep + min(rest, self.keep)
        return Rows(train=common.longest_rows(rows.train, count), score=rows.train)


METHOD = UDS
VARIANTS: dict[str, dict[str, Any]] = {
    "keep-2": {"keep": 2},
    "utility-alone": {"alpha": 0.0},
    "preserved-distances": {"unit": "preserved"},
    "diversity-first": {"alpha": 1.0},
    "all": {"keep": 4},
    "lr-1e-5": {"lr": 1e-5},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (
    ({"keep": 4, "candidates": 4}, "sft", {"divisor": "step"}),
    ({"alpha": 0.0}, "uds", {"unit": "authors", "queue_size": 1024, "sketch_tokens": 8, "sketch_vocab": 128}),
)
SYMBOLS: dict[str, str] = {
    "candidates": "micro_batch_size; scripts/run_mmlu.sh",
    "keep": "K (k_base); scripts/run_mmlu.sh",
    "alpha": "alpha; scripts/run_mmlu.sh",
    "unit": "scale of FastJLProjector; UDSamplingTrainer.py (preserved: this project's variant)",
    "queue_size": "queue_size; scripts/run_mmlu.sh",
    "sketch_tokens": "projection_dim2; scripts/run_mmlu.sh",
    "sketch_vocab": "projection_dim1; scripts/run_mmlu.sh",
    "lr": "learning rate; scripts/run_mmlu.sh (adapters)",
    "warmup": "warmup_rates; scripts/run_mmlu.sh",
    "decay": "schedule; the default of the authors' trainer",
    "weight_decay": "AdamW weight decay; the default of the authors' trainer",
    "betas": "AdamW betas; the default of the authors' trainer",
    "batch_size": "demonstrations per step, before the choice; scripts/run_mmlu.sh",
    "num_updates": "one update per batch",
}

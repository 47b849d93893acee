"""OTR: at every token of a demonstration the policy guesses, and guesses equal to the demonstration are rewarded.

Source: One-Token Rollout (arXiv 2509.26313), of which the abstract and notes were read; no authors' code was found.
From the notes: 256 candidates per position, drawn at a temperature; reward 1 for the demonstrated token and a
negative constant for any other; REINFORCE with detached rewards, averaged over candidates and positions.

Choices where the sources were silent:
- candidate_temperature 1: the candidates are then on-policy, and the expected gradient is (1 - miss_reward) times
  DFT's, so that the default differs from ``dft`` by its sampling noise alone.
- miss_reward -0.1: negative, as noted, and a tenth of the reward of a hit; its value was not verified.
- The log-probability of a candidate is the policy's own, at temperature 1, whatever temperature drew it, and no
  ratio corrects for the difference; no baseline is subtracted.
- Divisor: demonstration tokens of the whole optimizer batch, as in ``sft``.
- Optimizer settings are those of ``dft``, the closest relative here; the authors' were not verified.

Where the policy never guesses the demonstrated token, nothing is learnt but that its guesses are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.types import Batch, Loss
from methods import common

EQUATION = """\
L = -(1/(N K)) sum_{(x, y*)} sum_t sum_k R_tk log pi(a_tk | x, y*_<t),  a_tk ~ softmax(z_t / kappa)
R_tk = 1 if a_tk = y*_t, else beta;  z_t = logits of pi(. | x, y*_<t);  N = demonstration tokens (with EOS) of the step
E[gradient at z_t] = -(1/N) [(1 - beta) q_y (onehot - p) + beta (q - p)],  p = softmax(z_t), q = softmax(z_t / kappa)"""

EVIDENCE = "abstract and notes only; no authors' code found"

DATA_FLOW = """\
sampled:       num_candidates single tokens at every demonstration token, from the logits of the training pass
row:           prompt x | demonstration y* with EOS | no policy part
prompt:        no loss
demonstration: its tokens are context and answer key; the loss is on the candidates drawn in their places
charged:       one training pass per row, as SFT; the candidates cost no forward pass"""

PUBLISHED: tuple[str, ...] = ()


@dataclass(frozen=True)
class OTR:
    """L = -(1/(N K)) sum_{(x, y*)} sum_t sum_k R_tk log pi(a_tk | x, y*_<t),  a_tk ~ softmax(z_t / kappa).

    R_tk is 1 where the candidate is the demonstrated token and ``miss_reward`` elsewhere, without gradient.
    """

    num_candidates: int = 256
    candidate_temperature: float = 1.0
    miss_reward: float = -0.1
    lr: float = 5e-5
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    batch_size: int = 256
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_at_least(self, 1, "num_candidates")
        common.require(
            self.candidate_temperature > 0, f"candidate_temperature: {self.candidate_temperature} is not above 0"
        )
        common.require(self.miss_reward <= 0, f"miss_reward: {self.miss_reward} is above 0")

    collect = common.collect_demonstrations
    worst_case = common.demonstrations_worst_case

    def loss(self, batch: Batch) -> Loss:
        assert batch.candidate_logprobs is not None and batch.candidate_hits is not None
        hits = batch.candidate_hits.to(batch.candidate_logprobs.dtype)
        # REINFORCE at every position, -R log pi(candidate) with R = 1 for a hit and miss_reward for a miss.
        # A reward carries no gradient: ``hits`` compares token ids.
        rewards = self.miss_reward + (1 - self.miss_reward) * hits
        # The mean over K candidates estimates an expectation over the policy; positions then count as in SFT.
        value = common.demo_mean(batch, -(rewards * batch.candidate_logprobs).mean(-1), "step")
        metrics = {
            "demo_nll": common.demo_mean(batch, -batch.logprobs.detach(), "step"),
            "hit_share": common.demo_mean(batch, hits.mean(-1), "step"),
        }
        return Loss(value, metrics)


METHOD = OTR
VARIANTS: dict[str, dict[str, Any]] = {
    "no-penalty": {"miss_reward": 0.0},
    "hot": {"candidate_temperature": 1.5},
    "cold": {"candidate_temperature": 0.7},
    "few": {"num_candidates": 16},
}
SYMBOLS: dict[str, str] = {
    "num_candidates": "K; notes",
    "candidate_temperature": "kappa; not verified, this project's choice",
    "miss_reward": "beta; not verified, this project's choice (notes: below 0)",
    "lr": "learning rate; not verified, as dft",
    "warmup": "warm-up share; not verified, as dft",
    "decay": "schedule; not verified, as dft (cosine)",
    "weight_decay": "AdamW weight decay; not verified, as dft",
    "betas": "AdamW betas; not verified, as dft",
    "batch_size": "demonstrations per step; not verified, as dft",
    "num_updates": "one update per batch",
}

"""EAFT: supervised fine-tuning in which every token is weighted by how uncertain the model is there.

Source: Entropy-Adaptive Fine-Tuning (arXiv 2601.02151 v1), of which the abstract, a summary and the authors' README
(PRIS-CV/EAFT: the objective and the tables) were read, and its loss in LLaMA-Factory, where the authors merged it
(``trainer_utils.py::_eaft_cross_entropy``, read in copies of that file).  A token that the model rules out while it is
sure of another one, a "confident conflict", has a low entropy and therefore hardly any weight.

Departures:
- The entropy is that of the whole vocabulary; the authors take it on the 20 likeliest tokens, whose probabilities they
  scale to 1, and report a correlation near 0.999 between the two.
- That entropy never exceeds ln 20, near the 3.0 it is divided by, so the authors' weights hardly exceed 1.  Here the
  entropy is cut off at ``scale``: without that, flat distributions over a large vocabulary would weigh several times as
  much.
- The divisor counts the demonstration tokens of the whole optimizer batch (``divisor="micro-batch"`` gives the mean of
  micro-batch means); LLaMA-Factory does the same where its trainer passes the count.
- Optimizer settings were not found in what was read; they are those of this project's ``sft``.

The weight vanishes where the model is sure, right or wrong: what it has to unlearn it learns slowly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bench.types import Batch, Loss
from methods import common

EQUATION = """\
L = -(1/N) sum_{(x, y*)} sum_t sg(w_t) log pi(y*_t | x, y*_<t),  N = demonstration tokens (with EOS) of the step
w_t = (min(H_t, scale) / scale)^alpha,  H_t = entropy of pi(. | x, y*_<t) in nats;  sg = stop-gradient"""
EVIDENCE = "abstract and README of the paper's authors; code read in LLaMA-Factory"
DATA_FLOW = """\
prompt | demonstration with EOS
likelihood weighted by the entropy at the token: every demonstration token; nothing is sampled
charged: as SFT; the entropy comes from logits that are computed anyway"""
PUBLISHED: tuple[str, ...] = (
    "README, Qwen3-4B-Instruct, mean of AIME24, AIME25 and GSM8K: base 68.3, SFT 69.4, DFT 63.5, EAFT 69.3",
    "README, the same models, mean of MMLU, IFEval and CLUEWSC: base 81.1, SFT 76.5, DFT 78.1, EAFT 80.1",
)


@dataclass(frozen=True)
class EAFT:
    """L = -(1/N) sum_{(x, y*)} sum_t sg(w_t) log pi(y*_t | x, y*_<t),  w_t = (min(H_t, scale) / scale)^alpha.

    The gradient of a token is w_t times SFT's: whole where the model is undecided, none where it is certain.
    """

    alpha: float = 1.0
    scale: float = 3.0  # nats, about ln 20; an entropy of this or more has weight 1
    divisor: str = "step"
    lr: float = 1e-5
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    batch_size: int = 256
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_choices(self, divisor=common.DIVISORS)
        common.require_at_least(self, 0, "alpha")
        common.require(self.scale > 0, f"scale: {self.scale} is not above 0")

    uses_entropies = common.asks_if("alpha")
    collect = common.collect_demonstrations
    worst_case = common.demonstrations_worst_case

    def weights(self, batch: Batch) -> Tensor:
        """Weight per token in [0, 1], detached."""
        # Rounding may leave the entropy of a certain distribution just below 0, whose root is not a number.
        share = batch.entropies.detach().clamp(min=0.0, max=self.scale) / self.scale
        return share**self.alpha

    def loss(self, batch: Batch) -> Loss:
        # Not the entropy's own gradient: that would teach the model to be certain, which makes every loss small.
        return common.weighted_likelihood(batch, self.weights(batch), self.divisor)


METHOD = EAFT
VARIANTS: dict[str, dict[str, Any]] = {
    "alpha-0.5": {"alpha": 0.5},
    "alpha-2": {"alpha": 2.0},
    "authors-divisor": {"divisor": "micro-batch"},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (({"alpha": 0.0}, "sft", {}),)
SYMBOLS: dict[str, str] = {
    "alpha": "eaft_alpha; LLaMA-Factory (the paper's objective: 1)",
    "scale": "3.0 in trainer_utils.py, ln K in a summary of the paper (K = 20)",
    "divisor": "N; as sft",
    "lr": "learning rate; not verified, as sft",
    "warmup": "warm-up share; not verified, as sft",
    "decay": "schedule; not verified, as sft (cosine)",
    "weight_decay": "AdamW weight decay; not verified, as sft",
    "betas": "AdamW betas; not verified, as sft",
    "batch_size": "demonstrations per step; not verified, as sft",
    "num_updates": "one update per batch",
}

"""The adapter that is trained in place of the model's weights (LoRA): the same for all arms of a comparison."""

from __future__ import annotations

import re
from importlib.util import find_spec

from pydantic import BaseModel, ConfigDict

from bench.types import UserError

EXTRA = "pip install 'posttrain-bench[lora]'"
MAX_RANK = 4096
TARGETS = "all-linear"  # every linear layer but the output head


class Lora(BaseModel):
    """A low-rank adapter (arXiv 2106.09685): W x becomes W x + alpha / rank B A x, and only A and B are trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rank: int
    alpha: float
    targets: str = TARGETS

    def __str__(self) -> str:
        return f"LoRA of rank {self.rank}, alpha {self.alpha:g}, on {self.targets} layers"


def parse_lora(text: str) -> Lora:
    """``16`` (alpha is twice the rank) or ``16:8`` (rank and alpha); UserError for anything else."""
    match = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}(?:\.\d{1,6})?))?", text.strip())
    rank = int(match[1]) if match else 0
    alpha = float(match[2]) if match and match[2] else 2.0 * rank
    if not 1 <= rank <= MAX_RANK or alpha <= 0:
        raise UserError(
            f"malformed --lora '{text}': expected a rank from 1 to {MAX_RANK}, such as 16, or RANK:ALPHA, such as 16:32"
        )
    if find_spec("peft") is None:
        raise UserError(f"--lora needs the package peft, which is not installed: {EXTRA}, or leave --lora out")
    return Lora(rank=rank, alpha=alpha)

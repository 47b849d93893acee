"""Dr. GRPO: GRPO without the deviation in its advantages and with a constant in place of the lengths.

Source: "Understanding R1-Zero-Like Training" (arXiv 2503.20783, read for ``grpo``) and its authors' repository
sail-sg/understand-r1-zero (code read: ``train_zero_math.py`` at 14046dc, ``examples/qwen2.5-math-7b.sh``).  Dividing by
a group's deviation makes nearly solved and nearly hopeless prompts weigh more, and dividing by an answer's length makes
long wrong answers cheap; both divisions are left out.  It is ``grpo`` with aggregation="dr_grpo" and scale="none", so
the sources and departures of ``grpo`` apply.

Departures:
- An answer cut at the limit keeps its verdict; the authors set its reward to 0 (the verifiers here find no answer in
  most of them anyway).
- max_tokens is the authors' limit of 3000 tokens, whatever the run's own limit is; it scales loss and gradient, which
  Adam takes out but for the clipping of the gradient's norm.
- Weight decay and betas are those of ``grpo``; the authors' are defaults of their framework, which were not read.
"""

from __future__ import annotations

import functools
from typing import Any

from methods import grpo

MADE: dict[str, Any] = {"aggregation": "dr_grpo", "scale": "none"}

EQUATION = """\
L = -1/(M max_tokens) sum_i sum_t min(r A_i, clip(r, 1 - clip_low, 1 + clip_high) A_i),  M = rollouts of the step
A_i = R_i - mean(R) within the group of a prompt,  r = pi / pi_old,  max_tokens a constant
(+ kl_coef k3 - entropy_coef H per token, both 0 by default)"""
EVIDENCE = "authors' code read, the paper as for grpo; parity with TRL (comparison grpo:dr_grpo)"
DATA_FLOW = """\
as GRPO
charged: as GRPO; the reference only where kl_coef is not 0, and the old policy where num_updates is above 1"""
PUBLISHED: tuple[str, ...] = ("Abstract (from notes): a 7B model after 27 hours of 8 A100: 43.3 % on AIME 2024",)

METHOD = functools.partial(
    grpo.GRPO,
    **MADE,
    group_size=8,
    kl_coef=0.0,
    entropy_coef=0.0,
    max_tokens=3000,
    batch_size=128,
    num_updates=8,
)
# what makes the method, and what has no effect beside it
FIXED: tuple[str, ...] = ("aggregation", "scale", "eps")
VARIANTS: dict[str, dict[str, Any]] = {
    "kl": {"kl_coef": 0.001},
    "clip-higher": {"clip_high": 0.28},
    "on-policy": {"num_updates": 1},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (({}, "grpo", MADE),)
AUTHORS = "examples/qwen2.5-math-7b.sh"
SYMBOLS: dict[str, str] = {
    **grpo.SYMBOLS,
    "group_size": f"G; {AUTHORS} (N_SAMPLE)",
    "clip_low": "epsilon; this project's GRPO (the default of the authors' framework was not read)",
    "clip_high": "epsilon; as clip_low",
    "kl_coef": f"beta; {AUTHORS} (0)",
    "entropy_coef": "no symbol; the paper has none",
    "max_tokens": f"the constant in place of |o_i|; {AUTHORS} (generate_max_length)",
    "lr": f"learning rate; {AUTHORS}",
    "warmup": "warm-up share; not stated, as GRPO",
    "decay": f"schedule; {AUTHORS} (constant)",
    "batch_size": f"prompts per step; {AUTHORS} (rollout_batch_size)",
    "num_updates": f"128 prompts of 8 rollouts / updates of 128 rollouts; {AUTHORS} (train_batch_size)",
}

"""RFT(cosine): UFT without its likelihood, reward on rollouts that continue a hint which shortens along a cosine.

Source: the ablation RFT(cosine) of UFT (arXiv 2505.16984, Figure 5; ``run.py --algo uft --sft_loss_coef 0``).  It is
``uft`` with demo_coef=0, so the sources and departures of ``uft`` apply; the difference between the two is what the
likelihood of the hint tokens contributes.
"""

from __future__ import annotations

import functools
from typing import Any

from methods import uft

EQUATION = """\
L = L_GRPO(policy tokens),  rollouts continue x with a hint of the demonstration
hint = first border_k tokens of the demonstration's steps,  k ~ Binomial(min(num_chunks, steps), p),
p(progress) = p_low + (p_high - p_low)/2 (1 + cos(pi progress / hint_until)) up to hint_until, no hint afterwards"""
EVIDENCE = "UFT paper and authors' code read (its ablation without likelihood)"
DATA_FLOW = """\
one hint per prompt and step; group_size rollouts continue prompt and hint
prompt | hint | rollout with its advantage
policy gradient, KL and entropy bonus: rollout tokens; hint tokens: nothing; the verifier sees hint and rollout
charged: as UFT; the hint is processed once per rollout, although it has no loss of its own"""
PUBLISHED: tuple[str, ...] = (
    "UFT Figure 5 (curves only): ahead of R3, behind SFT-RFT and UFT; for Llama-3.2-1B behind SFT, too",
)

METHOD = functools.partial(uft.UFT, **uft.VARIANTS["rft-cosine"])
# what makes the method, and what has no effect beside it
FIXED: tuple[str, ...] = ("schedule", "demo_coef", "demo_reduce")
VARIANTS: dict[str, dict[str, Any]] = {
    name: uft.VARIANTS[name]
    for name in ("authors-divisor", "no-entropy", "no-kl", "no-std", "on-policy", "hint-until-0.2", "hint-until-1.0")
}
SYMBOLS: dict[str, str] = uft.SYMBOLS

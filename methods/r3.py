"""R3 as UFT's baseline: reward on rollouts that continue a hint of uniformly drawn length, for the whole budget.

Source: the baseline R3 of UFT (arXiv 2505.16984; ``run.py --algo r3``).  It is ``uft`` with schedule="uniform" and
demo_coef=0, so the sources and departures of ``uft`` apply.  The rollouts of a prompt share its hint, whose tokens get
no likelihood.

Differences of this baseline from the original R3 (arXiv 2402.05808 and its code):
- The original is PPO with a learned value function (coefficient 5, lambda 0.95, gamma 1) and two passes over the same
  rollouts; here advantages are normalised within groups, and each rollout is used once.
- It starts from a fine-tuned model; here from whatever model the run has (``sft+r3`` fine-tunes first).
- It mixes the start states of all its stages in one training set; here each draw takes a border at random.
- Its KL penalty (0.05) is part of the reward and its learning rate 3e-7; here the k3 term (0.001) is part of the loss.
"""

from __future__ import annotations

import functools
from typing import Any

from methods import uft

EQUATION = """\
L = L_GRPO(policy tokens),  rollouts continue x with a hint of the demonstration
hint = first border_k tokens of the demonstration's steps,  k uniform on 0, ..., min(num_chunks, steps), at all times"""
EVIDENCE = "UFT paper and authors' code read (its baseline R3); code of the original R3 read"
DATA_FLOW = """\
one hint per prompt and step; group_size rollouts continue prompt and hint
prompt | hint | rollout with its advantage
policy gradient, KL and entropy bonus: rollout tokens; hint tokens: nothing; the verifier sees hint and rollout
charged: as UFT; the hint is processed once per rollout, although it has no loss of its own"""
PUBLISHED: tuple[str, ...] = (
    "UFT Table 2, mean of nine columns, R3 / UFT: Qwen2.5-0.5B 7.36 / 9.45, 1.5B 18.65 / 22.23, 3B 28.02 / 30.93 "
    "(printed means; the columns' own are lower)",
    "UFT Table 2, Llama-3.2: 1B 2.20 / 3.52, 3B 5.03 / 3.72",
)

METHOD = functools.partial(uft.UFT, **uft.VARIANTS["r3"])
# what makes the method, and what has no effect beside it
FIXED: tuple[str, ...] = (
    "schedule",
    "demo_coef",
    "demo_reduce",
    "p_high",
    "p_low",
    "hint_until",
)
VARIANTS: dict[str, dict[str, Any]] = {
    name: uft.VARIANTS[name] for name in ("authors-divisor", "no-entropy", "no-kl", "no-std", "on-policy")
}
SYMBOLS: dict[str, str] = uft.SYMBOLS

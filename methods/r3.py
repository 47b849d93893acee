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

from methods import common, uft

EQUATION = """\
L = L_GRPO(policy tokens),  rollouts continue x with a hint of the demonstration
hint = first border_k tokens of the demonstration's steps,  k uniform on 0, ..., min(num_chunks, steps), at all times"""

METHOD = functools.partial(uft.UFT, **uft.VARIANTS["r3"])
VARIANTS: dict[str, dict[str, Any]] = {
    name: uft.VARIANTS[name] for name in ("authors-divisor", "no-entropy", "no-kl", "no-std", "on-policy")
}
SYMBOLS: dict[str, str] = uft.SYMBOLS
SEARCH: dict[str, list[Any]] = {"lr": list(common.LEARNING_RATES)}

"""Staged hints: UFT whose hint loses one piece at a time, at fixed shares of the budget instead of at random.

Source: the staged baseline of UFT (arXiv 2505.16984, Figure 4; ``run.py --algo stage``).  It is ``uft`` with
schedule="staged", the likelihood of the hint tokens included, so the sources and departures of ``uft`` apply.  It is
not fine-tuning followed by reinforcement, which is the pipeline ``sft+grpo``.

With n pieces the hint shortens n times, at equal shares of hint_until: for three pieces and the authors' 300 of 500
steps, after 75, 150 and 225 steps.  The last share has no hint, as everything after hint_until.
"""

from __future__ import annotations

import functools
from typing import Any

from methods import uft

EQUATION = """\
L = L_GRPO(policy tokens) - demo_coef (1/N_hint) sum_{hint tokens} log pi(a*_t | x, a*_<t)
hint = first border_k tokens of the demonstration's steps,  n = min(num_chunks, steps),
k(progress) = max(n - floor((n + 1) progress / hint_until), 0),  no hint after hint_until"""
EVIDENCE = "UFT paper and authors' code read (its staged baseline)"
DATA_FLOW = """\
one hint per prompt and step, of a length that progress alone decides; group_size rollouts continue prompt and hint
prompt | hint | rollout with its advantage
policy gradient, KL and entropy bonus: rollout tokens; likelihood: hint tokens; the verifier sees hint and rollout
charged: as UFT; the hint is trained once per rollout"""
PUBLISHED: tuple[str, ...] = ()  # UFT Figure 4 has curves only

METHOD = functools.partial(uft.UFT, **uft.VARIANTS["stage"])
# what makes the method, and what has no effect beside it
FIXED: tuple[str, ...] = ("schedule", "p_high", "p_low")
VARIANTS: dict[str, dict[str, Any]] = {
    "no-likelihood": {"demo_coef": 0.0},
    **{
        name: uft.VARIANTS[name]
        for name in (
            "authors-divisor",
            "no-entropy",
            "no-kl",
            "no-std",
            "on-policy",
            "hint-until-0.2",
            "hint-until-1.0",
        )
    },
}
SYMBOLS: dict[str, str] = uft.SYMBOLS

"""Another machine's rounding, imitated: with BENCH_TEST_NUDGE=1e-7 every weight of a test's model moves by that share.

What a test checks must not depend on it.
"""

from __future__ import annotations

import os
from typing import Any

import torch

SIZE = float(os.environ.get("BENCH_TEST_NUDGE", "0"))


@torch.no_grad()
def nudged(model: Any) -> Any:
    """The model, moved in place: the same way at every call."""
    if SIZE:
        signs = torch.Generator().manual_seed(round(SIZE * 1e12))
        for weight in model.parameters():
            weight *= 1 + SIZE * (2 * torch.randint(2, weight.shape, generator=signs) - 1)
    return model

"""How many rows are sampled at once: as many as the memory for their keys and values allows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

CPU_BYTES = 2 * 1024**3  # of a worker; machines of eight cores and 32 GiB run eight workers
CUDA_SHARE = 0.6  # of the free memory; the rest is for the prompts' activations and what a step needs for a moment


class RowBudget:
    """Bytes that the running rows may take together; less after they did not fit."""

    def __init__(self) -> None:
        self.limit = math.inf

    def available(self, device: torch.device) -> float:
        """Bytes for the rows of the next chunk."""
        if device.type != "cuda":
            return min(self.limit, CPU_BYTES)
        free = torch.cuda.mem_get_info(device)[0]
        # What torch keeps for itself without using it is free too.
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return min(self.limit, CUDA_SHARE * free)

    def lower(self, rows: int, row_bytes: float) -> None:
        """``rows`` of so many bytes did not fit: half of that is the limit from now on, said once."""
        if self.limit == math.inf:
            warnings.warn(f"out of memory with {rows} rows sampled at once: half as many from now on", stacklevel=2)
        self.limit = rows * row_bytes / 2


def row_bytes(model: Any, tokens: int) -> int:
    """Bytes of a row's keys and values, and of its logits and probabilities while a token is chosen."""
    config, weight = model.config, model.get_input_embeddings().weight
    kind = weight.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token: int = 2 * config.num_hidden_layers * heads * width * dtype.itemsize
    # Logits in their own type and in float32, probabilities, and their sums in float64.
    return tokens * per_token + weight.shape[0] * (dtype.itemsize + 4 + 4 + 8)


def next_chunk(rows: Sequence[int], group_size: int, need: Callable[[int], int], most: int, budget: float) -> int:
    """Number of the first of ``rows`` that may run at once; ``need(row)`` is a row's bytes.

    At least one, at most ``most``; whole groups where one fits, because the rows of a group share their prompt.
    Rows are numbered group by group.
    """
    widest, count = 0, 0
    for row in rows[: max(most, 1)]:
        widest = max(widest, need(row))  # all rows of a chunk get the room of the longest
        if (count + 1) * widest > budget:
            break
        count += 1
    count = max(count, 1)
    return next((n for n in range(count, 0, -1) if n == len(rows) or rows[n] % group_size == 0), count)

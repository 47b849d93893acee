"""Rows of a micro-batch laid end to end instead of padded: one long row whose tokens attend within their own row.

transformers hands our attention function the queries, keys and values of all rows.  On a CPU each row is attended
apart; on CUDA torch's variable-length kernel takes all rows at once.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from bench.engine.batching import MicroBatch
from bench.engine.llama_weights import FIXED_ROPE

ATTENTION = "bench_packed"  # our name among transformers' attention functions
KERNEL_TYPES = (torch.bfloat16, torch.float16)  # that torch's variable-length kernel takes
# Of the probe, relative to the largest hidden state, by device; a wrong mask or position is off by far more.
TOLERANCES = {"cpu": 1e-4, "cuda": 5e-2}  # on CUDA in bfloat16, as the engine computes


@dataclass(frozen=True)
class Borders:
    """Where rows begin and end in a packed one: their lengths, and 0 with their running sums, int32 [rows + 1]."""

    lengths: tuple[int, ...]
    sums: Tensor


def packed_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **extra: Any
) -> tuple[Tensor, None]:
    """Causal attention within rows: [1, heads, N, width] and keys [1, kv_heads, N, width] -> [1, N, heads, width].

    Without borders, for a batch that is not packed, it is transformers' own.
    """
    borders: Borders | None = extra.pop("bench_borders", None)
    if borders is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **extra)
    scale = extra.get("scaling")
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # it does not know the kernel; rotation has made queries float32
        query, key, value = (t.to(torch.get_autocast_dtype(kind)) for t in (query, key, value))
    attend = by_kernel if kind == "cuda" and query.dtype in KERNEL_TYPES else row_by_row
    return attend(query, key, value, borders, scale), None


def row_by_row(query: Tensor, key: Tensor, value: Tensor, borders: Borders, scale: float | None) -> Tensor:
    rows = zip(*(t.split(borders.lengths, dim=2) for t in (query, key, value)))
    how: dict[str, Any] = {"is_causal": True, "scale": scale, "enable_gqa": query.shape[1] != key.shape[1]}
    out = [F.scaled_dot_product_attention(q, k, v, **how) for q, k, v in rows]
    return torch.cat(out, dim=2).transpose(1, 2)


def by_kernel(query: Tensor, key: Tensor, value: Tensor, borders: Borders, scale: float | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (t[0].transpose(0, 1).contiguous() for t in (query, key, value))  # [N, heads, width]
    longest, sums = max(borders.lengths), borders.sums
    grouped = q.shape[1] != k.shape[1]
    out: Any = varlen_attn(  # window (-1, 0): all keys before, none after
        q, k, v, sums, sums, longest, longest, scale=scale, window_size=(-1, 0), enable_gqa=grouped
    )
    return out.unsqueeze(0)


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, packed_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, sdpa_mask)


def packed_states(network: Any, batch: MicroBatch) -> Tensor:
    """Hidden states at the targets [M, D], or logits [M, V] from a network that ends in its head; rows in order."""
    filled, sizes = filled_places(batch), torch.tensor(batch.lengths)
    width = batch.token_ids.shape[1]
    sums = F.pad(sizes.cumsum(0), (1, 0)).int().to(batch.token_ids.device)
    positions = torch.arange(width, device=filled.device).expand_as(filled)[filled]
    output = network(
        input_ids=batch.token_ids[filled].unsqueeze(0),
        position_ids=positions.unsqueeze(0),
        # A mask of four dimensions is left alone: transformers would make one of N x N from such positions.
        attention_mask=torch.zeros(1, 1, 1, 1, device=filled.device),
        bench_borders=Borders(tuple(batch.lengths), sums),
        use_cache=False,
    )
    states = output.logits if hasattr(output, "logits") else output.last_hidden_state
    return at_targets(states, batch)


def filled_places(batch: MicroBatch) -> Tensor:
    """Which places of the padded rows [B, T+1] hold a token."""
    width, sizes = batch.token_ids.shape[1], torch.tensor(batch.lengths)
    return (torch.arange(width) < sizes[:, None]).to(batch.token_ids.device)


def at_targets(states: Tensor, batch: MicroBatch) -> Tensor:
    """States [M, D] at the targets from those of packed rows [1, N, D]."""
    # The last token of a row predicts nothing: targets are one shorter than rows.
    return states[0][F.pad(batch.targets, (0, 1))[filled_places(batch)]]


def packable(model: Any) -> bool:
    """Give the model our attention if packed rows come out as each alone; otherwise leave it and say so."""
    before = model.config._attn_implementation
    reason = obstacle(model.config)
    if reason is None:
        model.set_attn_implementation(ATTENTION)
        kind = next(model.parameters()).device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            error = probe_error(model)
        reason = None if error <= TOLERANCES[kind] else f"packed rows differ from single ones by {error:.1e}"
    if reason is None:
        return True
    model.set_attn_implementation(before)
    warnings.warn(f"{type(model).__name__}: {reason}; rows are padded instead of packed", stacklevel=2)
    return False


def obstacle(config: Any) -> str | None:
    """Why a model cannot be packed, as far as its configuration says; None if it may be."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if kinds != {"full_attention"}:
        return f"it has layers of {', '.join(sorted(kinds - {'full_attention'}))}"
    if getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True):
        return f"its attention sees a window of {config.sliding_window} tokens"
    if rope not in FIXED_ROPE:
        return f"its positions ({rope}) depend on the length of what is processed"
    return None


@torch.no_grad()
def probe_error(model: Any) -> float:
    """Largest difference of packed rows of unequal lengths to each row alone, relative to the largest value."""
    device = next(model.parameters()).device
    count = model.get_input_embeddings().num_embeddings
    ids = torch.arange(1, 10, device=device) * 7919 % count
    rows = (ids[:2], ids[2:7], ids[7:])
    lengths = tuple(map(len, rows))
    sums = torch.tensor([0, 2, 7, 9], dtype=torch.int32, device=device)
    positions = torch.cat([torch.arange(n, device=device) for n in lengths]).unsqueeze(0)
    mask = torch.zeros(1, 1, 1, 1, device=device)
    alone = torch.cat([model.base_model(input_ids=row.unsqueeze(0), use_cache=False)[0][0] for row in rows])
    try:
        together = model.base_model(
            input_ids=ids.unsqueeze(0),
            position_ids=positions,
            attention_mask=mask,
            bench_borders=Borders(lengths, sums),
            use_cache=False,
        )[0][0]
    except (TypeError, ValueError, RuntimeError):  # a network that takes no positions, or hands nothing on
        return float("inf")
    return float((together - alone).abs().max() / alone.abs().max().clamp_min(1e-6))

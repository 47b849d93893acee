"""The fast decoder: Llama-family networks in plain torch on the model's own weights, with a preallocated KV cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.engine.adapters import merged_weight

FAST_CLASSES = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
BLOCK = 16  # steps that the cache grows by, at least
FIXED_ROPE = ("default", "linear", "llama3", "yarn")  # frequencies that do not depend on the length

Linear = tuple[Tensor, Tensor | None]  # weight [out, in] and bias [out]


def fast_supported(model: nn.Module) -> bool:
    """Whether the module has exactly the structure that ``LlamaDecoder`` reads, without windows."""
    if type(model).__name__ not in FAST_CLASSES:
        return False
    config: Any = model.config
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    projections = [m for name, m in model.named_modules() if name.endswith(("_proj", "lm_head"))]
    # An adapter is merged into the snapshot; a quantized layer is something else.
    plain = all(type(getattr(m, "base_layer", m)) is nn.Linear for m in projections)
    # A window over the keys, or frequencies that change with the length, would make old cache entries wrong.
    return plain and set(kinds) == {"full_attention"} and rope in FIXED_ROPE


def left_mask(lengths: Tensor, width: int) -> Tensor:
    """True at the tokens of left-padded rows: lengths [P] -> bool [P, width]."""
    return torch.arange(width, device=lengths.device) >= (width - lengths)[:, None]


def positions_of(mask: Tensor) -> Tensor:
    """Position of each token in its row, 0 at padding: bool [P, T] -> int64 [P, T]."""
    return (mask.cumsum(-1) - 1).clamp_min(0)


@dataclass(frozen=True)
class Layer:
    """Weights of one block as the fast path uses them; query and key rows are interleaved for complex rotation."""

    attn_norm: Tensor
    qkv: Linear
    qk_norm: tuple[Tensor, Tensor] | None
    out: Linear
    mlp_norm: Tensor
    gate_up: Linear
    act: Callable[[Tensor], Tensor]
    down: Linear


@dataclass(frozen=True)
class Weights:
    """A snapshot of the network: fused copies, the rest by reference; sizes are numbers of heads and head width."""

    embed: nn.Module
    layers: list[Layer]
    norm: Tensor
    head: Linear
    inv_freq: Tensor
    rope_scale: float
    heads: int
    kv_heads: int
    width: int
    eps: float
    dtype: torch.dtype


def linear_of(parts: Iterable[nn.Module], dtype: torch.dtype) -> Linear:
    """One linear map for several modules with the same input; a single module's tensors are not copied."""
    mods: list[Any] = list(parts)
    if len(mods) == 1:
        bias = mods[0].bias
        return merged_weight(mods[0]).to(dtype), None if bias is None else bias.to(dtype)
    weight = torch.cat([merged_weight(m) for m in mods]).to(dtype)
    return weight, None if mods[0].bias is None else torch.cat([m.bias for m in mods]).to(dtype)


def interleave(rows: Tensor, heads: int) -> Tensor:
    """Put the two halves of each head side by side, so that a rotated pair is one complex number.

    Queries and keys are permuted alike, which leaves their products as they are.  rows [heads * width, ...].
    """
    # Hugging Face rotates the pair (i, i + width / 2); here the pair is (2 i, 2 i + 1).
    return rows.view(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def fused_qkv(attn: Any, heads: int, kv_heads: int, dtype: torch.dtype) -> Linear:
    weight, bias = linear_of([attn.q_proj, attn.k_proj, attn.v_proj], dtype)
    # Values are not rotated, so their rows stay in place.
    rotated = (heads + kv_heads) * attn.head_dim
    for tensor in (weight, bias):
        if tensor is not None:  # both are fresh copies here
            tensor[:rotated] = interleave(tensor[:rotated], heads + kv_heads)
    return weight, bias


class LlamaDecoder:
    """Fast decoding of a Llama-family module from its own weights; only the fused projections are copied."""

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    def snapshot(self) -> Weights:
        """Read the weights, cast to autocast's type where that is on.

        Autocast keeps its casts of parameters only; it would cast the fused copies again at every step.
        """
        config, kind = self.model.config, self.device.type
        body, rope = self.model.model, self.model.model.rotary_emb
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.model.dtype
        layers = []
        for block in body.layers:
            attn, mlp = block.self_attn, block.mlp
            normed = hasattr(attn, "q_norm")
            layers.append(
                Layer(
                    attn_norm=block.input_layernorm.weight,
                    qkv=fused_qkv(attn, heads, kv_heads, dtype),
                    # The norm's weights follow the permutation of the rows that they multiply.
                    qk_norm=(interleave(attn.q_norm.weight, 1), interleave(attn.k_norm.weight, 1)) if normed else None,
                    out=linear_of([attn.o_proj], dtype),
                    mlp_norm=block.post_attention_layernorm.weight,
                    gate_up=linear_of([mlp.gate_proj, mlp.up_proj], dtype),
                    act=mlp.act_fn,
                    down=linear_of([mlp.down_proj], dtype),
                )
            )
        head = linear_of([self.model.lm_head], dtype)
        sizes = (heads, kv_heads, body.layers[0].self_attn.head_dim, config.rms_norm_eps, dtype)
        embed = self.model.get_input_embeddings()
        return Weights(embed, layers, body.norm.weight, head, rope.inv_freq, rope.attention_scaling, *sizes)

    @torch.inference_mode()
    def start(self, ids: Tensor, lengths: Tensor, rows: Tensor, capacity: int) -> tuple[Tensor, LlamaSession]:
        session = LlamaSession(self.snapshot(), ids, lengths, capacity)
        logits = session.prefill(ids, lengths)
        session.expand(rows)
        return logits, session


class LlamaSession:
    """State of a batch in the fast path.

    ``kv``: per layer [2, rows, kv_heads, used + free, width], or [2, prompts, kv_heads, used, width] before ``expand``;
    ``bias`` [rows * kv_heads, 1, longest] is -inf at padding, or None without any; ``positions`` [rows] of the next
    token.
    """

    def __init__(self, weights: Weights, ids: Tensor, lengths: Tensor, capacity: int) -> None:
        self.weights = weights
        self.used = ids.shape[1]
        self.longest = self.used + capacity
        # Positions count tokens, not columns: padding on the left must not turn a row's keys further.
        self.positions = lengths.clone()
        angles = torch.arange(self.longest, device=ids.device)[:, None] * weights.inv_freq.float()
        # Rotary embedding (Su et al., arXiv 2104.09864): the pair at position m is multiplied by e^(i m theta).
        self.turns = torch.polar(torch.full_like(angles, weights.rope_scale), angles)  # complex [time, width / 2]
        self.kv: list[Tensor] = []
        self.mask: Tensor | None = None  # bool [P, T], True at tokens
        self.bias: Tensor | None = None

    def prefill(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Run left-padded prompts [P, T]; logits [P, V]."""
        mask = left_mask(lengths, self.used)
        self.mask = None if bool(mask.all()) else mask
        causal = torch.ones(self.used, self.used, dtype=torch.bool, device=ids.device).tril()
        # Padding sees itself, because a row of -inf alone would give NaN.
        allowed = causal & mask[:, None, None, :] | torch.eye(self.used, dtype=torch.bool, device=ids.device)

        def attend(layer: int, qkv: Tensor) -> Tensor:
            grid = qkv.view(*ids.shape, *qkv.shape[1:]).transpose(1, 2)  # [P, heads, T, width]
            q, kv = grid.split([self.weights.heads, 2 * self.weights.kv_heads], dim=1)
            self.kv.append(kv.unflatten(1, (2, -1)).transpose(0, 1))
            k, v = self.kv[layer]
            return F.scaled_dot_product_attention(q, k, v, allowed, enable_gqa=True).transpose(1, 2).flatten(0, 1)

        hidden = self._network(ids.flatten(), positions_of(mask).flatten(), attend)
        return self._logits(hidden.view(*ids.shape, -1)[:, -1])

    def expand(self, rows: Tensor) -> None:
        """Copy the prompts' keys and values to their rows [R]."""
        self._allocate(rows)
        self.positions = self.positions[rows]
        if self.mask is not None:
            shape = (len(rows), self.weights.kv_heads, self.longest)
            bias = torch.zeros(shape, device=rows.device, dtype=self.weights.dtype)
            # Added to the scores before softmax: -inf becomes a weight of exactly 0.
            bias[:, :, : self.used].masked_fill_(~self.mask[rows, None], -torch.inf)
            self.bias = bias.view(-1, 1, self.longest)

    def _allocate(self, rows: Tensor | None = None) -> None:
        """Move these rows (all by default) of the cache to a new one with room for some more steps.

        Not for all steps: rows that lie close together in memory are read faster, and few reach the longest length.
        """
        size = min(self.used + max(BLOCK, self.used // 4), self.longest)
        # Layer by layer: only one layer is in memory twice.
        for layer, old in enumerate(self.kv):
            kept = old if rows is None else old[:, rows]
            self.kv[layer] = kept.new_empty(*kept.shape[:3], size, kept.shape[4])
            self.kv[layer][:, :, :, : self.used] = kept

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        if self.used == self.kv[0].shape[3]:
            self._allocate()
        now, heads, kv_heads, width = self.used, self.weights.heads, self.weights.kv_heads, self.weights.width
        self.used += 1
        scale = width**-0.5
        bias = None if self.bias is None else self.bias[:, :, : self.used]
        flat = (len(tokens) * kv_heads, self.used, width)

        def attend(layer: int, qkv: Tensor) -> Tensor:
            q, kv = qkv.split([heads, 2 * kv_heads], dim=1)
            cache = self.kv[layer]
            cache[:, :, :, now] = kv.unflatten(1, (2, -1)).transpose(0, 1)
            # Rows and heads merge into one axis without a copy, because only the time axis is cut short.  The query
            # heads that share a key head are the rows of one product, so keys are never repeated for them.
            k, v = (part[:, :, : self.used].view(flat) for part in cache)
            # For one query per head, three plain kernels beat scaled_dot_product_attention on the CPU.
            scores = torch.bmm(q.reshape(flat[0], -1, width), k.transpose(1, 2)).mul_(scale)
            if bias is not None:
                scores += bias
            # In float32: with 8 significant bits the sum over many keys loses the small weights.
            return torch.bmm(scores.softmax(-1, dtype=torch.float32).to(v.dtype), v)

        hidden = self._network(tokens, self.positions, attend)
        self.positions = self.positions + 1
        return self._logits(hidden)

    @torch.inference_mode()
    def keep(self, rows: Tensor) -> None:
        # Only rows that change place are copied; the sampler fills the holes of finished rows from the end.
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(1)
        source = rows[moved]
        for layer, kv in enumerate(self.kv):
            kv[:, moved, :, : self.used] = kv[:, source, :, : self.used]
            # A view; ``_allocate`` frees the memory of the dropped rows.
            self.kv[layer] = kv[:, : len(rows)]
        self.positions = self.positions[rows]
        if self.bias is not None:
            per_row = self.bias.view(-1, self.weights.kv_heads, self.bias.shape[-1])
            self.bias = per_row[rows].view(-1, 1, self.bias.shape[-1])

    def _network(self, ids: Tensor, positions: Tensor, attend: Callable[[int, Tensor], Tensor]) -> Tensor:
        """Hidden states [N, hidden] of N tokens; ``attend`` gets a layer and [N, heads + 2 kv_heads, width]."""
        w = self.weights
        turns = self.turns[positions].unsqueeze(1)
        x = w.embed(ids)
        size = x.shape[-1:]
        for number, layer in enumerate(w.layers):
            qkv = F.linear(F.rms_norm(x, size, layer.attn_norm, w.eps), *layer.qkv).unflatten(-1, (-1, w.width))
            rotate(qkv, layer.qk_norm, w, turns)
            x = x + F.linear(attend(number, qkv).reshape(len(ids), -1), *layer.out)
            gate, up = F.linear(F.rms_norm(x, size, layer.mlp_norm, w.eps), *layer.gate_up).chunk(2, dim=-1)
            x = x + F.linear(layer.act(gate).mul_(up), *layer.down)
        return x

    def _logits(self, hidden: Tensor) -> Tensor:
        return F.linear(
            F.rms_norm(hidden, hidden.shape[-1:], self.weights.norm, self.weights.eps), *self.weights.head
        ).float()


def rotate(qkv: Tensor, qk_norm: tuple[Tensor, Tensor] | None, w: Weights, turns: Tensor) -> None:
    """Normalise (Qwen3) and rotate the queries and keys in [N, heads + 2 kv_heads, width], in place."""
    # A view of the queries and keys; the values behind them stay.  Qwen3 normalises before it rotates.
    qk = qkv[:, : w.heads + w.kv_heads]
    if qk_norm is not None:
        for part, weight in zip(qk.split([w.heads, w.kv_heads], dim=1), qk_norm):
            part.copy_(F.rms_norm(part.float(), (w.width,), weight.float(), w.eps))
    pairs = torch.view_as_complex((qk if qk.dtype == torch.float32 else qk.float()).unflatten(-1, (-1, 2)))
    pairs.mul_(turns)
    if qk.dtype != torch.float32:  # there is no complex bfloat16: it was rotated in a float32 copy
        qk.copy_(torch.view_as_real(pairs).flatten(-2))

"""The fast decoder: Llama-family networks in plain torch on the model's own weights, with a preallocated KV cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.engine import cuda_graph
from bench.engine.llama_weights import Weights, snapshot
from bench.engine.row_budget import row_bytes

BLOCK = 16  # steps that the cache grows by, at least
PREFILL_BYTES = 1024**3  # for what prompts that run together need besides the cache
# Of prompts that run together, padding included; more make a pass no faster.
PREFILL_TOKENS = {"cpu": 2048, "cuda": 16_384}
FIXED_BLOCK = 256  # steps that share one captured graph
FIXED_LEAST = 32  # steps from which capturing pays

Attend = Callable[[int, Tensor], Tensor]  # layer, [N, heads + 2 kv_heads, width] -> what the heads read [N, ...]


class LlamaDecoder:
    """Fast decoding of a Llama-family module from its own weights; only the fused projections are copied.

    ``fixed``: whether sessions keep shapes and places, for CUDA graphs; None decides by the device.
    """

    def __init__(self, model: nn.Module, fixed: bool | None = None) -> None:
        self.model: Any = model
        self.fixed = fixed

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    @torch.inference_mode()
    def start(
        self, prompts: Sequence[Sequence[int]], rows: Sequence[int], capacity: int
    ) -> tuple[Tensor, LlamaSession]:
        fixed = self.fixed
        if fixed is None:
            fixed = capacity >= FIXED_LEAST and cuda_graph.wanted(self.device)
        session = LlamaSession(snapshot(self.model), [len(prompts[i]) for i in rows], capacity, self.device, fixed)
        return session.prefill(prompts, rows), session

    def row_bytes(self, prompt: int, new: int) -> int:
        return row_bytes(self.model, prompt + new)


class LlamaSession:
    """State of a batch in the fast path.

    ``kv``: per layer [2, rows, kv_heads, used + free, width], prompts end in one column; ``bias`` [rows * kv_heads, 1,
    longest] is -inf where there is no token, or None without such places; ``positions`` [rows] of the next token.
    """

    def __init__(
        self, weights: Weights, lengths: Sequence[int], capacity: int, device: torch.device, fixed: bool
    ) -> None:
        self.weights, self.prefilled = weights, 0
        self.used = max(lengths)
        self.longest = self.used + capacity
        # Positions count tokens, not columns: padding on the left must not turn a row's keys further.
        self.positions = torch.tensor(lengths, device=device)
        angles = torch.arange(self.longest, device=device)[:, None] * weights.inv_freq.float()
        # Rotary embedding (Su et al., arXiv 2104.09864): the pair at position m is multiplied by e^(i m theta).
        self.turns = torch.polar(torch.full_like(angles, weights.rope_scale), angles)  # complex [time, width / 2]
        self.fixed = FixedStep() if fixed else None
        size = self.longest if fixed else self._room()
        shape = (2, len(lengths), weights.kv_heads, size, weights.width)
        # Zeros: a place without a token has weight 0, and 0 times what lay in memory may be NaN.
        self.kv = [torch.zeros(shape, dtype=weights.dtype, device=device) for _ in weights.layers]
        self.bias = self._bias(device) if fixed or min(lengths) < self.used else None

    @property
    def keeps_shape(self) -> bool:
        return self.fixed is not None

    def _room(self) -> int:
        # Not for all steps: rows that lie close together in memory are read faster, and few reach the longest length.
        return min(self.used + max(BLOCK, self.used // 4), self.longest)

    def _bias(self, device: torch.device) -> Tensor:
        columns = torch.arange(self.longest, device=device)
        empty = columns < self.used - self.positions[:, None]
        if self.fixed is not None:  # the columns of later tokens are read before these are written
            empty = empty | (columns >= self.used)
        bias = torch.zeros(empty.shape, device=device, dtype=self.weights.dtype)
        # Added to the scores before softmax: -inf becomes a weight of exactly 0.
        bias.masked_fill_(empty, -torch.inf)
        return bias.repeat_interleave(self.weights.kv_heads, 0).unsqueeze(1)

    # --- prompts ---

    def prefill(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> Tensor:
        """Run each prompt and give it to its rows (``rows[r]``: the prompt of row r); logits [P, V]."""
        owners: list[list[int]] = [[] for _ in prompts]
        for row, prompt in enumerate(rows):
            owners[prompt].append(row)
        logits: list[Tensor] = []
        order: list[int] = []
        for piece in pieces([len(prompt) for prompt in prompts], prefill_tokens(self.weights)):
            logits.append(self._run_prompts([prompts[i] for i in piece], [owners[i] for i in piece]))
            order += piece
        back = torch.empty(len(order), dtype=torch.int64)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(logits)[back.to(logits[0].device)]

    def _run_prompts(self, prompts: Sequence[Sequence[int]], owners: Sequence[Sequence[int]]) -> Tensor:
        """Run prompts padded on the right, where causal attention never looks, and write them to their owners' rows."""
        device, width = self.positions.device, max(map(len, prompts))
        ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        places = torch.arange(width, device=device)
        ragged = min(map(len, prompts)) < width
        # In the cache prompts end in one column: tokens move to the right, padding to the left.
        moved = ((places + lengths[:, None]) % width)[:, None, :, None]
        rows = torch.tensor([row for own in owners for row in own], device=device)
        sources = torch.tensor([i for i, own in enumerate(owners) for _ in own], device=device)
        self.prefilled += ids.numel()

        def attend(layer: int, qkv: Tensor) -> Tensor:
            grid = qkv.view(*ids.shape, *qkv.shape[1:]).transpose(1, 2)  # [P, heads, T, width]
            q, kv = grid.split([self.weights.heads, 2 * self.weights.kv_heads], dim=1)
            k, v = kv.chunk(2, dim=1)
            for part, cache in zip((k, v), self.kv[layer]):
                kept = part.take_along_dim(moved, 2) if ragged else part
                cache[rows, :, self.used - width : self.used] = kept[sources]
            # Without a mask: the fast kernels of CUDA refuse one.
            gqa = self.weights.heads != self.weights.kv_heads
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=gqa).transpose(1, 2).flatten(0, 1)

        hidden = self._network(ids.flatten(), places.repeat(len(ids)), attend)
        last = hidden.view(*ids.shape, -1)[torch.arange(len(ids), device=device), lengths - 1]
        return self._logits(last)

    # --- steps ---

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        if self.used == self.kv[0].shape[3]:
            self._grow()
        self.used += 1
        if self.fixed is not None:
            logits = self.fixed.run(self, tokens)
        else:
            logits = self.token(tokens, slice(self.used - 1, self.used), self.used)
        self.positions.add_(1)
        return logits

    def token(self, tokens: Tensor, place: slice | Tensor, length: int) -> Tensor:
        """Write a token of each row at ``place`` and let it read the first ``length`` columns; logits [R, V]."""
        heads, kv_heads, width = self.weights.heads, self.weights.kv_heads, self.weights.width
        bias = None if self.bias is None else self.bias[:, :, :length]
        flat = (len(tokens) * kv_heads, length, width)
        scale = width**-0.5

        def attend(layer: int, qkv: Tensor) -> Tensor:
            q, kv = qkv.split([heads, 2 * kv_heads], dim=1)
            cache = self.kv[layer]
            cache[:, :, :, place] = kv.unflatten(1, (2, -1)).transpose(0, 1).unsqueeze(3)
            # Rows and heads merge into one axis without a copy, because only the time axis is cut short.  The query
            # heads that share a key head are the rows of one product, so keys are never repeated for them.
            k, v = (part[:, :, :length].view(flat) for part in cache)
            # For one query per head, three plain kernels beat scaled_dot_product_attention on the CPU.
            scores = torch.bmm(q.reshape(flat[0], -1, width), k.transpose(1, 2)).mul_(scale)
            if bias is not None:
                scores += bias
            # In float32: with 8 significant bits the sum over many keys loses the small weights.
            return torch.bmm(scores.softmax(-1, dtype=torch.float32).to(v.dtype), v)

        return self._logits(self._network(tokens, self.positions, attend))

    def _grow(self) -> None:
        """Move the cache to a new one with room for some more steps."""
        size = self._room()
        # Layer by layer: only one layer is in memory twice.
        for layer, old in enumerate(self.kv):
            self.kv[layer] = old.new_empty(*old.shape[:3], size, old.shape[4])
            self.kv[layer][:, :, :, : self.used] = old

    @torch.inference_mode()
    def keep(self, rows: Tensor) -> None:
        device = self.positions.device
        # Only rows that change place are copied; the sampler fills the holes of finished rows from the end.
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(1)
        source, moved, rows = rows[moved].to(device), moved.to(device), rows.to(device)
        for layer, kv in enumerate(self.kv):
            kv[:, moved, :, : self.used] = kv[:, source, :, : self.used]
            # A view; ``_grow`` frees the memory of the dropped rows.
            self.kv[layer] = kv[:, : len(rows)]
        self.positions = self.positions[rows]
        if self.bias is not None:
            per_row = self.bias.view(-1, self.weights.kv_heads, self.bias.shape[-1])
            self.bias = per_row[rows].view(-1, 1, self.bias.shape[-1])
        if self.fixed is not None:
            self.fixed.forget()

    # --- the network ---

    def _network(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Hidden states [N, hidden] of N tokens."""
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


class FixedStep:
    """Steps whose tensors keep shape and place as long as possible, so that a CUDA graph may replay them.

    Attention reads up to a multiple of FIXED_BLOCK columns, of which those without a token have the bias -inf.
    """

    length = 0  # columns that the present step reads; 0: there is none
    graph: Callable[[], Tensor] | None = None

    def forget(self) -> None:
        """Rows have moved: the next step is a new one."""
        self.length, self.graph = 0, None

    def run(self, session: LlamaSession, tokens: Tensor) -> Tensor:
        """One step of the session, whose ``used`` counts it already; logits [R, V]."""
        assert session.bias is not None
        session.bias[:, :, session.used - 1] = 0
        fresh = session.used > self.length
        if fresh:
            self.length = min(-(-session.used // FIXED_BLOCK) * FIXED_BLOCK, session.longest)
            self.tokens, self.place = tokens.clone(), torch.zeros(1, dtype=torch.int64, device=tokens.device)
        self.tokens.copy_(tokens)
        self.place.fill_(session.used - 1)
        # It may run twice: the same keys and values are written to the same place.
        step = partial(session.token, self.tokens, self.place, self.length)
        if fresh:
            self.graph = cuda_graph.captured(step, tokens.device)
        return self.graph() if self.graph is not None else step()


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


def prefill_tokens(weights: Weights) -> int:
    """Tokens of prompts that run together: as many as their widest intermediate values allow."""
    layer = weights.layers[0]
    # The two inputs of the gated product and its result, the normed input, and the residual stream in float32.
    wide = 3 * layer.down[0].shape[1] + 2 * layer.down[0].shape[0]
    return min(PREFILL_TOKENS[weights.norm.device.type], PREFILL_BYTES // (4 * wide))


def pieces(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Prompts in order of length, cut where one padded to its longest would have more than ``most`` tokens."""
    found: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if found and (len(found[-1]) + 1) * lengths[i] <= most:
            found[-1].append(i)
        else:
            found.append([i])
    return found

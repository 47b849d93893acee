"""The fast decoder: the weights of a Llama-family network as its sessions use them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

FAST_CLASSES = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
FIXED_ROPE = ("default", "linear", "llama3", "yarn")  # frequencies that do not depend on the length

Linear = tuple[Tensor, Tensor | None]  # weight [out, in] and bias [out]


def fast_supported(model: nn.Module) -> bool:
    """Whether the module has exactly the structure that ``snapshot`` reads, without adapters or windows."""
    if type(model).__name__ not in FAST_CLASSES:
        return False
    config: Any = model.config
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    projections = [m for name, m in model.named_modules() if name.endswith(("_proj", "lm_head"))]
    plain = all(type(m) is nn.Linear for m in projections)  # an adapter or a quantized layer is something else
    # A window over the keys, or frequencies that change with the length, would make old cache entries wrong.
    return plain and set(kinds) == {"full_attention"} and rope in FIXED_ROPE


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
        return mods[0].weight.to(dtype), None if bias is None else bias.to(dtype)
    weight = torch.cat([m.weight for m in mods]).to(dtype)
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


def snapshot(model: Any) -> Weights:
    """Read the weights, cast to autocast's type where that is on.

    Autocast keeps its casts of parameters only; it would cast the fused copies again at every step.
    """
    embed, config = model.get_input_embeddings(), model.config
    kind = embed.weight.device.type
    body, rope = model.model, model.model.rotary_emb
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else model.dtype
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
    head = linear_of([model.lm_head], dtype)
    sizes = (heads, kv_heads, body.layers[0].self_attn.head_dim, config.rms_norm_eps, dtype)
    return Weights(embed, layers, body.norm.weight, head, rope.inv_freq, rope.attention_scaling, *sizes)

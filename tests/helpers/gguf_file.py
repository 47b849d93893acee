"""A small Llama as a GGUF file, written with the reference library in the layout of llama.cpp's converter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def byte_letters() -> list[str]:
    """The 256 letters of byte-level BPE in the order of the bytes: printable ones stand for themselves."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) if byte in plain else chr(256 + rest.index(byte)) for byte in range(256)]


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key matrix in llama.cpp's order: the two halves of each head's rotation alternate."""
    rows = weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1)
    return rows.swapaxes(1, 2).reshape(weight.shape)


@dataclass(frozen=True)
class Layout:
    """What differs between the files of the tests; ``settings`` are further keys, ``extra`` further tensors."""

    rule: str | None = "gpt-2"
    tied: bool = False
    packed: str = "F32"  # how matrices are stored
    without: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    settings: Mapping[str, str | bool] = field(default_factory=dict)


WORDS = ["Ġa", "Ġth", "th", "ĊĊ", "ĠĠ", "12", "123", "1234", "<think>"]
MERGES = ["Ġ a", "t h", "Ġ th", "Ċ Ċ", "Ġ Ġ", "1 2", "12 3", "123 4"]
TEMPLATE = "{% for m in messages %}<|start|>{{ m['content'] }}<|end|>{% endfor %}<|start|>"


def write_gguf(path: Path, layout: Layout = Layout()) -> LlamaForCausalLM:
    """Write a random model with a byte-level tokenizer and a chat template; returns the model."""
    import gguf

    torch.manual_seed(0)
    words = ["<|end|>", "<|start|>", "<|endoftext|>", *byte_letters(), *WORDS]
    sizes = {**SIZES, **HEADS, "vocab_size": len(words), "tie_word_embeddings": layout.tied}
    model = LlamaForCausalLM(LlamaConfig(**sizes, max_position_embeddings=64)).eval()
    writer = gguf.GGUFWriter(str(path), "llama")
    add_sizes(writer, model.config)
    add_tokenizer(writer, words, layout.rule)
    for key, value in layout.settings.items():
        writer.add_bool(key, value) if isinstance(value, bool) else writer.add_string(key, value)
    for name, tensor in model.state_dict().items():
        if (stored := gguf_name(name)) in layout.without or (layout.tied and stored == "output.weight"):
            continue
        array = tensor.numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            array = interleaved(array, 4 if "q_proj" in name else 2)
        kind = gguf.GGMLQuantizationType[layout.packed if array.ndim == 2 else "F32"]
        writer.add_tensor(stored, gguf.quants.quantize(np.ascontiguousarray(array), kind), raw_dtype=kind)
    for name in layout.extra:
        writer.add_tensor(name, np.ones(4, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def add_sizes(writer: Any, config: LlamaConfig) -> None:
    """The shape of the model."""
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(config.vocab_size)


def add_tokenizer(writer: Any, words: list[str], rule: str | None) -> None:
    """Tokens and merges: three control tokens, the bytes, some words, one token that a user defined."""
    writer.add_tokenizer_model("gpt2")
    if rule is not None:
        writer.add_tokenizer_pre(rule)
    writer.add_token_list(words)
    writer.add_token_types([3, 3, 3, *[1] * (len(words) - 4), 4])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_chat_template(TEMPLATE)


def gguf_name(name: str) -> str:
    """llama.cpp's name of a weight."""
    outside = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem = name.removesuffix(".weight")
    if stem in outside:
        return f"{outside[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{PARTS[part]}.weight"

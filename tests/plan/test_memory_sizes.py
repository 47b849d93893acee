"""The memory formulas against figures worked out and measured for Qwen2.5 elsewhere, and PyTorch's own count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from bench.plan.memory import GIGA, Load, Shape, activation_bytes, head_bytes, kv_bytes, memory_table

# hidden, intermediate, layers, heads, key heads, tied: the published configurations.  Then what is expected of them:
# parameters, bytes per token of the cache in bfloat16, and megabytes per token of activations.  The last were measured
# with saved-tensor hooks under autocast; in the smallest model keys and values were not repeated for all heads.
QWEN = {
    "0.5b": ((896, 4864, 24, 14, 2, True), 0.494e9, 12_288, 1.59),
    "1.5b": ((1536, 8960, 28, 12, 2, True), 1.544e9, 28_672, 3.50),
    "3b": ((2048, 11_008, 36, 16, 2, True), 3.086e9, 36_864, 5.72),
    "7b": ((3584, 18_944, 28, 28, 4, False), 7.616e9, 57_344, None),
}


def shape_of(config: Any) -> tuple[Shape, Any]:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return Shape.of(config, sum(p.numel() for p in model.parameters())), model


def qwen(name: str) -> Shape:
    hidden, intermediate, layers, heads, kv_heads, tied = QWEN[name][0]
    config = Qwen2Config(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=tied,
        vocab_size=151_936 if tied else 152_064,
    )
    return shape_of(config)[0]


@pytest.mark.parametrize("name", QWEN)
def test_parameters_cache_and_activations_of_qwen(name: str) -> None:
    _, parameters, cache, activations = QWEN[name]
    shape = qwen(name)
    assert shape.parameters == pytest.approx(parameters, rel=1e-3)
    assert kv_bytes(shape, half=True) == cache
    if activations is not None:
        assert activation_bytes(shape, half=True) / 1e6 == pytest.approx(activations, rel=0.06)


def test_activations_of_a_layer_to_the_byte() -> None:
    shape = qwen("1.5b")
    assert activation_bytes(shape, half=True) / shape.layers == 124_984  # measured


@pytest.mark.parametrize(
    ("name", "reference", "gigabytes"),
    [
        ("0.5b", True, 39),
        ("1.5b", True, 94),
        ("3b", True, 165),
        ("0.5b", False, 37),
        ("1.5b", False, 87),
        ("3b", False, 152),
    ],
)
def test_peak_of_training_at_16384_tokens(name: str, reference: bool, gigabytes: float) -> None:
    load = Load(True, 16_384, rows=1024, row_tokens=1424, reference=reference, samples=False)
    larger = (6 * 512 * 2**20 - 3 * 128 * 2**20) / GIGA  # these figures are of chunks of 128 MiB, counted three times
    assert memory_table(qwen(name), load)["peak"] / GIGA == pytest.approx(gigabytes + larger, rel=0.06)


def test_the_cache_of_1024_rows_and_what_is_never_there_together() -> None:
    shape = qwen("1.5b")
    load = Load(True, 16_384, rows=1024, row_tokens=1424, reference=True, samples=True)
    table = memory_table(shape, load)
    assert table["cache"] / GIGA == pytest.approx(42, rel=0.01)
    kept = table["weights"] + table["gradients"] + table["moments"] + table["reference"]
    assert kept / GIGA == pytest.approx(30.9, rel=0.001)
    assert table["peak"] < kept + table["activations"] + table["cache"]
    longer = memory_table(shape, Load(True, 16_384, rows=1024, row_tokens=4000, reference=True, samples=True))
    assert longer["peak"] > table["peak"] and longer["activations"] == table["activations"]
    head = shape.hidden, shape.vocabulary
    assert head_bytes(*head, True, 16_384) == head_bytes(*head, True, 8_192)  # beyond a chunk it does not grow


def test_activations_in_float32_are_what_pytorch_keeps() -> None:
    """A random Llama: bytes of distinct storages that the backward pass of its layers needs, weights left out."""
    sizes = {"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2}
    kept = {}
    for layers in (1, 3):
        config = LlamaConfig(**sizes, num_hidden_layers=layers, vocab_size=50, head_dim=16, max_position_embeddings=64)
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        storages: dict[int, Any] = {}

        def keep(tensor: torch.Tensor, storages: dict[int, Any] = storages) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.model(input_ids=torch.arange(40).unsqueeze(0), use_cache=False).last_hidden_state.sum()
        kept[layers] = sum(t.untyped_storage().nbytes() for place, t in storages.items() if place not in own)
    per_token = (kept[3] - kept[1]) / 2 / 40
    expected = activation_bytes(
        Shape.of(LlamaConfig(**sizes, num_hidden_layers=1, vocab_size=50, head_dim=16), 0), False
    )
    assert expected == pytest.approx(per_token, rel=0.05)

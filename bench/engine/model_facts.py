"""What the engine has to know of a model before it runs: its costs, and the tokens that mean something to it."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from bench.engine.adapters import MARK, has_adapter
from bench.plan.budget import Architecture
from bench.types import UserError


def architecture(model: Any) -> Architecture:
    """Weights and attention width that the FLOPs depend on; UserError where they would be wrong."""
    unknown = [name for name, parameter in model.named_parameters() if parameter.dim() > 2]
    if unknown:
        raise UserError(
            f"models of type '{model.config.model_type}' are not supported: the FLOPs of their experts or convolutions "
            f"(such as {unknown[0]}) are not known"
        )
    head = model.get_output_embeddings()
    # Weights count by the multiplications that they take part in: an embedding is looked up and costs none, a head that
    # is tied to it is counted as the head.
    # A layer with an adapter is a shell of peft's, also named Linear, around three: the frozen one, A and B.
    modules = [m for m in model.modules() if m is not head and not hasattr(m, "base_layer")]
    linear = [m.weight for m in modules if type(m).__name__ in {"Linear", "Conv1D"}]
    sides = sum(sum(low_rank_sides(m)) for m in linear_layers(model).values())
    trained = sum(w.numel() for w in linear if w.requires_grad) if has_adapter(model) else None
    config = model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * size
    return Architecture(sum(w.numel() for w in linear), head.weight.numel(), attention, trained, sides)


def linear_layers(model: Any) -> dict[str, Any]:
    """The model's own linear layers by name, without its head and without the parts of an adapter."""
    head = model.get_output_embeddings()
    found = {name: m for name, m in model.named_modules() if type(m).__name__ in {"Linear", "Conv1D"} and m is not head}
    return {name: m for name, m in found.items() if MARK not in name and not hasattr(m, "base_layer")}


def low_rank_sides(layer: Any) -> tuple[int, int]:
    """Inputs and outputs of a linear layer; GPT-2's Conv1D has its weight the other way round."""
    rows, columns = layer.weight.shape
    return (columns, rows) if type(layer).__name__ == "Linear" else (rows, columns)


def eos_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that end a completion: the tokenizer's EOS and those of the generation settings (chat models have two).

    A configuration may carry its class's default id, under which this tokenizer has an ordinary word: not an EOS.
    """
    listed = model.generation_config.eos_token_id if model.generation_config is not None else None
    known = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    return frozenset([tokenizer.eos_token_id, *known.intersection(listed if isinstance(listed, list) else [listed])])


def mask_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that stands for a hidden one: the first that exists of mask, unknown, padding and EOS token."""
    ids = (tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id)
    return int(next(i for i in ids if i is not None))

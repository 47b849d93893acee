"""Adapters (LoRA, by peft): put into the model's linear layers, told apart from its own weights, merged into them.

The layers are replaced in place, so the model keeps its class and everything else works on it as before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bench.plan.lora import Lora
from bench.seeds import derive_seed

NAME = "default"  # peft's name of the one adapter
MARK = ".lora_"  # in the names of an adapter's parameters


def attach(model: nn.Module, lora: Lora, seed: int) -> None:
    """Freeze the model and give its linear layers an adapter, which at first changes nothing: B is zero.

    ``seed`` decides A.  A model on the meta device gets an adapter without values.
    """
    from peft import LoraConfig, inject_adapter_in_model

    # Without dropout, which would make sampler and trainer disagree.
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.targets, lora_dropout=0.0)  # type: ignore[arg-type]
    # peft draws A on the CPU from the global generator: the same numbers for every device.
    with torch.random.fork_rng(), torch.device(next(model.parameters()).device.type):
        torch.manual_seed(derive_seed("adapter", seed))
        inject_adapter_in_model(config, model)


def has_adapter(model: nn.Module) -> bool:
    return any(MARK in name for name, _ in model.named_parameters())


def own_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name: those of the adapter where there is one, else all."""
    named = dict(model.named_parameters())
    return {name: p for name, p in named.items() if MARK in name} or named


def is_fresh(model: nn.Module) -> bool:
    """Whether the adapter changes nothing yet: every B is zero."""
    return all(not bool(p.any()) for name, p in model.named_parameters() if f"{MARK}B." in name)


def switch(model: nn.Module, on: bool) -> None:
    """Run the adapter, or the layers below it alone; what is trained stays as it is."""
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    for layer in adapter_layers(model).values():
        layer.enable_adapters(on)
    for name, p in model.named_parameters():
        p.requires_grad_(wanted[name])


def adapter_layers(model: nn.Module) -> dict[str, Any]:
    """The layers with an adapter, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "base_layer")}


def merged_weight(layer: Any) -> Tensor:
    """The weight of a linear layer with what its adapter adds; a plain layer's weight itself."""
    if not hasattr(layer, "base_layer"):
        return layer.weight
    return layer.base_layer.weight + layer.get_delta_weight(NAME)


@torch.no_grad()
def merge(model: Any) -> Any:
    """The same model with the adapter worked into its weights for good; a model without one stays as it is."""
    for name, layer in adapter_layers(model).items():
        layer.base_layer.weight.copy_(merged_weight(layer))
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.base_layer)
    return model

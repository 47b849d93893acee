"""Bytes per token that PyTorch keeps for the backward pass of a model's layers, against the formula of `bench doctor`.

python benchmarks/activations.py --model smollm2 --tokens 512
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from bench.engine.policy import load_model
from bench.models import model_path
from bench.plan.memory import Shape, activation_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--tokens", type=int, default=512, help="in four rows")
    given = parser.parse_args()
    model, _ = load_model(model_path(given.model))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(0, model.config.vocab_size, (4, given.tokens // 4))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.base_model(input_ids=ids, use_cache=False)
    counted = sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in weights) / ids.numel()
    formula = activation_bytes(Shape.of(model.config, 0), half=False)
    print(f"{given.model}: {counted / 1e6:.4f} MB per token counted, {formula / 1e6:.4f} by formula")


if __name__ == "__main__":
    main()

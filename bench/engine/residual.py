"""Inputs that are partly the policy's own predictions: a demonstration token's embedding mixed with another one's.

The mixture is made where the model embeds its tokens, so that padded and packed rows go the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.engine.batching import MicroBatch
from bench.engine.packing import filled_places

CHUNK = 1024  # targets whose logits are there at a time


@torch.no_grad()
def likeliest(policy: Any, batch: MicroBatch) -> Tensor:
    """The token of highest probability at each target [M], from one forward pass that the caller charges."""
    with policy._autocast():
        hidden = policy.hidden(policy.model, batch)
        head = policy.model.get_output_embeddings() if policy.split_head else torch.nn.Identity()
        return torch.cat([head(part).argmax(-1) for part in hidden.split(CHUNK)])


@contextmanager
def mixed_inputs(policy: Any, batch: MicroBatch, share: float) -> Iterator[None]:
    """Inside, the policy embeds this batch's demonstration tokens as (1 - share) own + share likeliest one's."""
    # Target t is token t + 1 of the row: what is predicted at t takes part in the input at t + 1.
    predicted = batch.token_ids.clone()
    predicted[:, 1:][batch.targets] = likeliest(policy, batch)
    mixed = F.pad(batch.demo, (1, 0))
    if policy.packed:
        filled = filled_places(batch)
        predicted, mixed = predicted[filled].unsqueeze(0), mixed[filled].unsqueeze(0)

    def mix(module: Any, args: tuple[Tensor, ...], own: Tensor) -> Tensor:
        # Not module(...): that would come back here.
        other = module.forward(predicted)
        return torch.where(mixed.unsqueeze(-1), (1 - share) * own + share * other, own)

    hook = policy.model.get_input_embeddings().register_forward_hook(mix)
    try:
        yield
    finally:
        hook.remove()

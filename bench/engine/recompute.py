"""Activations computed again in the backward pass: a decoder layer keeps its input alone (arXiv 1604.06174).

Transformers' own switch works in training mode only.  Here models are always in evaluation mode, since dropout would
make sampler and trainer disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint, noop_context_fn

from bench.types import UserError

Contexts = Callable[[], tuple[AbstractContextManager[Any], AbstractContextManager[Any]]]


def decoder_layers(model: Any, instead: str = "--recompute none") -> list[nn.Module]:
    """The decoder layers of a model, in order; UserError where they cannot be told from its other modules.

    ``instead``: what the user may ask for that does without.
    """
    count = model.config.num_hidden_layers
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not stacks:
        kind = model.config.model_type
        raise UserError(f"models of type '{kind}' have no list of {count} decoder layers: expected {instead}")
    return list(stacks[0])


@contextmanager
def recomputed(model: Any, contexts: Contexts = noop_context_fn) -> Iterator[None]:
    """Forward passes inside keep the inputs of decoder layers alone, and run each layer again when it is needed.

    ``contexts`` makes two contexts for each layer: of its first run, and of its run in the backward pass.
    """
    layers = decoder_layers(model)
    owned = [vars(layer).get("forward") for layer in layers]  # a library may have put its own there
    for layer in layers:
        # No layer draws anything, so no state of a random generator has to be kept.
        how: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False, "context_fn": contexts}
        layer.forward = partial(checkpoint, layer.forward, **how)
    try:
        yield
    finally:
        # What runs in the backward pass are the methods themselves: the model is as it was, for sampler and copies.
        for layer, own in zip(layers, owned):
            if own is None:
                del layer.forward
            else:
                layer.forward = own

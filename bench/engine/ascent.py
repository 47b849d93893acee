"""Hidden states, and what becomes of them when the model's weights take one step up a loss.

Beside every linear layer of the decoder layers lies a low-rank part, W x + B A x.  A is drawn anew for each update, and
B is 0.  One step of a given length along the gradient moves the parts alone: as B is 0, A has no gradient, and B
becomes the step.  No weight of the model is written to, and nothing is kept but the parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from bench.engine.batching import MicroBatch, collate, scatter
from bench.engine.model_facts import linear_layers, low_rank_sides
from bench.engine.packing import at_targets, packed_states
from bench.engine.recompute import decoder_layers, recomputed
from bench.types import Batch, Requests, Trajectory, UserError

WITHOUT = "a method without ascent_step"
States = tuple[Tensor, ...]  # one for each decoder layer
BatchOf = Callable[[MicroBatch], Batch]


def hidden_states(found: Sequence[Tensor], micro: MicroBatch, packed: bool) -> States:
    """The states [B, T, D] after each layer at the targets, zeros elsewhere, from what the layers handed on."""
    parts = (at_targets(state, micro) if packed else state[:, :-1][micro.targets] for state in found)
    return tuple(scatter(part, micro.targets) for part in parts)


class Ascent:
    """The parts beside a model's linear layers, and the hidden states of its decoder layers."""

    def __init__(self, model: Any, step: float, rank: int, loss: Callable[[Batch], Tensor]) -> None:
        self.step, self.rank, self.loss = step, rank, loss
        self.layers = decoder_layers(model, WITHOUT)
        inside = {id(module) for layer in self.layers for module in layer.modules()}
        self.linear = {name: m for name, m in linear_layers(model).items() if id(m) in inside}
        if not self.linear:
            raise UserError(f"models of type '{model.config.model_type}' have no linear layers: expected {WITHOUT}")
        self.parts: dict[str, tuple[Tensor, Tensor]] = {}  # A [rank, inputs] and B [outputs, rank]

    # --- the parts ---

    def draw(self, seed: int) -> None:
        """New parts that change nothing yet; ``seed`` decides A."""
        generator = torch.Generator().manual_seed(seed)
        for name, layer in self.linear.items():
            inputs, outputs = low_rank_sides(layer)
            bound, like = 1 / math.sqrt(inputs), layer.weight  # as peft draws A
            drawn = torch.empty(self.rank, inputs).uniform_(-bound, bound, generator=generator)
            zeros = torch.zeros(outputs, self.rank, dtype=like.dtype, device=like.device)
            self.parts[name] = drawn.to(like), zeros.requires_grad_()

    @property
    def sides(self) -> list[Tensor]:
        """What takes the step: B of every layer."""
        return [b for _, b in self.parts.values()]

    def climb(self, policy: Any, parts: Sequence[Sequence[Trajectory]], seed: int, batch_of: BatchOf) -> None:
        """Take the step along the gradient of the loss, which adds up over the micro-batches ``parts``.

        A gradient of 0 gives no direction, and nothing moves.  Charged.
        """
        self.draw(seed)
        total = [torch.zeros_like(b) for b in self.sides]
        for part in parts:
            micro = collate(part, policy.device)
            if policy.meter is not None:
                padding = policy._padding(micro)
                policy.meter.charge_ascent(micro.lengths, micro.num_targets, padding, self.rank)
            with self.with_parts():  # also in the backward pass, where layers may be run again
                gradients = torch.autograd.grad(self.loss(batch_of(micro)), self.sides)
            total = [sum_ + gradient for sum_, gradient in zip(total, gradients)]
        length = torch.stack([g.double().square().sum() for g in total]).sum().sqrt()
        scale = self.step / length if length > 0 else torch.zeros_like(length)
        for (name, (a, _)), gradient in zip(self.parts.items(), total):
            self.parts[name] = a, gradient * scale.to(gradient.dtype)

    # --- passes ---

    @contextmanager
    def with_parts(self) -> Iterator[None]:
        """Passes inside run the parts too."""

        def add(name: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
            def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
                a, b = self.parts[name]
                return output + linear(linear(args[0], a), b)

            return hook

        handles = [layer.register_forward_hook(add(name)) for name, layer in self.linear.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def contexts(self) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        """For torch's checkpoint: a pass with parts is computed again with them, in a backward pass long after."""
        return nullcontext(), self.with_parts()

    def states(self, policy: Any, micro: MicroBatch, found: Sequence[Tensor]) -> tuple[States, States]:
        """Hidden states [B, T, D] at the targets: those that a pass has handed on, and those with the parts."""
        return hidden_states(found, micro, policy.packed), self.moved(policy, micro)

    def moved(self, policy: Any, micro: MicroBatch) -> States:
        """Hidden states [B, T, D] of the decoder layers with the parts, with gradient to the model's weights."""
        network = policy.model.base_model
        again = recomputed(policy.model, self.contexts) if policy.recompute else nullcontext()
        with policy._autocast(), self.with_parts(), self.watched() as found, again:
            if policy.packed:
                packed_states(network, micro)
            else:
                network(input_ids=micro.token_ids, use_cache=False)
        return hidden_states(found, micro, policy.packed)

    @contextmanager
    def watched(self) -> Iterator[list[Tensor]]:
        """Gives what each decoder layer hands on in a pass inside, in their order."""
        found: list[Tensor] = []

        def note(module: nn.Module, args: Any, output: Any) -> None:
            found.append(output[0] if isinstance(output, tuple) else output)

        handles = [layer.register_forward_hook(note) for layer in self.layers]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()


def ascent_of(asks: Requests, policy: Any, name: str) -> Ascent | None:
    """What a method's step of ascent needs, None where it asks for none; UserError where it cannot be made."""
    if not asks.ascent_step:
        return None
    if asks.ascent_loss is None or asks.ascent_rank < 1:
        raise UserError(f"{name}: ascent_step needs ascent_loss, and an ascent_rank of at least 1")
    if policy.ranks.count > 1:
        raise UserError(f"{name}: a step of ascent is made on one device: expected --devices-per-run 1")
    return Ascent(policy.model, asks.ascent_step, asks.ascent_rank, asks.ascent_loss)

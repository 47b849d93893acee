"""The output head at many targets: logits exist one chunk at a time, and again for each chunk's backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from bench.engine.token_values import Outputs, Wanted, evaluate, joined
from bench.plan.execution import LOGITS_BYTES


class CastCache:
    """Copies of weights in autocast's precision, each made once and kept until its weight changes or ``clear``.

    A copy of changed weights is only replaced when it is asked for: ``clear`` after an update gives its memory back.
    """

    def __init__(self) -> None:
        self.copies: dict[int, tuple[Tensor, int, Tensor]] = {}  # by id: the weight, its version, the copy

    def get(self, weight: Tensor) -> Tensor:
        """The weight as products use it here, without gradient; the weight itself where it need not be cast."""
        kind = weight.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        if weight.dtype == dtype:
            return weight.detach()
        # Torch counts the changes in place of every tensor.  The weight is kept too, so that its id stays its own.
        known = self.copies.get(id(weight))
        if known is None or known[1] != weight._version or known[2].dtype != dtype:
            known = self.copies[id(weight)] = (weight, weight._version, weight.detach().to(dtype))
        return known[2]

    def clear(self) -> None:
        self.copies.clear()


def cut(values: Tensor | None, piece: slice) -> Tensor | None:
    return None if values is None else values[piece]


def pieces(count: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most ``size`` that cover ``count`` places."""
    return (slice(start, start + size) for start in range(0, count, size))


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left^T right, from [M, V] and [M, D], to ``total`` [V, D], which may have more precision than both."""
    if left.dtype == total.dtype:
        total.addmm_(left.T, right)
    else:
        total.add_(left.T @ right)


class Inputs(NamedTuple):
    """Tensors that every chunk reads its part of, or uses whole (the weights, in the precision of the products)."""

    hidden: Tensor  # [M, D] at the targets
    weight: Tensor  # [V, D]
    theirs: Tensor | None  # [M, E], hidden states of the reference model
    their_weight: Tensor | None  # [V, E]
    targets: Tensor  # [M]

    def values(self, piece: slice, logits: Tensor, wanted: Wanted) -> Outputs:
        """All wanted values of one chunk, from its logits [m, V]."""
        reference = None
        if self.theirs is not None and self.their_weight is not None:
            reference = linear(self.theirs[piece].to(self.their_weight.dtype), self.their_weight)
        return evaluate(logits, self.targets[piece], wanted, reference, cut(wanted.uniforms, piece))


class ChunkedHead(torch.autograd.Function):
    """Outputs of a bias-free linear head from hidden states [M, D], of which no logits are kept.

    The backward pass computes each chunk's logits again (Chen et al., arXiv 1604.06174), lets autograd differentiate
    the values by them, and adds the products into one gradient each for hidden states and weight.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,  # takes the gradient; the products are made with a copy in ``others``, if it has to be cast
        others: tuple[Tensor, Tensor | None, Tensor | None, Tensor],
        wanted: Wanted,
        size: int,
    ) -> tuple[Tensor | None, ...]:
        inputs = Inputs(hidden, *others)
        ctx.save_for_backward(*inputs)
        ctx.wanted, ctx.size, ctx.weight_dtype = wanted, size, weight.dtype
        ctx.set_materialize_grads(False)
        parts = []
        with torch.autocast(hidden.device.type, enabled=False):
            for piece in pieces(len(hidden), size):
                logits = linear(hidden[piece].to(inputs.weight.dtype), inputs.weight)
                parts.append(inputs.values(piece, logits, wanted))
        values = joined(parts)
        constant = [None if wanted.entropies else values.entropies, values.candidate_hits]
        ctx.mark_non_differentiable(*(value for value in constant if value is not None))
        return tuple(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs = Inputs(*ctx.saved_tensors)
        hidden, weight = inputs.hidden, inputs.weight
        to_hidden = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        to_weight = torch.zeros_like(weight, dtype=ctx.weight_dtype) if ctx.needs_input_grad[1] else None
        with torch.autocast(hidden.device.type, enabled=False):
            for piece in pieces(len(hidden), ctx.size):
                states = hidden[piece].to(weight.dtype)
                logits = linear(states, weight).requires_grad_()
                with torch.enable_grad():
                    values = inputs.values(piece, logits, ctx.wanted)
                pairs = [(v, g[piece]) for v, g in zip(values, gradients) if g is not None and v is not None]
                outputs, their_gradients = zip(*[pair for pair in pairs if pair[0].requires_grad])
                (to_logits,) = torch.autograd.grad(outputs, logits, their_gradients)
                if to_hidden is not None:
                    to_hidden[piece] = to_logits @ weight
                if to_weight is not None:
                    add_product(to_weight, to_logits, states)
        return to_hidden, to_weight, None, None, None


@torch.no_grad()
def head_is_linear(model: Any) -> bool:
    """Whether logits are just head(hidden): then the head runs at target positions only.

    Hidden states are enlarged for the probe, since small logits would hide a soft cap.
    """
    hidden = []

    def enlarge(module: Any, args: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state * 1000.0
        hidden.append(output.last_hidden_state)
        return output

    handle = model.base_model.register_forward_hook(enlarge)
    ids = torch.arange(4, device=next(model.parameters()).device).unsqueeze(0)
    logits = model(input_ids=ids, use_cache=False).logits.float()
    handle.remove()
    if len(hidden) != 1:
        return False
    expected = model.get_output_embeddings()(hidden[0]).float()
    return bool((expected - logits).abs().max() <= 1e-4 * logits.abs().max())


def is_plain(head: Any) -> bool:
    """Whether a head is its weight and nothing else: no bias, no adapter, no quantised weight, no hook."""
    hooks = head._forward_hooks or head._forward_pre_hooks if isinstance(head, nn.Module) else ()
    return type(head) is nn.Linear and head.bias is None and type(head.weight) is nn.Parameter and not hooks


def through_head(
    hidden: Tensor,
    targets: Tensor,
    head: Any,
    wanted: Wanted,
    reference_hidden: Tensor | None,
    reference_head: Any | None,
    casts: CastCache,
) -> Outputs:
    """Values from hidden states [M, D] at the targets; logits of more than LOGITS_BYTES are never there at once."""

    def chunk(h: Tensor, t: Tensor, r: Tensor | None, u: Tensor | None) -> Outputs:
        return evaluate(head(h), t, wanted, None if r is None or reference_head is None else reference_head(r), u)

    kind = hidden.device.type
    size = max(1, LOGITS_BYTES.get(kind, LOGITS_BYTES["cpu"]) // (4 * head.weight.shape[0]))
    if len(targets) <= size:
        return chunk(hidden, targets, reference_hidden, wanted.uniforms)
    if is_plain(head) and (reference_head is None or is_plain(reference_head)):
        theirs = None if reference_head is None else casts.get(reference_head.weight)
        others = (casts.get(head.weight), reference_hidden, theirs, targets)
        return Outputs._make(ChunkedHead.apply(hidden, head.weight, others, wanted, size))
    # Any other head is called as it is.  Each call of the backward pass gives its weights whole gradients of their own.
    # The uniforms are handed in, since the second computation has to draw the same candidates.
    return joined(
        [
            checkpoint(
                chunk, hidden[p], targets[p], cut(reference_hidden, p), cut(wanted.uniforms, p), use_reentrant=False
            )
            for p in pieces(len(targets), size)
        ]
    )

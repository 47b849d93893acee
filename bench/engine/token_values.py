"""What losses need from the network's logits: values per target token, computed one chunk of logits at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MAX_LOGITS = 2**25  # elements of one chunk of logits; beyond it they are recomputed in the backward pass


@dataclass(frozen=True)
class Wanted:
    """What a loss needs besides the log-probabilities of the targets."""

    entropies: bool = False
    reference: Any | None = None  # model of the full-vocabulary divergence
    uniforms: Tensor | None = None  # [M, K] in [0, 1): K candidates are drawn at each target position
    temperature: float = 1.0  # of the candidates
    temper: Callable[[Tensor], Tensor] | None = None  # logits [M, V] to a temperature per target [M]


class Outputs(NamedTuple):
    """Values per target, all with gradient but the hits; what was not asked for is zeros (entropies) or None."""

    logprobs: Tensor
    entropies: Tensor
    reference_kl: Tensor | None = None  # KL(reference || policy) over the whole vocabulary
    candidate_logprobs: Tensor | None = None  # [..., K]
    candidate_hits: Tensor | None = None  # [..., K] bool: the candidate is the target


def token_logprobs(logits: Tensor, targets: Tensor, entropies: bool) -> tuple[Tensor, Tensor]:
    """Log-probabilities [M] of targets and entropies [M] (zeros unless asked) of logits [M, V], in float32."""
    # In float32, because bfloat16 has steps of 1/8 between 16 and 32, where logits often lie.  The entropy multiplies
    # by log-probabilities that are never -inf, so that a vanishing p gives 0 and not nan.
    logp = torch.log_softmax(logits.float(), dim=-1)
    chosen = logp.gather(1, targets.unsqueeze(1)).squeeze(1)
    return chosen, -(logp.exp() * logp).sum(-1) if entropies else torch.zeros_like(chosen)


def divergence(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL(reference || policy) [M] over the vocabulary, from logits [M, V]; gradient to the policy alone."""
    ours = torch.log_softmax(logits.float(), dim=-1)
    theirs = torch.log_softmax(reference_logits.detach().float(), dim=-1)
    # Forward KL: its gradient at our logits is p - p_reference, without the noise of sampled tokens.
    return (theirs.exp() * (theirs - ours)).sum(-1)


def candidates(logits: Tensor, targets: Tensor, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Tokens drawn from softmax(logits / temperature): their log-probabilities [M, K] at temperature 1, and their hits.

    One uniform number decides one draw, by inversion of the cumulative distribution.
    """
    # No gradient through the draw: REINFORCE differentiates the log-probability of what was drawn, not the drawing.
    # The clamp is for a uniform close to 1, whose product with the sum can round up to the sum itself.
    weights = torch.softmax(logits.detach().double() / temperature, dim=-1).cumsum(-1)
    places = uniforms.to(weights.device).double() * weights[:, -1:]
    drawn = torch.searchsorted(weights, places, right=True).clamp(max=logits.shape[-1] - 1)
    logp = torch.log_softmax(logits.float(), dim=-1).gather(1, drawn)
    return logp, drawn == targets.unsqueeze(1)


def evaluate(
    logits: Tensor, targets: Tensor, wanted: Wanted, reference_logits: Tensor | None, uniforms: Tensor | None
) -> Outputs:
    """All wanted values of one chunk of logits [M, V]."""
    if wanted.temper is not None:
        # Before everything else: log-probability, entropy and divergence are those of the tempered policy.
        logits = logits / wanted.temper(logits.float()).unsqueeze(1)
    logprobs, entropies = token_logprobs(logits, targets, wanted.entropies)
    kl = None if reference_logits is None else divergence(logits, reference_logits)
    drawn = (None, None) if uniforms is None else candidates(logits, targets, uniforms, wanted.temperature)
    return Outputs(logprobs, entropies, kl, *drawn)


def joined(parts: Sequence[Outputs]) -> Outputs:
    """The values of all chunks, in order."""
    return Outputs._make(None if column[0] is None else torch.cat(column) for column in zip(*parts))


def through_head(
    hidden: Tensor,
    targets: Tensor,
    head: Callable[[Tensor], Tensor],
    vocabulary: int,
    wanted: Wanted,
    reference_hidden: Tensor | None,
    reference_head: Callable[[Tensor], Tensor] | None,
) -> Outputs:
    """Values from hidden states [M, D] at the targets; several chunks are recomputed in the backward pass."""

    def chunk(h: Tensor, t: Tensor, r: Tensor | None, u: Tensor | None) -> Outputs:
        return evaluate(head(h), t, wanted, None if r is None or reference_head is None else reference_head(r), u)

    # Logits [M, V] are the largest tensor of a step.  Each chunk is forgotten after its forward pass and computed again
    # in the backward pass (Chen et al., arXiv 1604.06174), so memory does not grow with the batch.  The uniforms are
    # handed in, since the second computation has to draw the same candidates.
    size = max(1, MAX_LOGITS // vocabulary)
    if len(targets) <= size:
        return chunk(hidden, targets, reference_hidden, wanted.uniforms)
    pieces = [slice(i, i + size) for i in range(0, len(targets), size)]
    cut = lambda values, piece: None if values is None else values[piece]  # noqa: E731
    return joined(
        [
            checkpoint(
                chunk, hidden[p], targets[p], cut(reference_hidden, p), cut(wanted.uniforms, p), use_reentrant=False
            )
            for p in pieces
        ]
    )

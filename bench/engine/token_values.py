"""What losses need from the network's logits: values per target token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Wanted:
    """What a loss needs besides the log-probabilities of the targets."""

    entropies: bool = False
    reference: Any | None = None  # model of the full-vocabulary divergence
    uniforms: Tensor | None = None  # [M, K] in [0, 1): K candidates are drawn at each target position
    temperature: float = 1.0  # of the candidates
    temper: Callable[[Tensor], Tensor] | None = None  # logits [M, V] to a temperature per target [M]
    residual: float = 0.0  # share of a demonstration token's input that is the likeliest token's embedding


class Outputs(NamedTuple):
    """Values per target, all with gradient but the hits; what was not asked for is zeros (entropies) or None."""

    logprobs: Tensor
    entropies: Tensor
    reference_kl: Tensor | None = None  # KL(reference || policy) over the whole vocabulary
    candidate_logprobs: Tensor | None = None  # [..., K]
    candidate_hits: Tensor | None = None  # [..., K] bool: the candidate is the target


def wide(logits: Tensor) -> Tensor:
    """In float32, or in float64 if they are."""
    # bfloat16 has steps of 1/8 between 16 and 32, where logits often lie.
    return logits if logits.dtype == torch.float64 else logits.float()


def token_logprobs(logits: Tensor, targets: Tensor, entropies: bool) -> tuple[Tensor, Tensor]:
    """Log-probabilities [M] of targets and entropies [M] (zeros unless asked) of logits [M, V]."""
    # The entropy multiplies by log-probabilities that are never -inf, so that a vanishing p gives 0 and not nan.
    logp = torch.log_softmax(wide(logits), dim=-1)
    chosen = logp.gather(1, targets.unsqueeze(1)).squeeze(1)
    return chosen, -(logp.exp() * logp).sum(-1) if entropies else torch.zeros_like(chosen)


def divergence(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL(reference || policy) [M] over the vocabulary, from logits [M, V]; gradient to the policy alone."""
    ours = torch.log_softmax(wide(logits), dim=-1)
    theirs = torch.log_softmax(wide(reference_logits.detach()), dim=-1)
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
    logp = torch.log_softmax(wide(logits), dim=-1).gather(1, drawn)
    return logp, drawn == targets.unsqueeze(1)


def evaluate(
    logits: Tensor, targets: Tensor, wanted: Wanted, reference_logits: Tensor | None, uniforms: Tensor | None
) -> Outputs:
    """All wanted values of one chunk of logits [M, V]."""
    if wanted.temper is not None:
        # Before everything else: log-probability, entropy and divergence are those of the tempered policy.
        logits = logits / wanted.temper(wide(logits)).unsqueeze(1)
    logprobs, entropies = token_logprobs(logits, targets, wanted.entropies)
    kl = None if reference_logits is None else divergence(logits, reference_logits)
    drawn = (None, None) if uniforms is None else candidates(logits, targets, uniforms, wanted.temperature)
    return Outputs(logprobs, entropies, kl, *drawn)


def joined(parts: Sequence[Outputs]) -> Outputs:
    """The values of all chunks, in order."""
    return Outputs._make(None if column[0] is None else torch.cat(column) for column in zip(*parts))

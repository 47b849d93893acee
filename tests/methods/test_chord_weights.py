"""Golden properties of the weights of CHORD's demonstration tokens: values, gradients, what they reduce to."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.chord import CHORD
from methods.dft import DFT
from methods.sft import SFT
from tests.methods.batches import fixture, relative_error

LENGTHS = [(0, 2), (0, 4), (5, 0), (2, 0), (0, 3)]


def constant(mu: float, **fields: Any) -> CHORD:
    return CHORD(mu_peak=mu, mu_valley=mu, **fields)


def token_gradient(logprobs: Tensor, scores: Tensor, made: Any, weights: Tensor) -> Tensor:
    """-w (onehot - p) / N on demonstration tokens."""
    return -(weights * made.demo).unsqueeze(-1) * scores / int(made.demo.sum())


def test_phi_gradient_is_p_times_one_minus_p_times_that_of_sft() -> None:
    made = fixture(LENGTHS)
    p = made.logprobs.detach().exp()
    _, gradient = made.gradient(constant(1.0, weight="phi"))
    assert relative_error(gradient, (p * (1 - p)).unsqueeze(-1) * made.gradient(SFT())[1]) < 1e-9


def test_phi_as_printed_has_another_term() -> None:
    """grad of -p (1 - p) log p is -[(1 - p) + (1 - 2p) log p] grad p."""
    made = fixture(LENGTHS)
    logs = made.logprobs.detach()
    p = logs.exp()
    loss, attached = made.gradient(constant(1.0, weight="phi", detach=False))
    factor = ((1 - p) + (1 - 2 * p) * logs) * p  # grad p = p grad log p
    assert relative_error(attached, token_gradient(logs, made.scores, made, factor)) < 1e-9
    detached_loss, detached = made.gradient(constant(1.0, weight="phi"))
    assert loss.item() == pytest.approx(detached_loss.item(), rel=1e-12)
    assert relative_error(detached, attached) > 0.1


def test_importance_gradient_is_minus_that_of_the_probability() -> None:
    """The gradient of dynamic fine-tuning: p per token times that of SFT."""
    made = fixture(LENGTHS)
    p = made.logprobs.detach().exp()
    _, gradient = made.gradient(constant(1.0, weight="importance"))
    assert relative_error(gradient, p.unsqueeze(-1) * made.gradient(SFT())[1]) < 1e-9
    assert relative_error(gradient, made.gradient(DFT())[1]) < 1e-12
    made.logits.grad = None
    (-made.logprobs.exp()[made.demo].mean()).backward()
    assert made.logits.grad is not None and relative_error(gradient, made.logits.grad) < 1e-9


def test_clipped_importance_and_focal_gradients() -> None:
    made = fixture(LENGTHS)
    p = made.logprobs.detach().exp()
    assert (p[made.demo] > 0.2).any()
    for fields, weights in (
        ({"weight": "importance", "weight_clip": 0.2}, p.clamp(max=0.2)),
        ({"weight": "focal"}, (1 - p) ** 2),
        ({"weight": "focal", "focal_gamma": 0.5}, (1 - p) ** 0.5),
    ):
        expected = token_gradient(p, made.scores, made, weights)
        assert relative_error(made.gradient(constant(1.0, **fields))[1], expected) < 1e-9


def test_entropy_weights_rank_or_divide_within_one_demonstration() -> None:
    made = fixture([(25, 0), (7, 0), (0, 4), (41, 0)])
    p = made.logits.detach().softmax(-1)
    entropies = -(p * p.log()).sum(-1)
    top, share = torch.zeros_like(entropies), torch.zeros_like(entropies)
    for i, (size, kept) in enumerate(((25, 2), (7, 1), (0, 0), (41, 3))):  # 5 % rounded up
        order = sorted(range(size), key=lambda t, i=i: -entropies[i, t].item())
        top[i, order[:kept]] = 1.0
        for t in range(size):
            share[i, t] = entropies[i, t] / entropies[i, order[0]]
    for weight, expected in (("entropy-top", top), ("entropy", share)):
        method = constant(1.0, weight=weight)
        assert method.uses_entropies
        _, gradient = made.gradient(method)
        assert relative_error(gradient, token_gradient(p, made.scores, made, expected)) < 1e-9
        assert gradient.isfinite().all() and not gradient[2].any()
    assert constant(1.0, weight="entropy-top", entropy_share=1.0).weights(made.batch())[made.demo].all()


def test_certain_tokens_have_no_normalised_entropy() -> None:
    made = fixture([(2, 0)], dtype=torch.float32)
    with torch.no_grad():
        made.logits[0].scatter_(-1, made.targets[0].unsqueeze(-1), 1e4)
    loss, gradient = made.gradient(constant(1.0, weight="entropy"))
    assert loss.item() == 0 and gradient.isfinite().all()


def test_phi_peaks_at_a_half_and_its_logit_gradient_at_a_third() -> None:
    p = torch.linspace(0.0005, 0.9995, 1999, dtype=torch.float64)
    weights = constant(1.0, weight="phi").token_weights(p.log())
    assert weights.max().item() == pytest.approx(0.25, rel=1e-9) and p[weights.argmax()].item() == pytest.approx(0.5)
    gradient = weights * (1 - p)
    assert gradient.max().item() == pytest.approx(4 / 27, abs=1e-6)
    assert p[gradient.argmax()].item() == pytest.approx(1 / 3, abs=5e-4)
    logits = torch.tensor([math.log(0.5), math.log(0.5)], dtype=torch.float64).softmax(-1).log()
    assert constant(1.0, weight="phi").token_weights(logits).tolist() == pytest.approx([0.25, 0.25])

"""EAFT: the weight against numbers worked out apart, its limits, and that it carries no gradient."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bench.types import Batch, Requests, Rows
from methods.eaft import EAFT, VARIANTS
from methods.sft import SFT
from tests.methods.batches import collect, example, fixture, relative_error

LENGTHS = [(5, 0), (2, 0), (3, 0), (1, 0)]
METHOD = EAFT()


def one_token(probabilities: list[float], target: int) -> tuple[torch.Tensor, Batch]:
    """Logits of these probabilities, and a batch of one demonstration token."""
    logits = torch.tensor([[probabilities]], dtype=torch.float64).log().requires_grad_()
    logp = logits.log_softmax(-1)
    entropy, chosen, zeros = -(logp.exp() * logp).sum(-1), logp[..., target], torch.zeros(1, 1, dtype=torch.float64)
    demo = torch.tensor([[True]])
    old = chosen.detach()
    return logits, Batch(chosen, entropy, old, old, zeros, demo, ~demo, num_demo=1, num_policy=0, num_trajectories=1)


@pytest.mark.parametrize(
    ("probabilities", "alpha", "weight"),
    [
        ([0.25] * 4, 1.0, 0.462098),  # ln 4 / 3
        ([0.25] * 4, 2.0, 0.213535),
        ([0.25] * 4, 0.5, 0.679778),
        ([0.98, 0.01, 0.01], 1.0, 0.037301),  # sure of the first: hardly any weight
        ([1 / 40] * 40, 1.0, 1.0),  # ln 40 is above 3
    ],
)
def test_loss_and_gradient_of_one_token_by_hand(probabilities: list[float], alpha: float, weight: float) -> None:
    logits, batch = one_token(probabilities, 1)
    loss = EAFT(alpha=alpha).loss(batch).value
    loss.backward()
    assert loss.item() == pytest.approx(-weight * math.log(probabilities[1]), rel=2e-5)
    p = np.array(probabilities)
    expected = weight * (p - np.eye(len(p))[1])  # that of the weight itself is not there
    assert logits.grad is not None and logits.grad[0, 0].numpy() == pytest.approx(expected, rel=2e-5, abs=1e-12)


def test_a_confident_conflict_hardly_moves_the_model_though_sft_moves_it_most() -> None:
    """The paper's point: of two targets with the same probability the one in a sharp distribution counts less."""
    sizes = {}
    for name, probabilities in (("sharp", [0.97, 0.01, 0.01, 0.01]), ("flat", [0.01] * 100)):
        logits, batch = one_token(probabilities, 1)
        METHOD.loss(batch).value.backward()
        assert logits.grad is not None
        sizes[name] = abs(logits.grad[0, 0, 1].item())
    assert sizes["sharp"] < 0.07 * sizes["flat"]


@pytest.mark.parametrize("splits", [None, [[0], [1], [2], [3]], [[3, 0], [2, 1]]])
def test_gradient_is_the_weight_times_that_of_sft(splits: Any) -> None:
    made = fixture(LENGTHS)
    _, gradient = made.gradient(METHOD, splits)
    p = made.logits.detach().softmax(-1).numpy()
    weights = torch.tensor(-(p * np.log(p)).sum(-1) / 3.0)
    expected = -(weights * made.demo).unsqueeze(-1) * made.scores / 11
    assert relative_error(gradient, expected) < 1e-12
    authors = made.gradient(EAFT(**VARIANTS["authors-divisor"]), splits)[1]
    assert (relative_error(authors, gradient) > 1e-3) == (splits is not None)


def test_alpha_0_is_sft_to_the_bit_and_asks_for_nothing() -> None:
    made = fixture(LENGTHS, dtype=torch.float32)
    for splits in (None, [[3, 0], [2, 1]]):
        assert all(map(torch.equal, made.gradient(EAFT(alpha=0.0), splits), made.gradient(SFT(), splits)))
    assert Requests.of(EAFT(alpha=0.0)) == Requests() and Requests.of(METHOD) == Requests(uses_entropies=True)


def test_an_entropy_rounded_below_0_is_0() -> None:
    made = fixture(LENGTHS)
    batch = replace(made.batch(), entropies=torch.full_like(made.batch().entropies, -1e-9))
    assert not EAFT(alpha=0.5).weights(batch).any()


def test_rows_are_those_of_sft() -> None:
    examples = [example(3), example(1, prompt_tokens=6)]
    rows = collect(METHOD, examples)
    assert rows == collect(SFT(), examples)
    assert METHOD.worst_case(examples, 100) == Rows(train=[(len(r), len(r.demo_ids)) for r in rows])


@pytest.mark.parametrize("wrong", [{"alpha": -1.0}, {"scale": 0.0}, {"divisor": "tokens"}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(METHOD, **wrong)

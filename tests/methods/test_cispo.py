"""CISPO: weights are bounded and constant, so that every token keeps a gradient; on-policy it is GRPO's."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bench.types import Requests, Rows
from methods.cispo import CISPO
from methods.grpo import GRPO
from tests.methods.batches import collect, example, fixture, relative_error

LENGTHS = [(0, 1), (0, 2), (0, 3), (0, 4)]
ADVANTAGES = [1.5, -0.5, 2.0, -1.0]
SPLITS: list[Any] = [None, [[0], [1], [2], [3]], [[3, 1], [2, 0]]]
PLAIN = GRPO(kl_coef=0.0, entropy_coef=0.0)
BOUNDED = CISPO(clip_low=0.2, clip_high=0.3)


@pytest.mark.parametrize("splits", SPLITS)
def test_loss_and_gradient_by_hand(splits: Any) -> None:
    made = fixture(LENGTHS, ADVANTAGES, old_shift=0.8, seed=3)
    assert made.old is not None
    now, old, mask = (x.detach().numpy() for x in (made.logprobs, made.old, made.policy))
    ratio = np.exp(now - old)
    assert (ratio[mask] > 1.3).any() and (ratio[mask] < 0.8).any()
    weight = np.clip(ratio, 0.8, 1.3) * np.array(ADVANTAGES)[:, None] * mask / 10
    loss, gradient = made.gradient(BOUNDED, splits)
    assert loss.item() == pytest.approx(-(weight * now)[mask].sum(), rel=1e-12)
    # The weight is a constant: were it not, the gradient would have log pi as a further factor.
    assert relative_error(gradient, torch.tensor(-weight).unsqueeze(-1) * made.scores) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_older_policies_the_gradient_is_that_of_grpo_to_the_bit(dtype: torch.dtype) -> None:
    made = fixture(LENGTHS, ADVANTAGES, dtype=dtype)
    for method in (CISPO(), BOUNDED):
        assert torch.equal(made.gradient(method)[1], made.gradient(PLAIN)[1])
    assert collect(CISPO(), [example()]) == collect(PLAIN, [example()])


@pytest.mark.parametrize(
    ("ratio", "advantage", "factor", "grpo"),
    [(1.5, 1.0, 1.3, 0.0), (0.5, -1.0, 0.8, 0.0), (0.5, 1.0, 0.8, 0.5), (1.5, -1.0, 1.3, 1.5), (1.1, 1.0, 1.1, 1.1)],
)
def test_a_token_outside_keeps_a_bounded_gradient(ratio: float, advantage: float, factor: float, grpo: float) -> None:
    made = fixture([(0, 1)], [advantage])
    made.old = made.logprobs.detach() - math.log(ratio)
    for method, expected in ((BOUNDED, factor), (PLAIN, grpo)):
        wanted = -advantage * expected * made.scores[made.policy]
        assert made.gradient(method)[1][made.policy].flatten().tolist() == pytest.approx(wanted.flatten().tolist())


def test_by_default_only_large_weights_are_bounded() -> None:
    made = fixture([(0, 2)], [1.0])
    old = made.logprobs.detach().clone()
    old[made.policy] -= torch.tensor([math.log(9.0), -math.log(9.0)], dtype=torch.float64)
    made.old = old
    metrics = CISPO().loss(made.batch()).metrics
    assert metrics["clip_share"].item() == 0.5
    _, gradient = made.gradient(CISPO())
    factors = torch.tensor([5.0, 1 / 9], dtype=torch.float64).unsqueeze(-1)
    assert relative_error(gradient[made.policy], -0.5 * factors * made.scores[made.policy]) < 1e-12


def test_an_impossible_ratio_leaves_the_gradient_finite() -> None:
    made = fixture([(0, 2)], [1.0])
    made.old = made.logprobs.detach() - 1e4
    loss, gradient = made.gradient(replace(CISPO(), clip_high=1e9))
    assert math.isfinite(loss.item()) and bool(gradient.isfinite().all())


def test_no_reference_and_a_bound_on_its_rows() -> None:
    assert Requests.of(CISPO()) == Requests()
    assert CISPO(group_size=2).worst_case([example()], 10) == Rows([4], [(4, 10)] * 2, [(14, 10)] * 2)


@pytest.mark.parametrize("wrong", [{"scale": "batch"}, {"group_size": 0}, {"clip_low": 1.5}, {"clip_high": -1.0}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CISPO(**wrong)

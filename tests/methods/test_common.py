"""Closed forms of the shared functions: reductions, surrogate, k3, advantages, schedule, worst cases."""

from __future__ import annotations

import math

import pytest
import torch

from bench.types import Rows
from methods import common
from tests.methods.batches import Scripted, example, fixture, relative_error


def leaf(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_token_mean_ignores_masked_values_even_if_not_finite() -> None:
    values = leaf(1.0, 2.0, math.inf, math.nan)
    mask = torch.tensor([True, True, False, False])
    mean = common.token_mean(values, mask, 4)
    mean.backward()
    assert mean.item() == 0.75
    assert values.grad is not None and values.grad.tolist() == [0.25, 0.25, 0.0, 0.0]


@pytest.mark.parametrize("divisor", [0, torch.tensor(0)])
def test_token_mean_of_no_tokens_is_zero(divisor: int | torch.Tensor) -> None:
    values = leaf(1.0, 2.0)
    mean = common.token_mean(values, torch.zeros(2, dtype=torch.bool), divisor)
    mean.backward()
    assert mean.item() == 0.0
    assert values.grad is not None and not values.grad.any()


def test_surrogate_gradients_at_and_past_the_clip() -> None:
    """Rows: unclipped, past its clip on the side that counts (0), past it on the other side (not 0), for both signs."""
    ratios = torch.tensor([1.0, 1.1, 1.3, 0.5, 0.7, 1.5, 0.9], dtype=torch.float64)
    advantages = torch.tensor([2.0, 2.0, 2.0, 2.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    logprobs = ratios.log().requires_grad_()
    losses = common.clipped_surrogate(logprobs, torch.zeros(7, dtype=torch.float64), advantages, 0.2, 0.2)
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([-2.0, -2.2, -2.4, -1.0, 0.8, 1.5, 0.9])
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-2.0, -2.2, 0.0, -1.0, 0.0, 1.5, 0.9], rel=1e-9)
    assert logprobs.grad[2] == 0 and logprobs.grad[4] == 0


def test_surrogate_sides_have_their_own_limit() -> None:
    ratios = torch.tensor([1.25, 0.75], dtype=torch.float64)
    advantages = torch.tensor([1.0, -1.0], dtype=torch.float64)
    losses = common.clipped_surrogate(ratios.log(), torch.zeros(2, dtype=torch.float64), advantages, 0.2, 0.28)
    assert losses.tolist() == pytest.approx([-1.25, 0.8])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [-3000.0, -30.0, 30.0, 3000.0])
@pytest.mark.parametrize("advantage", [-1.0, 0.0, 1.0])
def test_extreme_ratios_stay_finite(dtype: torch.dtype, gap: float, advantage: float) -> None:
    logprobs = torch.tensor([gap], dtype=dtype, requires_grad=True)
    zero = torch.zeros(1, dtype=dtype)
    loss = common.clipped_surrogate(logprobs, zero, zero + advantage, 0.2, 0.2) + common.k3_kl(logprobs, zero)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert logprobs.grad is not None and torch.isfinite(logprobs.grad).all()


def test_k3_is_zero_with_zero_gradient_at_the_reference() -> None:
    made = fixture([(0, 4), (0, 2)])
    values = common.k3_kl(made.logprobs, made.logprobs.detach())
    values.sum().backward()
    assert not values.any()
    assert made.logits.grad is not None and not made.logits.grad.any()


def test_k3_is_positive_elsewhere_and_its_gradient_is_closed_form() -> None:
    made = fixture([(0, 4), (0, 2)], ref_shift=0.5)
    assert made.ref is not None
    values = common.k3_kl(made.logprobs, made.ref)
    values.sum().backward()
    assert (values > 0).all()
    expected = (1 - (made.ref - made.logprobs.detach()).exp()).unsqueeze(-1) * made.scores
    assert made.logits.grad is not None
    assert relative_error(made.logits.grad, expected) < 1e-9


def test_k3_has_the_divergence_as_its_mean_over_the_policy() -> None:
    generator = torch.Generator().manual_seed(1)
    policy, reference = (0.5 * torch.randn((2, 9), generator=generator, dtype=torch.float64)).log_softmax(-1)
    mean = (policy.exp() * common.k3_kl(policy, reference)).sum()
    divergence = (policy.exp() * (policy - reference)).sum()
    assert mean.item() == pytest.approx(divergence.item(), rel=1e-12)


def test_k3_is_clamped_at_ten() -> None:
    logprobs = leaf(-2.0, -4.0)
    values = common.k3_kl(logprobs, torch.zeros(2, dtype=torch.float64))
    values.sum().backward()
    assert values.tolist() == pytest.approx([math.exp(2) - 3, 10.0])
    assert logprobs.grad is not None and logprobs.grad[1] == 0 and logprobs.grad[0] != 0


def test_advantages_of_one_success() -> None:
    assert common.group_advantages([1, 0, 0, 0], eps=0) == pytest.approx([1.5, -0.5, -0.5, -0.5])
    eight = common.group_advantages([1, *[0] * 7], eps=0)
    assert eight[:2] == pytest.approx([2.4749, -0.3536], abs=5e-5)


def test_advantages_of_the_shaped_group() -> None:
    values = common.group_advantages([1, 0.1, 0.1, 0], eps=1e-4)
    assert values == pytest.approx([1.49209, -0.42631, -0.42631, -0.63947], abs=5e-6)


@pytest.mark.parametrize("scale", common.SCALES)
def test_advantages_sum_to_zero_and_vanish_for_equal_rewards(scale: str) -> None:
    assert sum(common.group_advantages([1, 0.1, 0.1, 0, 1], scale)) == pytest.approx(0, abs=1e-12)
    for reward in (0.0, 0.1, 1.0):
        for size in range(2, 9):
            assert common.group_advantages([reward] * size, scale) == [0.0] * size


def test_advantages_under_shift_and_scale() -> None:
    rewards = [1, 0.1, 0.1, 0]
    shifted, scaled = [r + 3 for r in rewards], [r * 7 for r in rewards]
    for scale in common.SCALES:
        assert common.group_advantages(shifted, scale) == pytest.approx(common.group_advantages(rewards, scale))
    assert common.group_advantages(scaled, "std", 0) == pytest.approx(common.group_advantages(rewards, "std", 0))
    assert common.group_advantages(scaled, "none") != pytest.approx(common.group_advantages(rewards, "none"))


def test_a_group_of_one_keeps_its_reward() -> None:
    assert common.group_advantages([0.1]) == pytest.approx([0.1], rel=1e-5)
    assert common.group_advantages([0.1], "none") == [0.1]


def test_cosine_ends_and_middle() -> None:
    assert common.cosine(0, 1.0, 0.2, 0.5) == 1.0
    assert common.cosine(0.25, 1.0, 0.2, 0.5) == pytest.approx(0.6)
    assert common.cosine(0.5, 1.0, 0.2, 0.5) == common.cosine(0.9, 1.0, 0.2, 0.5) == 0.2
    assert common.cosine(0.0, 1.0, 0.2, 0.0) == 0.2


def test_grouped_keeps_order_prefix_and_group() -> None:
    examples = [example(name="a"), example(name="b")]
    prefixes: list[tuple[int, ...]] = [(1, 2), ()]
    rows = common.grouped(examples, Scripted().sample(examples, prefixes, 3), "none", prefixes=prefixes)
    assert [row.group for row in rows] == [0, 0, 0, 1, 1, 1]
    assert [row.demo_ids for row in rows] == [(1, 2)] * 3 + [()] * 3
    assert [row.reward for row in rows] == [1.0, 0.1, 0.0] * 2
    assert [row.correct for row in rows] == [True, False, False] * 2
    assert [len(row.completion_ids) for row in rows] == [1, 2, 3] * 2
    assert all(len(row.old_logprobs) == len(row.completion_ids) for row in rows)
    assert sum(row.advantage for row in rows[:3]) == pytest.approx(0, abs=1e-12)


def test_worst_case_rows() -> None:
    rows = common.rollout_rows([(4, 0), (5, 2)], group_size=2, max_new_tokens=10)
    assert rows == Rows(
        prefill=[4, 7],
        decode=[(4, 10), (4, 10), (7, 10), (7, 10)],
        train=[(14, 10), (14, 10), (17, 12), (17, 12)],
    )
    one = example(num_steps=2)  # 5 step tokens, 2 of the ending, EOS
    assert common.demonstration_rows([one]) == Rows(train=[(12, 8)])
    both = common.joined(common.demonstration_rows([one]), Rows([1], [(1, 2)], [(3, 2)]), Rows())
    assert both == Rows([1], [(1, 2)], [(12, 8), (3, 2)])

"""GSPO: one ratio per answer, kept or clipped as a whole; GRPO where answers have one token or nothing has moved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bench.types import Requests, Rows
from methods.grpo import GRPO
from methods.gspo import GSPO
from tests.methods.batches import collect, example, fixture, relative_error

LENGTHS = [(0, 1), (0, 2), (0, 3), (0, 4)]
ADVANTAGES = [1.5, -0.5, 2.0, -1.0]
SPLITS: list[Any] = [None, [[0], [1], [2], [3]], [[3, 1], [2, 0]]]
WIDE = GSPO(clip_low=0.1, clip_high=0.1)
PLAIN = GRPO(aggregation="grpo", kl_coef=0.0, entropy_coef=0.0)


@pytest.mark.parametrize("splits", SPLITS)
def test_loss_and_gradient_by_hand(splits: Any) -> None:
    """In numpy, answer by answer, with some of them clipped."""
    made = fixture(LENGTHS, ADVANTAGES, old_shift=0.3, seed=3)
    assert made.old is not None
    now, old, mask = (x.detach().numpy() for x in (made.logprobs, made.old, made.policy))
    weights, loss, clipped = np.zeros(now.shape), 0.0, 0
    for i, a in enumerate(ADVANTAGES):
        n = mask[i].sum()
        s = np.exp((now[i] - old[i])[mask[i]].mean())
        out = s > 1.1 if a > 0 else s < 0.9
        clipped += out
        loss -= min(s * a, np.clip(s, 0.9, 1.1) * a) / 4
        weights[i, mask[i]] = 0.0 if out else -s * a / n / 4
    assert 0 < clipped < 4
    ours, gradient = made.gradient(WIDE, splits)
    assert ours.item() == pytest.approx(loss, rel=1e-12)
    assert relative_error(gradient, torch.tensor(weights).unsqueeze(-1) * made.scores) < 1e-12


def test_answers_of_one_token_make_it_grpo() -> None:
    made = fixture([(0, 1)] * 4, ADVANTAGES, old_shift=0.3)
    ours, theirs = made.gradient(WIDE), made.gradient(replace(PLAIN, clip_low=0.1, clip_high=0.1))
    assert ours[0].item() == pytest.approx(theirs[0].item(), rel=1e-12)
    assert relative_error(ours[1], theirs[1]) < 1e-12 and theirs[1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_older_policies_it_is_grpo_to_the_bit(dtype: torch.dtype) -> None:
    made = fixture(LENGTHS, ADVANTAGES, dtype=dtype)
    assert all(map(torch.equal, made.gradient(GSPO()), made.gradient(PLAIN)))
    assert collect(GSPO(), [example()]) == collect(PLAIN, [example()])


def test_tokens_that_move_apart_cancel_in_an_answers_ratio() -> None:
    """Two tokens at ratios 2 and 1/2: GRPO clips the first, here the answer's ratio is 1 and both count alike."""
    made = fixture([(0, 2)], [1.0])
    shift = torch.tensor([[np.log(2.0), -np.log(2.0)]])
    old = made.logprobs.detach().clone()
    old[made.policy] -= shift.flatten()
    made.old = old
    _, gradient = made.gradient(GSPO())
    assert relative_error(gradient, (-0.5 * made.policy).unsqueeze(-1) * made.scores) < 1e-12
    _, theirs = made.gradient(PLAIN)
    assert not theirs[made.policy][0].any() and theirs[made.policy][1].any()


def test_the_narrow_clip_is_not_blurred_by_rounding() -> None:
    """In float32, at log-probabilities of -60, whose spacing of 4e-6 is a hundredth of the clip's width."""
    made = fixture([(0, 3)], [1.0], dtype=torch.float32)
    batch = made.batch()
    logprobs = torch.where(made.policy, -60.0, 0.0).requires_grad_()
    old = logprobs.detach().clone()
    old[0, 0] -= 101 * 2.0**-18  # of that spacing; a third of it, the mean, is no multiple
    exact = float((logprobs.detach() - old)[made.policy].double().mean())
    loss = GSPO(clip_high=1.0).loss(replace(batch, logprobs=logprobs, old_logprobs=old))
    assert loss.value.item() == pytest.approx(-np.exp(exact), abs=1.2e-7), "one unit in the last place"


def test_no_reference_and_a_bound_on_its_rows() -> None:
    assert Requests.of(GSPO()) == Requests()
    assert GSPO(group_size=2).worst_case([example()], 10) == Rows([4], [(4, 10)] * 2, [(14, 10)] * 2)


@pytest.mark.parametrize("wrong", [{"scale": "batch"}, {"group_size": 0}, {"clip_low": -0.1}, {"clip_high": -1.0}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GSPO(**wrong)

"""Dr. GRPO by name: no lengths and no deviation, hence equal weights, and GRPO with those fields to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.plan.spec import resolve
from bench.types import Requests, UserError
from methods import dr_grpo
from methods.grpo import GRPO
from tests.methods.batches import Scripted, collect, example, fixture, relative_error

LENGTHS = [(0, 1), (0, 2), (0, 3), (0, 4)]
SPLITS = [None, [[0], [1], [2], [3]], [[3, 1], [2, 0]]]


def test_advantages_are_centred_and_not_scaled() -> None:
    rows = collect(dr_grpo.METHOD(group_size=4), [example()])
    rewards = np.array([1.0, 0.1, 0.0, 1.0])
    assert [row.advantage for row in rows] == pytest.approx(list(rewards - rewards.mean()), abs=1e-12)


@pytest.mark.parametrize("splits", SPLITS)
def test_every_token_has_the_same_weight_however_long_its_answer_is(splits: list[list[int]] | None) -> None:
    made = fixture(LENGTHS, [1.5, -0.5, 2.0, -1.0])
    loss, gradient = made.gradient(dr_grpo.METHOD(max_tokens=5), splits)
    a, lengths = np.array([1.5, -0.5, 2.0, -1.0]), np.array([1, 2, 3, 4])
    assert loss.item() == pytest.approx(-(a * lengths).sum() / (4 * 5))
    expected = (-made.advantages * made.policy / 20).unsqueeze(-1) * made.scores
    assert relative_error(gradient, expected) < 1e-12


def test_it_is_grpo_with_these_fields_to_the_bit() -> None:
    fields = {"kl_coef": 0.1, "entropy_coef": 0.1, "max_tokens": 8, "group_size": 3}
    ours, theirs = dr_grpo.METHOD(**fields), GRPO(aggregation="dr_grpo", scale="none", **fields)
    assert collect(ours, [example()]) == collect(theirs, [example()])
    made = fixture(LENGTHS, [1.5, -0.5, 2.0, -1.0], old_shift=0.5, ref_shift=0.5)
    assert all(map(torch.equal, made.gradient(ours), made.gradient(theirs)))
    assert Requests.of(dr_grpo.METHOD()) == Requests(), "no reference is charged by default"


def test_a_group_with_equal_rewards_has_no_gradient() -> None:
    rows = dr_grpo.METHOD(group_size=4).collect([example()], Scripted(reward=lambda *_: 0.1))
    assert [row.advantage for row in rows] == [0.0] * 4


@pytest.mark.parametrize("field", ["aggregation", "scale", "eps"])
def test_what_makes_it_cannot_be_set(field: str) -> None:
    with pytest.raises(UserError, match=f"dr_grpo.{field} is fixed"):
        resolve("dr_grpo", None, {}, {field: "1"})


def test_impossible_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="max_tokens"):
        dr_grpo.METHOD(max_tokens=0)

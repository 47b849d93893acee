"""The control with random rewards: GRPO in all but the reward, which knows nothing of the completion."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from statistics import fmean
from typing import Any

import pytest
import torch

from bench.types import Requests, Trajectory
from methods import common
from methods.grpo import GRPO
from methods.random_reward import RandomReward
from tests.methods.batches import Scripted, collect, example, fixture

EXAMPLES = [example(n, name=str(n)) for n in (1, 3, 5, 8)]
SPLITS = [[[0], [1], [2], [3]], [[3, 1], [2, 0]]]


def bare(row: Trajectory) -> Trajectory:
    """The row without what follows from its reward."""
    return replace(row, reward=0.0, advantage=0.0)


def test_settings_are_those_of_grpo() -> None:
    ours, theirs = RandomReward(), GRPO()
    assert {f.name for f in fields(RandomReward)} - {f.name for f in fields(GRPO)} == {"chance"}
    assert all(getattr(ours, f.name) == getattr(theirs, f.name) for f in fields(GRPO))
    assert Requests.of(ours) == Requests.of(theirs)
    assert ours.worst_case(EXAMPLES, 10) == theirs.worst_case(EXAMPLES, 10)


@pytest.mark.parametrize("splits", [None, *SPLITS])
def test_loss_is_that_of_grpo_bit_for_bit(splits: Any) -> None:
    made = fixture([(0, 2), (0, 4), (0, 1), (0, 3)], [1.5, -0.5, 2.0, -1.0], old_shift=0.3, ref_shift=0.5)
    assert all(map(torch.equal, made.gradient(RandomReward(), splits), made.gradient(GRPO(), splits)))


def test_only_rewards_and_advantages_differ_from_grpo() -> None:
    rows, expected = collect(RandomReward(), EXAMPLES), collect(GRPO(), EXAMPLES)
    assert rows != expected
    assert list(map(bare, rows)) == list(map(bare, expected))  # correctness included
    for group in range(4):
        part = [row for row in rows if row.group == group]
        assert {row.reward for row in part} <= {0.0, 1.0}
        assert [row.advantage for row in part] == common.group_advantages([row.reward for row in part])


def test_rewards_ignore_the_completions() -> None:
    def rewards(true: float, seed: int) -> list[float]:
        ctx = Scripted(rng=random.Random(seed), reward=lambda e, p, i: true)
        return [row.reward for row in RandomReward(group_size=8).collect(EXAMPLES, ctx)]

    assert rewards(0.0, 1) == rewards(1.0, 1) != rewards(1.0, 2)


@pytest.mark.parametrize("chance", [0.0, 0.125, 0.5, 1.0])
def test_rewards_have_their_chance(chance: float) -> None:
    rows = collect(RandomReward(chance=chance, group_size=1000), EXAMPLES)
    assert fmean(row.reward for row in rows) == pytest.approx(chance, abs=0.03)
    if chance in {0.0, 1.0}:
        assert {row.advantage for row in rows} == {0.0}


@pytest.mark.parametrize("wrong", [{"chance": 1.5}, {"chance": -0.1}, {"group_size": 0}, {"scale": "batch"}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RandomReward(**wrong)

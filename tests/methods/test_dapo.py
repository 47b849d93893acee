"""DAPO: which prompts are asked and kept, what length costs, and GRPO where all of that is off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bench.types import Completion, Requests, Rows, Verdict
from methods.dapo import DAPO, punished
from methods.grpo import GRPO
from tests.methods.batches import Scripted, collect, example, fixture, relative_error

EXAMPLES = [example(n, name=str(n)) for n in range(1, 7)]
LENGTHS = [(0, 1), (0, 2), (0, 3), (0, 4)]
ADVANTAGES = [1.5, -0.5, 2.0, -1.0]
NEUTRAL = DAPO(keep="all", overlong_tokens=0, group_size=4)
PLAIN = GRPO(clip_high=0.28, kl_coef=0.0, entropy_coef=0.0, weight_decay=0.1)


def script(**rewards: tuple[float, ...]) -> Scripted:
    """Rewards of each prompt's rollouts by its name; 1 is correct."""
    return Scripted(reward=lambda e, prefix, i: rewards[f"p{e.id}"][i])


def test_with_all_groups_and_no_punishment_it_is_grpo_with_a_higher_clip() -> None:
    ctx = Scripted()
    assert NEUTRAL.collect(EXAMPLES, ctx) == collect(PLAIN, EXAMPLES)
    assert ctx.calls == [(EXAMPLES, [()] * 6, 4)]
    made = fixture(LENGTHS, ADVANTAGES, old_shift=0.5)
    for splits in (None, [[0], [1], [2], [3]], [[3, 1], [2, 0]]):
        assert all(map(torch.equal, made.gradient(NEUTRAL, splits), made.gradient(PLAIN, splits)))
    assert Requests.of(NEUTRAL) == Requests()
    assert NEUTRAL.worst_case(EXAMPLES, 10) == PLAIN.worst_case(EXAMPLES, 10)


def test_gradient_by_hand() -> None:
    made = fixture(LENGTHS, ADVANTAGES, old_shift=0.8, seed=1)
    assert made.old is not None
    now, old, mask = (x.detach().numpy() for x in (made.logprobs, made.old, made.policy))
    a, ratio = np.array(ADVANTAGES)[:, None], np.exp(now - old)
    out = np.where(a > 0, ratio > 1.28, ratio < 0.8) & mask
    assert (out & (a > 0)).any() and (out & (a < 0)).any()
    weight = torch.tensor(np.where(out | ~mask, 0.0, -a * ratio / 10))
    assert relative_error(made.gradient(DAPO())[1], weight.unsqueeze(-1) * made.scores) < 1e-12


def test_it_asks_for_as_many_prompts_as_are_missing() -> None:
    """Six prompts, two groups wanted: 1 is solved, 2 hopeless, 3 and 5 mixed; 6 is never asked."""
    ctx = script(p1=(1, 1), p2=(0.1, 0), p3=(1, 0), p4=(0, 0), p5=(0, 1), p6=(1, 0))
    rows = DAPO(group_size=2, oversampling=3).collect(EXAMPLES, ctx)
    asked = [[e.id for e in examples] for examples, _, _ in ctx.calls]
    assert asked == [["1", "2"], ["3", "4"], ["5"]]
    assert [(row.group, row.reward) for row in rows] == [(2, 1), (2, 0), (4, 0), (4, 1)]
    assert [EXAMPLES[row.group].prompt_ids for row in rows] == [row.prompt_ids for row in rows]
    assert [row.advantage for row in rows] == pytest.approx([h := 0.5**0.5, -h, -h, h], abs=1e-5)


def test_shaped_rewards_do_not_make_a_group_mixed() -> None:
    ctx = script(**{f"p{n}": (0.1, 0.0) for n in range(1, 7)})
    assert DAPO(group_size=2).collect(EXAMPLES, ctx) == [] and len(ctx.calls) == 3
    assert (
        len(DAPO(group_size=2, keep="all").collect(EXAMPLES, script(**{f"p{n}": (0.1, 0.0) for n in range(1, 7)})))
        == 12
    )


def test_without_oversampling_it_only_filters() -> None:
    ctx = script(p1=(1, 1), p2=(0, 0), p3=(1, 0), p4=(0, 0), p5=(0, 1), p6=(1, 0))
    rows = DAPO(group_size=2, oversampling=1).collect(EXAMPLES, ctx)
    asked = [[e.id for e in examples] for examples, _, _ in ctx.calls]
    assert asked == [["1", "2", "3", "4", "5", "6"]] and {row.group for row in rows} == {2, 4, 5}


def test_a_prompt_that_comes_twice_in_a_step_keeps_two_groups() -> None:
    twice = [EXAMPLES[0], EXAMPLES[1], EXAMPLES[0]]
    rows = DAPO(group_size=2, oversampling=1).collect(twice, Scripted(reward=lambda e, p, i: float(i == 0)))
    assert [row.group for row in rows] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("length", [1, 79, 80, 81, 90, 100, 130])
def test_punishment_of_length_is_equation_13(length: int) -> None:
    limit, cache = 100, 20
    if length <= limit - cache:
        expected = 0.0
    elif length <= limit:
        expected = ((limit - cache) - length) / cache
    else:
        expected = -1.0
    completion = Completion((7,) * length, (0.0,) * length, "", "stop", Verdict(True, 1.0, "right"))
    assert punished(completion, limit, cache).verdict.reward == pytest.approx(1.0 + expected)
    assert punished(completion, limit, cache).verdict.correct
    assert punished(completion, limit, 0) == completion


def test_punished_rewards_make_the_advantages() -> None:
    """Rollout i has i + 1 tokens: with 4 tokens at most, of which the last two cost, rewards are 1, 0, -0.5, 0."""
    ctx = Scripted(reward=lambda e, p, i: (1.0, 0.0, 0.0, 1.0)[i])
    rows = DAPO(group_size=4, max_tokens=4, overlong_tokens=2, oversampling=1).collect([example()], ctx)
    assert [row.reward for row in rows] == [1.0, 0.0, -0.5, 0.0]
    rewards = np.array([1.0, 0.0, -0.5, 0.0])
    expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)
    assert [row.advantage for row in rows] == pytest.approx(list(expected))


def test_worst_case_samples_all_and_trains_on_the_longest() -> None:
    examples = [example(prompt_tokens=n) for n in (4, 9, 7)]
    rows = DAPO(group_size=2, oversampling=2).worst_case(examples, 10)
    assert rows == Rows([4, 9, 7], [(n, 10) for n in (4, 4, 9, 9, 7, 7)], [(19, 10)] * 2 + [(17, 10)] * 2)
    kept = replace(DAPO(group_size=2), oversampling=2).collect(examples, Scripted(reward=lambda e, p, i: float(i)))
    assert len(kept) == len(rows.train)


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep": "some"},
        {"scale": "batch"},
        {"oversampling": 0},
        {"overlong_tokens": 9, "max_tokens": 8},
        {"overlong_tokens": -1},
        {"clip_low": -1.0},
    ],
)
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DAPO(**wrong)

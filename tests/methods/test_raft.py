"""Golden properties of RAFT: what is kept, likelihood of the kept; identity 11 is in test_identities_rl.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.types import Requests, Rows
from methods.raft import RAFT, VARIANTS
from methods.sft import SFT
from tests.methods.batches import Fixture, Scripted, collect, example, fixture, relative_error

LENGTHS = [(0, 3), (0, 2), (0, 4), (0, 1), (0, 5)]
REWARDS = [1.0, 0.0, 1.0, 0.0, 1.0]
SPLITS = [[[0, 1, 2]], [[0], [1], [2]], [[2, 0], [1]]]


def kept(made: Fixture) -> Fixture:
    """The rows with a reward."""
    tensors = {name: value for name, value in vars(made).items() if isinstance(value, torch.Tensor)}
    rows = {name: value[made.advantages[:, 0] > 0] for name, value in tensors.items()}
    rows["logits"] = rows["logits"].detach().requires_grad_()
    return Fixture(**rows)


def test_gradient_is_closed_form() -> None:
    made = fixture(LENGTHS)
    loss, gradient = made.gradient(RAFT())
    expected = -made.scores * made.policy.unsqueeze(-1) / 15
    assert relative_error(gradient, expected) < 1e-9
    assert not gradient[~made.policy].any()
    assert loss.item() == pytest.approx(-made.logprobs[made.policy].mean().item(), rel=1e-12)


def test_loss_is_that_of_sft_on_the_kept_answers() -> None:
    made = fixture(LENGTHS)
    found = made.gradient(RAFT())
    made.demo, made.policy = made.policy, made.demo
    assert all(map(torch.equal, found, made.gradient(SFT())))


def test_advantages_and_old_probabilities_play_no_part() -> None:
    plain = fixture(LENGTHS).gradient(RAFT())
    other = fixture(LENGTHS, REWARDS, old_shift=0.5, ref_shift=0.5).gradient(RAFT())
    assert all(map(torch.equal, plain, other))


@pytest.mark.parametrize("splits", SPLITS)
def test_any_micro_batches_give_the_same_gradient(splits: list[list[int]]) -> None:
    made = kept(fixture(LENGTHS, REWARDS))
    loss, gradient = made.gradient(RAFT())
    split_loss, split_gradient = made.gradient(RAFT(), splits)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(split_gradient, gradient) < 1e-12


def test_correct_answers_are_kept_with_their_group() -> None:
    ctx = Scripted()
    examples = [example(name="a"), example(name="b", prompt_tokens=6)]
    rows = RAFT().collect(examples, ctx)
    assert ctx.calls == [(examples, [(), ()], 4)]
    assert [(row.group, len(row.completion_ids), row.correct) for row in rows] == [
        (0, 1, True),
        (0, 4, True),
        (1, 1, True),
        (1, 4, True),
    ]
    assert [row.prompt_ids for row in rows] == [examples[row.group].prompt_ids for row in rows]
    assert all(row.demo_ids == () for row in rows)


def test_nothing_is_kept_where_nothing_is_correct() -> None:
    wrong = Scripted(reward=lambda example, prefix, index: 0.1)
    assert RAFT().collect([example(), example()], wrong) == []


def test_best_of_keeps_one_per_prompt() -> None:
    rewards = {"a": [0.0, 0.1, 0.1, 0.0], "b": [0.1, 1.0, 0.0, 1.0]}
    ctx = Scripted(reward=lambda example, prefix, index: rewards[example.id][index])
    rows = RAFT(**VARIANTS["best-of"]).collect([example(name="a"), example(name="b")], ctx)
    assert [(row.group, len(row.completion_ids), row.reward) for row in rows] == [(0, 2, 0.1), (1, 2, 1.0)]


def test_worst_case_bounds_the_collected_rows() -> None:
    examples = [example(), example(prompt_tokens=7)]
    assert RAFT(group_size=2).worst_case(examples, 10) == Rows(
        [4, 7], [(4, 10)] * 2 + [(7, 10)] * 2, [(14, 10)] * 2 + [(17, 10)] * 2
    )
    best = RAFT(group_size=2, keep="best").worst_case(examples, 10)
    assert best == Rows([4, 7], [(4, 10)] * 2 + [(7, 10)] * 2, [(14, 10), (17, 10)])
    assert len(collect(RAFT(keep="best"), examples)) == 2


def test_needs_neither_reference_nor_entropies() -> None:
    assert Requests.of(RAFT()) == Requests()


@pytest.mark.parametrize("wrong", [{"keep": "all"}, {"group_size": 0}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RAFT(**wrong)

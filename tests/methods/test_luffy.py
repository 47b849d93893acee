"""Golden properties of LUFFY: advantages, shaped gradients, limits; identities 7 and 12: test_identities_rl.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.types import Example, Requests, Rows
from methods import common
from methods.grpo import GRPO
from methods.luffy import LUFFY, VARIANTS
from tests.methods.batches import Fixture, Scripted, example, fixture, relative_error

BARE = LUFFY(entropy_coef=0.0, max_tokens=8)
LENGTHS = [(0, 2), (0, 4), (5, 0), (0, 3), (3, 0)]
ADVANTAGES = [1.5, -0.5, 0.875, -2.0, 0.25]
SPLITS: list[Any] = [None, [[0], [1], [2], [3], [4]], [[4, 1], [2, 0, 3]]]


def wrong(example: Example, prefix: tuple[int, ...], index: int) -> float:
    return 0.0


def probabilities(made: Fixture) -> torch.Tensor:
    return made.logprobs.detach().exp().unsqueeze(-1)


def test_advantages_when_only_the_demonstration_is_right() -> None:
    examples = [example(3, name="a"), example(5, name="b")]
    ctx = Scripted(reward=wrong)
    rows = LUFFY().collect(examples, ctx)
    assert ctx.calls == [(examples, [(), ()], 7)] and len(rows) == 16
    for i, one in enumerate(examples):
        group = rows[8 * i : 8 * i + 8]
        assert {row.group for row in group} == {i} and {row.prompt_ids for row in group} == {one.prompt_ids}
        assert [row.advantage for row in group] == [-0.125] * 7 + [0.0]
        assert [row.demo_advantage for row in group] == [0.0] * 7 + [0.875]
        assert [row.demo_ids for row in group] == [()] * 7 + [one.demo_ids]
        assert [bool(row.completion_ids) for row in group] == [True] * 7 + [False]


def test_advantages_sum_to_zero_and_vanish_when_all_are_right() -> None:
    rows = LUFFY().collect([example(3)], Scripted())
    assert sum(row.advantage + row.demo_advantage for row in rows) == pytest.approx(0, abs=1e-12)
    rows = LUFFY().collect([example(3)], Scripted(reward=lambda *_: 1.0))
    assert {(row.advantage, row.demo_advantage) for row in rows} == {(0.0, 0.0)}


def test_gradients_of_both_parts() -> None:
    made = fixture(LENGTHS, ADVANTAGES, old_shift=0.5)
    assert made.old is not None
    p, ratio = probabilities(made), (made.logprobs.detach() - made.old).exp().unsqueeze(-1)
    _, gradient = made.gradient(BARE)
    a = made.advantages.unsqueeze(-1)
    weights = torch.where(made.demo.unsqueeze(-1), 0.1 * p / (p + 0.1) ** 2, ratio)
    expected = -a * weights * made.scores * (made.demo | made.policy).unsqueeze(-1) / (5 * 8)
    assert relative_error(gradient, expected) < 1e-9


def test_large_gamma_is_importance_weighting() -> None:
    made = fixture(LENGTHS, ADVANTAGES)
    made.policy = torch.zeros_like(made.policy)
    _, gradient = made.gradient(replace(BARE, gamma=1e12))
    _, importance = made.gradient(replace(BARE, shaping="importance"))
    assert relative_error(1e12 * gradient, importance) < 1e-9
    a, p = made.advantages.unsqueeze(-1), probabilities(made)
    assert relative_error(importance, -a * p * made.scores * made.demo.unsqueeze(-1) / 40) < 1e-9


def test_shape_of_the_weight() -> None:
    """gamma p / (p + gamma)^2 is 1/4 at p = gamma; the logit gradient vanishes at both ends."""
    p = torch.linspace(1e-4, 1 - 1e-4, 9999, dtype=torch.float64)
    logprobs = p.log().requires_grad_()
    common.shaped_probability(logprobs, LUFFY().gamma).sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.max().item() == pytest.approx(0.25, rel=1e-9)
    assert p[logprobs.grad.argmax()].item() == pytest.approx(0.1, abs=1e-4)
    logit = logprobs.grad * (1 - p)
    assert relative_error(logit, 0.1 * p * (1 - p) / (p + 0.1) ** 2) < 1e-9
    assert logit[0] < 2e-3 and logit[-1] < 2e-4 < logit.max()


@pytest.mark.parametrize("splits", SPLITS)
def test_without_demonstration_it_is_group_mean_reinforce(splits: Any) -> None:
    examples = [example(n, name=str(n)) for n in (1, 3, 5)]
    grpo = GRPO(group_size=8, scale="none", aggregation="dr_grpo", max_tokens=8, kl_coef=0.0, entropy_coef=0.0)
    assert LUFFY(guided=False).collect(examples, Scripted()) == grpo.collect(examples, Scripted())
    made = fixture([(0, n) for n in (2, 4, 1, 3, 5)], ADVANTAGES)
    _, gradient = made.gradient(BARE, splits)
    expected = -(made.advantages * made.policy).unsqueeze(-1) * made.scores / (5 * 8)
    assert relative_error(gradient, expected) < 1e-9


def test_entropy_bonus_is_for_rollout_tokens() -> None:
    made = fixture(LENGTHS)
    p = made.logits.detach().softmax(-1)
    entropy = -(p * p.log()).sum(-1, keepdim=True)
    _, gradient = made.gradient(LUFFY(max_tokens=8))
    expected = 0.001 * (p * (p.log() + entropy)) * made.policy.unsqueeze(-1) / (5 * 8)
    assert relative_error(gradient, expected) < 1e-9
    assert Requests.of(LUFFY()) == Requests(uses_entropies=True) and Requests.of(BARE) == Requests()


@pytest.mark.parametrize("splits", SPLITS[1:])
def test_any_micro_batches_give_the_same_gradient(splits: Any) -> None:
    made = fixture(LENGTHS, ADVANTAGES, old_shift=0.3)
    for method in (LUFFY(), LUFFY(clip=0.2), LUFFY(shaping="importance")):
        assert relative_error(made.gradient(method, splits)[1], made.gradient(method)[1]) < 1e-12


def test_worst_case_holds_rollouts_and_demonstrations() -> None:
    one = example(3)  # 4 + 10 tokens
    assert LUFFY(group_size=3).worst_case([one], 10) == Rows([4], [(4, 10)] * 2, [(14, 10)] * 2 + [(14, 10)])
    assert LUFFY(group_size=3, guided=False).worst_case([one], 9) == Rows([4], [(4, 9)] * 3, [(13, 9)] * 3)
    assert LUFFY(**VARIANTS["no-demo"]).num_rollouts == 8


@pytest.mark.parametrize("wrong", [{"shaping": "log"}, {"gamma": 0.0}, {"group_size": 1}, {"clip": -1.0}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LUFFY(**wrong)

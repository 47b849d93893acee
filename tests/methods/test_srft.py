"""Golden properties of SRFT: its two weights, the three parts of its gradient, advantages, and fixed weighting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.types import Example, Requests, Rows
from methods.sft import SFT
from methods.srft import SRFT, VARIANTS
from tests.methods.batches import Fixture, Scripted, example, fixture, relative_error

LENGTHS = [(5, 0), (0, 3), (0, 4), (3, 0)]
ADVANTAGES = [1.75, 1.0, -1.0, 0.25]  # demonstrations: the group's advantage; rollouts: their sign
SPLITS = [[[0], [1], [2], [3]], [[3, 1], [2, 0]], [[1, 0, 3, 2]]]


def entropies(made: Fixture) -> torch.Tensor:
    p = made.logits.detach().softmax(-1)
    return -(p * p.log()).sum(-1)


def level(made: Fixture, by_token: bool) -> torch.Tensor:
    """H of each target: its own, or the mean over the targets of its row."""
    own, mask = entropies(made), made.demo | made.policy
    mean = torch.stack([values[used].mean() for values, used in zip(own, mask, strict=True)])
    return own if by_token else mean.unsqueeze(1).expand_as(own)


def by_hand(made: Fixture, by_token: bool = False, gamma: float = 0.0) -> torch.Tensor:
    """Gradient with respect to the logits: eight demonstration tokens, seven of rollouts."""
    h, p, a = level(made, by_token), made.logprobs.detach().exp(), made.advantages
    off_policy = a * (gamma * p / (p + gamma) ** 2 if gamma else p)
    demo = (0.5 * (-h).exp() + off_policy) / 8
    own = torch.where(a > 0, 0.1 * h.exp(), -1.0) / 7
    return -(torch.where(made.demo, demo, own) * (made.demo | made.policy)).unsqueeze(-1) * made.scores


@pytest.mark.parametrize(("h", "w_sft", "w_rl"), [(0.0, 0.5, 0.1), (0.5, 0.303, 0.165), (1.0, 0.184, 0.272)])
def test_weights_of_the_paper(h: float, w_sft: float, w_rl: float) -> None:
    made, one = fixture([(3, 0), (0, 3)]), SRFT()
    batch = replace(made.batch(), entropies=torch.full((2, 4), h, requires_grad=True), advantages=torch.ones(2, 4))
    found = one.loss(batch)
    assert float(found.metrics["demo_weight"]) == pytest.approx(w_sft, abs=5e-4)
    assert float(found.metrics["policy_weight"]) == pytest.approx(w_rl, abs=5e-4)
    found.value.backward()
    assert batch.entropies.grad is None, "the weights carry no gradient"


@pytest.mark.parametrize("by_token", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 0.1])
def test_gradient_is_closed_form(by_token: bool, gamma: float) -> None:
    made = fixture(LENGTHS, ADVANTAGES, old_shift=0.5)  # old probabilities play no part
    method = SRFT(entropy_level="token" if by_token else "sequence", gamma=gamma)
    assert relative_error(made.gradient(method)[1], by_hand(made, by_token, gamma)) < 1e-9
    assert relative_error(by_hand(made, not by_token, gamma), by_hand(made, by_token, gamma)) > 1e-2


def test_loss_is_the_sum_of_its_parts() -> None:
    made = fixture(LENGTHS, ADVANTAGES)
    h, logp, a = level(made, False), made.logprobs.detach(), made.advantages
    demo = (-0.5 * (-h).exp() * logp - a * logp.exp())[made.demo].sum() / 8
    own = torch.where(a > 0, -0.1 * h.exp() * logp, logp)[made.policy].sum() / 7
    assert made.gradient(SRFT())[0].item() == pytest.approx(float(demo + own), rel=1e-12)


def test_constant_entropy_is_fixed_weighting() -> None:
    made = fixture(LENGTHS, ADVANTAGES)
    order = torch.argsort(made.logits.detach(), dim=-1).argsort(-1)  # the same seven logits everywhere, shuffled
    made.logits = made.logits.detach()[0, 0].sort().values[order].requires_grad_()
    h = entropies(made)[0, 0].exp().item()
    assert entropies(made).std() < 1e-12
    fixed = SRFT(sft_coef=0.5 / h, rl_coef=0.1 * h, sft_slope=0.0, rl_slope=0.0)
    for method in (SRFT(), SRFT(entropy_level="token")):
        assert relative_error(made.gradient(method)[1], made.gradient(fixed)[1]) < 1e-9
    assert Requests.of(fixed) == Requests() and Requests.of(SRFT()) == Requests(uses_entropies=True)


def test_without_advantage_and_weight_the_demonstrations_are_sft() -> None:
    made = fixture([(5, 0), (2, 0), (3, 0)])
    gradient = made.gradient(SRFT(**VARIANTS["no-sft-weight"]))[1]
    assert relative_error(gradient, made.gradient(SFT())[1]) < 1e-9


def test_ablations_leave_the_other_part_alone() -> None:
    made = fixture(LENGTHS, ADVANTAGES)
    whole = made.gradient(SRFT())[1]
    no_sft, no_rl = (made.gradient(SRFT(**VARIANTS[name]))[1] for name in ("no-sft-weight", "no-rl-weight"))
    right = made.policy & (made.advantages > 0)
    assert torch.equal(no_sft[made.policy], whole[made.policy])
    assert relative_error(no_sft[made.demo], whole[made.demo]) > 1e-2
    assert torch.equal(no_rl[~right], whole[~right])
    assert relative_error(no_rl[right], -made.scores[right] / 7) < 1e-9


@pytest.mark.parametrize("splits", SPLITS)
@pytest.mark.parametrize("name", [None, "token-entropy", "shaped", "fixed-weights"])
def test_any_micro_batches_give_the_same_gradient(splits: Any, name: str | None) -> None:
    made = fixture(LENGTHS, ADVANTAGES)
    method = SRFT(**VARIANTS[name]) if name else SRFT()
    loss, gradient = made.gradient(method)
    split_loss, split_gradient = made.gradient(method, splits)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(split_gradient, gradient) < 1e-12


def solved(example: Example, prefix: tuple[int, ...], index: int) -> float:
    """The first k rollouts of the prompt named k are correct, the others get the reward for form."""
    return 1.0 if index < int(example.id) else 0.1


def test_signs_and_advantages() -> None:
    examples = [example(3, name="0"), example(5, name="2"), example(4, name="8")]
    ctx = Scripted(reward=solved)
    rows = SRFT().collect(examples, ctx)
    assert ctx.calls == [(examples, [(), (), ()], 8)] and len(rows) == 27
    for i, (one, right) in enumerate(zip(examples, (0, 2, 8), strict=True)):
        group = rows[9 * i : 9 * i + 9]
        assert {row.group for row in group} == {i} and {row.prompt_ids for row in group} == {one.prompt_ids}
        assert [row.advantage for row in group] == [1.0] * right + [-1.0] * (8 - right) + [0.0]
        assert [row.demo_ids for row in group] == [()] * 8 + [one.demo_ids]
        assert [bool(row.completion_ids) for row in group] == [True] * 8 + [False]
        assert group[-1].demo_advantage == pytest.approx(2 * (8 - right) / 9), "1 minus the mean of nine"
    assert rows[-1].demo_advantage == 0.0
    std = SRFT(scale="std").collect(examples, Scripted(reward=solved))
    assert std[8].demo_advantage == pytest.approx(16 / 9 / (2 / 3), rel=1e-5)  # variance (8 (2/9)^2 + (16/9)^2) / 8


def test_worst_case_holds_rollouts_and_demonstrations() -> None:
    one = example(3)  # 4 + 10 tokens
    assert SRFT(group_size=2).worst_case([one], 9) == Rows([4], [(4, 9)] * 2, [(13, 9)] * 2 + [(14, 10)])


@pytest.mark.parametrize("wrong", [{"entropy_level": "batch"}, {"scale": "mean"}, {"group_size": 0}, {"gamma": -0.1}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SRFT(**wrong)

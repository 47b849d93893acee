"""Identities 6 to 12 between methods that sample: what each reduces to in its limits, on the same batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

import pytest
import torch

from bench.types import Example
from methods.dft import DFT
from methods.grpo import GRPO
from methods.hpt import HPT
from methods.luffy import LUFFY
from methods.prefix_rft import PrefixRFT
from methods.raft import RAFT
from methods.relift import ReLIFT
from methods.s3ft import S3FT
from methods.sft import SFT
from methods.srft import SRFT
from methods.uft import UFT
from tests.methods.batches import Fixture, Scripted, collect, example, fixture, relative_error

EXAMPLES = [example(n, name=str(n)) for n in (1, 3, 5, 8)]
DR_GRPO = GRPO(group_size=8, aggregation="dr_grpo", scale="none", max_tokens=8, kl_coef=0.0, entropy_coef=0.0)
UNCLIPPED = replace(DR_GRPO, clip_low=inf, clip_high=inf, entropy_coef=0.001)
ROLLOUTS = [(0, 3), (0, 1), (0, 5), (0, 2)]
DEMOS = [(3, 0), (1, 0), (5, 0), (2, 0)]
ADVANTAGES = [1.5, -0.5, 0.875, -2.0]
SPLITS: list[Any] = [None, [[0], [1], [2], [3]], [[3, 0], [2, 1]]]


def same(made: Fixture, left: Any, right: Any, splits: Any = None) -> bool:
    """Whether loss and gradient agree bit for bit, and the gradient is not 0."""
    ours, theirs = made.gradient(left, splits), made.gradient(right, splits)
    return all(map(torch.equal, ours, theirs)) and bool(ours[1].any())


def off_policy(dtype: torch.dtype = torch.float64) -> Fixture:
    """Rollouts of an older policy, with tokens past either bound of the clip at 0.2."""
    made = fixture(ROLLOUTS, ADVANTAGES, old_shift=0.8, dtype=dtype)
    assert made.old is not None
    ratio = (made.logprobs.detach() - made.old).exp()[made.policy]
    a = made.advantages[made.policy]
    assert ((ratio > 1.2) & (a > 0)).any() and ((ratio < 0.8) & (a < 0)).any()
    return made


def batch_of(method: Any, examples: Sequence[Example], ctx: Scripted) -> Fixture:
    """Free logits for the trajectories that the method collects, with their advantages."""
    rows = method.collect(examples, ctx)
    made = fixture([(len(row.demo_ids), len(row.completion_ids)) for row in rows], [row.advantage for row in rows])
    theirs = torch.tensor([[row.demo_advantage] for row in rows], dtype=made.advantages.dtype)
    made.advantages = torch.where(made.demo, theirs, made.advantages)
    return made


# --- 6 -------------------------------------------------------------------------------------------------------


def test_identity_6_s3ft_with_a_judge_that_refuses_is_sft() -> None:  # property 4.2
    refuses = Scripted(reward=lambda e, prefix, i: 0.0)
    assert S3FT().prepare(EXAMPLES, refuses) == EXAMPLES and refuses.calls, "judge always no: exactly SFT's data"
    assert collect(S3FT(), EXAMPLES) == collect(SFT(), EXAMPLES)
    assert all(same(fixture(DEMOS), S3FT(), SFT(), splits) for splits in SPLITS)


# --- 7 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("splits", SPLITS)
@pytest.mark.parametrize(
    "method",
    [
        PrefixRFT(num_hybrids=0, max_tokens=8),
        PrefixRFT(num_hybrids=0, max_tokens=8, advantage="code"),
        LUFFY(guided=False, clip=0.2, entropy_coef=0.0, max_tokens=8),
    ],
    ids=["prefix_rft", "prefix_rft-code", "luffy"],
)
def test_identity_7_without_demonstrations_it_is_dr_grpo_bit_for_bit(method: Any, splits: Any) -> None:
    assert collect(method, EXAMPLES) == collect(DR_GRPO, EXAMPLES)
    assert same(off_policy(), method, DR_GRPO, splits)


# --- 8 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("splits", SPLITS)
def test_identity_8_a_gate_of_one_is_sft(splits: Any) -> None:
    method = HPT(gamma=1.0)
    for reward in (0.0, 1.0):
        assert method.collect(EXAMPLES, Scripted(reward=lambda *_, r=reward: r)) == collect(SFT(), EXAMPLES)
    made = fixture(DEMOS)
    loss, gradient = made.gradient(method, splits)
    expected_loss, expected = made.gradient(SFT(), splits)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-12)
    assert relative_error(gradient, expected) < 1e-12
    assert relative_error(made.gradient(replace(method, demo_coef=0.3), splits)[1], 0.3 * expected) < 1e-12


@pytest.mark.parametrize("splits", SPLITS)
@pytest.mark.parametrize("old", [False, True])
def test_identity_8_a_gate_below_zero_is_dr_grpo(splits: Any, old: bool) -> None:
    method = HPT(gamma=-1.0, max_tokens=8)
    assert collect(method, EXAMPLES) == collect(UNCLIPPED, EXAMPLES)
    made = off_policy() if old else fixture(ROLLOUTS, ADVANTAGES)
    loss, gradient = made.gradient(method, splits)
    expected_loss, expected = made.gradient(UNCLIPPED, splits)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-12)
    assert relative_error(gradient, expected) < 1e-12


# --- 9 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("splits", SPLITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identity_9_relift_without_failed_prompts_is_grpo_bit_for_bit(splits: Any, dtype: torch.dtype) -> None:
    """Whole runs: test_relift.py."""
    method, ctx = ReLIFT(max_tokens=8), Scripted()
    assert method.collect(EXAMPLES, ctx) == collect(UNCLIPPED, EXAMPLES) and ctx.buffer == []
    assert same(off_policy(dtype), method, UNCLIPPED, splits)
    fails = Scripted(reward=lambda e, prefix, i: 0.0 if e.id == "3" else float(i == 0))
    assert method.collect(EXAMPLES, fails) and fails.buffer == [EXAMPLES[1]]


# --- 10 ------------------------------------------------------------------------------------------------------


def equal_rewards(method: Any, reward: float) -> tuple[Fixture, torch.Tensor]:
    """What the method collects if every rollout has this reward, and the gradient on it."""
    made = batch_of(method, EXAMPLES, Scripted(reward=lambda *_: reward))
    return made, made.gradient(method)[1]


@pytest.mark.parametrize(
    "method",
    [
        GRPO(kl_coef=0.0, entropy_coef=0.0),
        DR_GRPO,
        PrefixRFT(),
        LUFFY(entropy_coef=0.0),
        HPT(gamma=-1.0, entropy_coef=0.0),
        ReLIFT(entropy_coef=0.0),
    ],
    ids=["grpo", "dr-grpo", "prefix_rft", "luffy", "hpt", "relift"],
)
def test_identity_10_equal_rewards_stop_group_relative_methods(method: Any) -> None:
    """UFT's other terms: test_identities.py."""
    made, gradient = equal_rewards(method, 1.0)
    assert not gradient.any()
    made.advantages = torch.ones_like(made.advantages)
    assert made.gradient(method)[1].any(), "the batch has no tokens to train on"


def test_identity_10_equal_rewards_do_not_stop_the_others() -> None:
    made, gradient = equal_rewards(UFT(schedule="uniform", kl_coef=0.0, entropy_coef=0.0), 1.0)
    assert gradient[made.demo].any() and not gradient[made.policy].any(), "the hint's likelihood remains"
    made, gradient = equal_rewards(PrefixRFT(advantage="code"), 1.0)
    assert gradient[made.policy].any() and not gradient[made.demo].any(), "the continuation's raw reward remains"
    made, gradient = equal_rewards(SRFT(), 1.0)
    assert gradient[made.policy].any(), "rewards without baseline remain"
    made, gradient = equal_rewards(HPT(), 0.0)
    assert gradient[made.demo].any() and not made.policy.any(), "failed prompts are imitated"


# --- 11 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("aggregation", "divisor"), [("dapo", 15.0), ("dr_grpo", 5.0 * 8)], ids=["tokens", "constant"])
def test_identity_11_rejection_sampling_is_reinforce_with_rewards_zero_and_one(
    aggregation: str, divisor: float
) -> None:
    """The same samples, no baseline, no clip; only the divisor (12 kept tokens) differs."""
    made = fixture([(0, 3), (0, 2), (0, 4), (0, 1), (0, 5)], [1.0, 0.0, 1.0, 0.0, 1.0])
    reinforce = GRPO(aggregation=aggregation, max_tokens=8, kl_coef=0.0, entropy_coef=0.0)
    _, expected = made.gradient(reinforce)
    right = made.advantages[:, 0] > 0
    tensors = {name: value[right] for name, value in vars(made).items() if isinstance(value, torch.Tensor)}
    kept = Fixture(**{**tensors, "logits": made.logits.detach()[right].requires_grad_()})
    gradient = torch.zeros_like(expected)
    gradient[right] = kept.gradient(RAFT())[1]
    assert relative_error(gradient * 12, expected * divisor) < 1e-9
    ctx = Scripted(reward=lambda e, prefix, i: float(i % 2 == 0))
    rows = RAFT().collect(EXAMPLES, ctx)
    assert [len(row.completion_ids) for row in rows] == [1, 3] * 4, "the first and the third of four are right"


# --- 12 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_identity_12_luffy_over_dft_on_demonstrations(gamma: float) -> None:
    """Token by token the quotient of their gradients is A gamma / (p + gamma)^2, but for the divisors."""
    made = fixture([(5, 0), (2, 0)], [0.875, 0.25])
    p = made.logprobs.detach().exp()
    luffy = made.gradient(LUFFY(gamma=gamma, entropy_coef=0.0, max_tokens=8))[1] * 2 * 8
    dft = made.gradient(DFT())[1] * 7
    quotient = (luffy / dft)[made.demo]
    expected = (made.advantages * gamma / (p + gamma) ** 2)[made.demo].unsqueeze(-1).expand_as(quotient)
    torch.testing.assert_close(quotient, expected, rtol=1e-9, atol=0.0)

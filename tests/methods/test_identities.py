"""Identities between methods on the same batch, and invariance to how a batch is cut."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch

from methods.chord import CHORD
from methods.dft import DFT
from methods.grpo import GRPO
from methods.sft import SFT
from methods.uft import UFT, VARIANTS
from tests.methods.batches import Fixture, Scripted, collect, example, fixture, relative_error

NO_HINTS = [UFT(schedule="none"), UFT(p_low=0.0, p_high=0.0), UFT(hint_until=0.0), UFT(**VARIANTS["rft"])]
ADVANTAGES = [1.5, -0.5, -0.5, -0.5, 2.0, -1.0]
MIXED = [(3, 2), (0, 4), (5, 1), (2, 3), (1, 6), (4, 4)]
POLICY = [(0, 2), (0, 4), (0, 1), (0, 3), (0, 6), (0, 4)]
SPLITS = [[[0], [1], [2], [3], [4], [5]], [[5, 2], [0, 3], [4, 1]], [[1, 0, 5, 4], [3, 2]]]


def off_policy(lengths: list[tuple[int, int]], dtype: torch.dtype = torch.float64) -> Fixture:
    return fixture(lengths, ADVANTAGES, old_shift=0.3, ref_shift=0.5, dtype=dtype)


def test_uft_shares_the_fields_of_grpo() -> None:
    ours, theirs = UFT(), GRPO()
    shared = {f.name for f in fields(UFT)} & {f.name for f in fields(GRPO)}
    assert {f.name for f in fields(GRPO)} - shared == {"aggregation", "max_tokens"}
    assert all(getattr(ours, name) == getattr(theirs, name) for name in shared)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", NO_HINTS)
def test_uft_without_hints_is_grpo_bit_for_bit(method: UFT, dtype: torch.dtype) -> None:  # property 3.10.2
    examples = [example(n, name=str(n)) for n in (1, 3, 5, 12)]
    assert collect(method, examples) == collect(GRPO(), examples)
    made = off_policy(POLICY, dtype)
    for splits in SPLITS:
        loss, gradient = made.gradient(method, splits)
        expected_loss, expected = made.gradient(GRPO(), splits)
        assert torch.equal(loss, expected_loss) and torch.equal(gradient, expected)


def test_uft_past_its_hints_is_grpo_bit_for_bit() -> None:
    examples = [example(n, name=str(n)) for n in (1, 3, 5, 12)]
    assert collect(UFT(), examples, progress=301 / 500) == collect(GRPO(), examples)
    assert collect(UFT(), examples, progress=0.0) != collect(GRPO(), examples)
    made = off_policy(POLICY)
    assert all(map(torch.equal, made.gradient(UFT()), made.gradient(GRPO())))


def test_the_authors_divisor_is_bnpo_without_hints() -> None:
    made = off_policy(POLICY)
    method, expected = UFT(divisor="micro-batch"), GRPO(aggregation="bnpo")
    assert all(map(torch.equal, made.gradient(method, SPLITS[2]), made.gradient(expected, SPLITS[2])))


@pytest.mark.parametrize("name", ["r3", "rft-cosine"])
def test_hints_without_likelihood_train_as_grpo(name: str) -> None:
    method = UFT(**VARIANTS[name])
    made = off_policy(MIXED)
    assert all(map(torch.equal, made.gradient(method), made.gradient(GRPO())))
    schedule = UFT(schedule=method.schedule, demo_coef=0.0)
    assert method == schedule
    assert any(row.demo_ids for row in collect(method, [example(5)]))


@pytest.mark.parametrize("divisor", ["step", "micro-batch"])
@pytest.mark.parametrize("splits", [None, *SPLITS])
def test_uft_on_hints_alone_is_sft_times_its_weight(divisor: str, splits: Any) -> None:  # property 3.10.4
    """A hint that is the whole demonstration and no policy token: the statement behind "p = 1 is SFT"."""
    made = fixture([(num, 0) for num in (3, 1, 5, 2, 1, 4)])
    loss, gradient = made.gradient(UFT(divisor=divisor), splits)
    sft_loss, sft = made.gradient(SFT(divisor=divisor), splits)
    assert loss.item() == pytest.approx(0.001 * sft_loss.item(), rel=1e-12)
    assert relative_error(gradient, 0.001 * sft) < 1e-12


def test_equal_rewards_stop_grpo_but_not_uft() -> None:
    bare = {"kl_coef": 0.0, "entropy_coef": 0.0}
    constant = Scripted(reward=lambda example, prefix, index: 0.1)
    assert {row.advantage for row in UFT().collect([example(3), example(5)], constant)} == {0.0}
    made = fixture(MIXED)  # all advantages 0
    assert not made.gradient(GRPO(**bare))[1].any()  # type: ignore[arg-type]
    gradient = made.gradient(UFT(**bare))[1]  # type: ignore[arg-type]
    assert gradient[made.demo].any() and not gradient[made.policy].any()
    made.ref = made.logprobs.detach() + 0.1
    assert made.gradient(UFT(kl_coef=0.001, entropy_coef=0.0))[1][made.policy].any()
    assert made.gradient(UFT(kl_coef=0.0, entropy_coef=0.001))[1][made.policy].any()


@pytest.mark.parametrize("method", [SFT(), GRPO(), GRPO(aggregation="grpo"), UFT(), UFT(demo_reduce="sum"), DFT()])
@pytest.mark.parametrize("splits", SPLITS)
def test_global_divisors_ignore_order_and_micro_batches(method: Any, splits: list[list[int]]) -> None:
    made = off_policy(MIXED)
    loss, gradient = made.gradient(method)
    split_loss, split_gradient = made.gradient(method, splits)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-12, abs=1e-15)
    assert relative_error(split_gradient, gradient) < 1e-12


@pytest.mark.parametrize(
    "method",
    [SFT(divisor="micro-batch"), GRPO(aggregation="bnpo"), UFT(divisor="micro-batch")],
    ids=["sft", "grpo", "uft"],
)
def test_the_authors_divisors_do_not(method: Any) -> None:
    made = off_policy(MIXED)
    gradients = [made.gradient(method, splits)[1] for splits in (None, *SPLITS)]
    for i, one in enumerate(gradients):
        for other in gradients[:i]:
            assert relative_error(one, other) > 1e-3
    permuted = made.gradient(method, [[2, 5], [0, 3], [1, 4]])[1]  # the same cut with rows exchanged inside: equal
    assert relative_error(permuted, gradients[2]) < 1e-12


@pytest.mark.parametrize("splits", [None, *SPLITS])
def test_dft_is_chord_on_demonstrations_with_probability_weights(splits: Any) -> None:  # property 5.7
    made = off_policy(MIXED)
    loss, gradient = made.gradient(DFT(), splits)
    chord_loss, chord = made.gradient(CHORD(mu_peak=1.0, mu_valley=1.0, weight="importance"), splits)
    assert loss.item() == pytest.approx(chord_loss.item(), rel=1e-12)
    assert relative_error(gradient, chord) < 1e-9


def test_success_only_reward_without_baseline_is_rejection_sampling_sft() -> None:
    """Identity 11: REINFORCE with rewards 0 and 1 equals SFT on the correct samples, but for the divisor."""
    made = fixture([(0, 3), (0, 2), (0, 4)], [1.0, 0.0, 1.0])
    _, reinforce = made.gradient(GRPO(kl_coef=0.0, entropy_coef=0.0))
    kept = fixture([(0, 3), (0, 2), (0, 4)])
    kept.demo, kept.policy = kept.policy & (made.advantages > 0), torch.zeros_like(kept.policy)
    _, sft = kept.gradient(SFT())
    assert relative_error(reinforce * 9, sft * 7) < 1e-9

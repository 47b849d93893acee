"""Identities between methods on the same batch, and invariance to how a batch is cut.

Numbered identities are those of the specification; 4 stands with its method, 6 to 12 in the files of theirs.
"""

from __future__ import annotations

import random
from dataclasses import fields
from typing import Any

import pytest
import torch

from bench.plan import registry
from bench.types import Requests
from methods.chord import CHORD
from methods.dft import DFT
from methods.grpo import GRPO
from methods.iw_sft import ImportanceWeightedSFT
from methods.sft import SFT
from methods.uft import UFT, VARIANTS
from tests.methods.batches import VOCAB, Fixture, Scripted, collect, example, fixture, relative_error

NO_HINTS = [UFT(schedule="none"), UFT(p_low=0.0, p_high=0.0), UFT(hint_until=0.0), UFT(**VARIANTS["rft"])]
ADVANTAGES = [1.5, -0.5, -0.5, -0.5, 2.0, -1.0]
MIXED = [(3, 2), (0, 4), (5, 1), (2, 3), (1, 6), (4, 4)]
POLICY = [(0, 2), (0, 4), (0, 1), (0, 3), (0, 6), (0, 4)]
IMITATION = [(num, 0) for num in (3, 1, 5, 2, 1, 4)]
SPLITS: list[Any] = [[[0], [1], [2], [3], [4], [5]], [[5, 2], [0, 3], [4, 1]], [[1, 0, 5, 4], [3, 2]]]
PLAIN_GRPO = GRPO(kl_coef=0.0, entropy_coef=0.0)
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def off_policy(lengths: list[tuple[int, int]], dtype: torch.dtype = torch.float64) -> Fixture:
    return fixture(lengths, ADVANTAGES, old_shift=0.3, ref_shift=0.5, dtype=dtype)


def test_uft_shares_the_fields_of_grpo() -> None:
    ours, theirs = UFT(), GRPO()
    shared = {f.name for f in fields(UFT)} & {f.name for f in fields(GRPO)}
    assert {f.name for f in fields(GRPO)} - shared == {"aggregation", "max_tokens"}
    assert all(getattr(ours, name) == getattr(theirs, name) for name in shared)


@PRECISIONS
@pytest.mark.parametrize("method", NO_HINTS)
def test_identity_1_uft_without_hints_is_grpo(method: UFT, dtype: torch.dtype) -> None:  # property 3.10.2
    assert (GRPO().kl_coef, GRPO().entropy_coef) == (0.001, 0.001), "the baseline RFT of UFT is this GRPO"
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


@PRECISIONS
@pytest.mark.parametrize(("name", "schedule"), [("r3", "uniform"), ("rft_cosine", "cosine")])
def test_identity_2_uft_without_likelihood_is_r3_or_rft_cosine(name: str, schedule: str, dtype: torch.dtype) -> None:
    """Its hints are part of the prompt: GRPO on the same rollouts has the same gradient."""
    method, baseline = UFT(schedule=schedule, demo_coef=0.0), registry.build_method(name, {})
    examples = [example(n, name=str(n)) for n in (1, 3, 5, 12)]
    for progress in (0.0, 0.3, 0.7):
        rows = collect(baseline, examples, progress)
        assert collect(method, examples, progress) == rows == collect(UFT(schedule=schedule), examples, progress)
        assert any(row.demo_ids for row in rows) == (progress < 0.6 or schedule == "uniform")
    made = off_policy(MIXED, dtype)
    found = made.gradient(method), made.gradient(baseline)
    made.demo = torch.zeros_like(made.demo)
    expected = made.gradient(GRPO())
    assert all(torch.equal(*pair) for loss in found for pair in zip(loss, expected, strict=True))


@pytest.mark.parametrize("divisor", ["step", "micro-batch"])
@pytest.mark.parametrize("splits", [None, *SPLITS])
def test_uft_on_hints_alone_is_sft_times_its_weight(divisor: str, splits: Any) -> None:  # property 3.10.4
    """A hint that is the whole demonstration and no policy token: the statement behind "p = 1 is SFT"."""
    made = fixture(IMITATION)
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


@PRECISIONS
@pytest.mark.parametrize("splits", [None, *SPLITS])
@pytest.mark.parametrize(
    ("mu", "weight", "expected"),
    [(0.0, "none", PLAIN_GRPO), (0.0, "phi", PLAIN_GRPO), (1.0, "none", SFT()), (1.0, "importance", DFT())],
    ids=["grpo", "grpo-phi", "sft", "dft"],  # the last one is property 5.7, too
)
def test_identity_3_the_limits_of_chord(mu: float, weight: str, expected: Any, splits: Any, dtype: torch.dtype) -> None:
    made = off_policy(MIXED, dtype)
    found = made.gradient(CHORD(mu_peak=mu, mu_valley=mu, weight=weight), splits)
    assert all(map(torch.equal, found, made.gradient(expected, splits)))
    assert not torch.equal(made.gradient(CHORD(mu_peak=0.5, mu_valley=0.5, weight=weight), splits)[1], found[1])


@PRECISIONS
@pytest.mark.parametrize("splits", [None, *SPLITS])
@pytest.mark.parametrize("weight", ["sequence", "token"])
def test_identity_5_iw_sft_at_the_reference_is_sft(weight: str, splits: Any, dtype: torch.dtype) -> None:
    made, method = fixture(IMITATION, dtype=dtype), ImportanceWeightedSFT(weight=weight)
    assert all(map(torch.equal, made.gradient(method, splits), made.gradient(SFT(), splits)))
    made.ref = made.logprobs.detach() - 0.1
    assert relative_error(made.gradient(method)[1], made.gradient(SFT())[1]) > 1e-3


# --- identity 13: how a batch is cut ---

REDUCTIONS = {("divisor", "micro-batch"), ("aggregation", "bnpo"), ("pool", "micro-batch")}  # the authors'
AUTHORS = [
    ("sft", "authors-divisor"),
    ("dft", "authors-divisor"),
    ("grpo", "bnpo"),
    ("uft", "authors-divisor"),
    ("chord", "authors-divisor"),
    ("prefix_rft", "authors-pool"),
    ("prefix_rft", "authors-bottom-20"),
    ("iw_sft", "micro-batch"),
    ("curio_sft", "authors-divisor"),
    ("eaft", "authors-divisor"),
    ("sdft", "authors-divisor"),
]
SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    (name, variant): overrides
    for name in registry.names("methods")
    if registry.build_method(name, {}).batch_size > 0
    for variant, overrides in {"": {}, **registry.module("methods", name).VARIANTS}.items()
}
LOCAL = sorted(pair for pair, overrides in SETTINGS.items() if REDUCTIONS & overrides.items())
GLOBAL = sorted(set(SETTINGS) - set(LOCAL))


def cuts(count: int, method: Any = None) -> list[list[list[int]]]:
    """The rows in 1, 2 and 4 micro-batches, in new orders; two by two where a method needs whole groups."""
    size = 2 if Requests.of(method).whole_groups else 1
    orders = {num: random.Random(num).sample(range(count // size), count // size) for num in (1, 2, 4)}
    whole = {num: [[size * unit + i for i in range(size)] for unit in order] for num, order in orders.items()}
    return [[[row for unit in order[i::num] for row in unit] for i in range(num)] for num, order in whole.items()]


def everything(method: Any, dtype: torch.dtype = torch.float32) -> Fixture:
    """Rows of every kind, and whatever a method may ask for."""
    made = fixture([*MIXED, (4, 0), (12, 1)], [*ADVANTAGES, 0.5, -1.5], old_shift=0.3, ref_shift=0.5, dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    made.ref_logits = torch.randn(made.logits.shape, generator=generator, dtype=dtype)
    num = max(Requests.of(method).num_candidates, 1)
    made.candidates = torch.randint(VOCAB, (*made.targets.shape, num), generator=generator)
    made.weights = (torch.rand(made.targets.shape, generator=generator) < 0.5).to(dtype)
    made.moved = 1 + 0.3 * torch.randn(made.logits.shape, generator=generator, dtype=dtype)
    made.reward, made.progress = 0.3, 0.1
    return made


@pytest.mark.parametrize(("name", "variant"), GLOBAL)
def test_identity_13_neither_order_nor_micro_batches_matter(name: str, variant: str) -> None:
    method = registry.build_method(name, SETTINGS[name, variant])
    made = everything(method)
    loss, gradient = made.gradient(method)
    assert gradient.any()
    for splits in cuts(len(made.targets), method):
        split_loss, split_gradient = made.gradient(method, splits)
        assert split_loss.item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-6)
        assert relative_error(split_gradient, gradient) < 1e-6


@pytest.mark.parametrize(("name", "variant"), LOCAL)
def test_identity_13_the_authors_reductions_depend_on_the_cut(name: str, variant: str) -> None:
    method = registry.build_method(name, SETTINGS[name, variant])
    made = everything(method)
    gradients = [made.gradient(method, splits)[1] for splits in cuts(len(made.targets))]
    for i, one in enumerate(gradients):
        for other in gradients[:i]:
            assert relative_error(one, other) > 1e-3
    for splits, gradient in zip(cuts(len(made.targets)), gradients, strict=True):
        exchanged = made.gradient(method, [rows[::-1] for rows in splits[::-1]])[1]  # the same cut: nothing changes
        assert relative_error(exchanged, gradient) < 1e-6


def test_identity_13_covers_every_method_and_the_known_reductions() -> None:
    trained = {name for name in registry.names("methods") if name != "base"}
    assert {name for name, variant in GLOBAL if not variant} == trained, "by default no method depends on the cut"
    assert set(AUTHORS) <= set(LOCAL)


def test_success_only_reward_without_baseline_is_rejection_sampling_sft() -> None:
    """Identity 11: REINFORCE with rewards 0 and 1 equals SFT on the correct samples, but for the divisor."""
    made = fixture([(0, 3), (0, 2), (0, 4)], [1.0, 0.0, 1.0])
    _, reinforce = made.gradient(GRPO(kl_coef=0.0, entropy_coef=0.0))
    kept = fixture([(0, 3), (0, 2), (0, 4)])
    kept.demo, kept.policy = kept.policy & (made.advantages > 0), torch.zeros_like(kept.policy)
    _, sft = kept.gradient(SFT())
    assert relative_error(reinforce * 9, sft * 7) < 1e-9

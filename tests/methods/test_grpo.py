"""Golden properties of GRPO: printed figures, closed-form gradients, aggregations, invariance."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from bench.types import Requests, Rows
from methods import common
from methods.grpo import GRPO, SCALES, VARIANTS
from tests.methods.batches import Scripted, collect, example, fixture, relative_error

BARE = GRPO(kl_coef=0.0, entropy_coef=0.0)
LENGTHS = [(0, 1), (0, 2), (0, 3), (0, 4)]
REWARDS = [1, 0.1, 0.1, 0]
SPLITS = [[[0], [1], [2], [3]], [[3, 1], [2, 0]], [[2], [0, 1, 3]]]


def advantages(method: GRPO, rewards: list[float]) -> list[float]:
    """Of one group with these rewards."""
    ctx = Scripted(reward=lambda e, prefix, index: rewards[index])
    return [row.advantage for row in replace(method, group_size=len(rewards)).collect([example()], ctx)]


@pytest.mark.parametrize(
    ("scale", "figures"),
    [
        ("std", {"grpo": 0.0, "bnpo": 0.31973, "dapo": 0.31973, "dr_grpo": 0.09992}),
        ("none", {"grpo": 0.0, "bnpo": 0.15, "dapo": 0.15, "dr_grpo": 0.046875}),
    ],
)
def test_losses_of_the_reference_group(scale: str, figures: dict[str, float]) -> None:  # property 2.5.3
    made = fixture(LENGTHS, common.group_advantages(REWARDS, scale, 1e-4))
    for aggregation, figure in figures.items():
        loss, _ = made.gradient(replace(BARE, aggregation=aggregation, max_tokens=8))
        assert loss.item() == pytest.approx(figure, abs=5e-6 if scale == "std" else 1e-12), aggregation


def test_advantages_of_one_success() -> None:  # property 2.5.2
    """Of the unbiased deviation; times sqrt(n / (n - 1)) they are the printed figures of the biased one."""
    for size, unbiased, biased in ((4, (1.5, -0.5), (1.7321, -0.5774)), (8, (2.4749, -0.3536), (2.6458, -0.378))):
        rows = advantages(GRPO(eps=0.0), [1.0] + [0.0] * (size - 1))
        assert rows[:2] == pytest.approx(unbiased, abs=5e-5) and rows[2:] == [rows[1]] * (size - 2)
        factor = math.sqrt(size / (size - 1))
        assert [value * factor for value in rows[:2]] == pytest.approx(biased, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("grpo-mean", 0.0),
        ("bnpo", 0.31973),
        ("dapo-clip", 0.31973),
        ("constant-divisor", 0.09992),
        ("grpo-mean-no-std", 0.0),
        ("bnpo-no-std", 0.15),
        ("no-std", 0.15),
        ("constant-divisor-no-std", 0.046875),
        ("dr-grpo", 0.046875),
        ("dapo-loss", 0.31973),
        ("deepseekmath", 0.0),
        ("batch-std", 0.31973),  # one group: its deviation is the step's
    ],
)
def test_variants_give_the_printed_losses(name: str, figure: float) -> None:  # property 2.5.3, collected
    method = replace(GRPO(**VARIANTS[name]), kl_coef=0.0, entropy_coef=0.0, eps=1e-4, max_tokens=8)
    made = fixture(LENGTHS, advantages(method, REWARDS))
    loss, gradient = made.gradient(method)
    assert loss.item() == pytest.approx(figure, abs=5e-6)
    assert gradient.any(), "a loss of 0 is no gradient of 0"


def test_deviation_of_the_step() -> None:
    """Rewards (1, 0) and (0, 0): mean 1/4, variance (9/16 + 3/16) / 3 = 1/4, deviation 1/2; means stay per group."""
    script = {"a": [1.0, 0.0], "b": [0.0, 0.0], "c": [1.0, 1.0]}
    ctx = Scripted(reward=lambda e, prefix, index: script[e.id][index])
    method = GRPO(group_size=2, scale="batch", eps=0.0)
    rows = method.collect([example(name="a"), example(name="b")], ctx)
    assert [row.advantage for row in rows] == pytest.approx([1.0, -1.0, 0.0, 0.0], abs=1e-12)
    assert [row.advantage for row in replace(method, scale="std").collect([example(name="a")], ctx)] == pytest.approx(
        [2**-0.5, -(2**-0.5)]
    )
    rows = method.collect([example(name="c"), example(name="c")], ctx)
    assert [row.advantage for row in rows] == [0.0] * 4, "equal rewards, no deviation and no eps"


@pytest.mark.parametrize("scale", SCALES)
def test_advantages_under_shift_and_scale(scale: str) -> None:  # properties 2.5.1 and 2.5.6
    method = GRPO(scale=scale, eps=0.0)
    plain = advantages(method, REWARDS)
    assert sum(plain) == pytest.approx(0, abs=1e-12)
    assert advantages(method, [0.1] * 4) == [0.0] * 4
    assert advantages(method, [reward + 3 for reward in REWARDS]) == pytest.approx(plain)
    scaled = advantages(method, [reward * 7 for reward in REWARDS])
    assert (scaled == pytest.approx(plain)) == (scale != "none")


@pytest.mark.parametrize(
    ("ratio", "advantage", "default", "wide"),
    [
        (1.25, 1.0, 0.0, -1.25),
        (1.3, 1.0, 0.0, 0.0),
        (0.7, 1.0, -0.7, -0.7),
        (0.7, -1.0, 0.0, 0.0),
        (1.3, -1.0, 1.3, 1.3),
    ],
)
def test_clip_stops_one_side_only(  # property 2.5.5
    ratio: float, advantage: float, default: float, wide: float
) -> None:
    """Gradient of one token with respect to its log-probability, of the symmetric clip and of DAPO's upper limit."""
    made = fixture([(0, 1)], [advantage])
    made.old = made.logprobs.detach() - math.log(ratio)
    for method, factor in ((BARE, default), (replace(BARE, **VARIANTS["dapo-clip"]), wide)):
        _, gradient = made.gradient(method)
        assert relative_error(gradient[made.policy], factor * made.scores[made.policy]) < 1e-9 or factor == 0
        assert bool(gradient.any()) == (factor != 0)


def weights(aggregation: str) -> torch.Tensor:
    """Weight of one token of each sequence of LENGTHS in one micro-batch."""
    lengths = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    return {
        "dapo": torch.full((4,), 1 / 10, dtype=torch.float64),
        "bnpo": torch.full((4,), 1 / 10, dtype=torch.float64),
        "grpo": 1 / (4 * lengths),
        "dr_grpo": torch.full((4,), 1 / (4 * 8), dtype=torch.float64),
    }[aggregation]


@pytest.mark.parametrize("aggregation", common.AGGREGATIONS)
def test_on_policy_gradient_is_minus_advantage_times_score(aggregation: str) -> None:
    made = fixture(LENGTHS, [1.5, -0.5, 2.0, -1.0])
    _, gradient = made.gradient(replace(BARE, aggregation=aggregation, max_tokens=8))
    scale = -made.advantages * weights(aggregation).unsqueeze(1) * made.policy
    assert relative_error(gradient, scale.unsqueeze(-1) * made.scores) < 1e-9
    assert not gradient[~made.policy].any()


def test_on_policy_ratio_is_exactly_one() -> None:
    made = fixture(LENGTHS, [1.5, -0.5, 2.0, -1.0], dtype=torch.float32)
    values = common.clipped_surrogate(made.logprobs, made.logprobs.detach(), made.advantages, 0.2, 0.2)
    assert torch.equal(values, -made.advantages)


def test_off_policy_gradient_is_closed_form() -> None:
    made = fixture(LENGTHS, [1.5, -0.5, 2.0, -1.0], old_shift=0.3)
    _, gradient = made.gradient(BARE)
    assert made.old is not None
    ratio = (made.logprobs.detach() - made.old).exp()
    clipped = torch.where(made.advantages > 0, ratio > 1.2, ratio < 0.8) & made.policy
    assert 0 < clipped.sum() < made.policy.sum()
    scale = -made.advantages * ratio * (made.policy & ~clipped) / 10
    assert relative_error(gradient, scale.unsqueeze(-1) * made.scores) < 1e-9
    assert not gradient[clipped].any()


def test_kl_and_entropy_gradients_remain_without_advantage() -> None:  # properties 2.5.1 and 2.5.4
    made = fixture(LENGTHS, ref_shift=0.5)
    assert made.ref is not None
    probabilities = made.logits.detach().softmax(-1)
    entropy = -(probabilities * probabilities.log()).sum(-1, keepdim=True)
    entropy_gradient = -probabilities * (probabilities.log() + entropy)
    kl_gradient = (1 - (made.ref - made.logprobs.detach()).exp()).unsqueeze(-1) * made.scores
    _, gradient = made.gradient(GRPO(kl_coef=0.04, entropy_coef=0.01))
    expected = (0.04 * kl_gradient - 0.01 * entropy_gradient) * made.policy.unsqueeze(-1) / 10
    assert relative_error(gradient, expected) < 1e-9


def test_equal_rewards_give_no_gradient_without_kl_and_entropy() -> None:  # property 2.5.1
    _, gradient = fixture(LENGTHS, common.group_advantages([0.1] * 4)).gradient(BARE)
    assert not gradient.any()


@pytest.mark.parametrize("aggregation", ["dapo", "grpo", "dr_grpo"])
@pytest.mark.parametrize("splits", SPLITS)
def test_any_micro_batches_give_the_same_gradient(aggregation: str, splits: list[list[int]]) -> None:
    made = fixture(LENGTHS, [1.5, -0.5, 2.0, -1.0], old_shift=0.3, ref_shift=0.5)
    method = GRPO(aggregation=aggregation, max_tokens=8, kl_coef=0.04, entropy_coef=0.01)
    loss, gradient = made.gradient(method)
    split_loss, split_gradient = made.gradient(method, splits)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(split_gradient, gradient) < 1e-12


def test_bnpo_depends_on_micro_batches_and_equals_grpo_row_by_row() -> None:
    made = fixture(LENGTHS, [1.5, -0.5, 2.0, -1.0], old_shift=0.3)
    bnpo, grpo = replace(BARE, aggregation="bnpo"), replace(BARE, aggregation="grpo")
    assert relative_error(made.gradient(bnpo, SPLITS[1])[1], made.gradient(bnpo)[1]) > 1e-3
    assert relative_error(made.gradient(bnpo, SPLITS[0])[1], made.gradient(grpo)[1]) < 1e-12


def test_demonstration_tokens_get_nothing() -> None:
    made = fixture([(3, 2), (2, 4)], [1.0, -1.0], old_shift=0.3, ref_shift=0.5)
    loss, gradient = made.gradient(GRPO())
    assert not gradient[made.demo].any()
    made.demo = torch.zeros_like(made.demo)
    assert torch.equal(made.gradient(GRPO())[0], loss)


def test_metrics_are_token_means_of_the_step() -> None:
    made = fixture(LENGTHS, [1.5, -0.5, 2.0, -1.0], old_shift=0.3, ref_shift=0.5)
    whole = GRPO().loss(made.batch()).metrics
    parts = [GRPO().loss(made.batch(rows, 4)).metrics for rows in SPLITS[0]]
    assert set(whole) == {"policy_loss", "clip_share", "kl", "entropy"}
    for name, value in whole.items():
        assert sum(part[name].item() for part in parts) == pytest.approx(value.item()), name
        assert not value.requires_grad
    assert 0 < whole["clip_share"].item() < 1


def test_reference_and_entropies_only_if_weighted() -> None:
    assert Requests.of(GRPO()) == Requests(uses_reference=True, uses_entropies=True)
    assert Requests.of(BARE) == Requests()
    assert set(BARE.loss(fixture(LENGTHS).batch()).metrics) == {"policy_loss", "clip_share"}


def test_collects_groups_in_one_call_without_prefixes() -> None:
    ctx = Scripted()
    examples = [example(name="a"), example(name="b")]
    rows = GRPO(group_size=3).collect(examples, ctx)
    assert ctx.calls == [(examples, [(), ()], 3)]
    assert [row.demo_ids for row in rows] == [()] * 6
    assert [row.advantage for row in rows] == pytest.approx(common.group_advantages([1, 0.1, 0]) * 2)


def test_worst_case_bounds_the_collected_rows() -> None:
    examples = [example(), example(prompt_tokens=7)]
    rows = GRPO(group_size=2).worst_case(examples, 10)
    assert rows == Rows([4, 7], [(4, 10)] * 2 + [(7, 10)] * 2, [(14, 10)] * 2 + [(17, 10)] * 2)
    assert all(
        len(row) <= most for row, (most, _) in zip(collect(GRPO(group_size=2), examples), rows.train, strict=True)
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"aggregation": "mean"},
        {"scale": "step"},
        {"group_size": 0},
        {"max_tokens": 0},
        {"scale": "batch", "group_size": 1},
    ],
)
def test_impossible_fields_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GRPO(**wrong)  # type: ignore[arg-type]

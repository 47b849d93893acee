"""Golden properties of HPT: the gate, a divisor for each part; its extremes (identity 8): test_identities_rl.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.types import Example, Requests, Rows
from methods.grpo import GRPO
from methods.hpt import HPT, VARIANTS
from methods.sft import SFT
from tests.methods.batches import Scripted, example, fixture, relative_error

MIXED = [(3, 0), (0, 4), (0, 1), (5, 0), (0, 3)]
ADVANTAGES = [0.0, 0.75, -0.25, 0.0, -0.5]
DR_GRPO = GRPO(
    group_size=8, clip_low=1e9, clip_high=1e9, aggregation="dr_grpo", scale="none", max_tokens=8192, kl_coef=0.0
)
SPLITS = [[[0], [1], [2], [3], [4]], [[4, 0], [2, 3, 1]], [[0, 3], [1, 2, 4]]]


def solved(example: Example, prefix: tuple[int, ...], index: int) -> float:
    """The first k rollouts of the prompt named k are correct, the others get the reward for form."""
    return 1.0 if index < int(example.id) else 0.1


def names(rows: list[Any], examples: list[Example]) -> dict[str, str]:
    """Which kind of rows each prompt trains on."""
    found: dict[str, set[str]] = {}
    for row in rows:
        assert bool(row.demo_ids) != bool(row.completion_ids)
        found.setdefault(examples[row.group].id, set()).add("demo" if row.demo_ids else "own")
    assert all(len(kinds) == 1 for kinds in found.values())
    return {name: min(kinds) for name, kinds in found.items()}


@pytest.mark.parametrize(
    ("gamma", "imitated"), [(-0.1, 0), (0.0, 1), (0.124, 1), (0.125, 2), (0.25, 3), (0.99, 8), (1.0, 9)]
)
def test_the_gate_is_the_share_of_correct_rollouts(gamma: float, imitated: int) -> None:
    examples = [example(name=str(k)) for k in range(9)]
    rows = HPT(gamma=gamma).collect(examples, Scripted(reward=solved))
    kinds = names(rows, examples)
    assert list(kinds.values()) == ["demo"] * imitated + ["own"] * (9 - imitated)
    assert len(rows) == imitated + 8 * (9 - imitated)
    assert [row.group for row in rows] == sorted(row.group for row in rows)


def test_a_failed_prompt_trains_on_its_demonstration_alone() -> None:
    examples = [example(name="0"), example(5, name="2")]
    ctx = Scripted(reward=solved)
    rows = HPT().collect(examples, ctx)
    assert ctx.calls == [(examples, [(), ()], 8)]
    assert rows[0] == SFT().collect(examples, ctx)[0]
    assert [row.advantage for row in rows[1:]] == pytest.approx([0.675] * 2 + [-0.225] * 6)
    assert sum(row.advantage for row in rows[1:]) == pytest.approx(0, abs=1e-12)


def test_ratios_are_not_clipped() -> None:
    made = fixture([(0, 4), (0, 3)], [1.0, -1.0], old_shift=0.5)
    method = HPT(entropy_coef=0.0, max_tokens=8)
    assert made.old is not None
    ratio = (made.logprobs.detach() - made.old).exp()
    assert ((ratio - 1).abs() > 0.2)[made.policy].any()
    expected = (-made.advantages * ratio * made.policy / 16).unsqueeze(-1) * made.scores
    assert relative_error(made.gradient(method)[1], expected) < 1e-9
    assert method.loss(made.batch()).metrics["clip_share"] == 0


def test_each_part_has_its_own_divisor() -> None:
    """Eight demonstration tokens; three rollouts of at most ten tokens."""
    made = fixture(MIXED, ADVANTAGES)
    _, gradient = made.gradient(HPT(demo_coef=0.5, entropy_coef=0.0, max_tokens=10))
    weights = -0.5 * made.demo / 8 - made.advantages * made.policy / 30
    assert relative_error(gradient, weights.unsqueeze(-1) * made.scores) < 1e-9


@pytest.mark.parametrize("splits", [None, *SPLITS])
def test_a_mixed_step_is_sft_on_one_part_and_dr_grpo_on_the_other(splits: Any) -> None:
    made = fixture(MIXED, ADVANTAGES, old_shift=0.3)
    _, gradient = made.gradient(HPT(), splits)
    imitated, reinforced = (made.gradient(method, splits)[1] for method in (SFT(), DR_GRPO))
    assert relative_error(gradient, imitated + reinforced * 5 / 3) < 1e-12  # Dr.GRPO counts five rows, HPT its rollouts


def test_entropy_bonus_covers_rollouts_alone() -> None:
    made = fixture(MIXED)
    probabilities = made.logits.detach().softmax(-1)
    entropy = -(probabilities * probabilities.log()).sum(-1, keepdim=True)
    expected = 0.01 * probabilities * (probabilities.log() + entropy) * made.policy.unsqueeze(-1) / 30
    _, gradient = made.gradient(HPT(demo_coef=0.0, entropy_coef=0.01, max_tokens=10))
    assert relative_error(gradient, expected) < 1e-9


@pytest.mark.parametrize("splits", SPLITS)
def test_any_micro_batches_give_the_same_gradient(splits: list[list[int]]) -> None:
    made = fixture(MIXED, ADVANTAGES, old_shift=0.3)
    method = HPT(max_tokens=8, entropy_coef=0.01)
    loss, gradient = made.gradient(method)
    split_loss, split_gradient = made.gradient(method, splits)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(split_gradient, gradient) < 1e-12


def test_worst_case_bounds_both_ways() -> None:
    short, long = example(1), example(12, prompt_tokens=6)  # 5 and 33 demonstration tokens
    rows = HPT(group_size=2).worst_case([short, long], 10)
    assert rows == Rows([4, 6], [(4, 10)] * 2 + [(6, 10)] * 2, [(14, 10), (14, 10), (39, 33), (16, 10)])


def test_needs_entropies_only_if_weighted() -> None:
    assert Requests.of(HPT()) == Requests(uses_entropies=True)
    bare = HPT(**VARIANTS["no-entropy"])
    assert not bare.uses_entropies
    metrics = bare.loss(fixture(MIXED, ADVANTAGES).batch()).metrics
    assert set(metrics) == {"policy_loss", "clip_share", "demo_nll"}
    assert not any(torch.is_grad_enabled() and value.requires_grad for value in metrics.values())


@pytest.mark.parametrize("wrong", [{"gamma": 1.5}, {"group_size": 0}, {"max_tokens": 0}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HPT(**wrong)

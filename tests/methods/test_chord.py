"""Golden properties of CHORD: both limits, the weights' gradients, the schedule, and the two sets of examples."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.types import Rows
from methods.chord import CHORD, VARIANTS, mixture
from methods.grpo import GRPO
from methods.sft import SFT
from tests.methods.batches import Scripted, example, fixture, relative_error

PLAIN_GRPO = GRPO(kl_coef=0.0, entropy_coef=0.0)
ADVANTAGES = [1.5, -0.5, 0.0, 0.0, 2.0]
LENGTHS = [(0, 2), (0, 4), (5, 0), (2, 0), (0, 3)]
SPLITS = [None, [[0], [1], [2], [3], [4]], [[4, 2], [0, 3, 1]]]


def constant(mu: float, **fields: Any) -> CHORD:
    return CHORD(mu_peak=mu, mu_valley=mu, **fields)


def token_gradient(logprobs: Tensor, scores: Tensor, made: Any, weights: Tensor) -> Tensor:
    """-w (onehot - p) / N on demonstration tokens."""
    return -(weights * made.demo).unsqueeze(-1) * scores / int(made.demo.sum())


# --- limits and mixture ---


@pytest.mark.parametrize("splits", SPLITS)
@pytest.mark.parametrize("divisor", ["step", "micro-batch"])
def test_mu_zero_is_grpo_and_mu_one_is_sft(splits: Any, divisor: str) -> None:
    made = fixture(LENGTHS, ADVANTAGES, old_shift=0.3)
    grpo = replace(PLAIN_GRPO, aggregation="dapo" if divisor == "step" else "bnpo")
    for mu, expected in ((0.0, grpo), (1.0, SFT(divisor=divisor))):
        loss, gradient = made.gradient(constant(mu, divisor=divisor), splits)
        expected_loss, expected_gradient = made.gradient(expected, splits)
        assert torch.equal(loss, expected_loss) and torch.equal(gradient, expected_gradient)


def test_shared_fields_and_trajectories_are_those_of_grpo() -> None:
    examples = [example(n, name=str(n)) for n in (1, 3, 5)]
    ctx = Scripted()
    rows = constant(0.0, group_size=4, batch_size=2, num_demos=1).collect(examples, ctx)
    assert rows == PLAIN_GRPO.collect(examples[:2], Scripted()) and ctx.calls[0][0] == examples[:2]


@pytest.mark.parametrize("weight", ["none", "phi", "importance", "focal"])
def test_loss_and_gradient_are_affine_in_mu(weight: str) -> None:
    made = fixture(LENGTHS, ADVANTAGES, old_shift=0.3)
    (loss_0, gradient_0), (loss_1, gradient_1) = (made.gradient(constant(mu, weight=weight)) for mu in (0.0, 1.0))
    for mu in (0.05, 0.3, 0.9):
        loss, gradient = made.gradient(constant(mu, weight=weight))
        assert loss.item() == pytest.approx((loss_0 + mu * (loss_1 - loss_0)).item(), rel=1e-12)
        assert relative_error(gradient, gradient_0 + mu * (gradient_1 - gradient_0)) < 1e-9


@pytest.mark.parametrize("weight", ["none", "phi"])
@pytest.mark.parametrize("splits", SPLITS[1:])
def test_micro_batches_matter_only_to_the_authors_divisor(weight: str, splits: Any) -> None:
    made = fixture(LENGTHS, ADVANTAGES, old_shift=0.3)
    for divisor, same in (("step", True), ("micro-batch", False)):
        method = CHORD(weight=weight, divisor=divisor)
        error = relative_error(made.gradient(method, splits)[1], made.gradient(method)[1])
        assert (error < 1e-12) if same else (error > 1e-3)


def test_neither_part_reaches_the_others_tokens() -> None:
    made = fixture([(3, 2), (4, 3)], [1.0, -1.0], old_shift=0.3)
    reinforced, imitated = (made.gradient(constant(mu))[1] for mu in (0.0, 1.0))
    assert not reinforced[~made.policy].any() and not imitated[~made.demo].any()


# --- weights ---


def test_phi_gradient_is_p_times_one_minus_p_times_that_of_sft() -> None:
    made = fixture(LENGTHS)
    p = made.logprobs.detach().exp()
    _, gradient = made.gradient(constant(1.0, weight="phi"))
    assert relative_error(gradient, (p * (1 - p)).unsqueeze(-1) * made.gradient(SFT())[1]) < 1e-9


def test_without_stop_gradient_phi_would_have_another_term() -> None:
    made = fixture(LENGTHS)
    logprobs = made.logprobs
    p = logprobs.exp()
    made.logits.grad = None
    (-(p * (1 - p) * logprobs)[made.demo].mean()).backward()
    assert made.logits.grad is not None
    attached = made.logits.grad.clone()
    p, logs = p.detach(), logprobs.detach()
    factor = ((1 - p) + (1 - 2 * p) * logs) * p  # grad p = p grad log p
    assert relative_error(attached, token_gradient(logs, made.scores, made, factor)) < 1e-9
    assert relative_error(made.gradient(constant(1.0, weight="phi"))[1], attached) > 0.1


def test_importance_gradient_is_minus_that_of_the_probability() -> None:
    """The gradient of dynamic fine-tuning: p per token times that of SFT."""
    made = fixture(LENGTHS)
    p = made.logprobs.detach().exp()
    _, gradient = made.gradient(constant(1.0, weight="importance"))
    assert relative_error(gradient, p.unsqueeze(-1) * made.gradient(SFT())[1]) < 1e-9
    made.logits.grad = None
    (-made.logprobs.exp()[made.demo].mean()).backward()
    assert made.logits.grad is not None and relative_error(gradient, made.logits.grad) < 1e-9


def test_clipped_importance_and_focal_gradients() -> None:
    made = fixture(LENGTHS)
    p = made.logprobs.detach().exp()
    assert (p[made.demo] > 0.2).any()
    for fields, weights in (
        ({"weight": "importance", "weight_clip": 0.2}, p.clamp(max=0.2)),
        ({"weight": "focal"}, (1 - p) ** 2),
        ({"weight": "focal", "focal_gamma": 0.5}, (1 - p) ** 0.5),
    ):
        expected = token_gradient(p, made.scores, made, weights)
        assert relative_error(made.gradient(constant(1.0, **fields))[1], expected) < 1e-9


def test_phi_peaks_at_a_half_and_its_logit_gradient_at_a_third() -> None:
    p = torch.linspace(0.0005, 0.9995, 1999, dtype=torch.float64)
    weights = constant(1.0, weight="phi").token_weights(p.log())
    assert weights.max().item() == pytest.approx(0.25, rel=1e-9) and p[weights.argmax()].item() == pytest.approx(0.5)
    gradient = weights * (1 - p)
    assert gradient.max().item() == pytest.approx(0.1481, abs=5e-5)
    assert p[gradient.argmax()].item() == pytest.approx(1 / 3, abs=5e-4)
    logits = torch.tensor([math.log(0.5), math.log(0.5)], dtype=torch.float64).softmax(-1).log()
    assert constant(1.0, weight="phi").token_weights(logits).tolist() == pytest.approx([0.25, 0.25])


# --- schedule ---


def test_mu_of_the_paper_at_500_steps() -> None:
    table = {0: 0.9, 50: 0.77552, 100: 0.475, 150: 0.17448, 200: 0.05, 350: 0.05, 500: 0.05}
    assert {step: CHORD().mu(step / 500) for step in table} == pytest.approx(table, abs=1e-5)


def test_warmup_is_linear_and_shifts_the_decay() -> None:
    assert [mixture(t, 0.8, 0.2, 0.2, 0.4) for t in (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0)] == pytest.approx(
        [0.0, 0.2, 0.4, 0.8, 0.5, 0.2, 0.2], abs=1e-12
    )
    assert mixture(0.0, 0.8, 0.2, 0.0, 0.0) == 0.2


def test_variants_with_constant_mu() -> None:
    for name, mu in (("phi", 0.1), ("mu-0.02", 0.02), ("mu-0.1", 0.1), ("mu-0.5", 0.5), ("is", 0.1)):
        assert {CHORD(**VARIANTS[name]).mu(t / 10) for t in range(11)} == {mu}


def test_the_loss_follows_the_progress() -> None:
    made = fixture(LENGTHS, ADVANTAGES)
    for made.progress, mu in ((0.0, 0.9), (0.2, 0.475), (0.7, 0.05)):
        assert relative_error(made.gradient(CHORD())[1], made.gradient(constant(mu))[1]) < 1e-9


# --- examples ---


def test_prompts_are_sampled_and_the_other_examples_read() -> None:
    examples = [example(n, name=str(n)) for n in (1, 3, 5, 2, 4)]
    method, ctx = CHORD(batch_size=2, num_demos=3, group_size=3), Scripted(rng=random.Random(0))
    rows = method.collect(examples, ctx)
    assert ctx.calls == [(examples[:2], [(), ()], 3)]
    assert [row.group for row in rows] == [0, 0, 0, 1, 1, 1, 2, 3, 4]  # a group is a place in the list
    assert all(row.completion_ids and not row.demo_ids for row in rows[:6])
    assert [(r.prompt_ids, r.demo_ids, r.completion_ids) for r in rows[6:]] == [
        (e.prompt_ids, e.demo_ids, ()) for e in examples[2:]
    ]
    assert sum(row.advantage for row in rows[:3]) == pytest.approx(0, abs=1e-9)


def test_no_demonstration_is_read_while_mu_is_zero() -> None:
    examples = [example(n, name=str(n)) for n in (1, 3, 5)]
    method = CHORD(batch_size=2, num_demos=1, mu_warmup=0.1, mu_valley=0.0)
    counts = [sum(bool(r.demo_ids) for r in method.collect(examples, Scripted(t))) for t in (0.0, 0.05, 0.3, 0.5, 1.0)]
    assert counts == [0, 1, 1, 0, 0]


def test_worst_case_holds_both_parts() -> None:
    one, two = example(3), example(1, prompt_tokens=6)
    rows = CHORD(batch_size=1, num_demos=1, group_size=2).worst_case([one, two], 10)
    assert rows == Rows([4], [(4, 10)] * 2, [(14, 10)] * 2 + [(6 + 5, 5)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": "dft"},
        {"divisor": "all"},
        {"mu_peak": 1.5},
        {"mu_decay": -0.1},
        {"num_demos": 0},
        {"demo_share": 1.0},
        {"num_updates": 2},
    ],
)
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CHORD(**wrong)


def test_needs_neither_reference_nor_entropies() -> None:
    assert not CHORD().uses_reference and not CHORD().uses_entropies

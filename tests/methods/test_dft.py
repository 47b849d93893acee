"""Golden properties of DFT: weight times SFT, stop-gradient, limits of the probability, coarser weights."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.types import Rows
from methods.dft import DFT, VARIANTS
from methods.sft import SFT
from tests.methods.batches import Fixture, collect, example, fixture, relative_error

LENGTHS = [(5, 0), (2, 0), (3, 0), (1, 0)]
SPLITS = [[[0, 1, 2, 3]], [[0], [1], [2], [3]], [[3, 0], [2, 1]], [[1], [0, 2, 3]]]
METHODS = [DFT(), DFT(weight="sentence"), DFT(weight="geometric")]


def certain(logprob_gap: float) -> Fixture:
    """One token whose target has the given logit above six equal ones."""
    made = fixture([(1, 0)])
    logits = torch.zeros_like(made.logits).detach()
    logits.scatter_(-1, made.targets.unsqueeze(-1), logprob_gap)
    made.logits = logits.requires_grad_()
    return made


def test_gradient_is_the_probability_times_that_of_sft() -> None:
    made = fixture(LENGTHS)
    _, gradient = made.gradient(DFT())
    _, sft = made.gradient(SFT())
    probabilities = made.logprobs.detach().exp().unsqueeze(-1)
    assert relative_error(gradient, probabilities * sft) < 1e-9
    expected = -probabilities * made.scores * made.demo.unsqueeze(-1) / 11
    assert relative_error(gradient, expected) < 1e-9
    assert not gradient[~made.demo].any()


def test_gradient_is_that_of_minus_the_probability() -> None:
    made = fixture(LENGTHS)
    _, gradient = made.gradient(DFT())
    made.logits.grad = None
    (-(made.logprobs.exp() * made.demo).sum() / 11).backward()
    assert made.logits.grad is not None
    assert relative_error(gradient, made.logits.grad) < 1e-9


def test_without_stop_gradient_the_factor_would_be_another() -> None:
    """The gradient of -p log p is p (1 + log p) times SFT's and changes sign at p = 1/e."""
    made = fixture(LENGTHS)
    _, gradient = made.gradient(DFT())
    made.logits.grad = None
    (-(made.logprobs.exp() * made.logprobs * made.demo).sum() / 11).backward()
    wrong = made.logits.grad
    assert wrong is not None
    logprobs = made.logprobs.detach().unsqueeze(-1)
    assert relative_error(wrong, (1 + logprobs) * gradient) < 1e-9
    assert relative_error(wrong, gradient) > 0.1
    unlikely = made.demo & (made.logprobs.detach() < -1)
    assert unlikely.any()
    assert ((wrong * gradient).sum(-1)[unlikely] < 0).all()


def test_sure_tokens_learn_as_in_sft_and_impossible_ones_not_at_all() -> None:
    sure, impossible = certain(15.0), certain(-60.0)
    assert relative_error(sure.gradient(DFT())[1], sure.gradient(SFT())[1]) < 1e-5
    assert impossible.gradient(SFT())[1].norm() > 1
    assert impossible.gradient(DFT())[1].norm() < 1e-20


def test_target_logit_moves_by_p_times_one_minus_p() -> None:
    """Its largest value is reached at a probability of one half."""
    sizes = {}
    for p in (0.05, 0.3, 0.45, 0.5, 0.55, 0.7, 0.95):
        made = certain(math.log(6 * p / (1 - p)))
        gradient = made.gradient(DFT())[1].gather(-1, made.targets.unsqueeze(-1))[made.demo]
        sizes[p] = -gradient.item()
        assert sizes[p] == pytest.approx(p * (1 - p), rel=1e-9)
    assert max(sizes, key=lambda p: sizes[p]) == 0.5


@pytest.mark.parametrize("weight", ["sentence", "geometric"])
def test_coarser_weights_are_shared_by_a_row(weight: str) -> None:
    made = fixture(LENGTHS)
    _, gradient = made.gradient(DFT(weight=weight))
    logprobs = made.logprobs.detach()
    rows = torch.stack([row[mask].sum() for row, mask in zip(logprobs, made.demo, strict=True)])
    if weight == "geometric":
        rows = rows / made.demo.sum(1)
    expected = -rows.exp().view(-1, 1, 1) * made.scores * made.demo.unsqueeze(-1) / 11
    assert relative_error(gradient, expected) < 1e-9


def test_all_weights_agree_on_single_tokens() -> None:
    made = fixture([(1, 0), (1, 0)])
    gradients = [made.gradient(method)[1] for method in METHODS]
    assert all(relative_error(gradient, gradients[0]) < 1e-12 for gradient in gradients)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.weight)
@pytest.mark.parametrize("splits", SPLITS)
def test_any_micro_batches_give_the_same_gradient(method: DFT, splits: list[list[int]]) -> None:
    made = fixture(LENGTHS)
    loss, gradient = made.gradient(method)
    split_loss, split_gradient = made.gradient(method, splits)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(split_gradient, gradient) < 1e-12


def test_the_authors_divisor_depends_on_micro_batches() -> None:
    made = fixture(LENGTHS)
    method = DFT(**VARIANTS["authors-divisor"])
    assert relative_error(made.gradient(method)[1], made.gradient(DFT())[1]) < 1e-12  # one micro-batch
    assert relative_error(made.gradient(method, SPLITS[1])[1], made.gradient(method)[1]) > 1e-3


def test_labels_outside_the_demonstration_change_nothing() -> None:
    made = fixture(LENGTHS)
    for method in METHODS:
        before = made.gradient(method)
        targets = made.targets
        made.targets = torch.where(made.demo, targets, (targets + 1) % 7)
        after = made.gradient(method)
        made.targets = targets
        assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


def test_figures_logged() -> None:
    made = fixture(LENGTHS)
    metrics = DFT().loss(made.batch()).metrics
    assert metrics["demo_nll"].item() == pytest.approx(-made.logprobs[made.demo].mean().item())
    assert metrics["demo_weight"].item() == pytest.approx(made.logprobs.exp()[made.demo].mean().item())
    assert not any(value.requires_grad for value in metrics.values())


def test_rows_are_those_of_sft() -> None:
    examples = [example(3), example(1, prompt_tokens=6)]
    rows = collect(DFT(), examples)
    assert rows == collect(SFT(), examples)
    assert DFT().worst_case(examples, 100) == Rows(train=[(len(r), len(r.demo_ids)) for r in rows])
    assert not DFT().uses_reference and not DFT().uses_entropies


@pytest.mark.parametrize("wrong", [{"weight": "batch"}, {"divisor": "tokens"}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(DFT(), **wrong)

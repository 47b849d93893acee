"""Golden properties of DFT: weight times SFT, stop-gradient, limits of the probability, coarser weights."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.types import Requests, Rows
from methods.dft import DFT, VARIANTS, WEIGHTS
from methods.grpo import GRPO
from methods.sft import SFT
from tests.methods.batches import VOCAB, Fixture, collect, example, fixture, relative_error

LENGTHS = [(5, 0), (2, 0), (3, 0), (1, 0)]
SPLITS = [[[0, 1, 2, 3]], [[0], [1], [2], [3]], [[3, 0], [2, 1]], [[1], [0, 2, 3]]]
METHODS = [DFT(), DFT(weight="sentence"), DFT(weight="geometric"), DFT(detach=False)]


def certain(logprob_gap: float) -> Fixture:
    """One token whose target has the given logit above six equal ones."""
    made = fixture([(1, 0)])
    logits = torch.zeros_like(made.logits).detach()
    logits.scatter_(-1, made.targets.unsqueeze(-1), logprob_gap)
    made.logits = logits.requires_grad_()
    return made


def test_gradient_is_the_probability_times_that_of_sft() -> None:  # property 5.1
    made = fixture(LENGTHS)
    _, gradient = made.gradient(DFT())
    _, sft = made.gradient(SFT())
    probabilities = made.logprobs.detach().exp().unsqueeze(-1)
    assert relative_error(gradient, probabilities * sft) < 1e-9
    expected = -probabilities * made.scores * made.demo.unsqueeze(-1) / 11
    assert relative_error(gradient, expected) < 1e-9
    assert not gradient[~made.demo].any()


def test_gradient_is_that_of_minus_the_probability() -> None:  # property 5.2
    made = fixture(LENGTHS)
    _, gradient = made.gradient(DFT())
    made.logits.grad = None
    (-(made.logprobs.exp() * made.demo).sum() / 11).backward()
    assert made.logits.grad is not None
    assert relative_error(gradient, made.logits.grad) < 1e-9


@pytest.mark.parametrize("weight", WEIGHTS)
def test_without_stop_gradient_the_factor_is_another(weight: str) -> None:  # property 5.3
    """The gradient of -p log p is p (1 + log p) times that of log p; for coarser weights p is the row's."""
    made = fixture(LENGTHS)
    method = DFT(weight=weight)
    loss, gradient = made.gradient(method)
    same_loss, wrong = made.gradient(replace(method, **VARIANTS["no-stop-gradient"]))
    assert torch.equal(same_loss, loss)
    logs = method.weights(made.batch()).detach().log().unsqueeze(-1)
    expected = -logs.exp() * (1 + logs) * made.scores * made.demo.unsqueeze(-1) / 11
    assert relative_error(wrong, expected) < 1e-9
    assert relative_error(wrong, gradient) > 0.1


@pytest.mark.parametrize(("shift", "sign"), [(-0.01, -1.0), (0.01, 1.0)])
def test_without_stop_gradient_the_sign_flips_at_one_over_e(shift: float, sign: float) -> None:  # property 5.3
    p = math.exp(-1) + shift
    made = certain(math.log(6 * p / (1 - p)))
    control = DFT(**VARIANTS["no-stop-gradient"])
    step = -made.gradient(control)[1].gather(-1, made.targets.unsqueeze(-1))[made.demo].item()
    assert step == pytest.approx(p * (1 + math.log(p)) * (1 - p), rel=1e-9) and math.copysign(1, step) == sign
    assert -made.gradient(DFT())[1].gather(-1, made.targets.unsqueeze(-1))[made.demo].item() > 0


@pytest.mark.parametrize("wrong_reward", [-0.1, 0.0, -1.0])
def test_expected_one_token_rollout_is_a_multiple(wrong_reward: float) -> None:  # property 5.6
    """REINFORCE on one sampled token, reward 1 if gold else b: summed over the vocabulary, (1 - b) times DFT's."""
    made = fixture(LENGTHS)
    _, gradient = made.gradient(DFT())
    gold, chances = made.targets, made.logits.detach().softmax(-1)
    rollout = replace(made, policy=made.demo, demo=torch.zeros_like(made.demo))
    expected = torch.zeros_like(gradient)
    for token in range(VOCAB):
        rollout.targets = torch.full_like(gold, token)
        rewards = (gold == token).to(torch.float64) * (1 - wrong_reward) + wrong_reward
        rollout.advantages = chances[..., token] * rewards
        expected += rollout.gradient(GRPO(kl_coef=0.0, entropy_coef=0.0))[1]
    assert relative_error((1 - wrong_reward) * gradient, expected) < 1e-9


def test_cross_entropy_form_of_other_trainers_agrees() -> None:  # property 5.7
    """Cross-entropy times the detached probability, over the number of target tokens: single precision, 1e-6."""
    made = fixture(LENGTHS, dtype=torch.float32)
    loss, gradient = made.gradient(DFT())
    labels = made.targets.masked_fill(~made.demo, -100)
    made.logits.grad = None
    entropy = torch.nn.functional.cross_entropy(
        made.logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="none"
    )
    theirs = (entropy * torch.exp(-entropy.detach())).sum() / int((labels != -100).sum())
    theirs.backward()
    assert made.logits.grad is not None
    assert loss.item() == pytest.approx(theirs.item(), abs=1e-6)
    assert relative_error(gradient, made.logits.grad) < 1e-6


def test_variants_span_the_grids_of_the_paper() -> None:
    methods = [DFT(), *(DFT(**overrides) for overrides in VARIANTS.values())]
    assert {method.lr for method in methods} == {2e-4, 1e-4, 5e-5, 1e-5}
    assert {method.batch_size for method in methods} == {32, 64, 128, 256}
    assert {method.weight for method in methods} == set(WEIGHTS)


def test_sure_tokens_learn_as_in_sft_and_impossible_ones_not_at_all() -> None:  # property 5.4
    sure, impossible = certain(15.0), certain(-60.0)
    assert relative_error(sure.gradient(DFT())[1], sure.gradient(SFT())[1]) < 1e-5
    assert impossible.gradient(SFT())[1].norm() > 1
    assert impossible.gradient(DFT())[1].norm() < 1e-20


def test_target_logit_moves_by_p_times_one_minus_p() -> None:  # property 5.5
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
    gradients = [made.gradient(method)[1] for method in METHODS if method.detach]
    assert all(relative_error(gradient, gradients[0]) < 1e-12 for gradient in gradients)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.weight}-{m.detach}")
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
    control = DFT(detach=False).loss(made.batch()).metrics
    assert control == metrics and not any(value.requires_grad for value in control.values())


def test_rows_are_those_of_sft() -> None:
    examples = [example(3), example(1, prompt_tokens=6)]
    rows = collect(DFT(), examples)
    assert rows == collect(SFT(), examples)
    assert DFT().worst_case(examples, 100) == Rows(train=[(len(r), len(r.demo_ids)) for r in rows])
    assert Requests.of(DFT()) == Requests()


@pytest.mark.parametrize("wrong", [{"weight": "batch"}, {"divisor": "tokens"}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(DFT(), **wrong)

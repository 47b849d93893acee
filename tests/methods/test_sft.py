"""Golden properties of SFT: closed-form gradient, masks, divisors.

The numbers of the properties, here and in the tests of the other methods, are those of the project's method reference.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench.engine.batching import collate
from bench.types import Batch, Requests, Rows
from methods.sft import SFT
from tests.helpers.engine import TOKENIZER, pool
from tests.methods.batches import collect, example, fixture, relative_error

LENGTHS = [(5, 0), (2, 0), (3, 0), (1, 0)]
SPLITS = [[[0, 1, 2, 3]], [[0], [1], [2], [3]], [[3, 0], [2, 1]], [[1], [0, 2, 3]]]


def test_gradient_is_softmax_minus_onehot_over_the_token_count() -> None:  # property 1.3
    made = fixture(LENGTHS)
    _, gradient = made.gradient(SFT())
    expected = -made.scores * made.demo.unsqueeze(-1) / 11
    assert relative_error(gradient, expected) < 1e-9
    assert not gradient[~made.demo].any()


def test_loss_is_the_token_mean() -> None:
    made = fixture(LENGTHS)
    loss, _ = made.gradient(SFT())
    assert loss.item() == pytest.approx(-made.logprobs[made.demo].mean().item(), rel=1e-12)


def test_labels_outside_the_demonstration_change_nothing() -> None:  # property 1.1
    made = fixture(LENGTHS)
    before = made.gradient(SFT())
    made.targets = torch.where(made.demo, made.targets, (made.targets + 1) % 7)
    after = made.gradient(SFT())
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


@pytest.mark.parametrize("splits", SPLITS)
def test_any_micro_batches_give_the_same_gradient(splits: list[list[int]]) -> None:  # property 1.2
    made = fixture(LENGTHS)
    loss, gradient = made.gradient(SFT())
    split_loss, split_gradient = made.gradient(SFT(), splits)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(split_gradient, gradient) < 1e-12


def test_duplicated_examples_change_nothing() -> None:  # property 1.4
    made = fixture(LENGTHS)
    loss, gradient = made.gradient(SFT())
    twice_loss, twice = made.repeated(2).gradient(SFT())
    assert twice_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(twice.view(4, 2, *twice.shape[1:]).sum(1), gradient) < 1e-12


def test_end_of_sequence_is_trained() -> None:  # property 1.5
    examples = pool(5)
    micro = collate(collect(SFT(), examples), torch.device("cpu"))
    labels = micro.token_ids[:, 1:]
    ends = (labels == TOKENIZER.eos_token_id) & micro.demo
    assert ends.sum(1).tolist() == [1] * 5, "without them N would be smaller by the number of examples"
    for e, row, mask in zip(examples, labels, micro.demo, strict=True):
        assert TOKENIZER.decode(row[mask][:-1]) == e.demonstration.text, "the targets are the demonstration, then EOS"


def verl_fixture() -> list[Batch]:
    """Micro-batch A: 10 tokens of mean NLL 1; B: 2 tokens of mean NLL 3 (the fixture of section 1)."""
    batches = []
    for tokens, nll in ((10, 1.0), (2, 3.0)):
        logprobs = torch.full((1, tokens), -nll, dtype=torch.float64, requires_grad=True)
        zeros, none = torch.zeros_like(logprobs).detach(), torch.zeros(1, tokens, dtype=torch.bool)
        batches.append(Batch(logprobs, zeros, zeros, zeros, zeros, ~none, none, 12, 0, 2, num_micro_batches=2))
    return batches


@pytest.mark.parametrize(("divisor", "expected"), [("step", 4 / 3), ("micro-batch", 2.0)])
def test_divisors_on_unequal_micro_batches(divisor: str, expected: float) -> None:
    losses = [SFT(divisor=divisor).loss(batch) for batch in verl_fixture()]
    assert sum(loss.value.item() for loss in losses) == pytest.approx(expected, rel=1e-12)
    assert sum(loss.metrics["demo_nll"].item() for loss in losses) == pytest.approx(4 / 3)
    assert not losses[0].metrics["demo_nll"].requires_grad


def test_one_row_per_example_and_its_worst_case() -> None:
    examples = [example(3), example(1, prompt_tokens=6)]
    rows = collect(SFT(), examples)
    assert [(row.prompt_ids, row.demo_ids, row.completion_ids) for row in rows] == [
        (e.prompt_ids, e.demo_ids, ()) for e in examples
    ]
    assert SFT().worst_case(examples, 100) == Rows(train=[(len(r), len(r.demo_ids)) for r in rows])


def test_needs_neither_reference_nor_entropies() -> None:
    assert Requests.of(SFT()) == Requests()


def test_unknown_divisor_is_refused() -> None:
    with pytest.raises(ValueError, match="'tokens' is not one of step, micro-batch"):
        replace(SFT(), divisor="tokens")

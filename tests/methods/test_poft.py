"""PoFT: its loss and gradient by an independent formula, its three limits, and how rows are reduced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bench.types import Requests, Rows
from methods.poft import PoFT
from methods.sft import SFT
from tests.methods.batches import Fixture, collect, example, fixture, relative_error

METHOD = PoFT()
LENGTHS = [(3, 0), (5, 0), (1, 0), (4, 0)]
SPLITS = [[[0], [1], [2], [3]], [[3, 0], [1, 2]], [[2, 0, 1, 3]]]


def shifted(by: float) -> Fixture:
    """Demonstrations whose reference is above the policy by so many nats per token."""
    made = fixture(LENGTHS)
    made.ref = made.logprobs.detach() + by
    return made


def by_hand(made: Fixture, scale: float = 1.0, shift: float = 0.0) -> tuple[float, np.ndarray]:
    """Loss, and its derivative with respect to each target's log-probability, in numpy, row by row."""
    assert made.ref is not None
    total, slopes = 0.0, np.zeros(tuple(made.targets.shape))
    for i, (count, _) in enumerate(LENGTHS):
        ours, theirs = made.logprobs.detach().numpy()[i, :count], made.ref.numpy()[i, :count]
        p = 1 / (1 + np.exp(-(scale * (ours.mean() - theirs.mean()) + shift)))
        total -= np.log(p) / len(LENGTHS)
        slopes[i, :count] = -(1 - p) * scale / count / len(LENGTHS)
    return total, slopes


@pytest.mark.parametrize("fields", [{}, {"scale": 2.5, "shift": -0.7}])
def test_loss_and_gradient_by_hand(fields: dict[str, float]) -> None:
    made = fixture(LENGTHS, ref_shift=0.8)
    loss, gradient = made.gradient(replace(METHOD, **fields))  # type: ignore[arg-type]
    expected, slopes = by_hand(made, **fields)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert relative_error(gradient, torch.from_numpy(slopes).unsqueeze(-1) * made.scores) < 1e-12


def test_a_reference_far_above_gives_length_normalised_sft() -> None:
    loss, gradient = shifted(60.0).gradient(METHOD)
    limit, expected = fixture(LENGTHS).gradient(replace(METHOD, preference=False))
    assert relative_error(gradient, expected) < 1e-12 and loss.item() == pytest.approx(60.0, rel=1e-12)
    made = fixture(LENGTHS)
    weights = torch.tensor([[1 / 3], [1 / 5], [1.0], [1 / 4]], dtype=torch.float64) * made.demo / 4
    assert relative_error(expected, -(weights.unsqueeze(-1)) * made.scores) < 1e-12
    assert limit.item() == pytest.approx(float(-(made.logprobs.detach() * weights).sum()), rel=1e-12)


def test_a_reference_far_below_gives_nothing() -> None:
    loss, gradient = shifted(-60.0).gradient(METHOD)
    assert 0 <= loss.item() < 1e-25 and float(gradient.abs().max()) < 1e-25


def test_where_both_agree_a_demonstration_counts_half() -> None:
    made = shifted(0.0)
    assert made.gradient(METHOD)[0].item() == pytest.approx(np.log(2), rel=1e-12)
    half = 0.5 * fixture(LENGTHS).gradient(replace(METHOD, preference=False))[1]
    assert relative_error(made.gradient(METHOD)[1], half) < 1e-12
    assert METHOD.loss(made.batch()).metrics["tau"].item() == pytest.approx(0.5)


def test_without_preference_and_by_tokens_it_is_sft() -> None:
    made, method = fixture(LENGTHS, ref_shift=0.8), PoFT(preference=False, reduce="token")
    assert all(map(torch.equal, made.gradient(method), made.gradient(SFT())))
    preferred = made.gradient(PoFT(reduce="token"))[1]
    _, slopes = by_hand(made)
    lengths = torch.tensor([count for count, _ in LENGTHS]).double().view(-1, 1) * 4 / 13
    assert relative_error(preferred, (torch.from_numpy(slopes) * lengths).unsqueeze(-1) * made.scores) < 1e-12


@pytest.mark.parametrize("splits", SPLITS)
@pytest.mark.parametrize("fields", [{}, {"reduce": "token"}])
def test_micro_batches_change_nothing(splits: Any, fields: dict[str, Any]) -> None:
    made, method = fixture(LENGTHS, ref_shift=0.8), replace(METHOD, **fields)
    assert relative_error(made.gradient(method, splits)[1], made.gradient(method)[1]) < 1e-12


def test_rows_are_those_of_sft_and_the_reference_is_asked_for_while_it_counts() -> None:
    examples = [example(3), example(1, prompt_tokens=6)]
    rows = collect(METHOD, examples)
    assert rows == collect(SFT(), examples)
    assert METHOD.worst_case(examples, 100) == Rows(train=[(len(r), len(r.demo_ids)) for r in rows])
    assert Requests.of(METHOD) == Requests(uses_reference=True)
    assert Requests.of(replace(METHOD, preference=False)) == Requests()


@pytest.mark.parametrize("wrong", [{"reduce": "mean"}, {"scale": 0.0}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(METHOD, **wrong)

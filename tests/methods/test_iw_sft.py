"""Golden properties of iw-SFT: SFT at the reference, closed-form weights, clamps, stop-gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.types import Requests, Rows
from methods.iw_sft import VARIANTS, ImportanceWeightedSFT
from methods.sft import SFT
from tests.methods.batches import Fixture, collect, example, fixture, relative_error

METHOD = ImportanceWeightedSFT()
TOKEN = ImportanceWeightedSFT(**VARIANTS["per-token"])
LENGTHS = [(5, 0), (2, 0), (3, 0), (1, 0)]
SPLITS = [[[0, 1, 2, 3]], [[0], [1], [2], [3]], [[3, 0], [2, 1]], [[1], [0, 2, 3]]]


def shifted(shift: float) -> Fixture:
    """All log-probabilities above the reference by ``shift``."""
    made = fixture(LENGTHS)
    made.ref = made.logprobs.detach() - shift
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("divisor", ["step", "micro-batch"])
@pytest.mark.parametrize("method", [METHOD, TOKEN], ids=lambda m: m.weight)
def test_at_the_reference_it_is_sft_bit_for_bit(
    method: ImportanceWeightedSFT, divisor: str, dtype: torch.dtype
) -> None:
    made = fixture(LENGTHS, dtype=dtype)
    for splits in SPLITS:
        found = made.gradient(replace(method, divisor=divisor), splits)
        assert all(map(torch.equal, found, made.gradient(SFT(divisor=divisor), splits)))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_one_weight_per_demonstration(scale: float) -> None:
    made = fixture(LENGTHS, ref_shift=0.5)
    assert made.ref is not None
    gap = made.logprobs.detach() - made.ref
    means = torch.stack([row[mask].mean() for row, mask in zip(gap, made.demo, strict=True)])
    assert means.min() < 0 < means.max()
    expected = -(scale * means).exp().view(-1, 1, 1) * made.scores * made.demo.unsqueeze(-1) / 11
    _, gradient = made.gradient(replace(METHOD, scale=scale))
    assert relative_error(gradient, expected) < 1e-9
    assert not gradient[~made.demo].any()


def test_one_weight_per_token_within_its_clamps() -> None:
    made = fixture(LENGTHS, ref_shift=1.5)
    assert made.ref is not None
    weights = (made.logprobs.detach() - made.ref).exp()
    assert (weights[made.demo] > 1.8).any() and (weights[made.demo] < 0.2).any()
    expected = -weights.clamp(0.2, 1.8).unsqueeze(-1) * made.scores * made.demo.unsqueeze(-1) / 11
    assert relative_error(made.gradient(TOKEN)[1], expected) < 1e-9


@pytest.mark.parametrize(
    ("method", "shift", "factor"),
    [
        *((METHOD, 2.0, 7.38905609893065), (METHOD, 3.0, 16.0), (METHOD, 1e4, 16.0), (METHOD, -1e4, 0.0)),
        *((TOKEN, 0.5, 1.6487212707001282), (TOKEN, 1.0, 1.8), (TOKEN, -2.0, 0.2), (TOKEN, -1e4, 0.2)),
    ],
)
def test_weights_are_clamped_and_stay_finite(method: ImportanceWeightedSFT, shift: float, factor: float) -> None:
    made = shifted(shift)
    loss, gradient = made.gradient(method)
    sft_loss, sft = made.gradient(SFT())
    assert loss.item() == pytest.approx(factor * sft_loss.item(), rel=1e-9)
    assert relative_error(gradient, factor * sft) < 1e-9 if factor else not gradient.any()
    assert method.loss(made.batch()).metrics["demo_weight"].item() == pytest.approx(factor, rel=1e-9)


def test_without_stop_gradient_it_would_be_another_gradient() -> None:
    made = fixture(LENGTHS, ref_shift=0.5)
    assert made.ref is not None
    _, gradient = made.gradient(METHOD)
    made.logits.grad = None
    gap = (made.logprobs - made.ref).masked_fill(~made.demo, 0.0).sum(1) / made.demo.sum(1)
    (-(gap.exp().unsqueeze(1) * made.logprobs * made.demo).sum() / 11).backward()
    assert made.logits.grad is not None
    assert relative_error(made.logits.grad, gradient) > 0.1


@pytest.mark.parametrize("method", [METHOD, TOKEN], ids=lambda m: m.weight)
@pytest.mark.parametrize("splits", SPLITS)
def test_any_micro_batches_give_the_same_gradient(method: ImportanceWeightedSFT, splits: list[list[int]]) -> None:
    made = fixture(LENGTHS, ref_shift=0.5)
    loss, gradient = made.gradient(method)
    split_loss, split_gradient = made.gradient(method, splits)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(split_gradient, gradient) < 1e-12


def test_rows_are_those_of_sft_and_the_reference_is_asked_for() -> None:
    examples = [example(3), example(1, prompt_tokens=6)]
    rows = collect(METHOD, examples)
    assert rows == collect(SFT(), examples)
    assert METHOD.worst_case(examples, 100) == Rows(train=[(len(r), len(r.demo_ids)) for r in rows])
    assert Requests.of(METHOD) == Requests(uses_reference=True)


@pytest.mark.parametrize("wrong", [{"weight": "row"}, {"divisor": "tokens"}, {"low": 20.0}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(METHOD, **wrong)

"""LfU: its loss and gradient by hand on given states, its targets, and SFT without a step of ascent.

The states after the step themselves: tests/engine/test_memory.py (against whole weights) and test_ascent.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.types import Requests, Rows
from methods.lfu import LfU
from methods.sft import SFT
from tests.methods.batches import VOCAB, Fixture, collect, example, fixture, relative_error

METHOD = LfU()
LENGTHS = [(3, 0), (5, 0), (1, 0), (4, 0)]
SPLITS = [[[0], [1], [2], [3]], [[3, 0], [1, 2]]]


def moved() -> Fixture:
    """Two layers: the logits and their halves; moved ones times a matrix of constants near 1."""
    made = fixture(LENGTHS)
    made.moved = 1 + 0.3 * torch.randn(made.logits.shape, generator=torch.Generator().manual_seed(5)).double()
    return made


@pytest.mark.parametrize("distance", ["mean", "sum"])
@pytest.mark.parametrize(("detach", "factor"), [("original", 1), ("moved", -1), ("none", 0)])
def test_loss_and_gradient_by_hand(distance: str, detach: str, factor: int) -> None:
    made, method = moved(), LfU(coef=2.0, detach=detach, distance=distance)
    assert made.moved is not None
    z, c, inside = made.logits.detach(), made.moved, made.demo.unsqueeze(-1)
    # Layers z and z/2, moved c z and c z/2: squares (z - c z)^2 of weights 1 and 1/4, mean over the two layers.
    entries = VOCAB if distance == "mean" else 1
    total = float((inside * (z - c * z) ** 2).sum()) * 1.25 / 2 / entries / 13
    loss, gradient = made.gradient(method)
    nll = -float((made.logprobs.detach() * made.demo).sum()) / 13
    assert loss.item() == pytest.approx(nll + 2.0 * total, rel=1e-12)
    slope = {1: 2 * (c - 1) * c * z, -1: -2 * (c - 1) * z, 0: 2 * (c - 1) ** 2 * z}[factor]
    expected = inside * (-made.scores + 2.0 * 1.25 / 2 / entries * slope) / 13
    assert relative_error(gradient, expected) < 1e-12


def test_without_a_step_or_a_coefficient_it_is_sft() -> None:
    made, examples = fixture(LENGTHS), [example(3), example(1, prompt_tokens=6)]
    for method in (LfU(alpha=0.0), LfU(coef=0.0)):
        assert all(map(torch.equal, made.gradient(method), made.gradient(SFT())))
        assert Requests.of(method).ascent_step == 0
        assert collect(method, examples) == collect(SFT(), examples)
    rows = collect(METHOD, examples)
    assert METHOD.worst_case(examples, 100) == Rows(train=[(len(r), len(r.demo_ids)) for r in rows])


def test_the_step_is_asked_for() -> None:
    asks = Requests.of(LfU(alpha=0.2, rank=4))
    assert (asks.ascent_step, asks.ascent_rank) == (0.2, 4)
    made = fixture(LENGTHS)
    assert asks.ascent_loss is not None
    assert torch.equal(asks.ascent_loss(made.batch()), SFT().loss(made.batch()).value)


@pytest.mark.parametrize("splits", SPLITS)
def test_micro_batches_change_nothing(splits: Any) -> None:
    made = moved()
    assert relative_error(made.gradient(METHOD, splits)[1], made.gradient(METHOD)[1]) < 1e-12


@pytest.mark.parametrize("wrong", [{"detach": "all"}, {"distance": "max"}, {"coef": -1.0}, {"rank": 0}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(METHOD, **wrong)

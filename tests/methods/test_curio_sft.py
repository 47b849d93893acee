"""CurioSFT: the teacher's temperature, the loss against its closed form, and what it is without distillation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.types import Rows
from methods.curio_sft import CurioSFT, entropy, temperatures
from methods.sft import SFT
from tests.helpers import engine
from tests.methods.batches import collect, example, fixture, relative_error

METHOD = CurioSFT()
LENGTHS = [(3, 0), (5, 0), (1, 0), (4, 0)]
SPLITS = [[[0], [1], [2], [3]], [[3, 0], [1, 2]], [[2, 0, 1, 3]]]
SETTINGS = {"low": 1.1, "high": 1.5, "rise": 0.5, "centre": 1.2, "certain": 0.03}


def tau(logits: torch.Tensor, **changes: float) -> list[float]:
    return temperatures(logits.double(), **{**SETTINGS, **changes}).tolist()


def test_the_temperature_raises_the_entropy_by_the_wanted_amount() -> None:
    logits = 2.0 * torch.randn(200, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = temperatures(logits, 1.0, 10.0, 0.5, 1.2, 0.03)
    now = entropy(logits)
    wanted = now + 0.5 * torch.sigmoid(2.0 * (now - 1.2))
    reachable = wanted < entropy(logits / 10.0)
    assert reachable.sum() > 150
    torch.testing.assert_close(entropy(logits / found[:, None])[reachable], wanted[reachable], atol=5e-5, rtol=0)


def test_temperatures_by_hand() -> None:
    two = torch.tensor([[0.0, -4.0]])  # entropy 0.0903: the wanted rise 0.0490 needs a temperature near 1.25
    p = 1 / (1 + math.exp(4.0))
    now = -(p * math.log(p) + (1 - p) * math.log(1 - p))
    assert now == pytest.approx(0.0901, abs=1e-4)
    [found] = tau(two)
    q = 1 / (1 + math.exp(4.0 / found))
    rise = 0.5 / (1 + math.exp(-2 * (now - 1.2)))
    assert -(q * math.log(q) + (1 - q) * math.log(1 - q)) == pytest.approx(now + rise, abs=1e-5)
    assert tau(torch.tensor([[0.0, -8.0]])) == [1.1]  # all but certain
    assert tau(torch.zeros(1, 9)) == pytest.approx([1.5], abs=1e-5)  # uniform: no temperature raises it
    assert tau(two, rise=0.0) == pytest.approx([1.1], abs=1e-5)


def test_loss_and_gradient_by_hand() -> None:
    made = fixture(LENGTHS, ref_shift=0.4)
    assert made.ref is not None
    loss, gradient = made.gradient(METHOD)
    gap = (made.logprobs.detach() - made.ref) * made.demo
    logp = made.logprobs.detach() * made.demo
    assert loss.item() == pytest.approx(float((-logp + gap**2 / 2).sum() / 13), rel=1e-12)
    expected = ((-1 + gap) * made.demo).unsqueeze(-1) * made.scores / 13
    assert relative_error(gradient, expected) < 1e-9


@pytest.mark.parametrize("method", [replace(METHOD, distill_coef=0.0), METHOD])
def test_without_distillation_or_without_a_gap_it_is_sft(method: CurioSFT) -> None:
    made = fixture(LENGTHS, ref_shift=0.4 if method.distill_coef == 0 else 0.0)
    (loss, gradient), (expected_loss, expected) = made.gradient(method), made.gradient(SFT())
    assert torch.equal(loss, expected_loss) and relative_error(gradient, expected) < 1e-12


def trained(name: str, **fields: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Records and weights after three steps of the real loop on a random model."""
    current = engine.stage(engine.small_policy(0, "3steps"), engine.method(name, **fields), engine.pool(24))
    return engine.run(current), current.policy.model.state_dict()


def test_a_teacher_that_is_the_policy_at_temperature_1_leaves_sft() -> None:
    """The whole path: a teacher taken anew each step, scored at a temperature, and the loss's difference to it."""
    itself: dict[str, Any] = {"tau_low": 1.0, "tau_high": 1.0, "sync_every": 1, "sync_mix": 1.0, "betas": SFT().betas}
    (records, weights), (expected, plain) = trained("curio_sft", **itself), trained("sft")
    assert len(records) == 3 and [r["loss"] for r in records] == pytest.approx([r["loss"] for r in expected], rel=1e-6)
    assert all(abs(record["teacher_gap"]) < 1e-6 for record in records)
    assert all(torch.allclose(weights[key], plain[key], atol=1e-6) for key in plain)
    softened = trained("curio_sft", **{**itself, "tau_low": 1.1, "tau_high": 1.1})[0]
    assert softened[0]["loss"] > expected[0]["loss"] + 1e-4


@pytest.mark.parametrize("splits", SPLITS)
def test_micro_batches_change_nothing_unless_the_authors_divisor_is_chosen(splits: Any) -> None:
    made = fixture(LENGTHS, ref_shift=0.4)
    _, gradient = made.gradient(METHOD)
    assert relative_error(made.gradient(METHOD, splits)[1], gradient) < 1e-12
    if len(splits) > 1:
        assert relative_error(made.gradient(replace(METHOD, divisor="micro-batch"), splits)[1], gradient) > 1e-3


def test_rows_are_those_of_sft_and_the_engine_is_asked_for_a_teacher() -> None:
    examples = [example(3), example(1, prompt_tokens=6)]
    rows = collect(METHOD, examples)
    assert rows == collect(SFT(), examples)
    assert METHOD.worst_case(examples, 100) == Rows(train=[(len(r), len(r.demo_ids)) for r in rows])
    assert METHOD.uses_reference and (METHOD.reference_sync, METHOD.reference_mix) == (5, 0.99)
    assert not replace(METHOD, distill_coef=0.0).uses_reference


@pytest.mark.parametrize("wrong", [{"divisor": "tokens"}, {"tau_low": 2.0}, {"sync_mix": 1.5}, {"sync_every": -1}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(METHOD, **wrong)

"""Golden properties of ASFT: DFT without its divergence, nothing at the reference, closed-form gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.types import Requests, Rows
from methods.asft import ASFT, VARIANTS
from methods.dft import DFT
from methods.sft import SFT
from tests.helpers.engine import method, pool, run, small_policy, stage
from tests.methods.batches import Fixture, collect, example, fixture, relative_error

METHOD = ASFT()
PLAIN = ASFT(**VARIANTS["no-kl"])
ANCHORED = ASFT(**VARIANTS["sft-anchored"])
LENGTHS = [(5, 0), (2, 0), (3, 0), (1, 0)]
SPLITS = [[[0, 1, 2, 3]], [[0], [1], [2], [3]], [[3, 0], [2, 1]], [[1], [0, 2, 3]]]


def moved(dtype: torch.dtype = torch.float64) -> Fixture:
    """A policy away from its reference."""
    made = fixture(LENGTHS, dtype=dtype)
    noise = torch.randn(made.logits.shape, generator=torch.Generator().manual_seed(5), dtype=dtype)
    made.ref_logits = made.logits.detach() + noise
    return made


def divergence(made: Fixture) -> Tensor:
    """Gradient of the divergence term alone: (p - p_ref) / N on demonstration tokens."""
    assert made.ref_logits is not None
    gap = made.logits.detach().softmax(-1) - made.ref_logits.softmax(-1)
    return gap * made.demo.unsqueeze(-1) / 11


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("divisor", ["step", "micro-batch"])
@pytest.mark.parametrize("splits", SPLITS)
def test_identity_4_without_divergence_it_is_dft_bit_for_bit(splits: Any, divisor: str, dtype: torch.dtype) -> None:
    made = fixture(LENGTHS, dtype=dtype)
    found = made.gradient(replace(PLAIN, divisor=divisor), splits)
    assert all(map(torch.equal, found, made.gradient(DFT(divisor=divisor), splits)))
    bare = replace(ANCHORED, kl_coef=0.0, divisor=divisor)
    assert all(map(torch.equal, made.gradient(bare, splits), made.gradient(SFT(divisor=divisor), splits)))
    assert not PLAIN.uses_reference_kl and METHOD.uses_reference_kl


def test_at_the_reference_the_divergence_and_its_gradient_are_zero() -> None:
    made = fixture(LENGTHS)
    made.ref_logits = made.logits.detach().clone()
    strong = ASFT(kl_coef=100.0)
    assert strong.loss(made.batch()).metrics["reference_kl"].item() == 0
    loss, gradient = made.gradient(strong)
    dft_loss, dft = made.gradient(DFT())
    assert loss.item() == pytest.approx(dft_loss.item(), abs=1e-12)
    assert relative_error(gradient, dft) < 1e-12


@pytest.mark.parametrize("kl_coef", [0.03, 0.05, 1.0, 50.0])
def test_gradient_per_token(kl_coef: float) -> None:
    made = moved()
    probabilities = made.logprobs.detach().exp().unsqueeze(-1)
    likelihood = -made.scores * made.demo.unsqueeze(-1) / 11
    for chosen, weight in ((METHOD, probabilities), (ANCHORED, 1.0)):
        _, gradient = made.gradient(replace(chosen, kl_coef=kl_coef))
        expected = weight * likelihood + kl_coef * divergence(made)
        assert relative_error(gradient, expected) < 1e-9
        assert relative_error(gradient, weight * likelihood - kl_coef * divergence(made)) > 1e-3
        assert not gradient[~made.demo].any()


def test_the_divergence_is_forward() -> None:
    """KL(reference || policy): its value by hand, which KL(policy || reference) does not have."""
    made = moved()
    assert made.ref_logits is not None
    ours, theirs = made.logits.detach().log_softmax(-1), made.ref_logits.log_softmax(-1)
    forward = (theirs.exp() * (theirs - ours)).sum(-1)[made.demo].mean().item()
    reverse = (ours.exp() * (ours - theirs)).sum(-1)[made.demo].mean().item()
    loss, dft = made.gradient(METHOD)[0].item(), made.gradient(DFT())[0].item()
    assert loss - dft == pytest.approx(0.05 * forward, rel=1e-9)
    assert abs(forward - reverse) > 1e-2 * forward


@pytest.mark.parametrize("chosen", [METHOD, PLAIN, ANCHORED], ids=["asft", "no-kl", "sft-anchored"])
@pytest.mark.parametrize("splits", SPLITS)
def test_any_micro_batches_give_the_same_gradient(chosen: ASFT, splits: list[list[int]]) -> None:
    made = moved()
    loss, gradient = made.gradient(chosen)
    split_loss, split_gradient = made.gradient(chosen, splits)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(split_gradient, gradient) < 1e-12


def test_the_authors_divisor_depends_on_micro_batches() -> None:
    made = moved()
    authors = ASFT(**VARIANTS["authors-divisor"], kl_coef=5.0)
    assert relative_error(made.gradient(authors)[1], made.gradient(ASFT(kl_coef=5.0))[1]) < 1e-12  # one micro-batch
    assert relative_error(made.gradient(authors, SPLITS[1])[1], made.gradient(authors)[1]) > 1e-3
    bare = made.gradient(replace(authors, kl_coef=0.0), SPLITS[1])[1]
    lengths = made.demo.sum(1).view(-1, 1, 1)
    expected = 5.0 * divergence(made) * 11 / (4 * lengths)  # each row is a micro-batch of its own
    assert relative_error(made.gradient(authors, SPLITS[1])[1] - bare, expected) < 1e-9


def test_figures_logged() -> None:
    made = moved()
    batch = made.batch()
    assert batch.reference_kl is not None
    metrics = METHOD.loss(batch).metrics
    assert metrics["demo_nll"].item() == pytest.approx(-made.logprobs[made.demo].mean().item())
    assert metrics["reference_kl"].item() == pytest.approx(batch.reference_kl[made.demo].mean().item())
    assert "reference_kl" not in PLAIN.loss(batch).metrics
    assert not any(value.requires_grad for value in metrics.values())


def test_rows_are_those_of_sft() -> None:
    examples = [example(3), example(1, prompt_tokens=6)]
    rows = collect(METHOD, examples)
    assert rows == collect(SFT(), examples)
    assert METHOD.worst_case(examples, 100) == Rows(train=[(len(r), len(r.demo_ids)) for r in rows])
    assert Requests.of(METHOD) == Requests(uses_reference_kl=True)


def test_the_engine_gives_the_divergence_and_charges_its_pass() -> None:
    """The first update is DFT's; later ones drift less, for a third more FLOPs."""
    records, ledgers = {}, {}
    for name, fields in (("dft", {}), ("asft", {"kl_coef": 10.0})):
        current = stage(small_policy(budget="4steps"), method(name, warmup=0.0, decay="constant", **fields), pool(16))
        records[name], ledgers[name] = run(current), current.meter.ledger
    assert records["asft"][0]["reference_kl"] == pytest.approx(0.0, abs=1e-6)
    assert records["asft"][0]["grad_norm"] == pytest.approx(records["dft"][0]["grad_norm"], rel=1e-3)
    assert records["asft"][-1]["reference_kl"] > 1e-4
    assert records["asft"][-1]["demo_nll"] > records["dft"][-1]["demo_nll"]
    assert ledgers["asft"].flops == pytest.approx(ledgers["dft"].flops * 4 / 3)


@pytest.mark.parametrize("wrong", [{"weight": "sentence"}, {"divisor": "tokens"}, {"kl_coef": -0.1}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(METHOD, **wrong)

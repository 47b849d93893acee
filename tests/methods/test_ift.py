"""IFT: the look-ahead weights by hand, loss and gradient against numpy, and that without both terms it is SFT."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bench.engine.batching import collate
from bench.engine.policy import Policy
from bench.engine.token_values import Wanted
from methods.ift import IFT, propagated
from methods.sft import SFT
from tests.helpers import engine
from tests.methods.batches import collect, example, fixture, relative_error

LENGTHS = [(3, 0), (5, 0), (1, 0), (4, 0)]
SPLITS = [[[0], [1], [2], [3]], [[3, 0], [1, 2]], [[2, 0, 1, 3]]]
TINY = {"hidden_size": 16, "intermediate_size": 24, "head_dim": 8}
METHOD = IFT(decay_rate=0.5)


def weights_by_numpy(losses: np.ndarray, rate: float) -> np.ndarray:
    """Of one row, from the definition as a double sum."""
    n = len(losses)
    ahead = np.array([sum(rate ** (k - t) * losses[k] for k in range(t, n)) for t in range(n)])
    return ahead * n / ahead.sum()


def test_sums_ahead_by_hand() -> None:
    assert propagated(torch.tensor([[4.0, 2.0, 8.0]]), 0.5).tolist() == [[7.0, 6.0, 8.0]]
    losses, mask = torch.tensor([[4.0, 2.0, 8.0, 9.0]]), torch.tensor([[True, True, True, False]])
    assert METHOD.weights(losses, mask)[0].tolist() == pytest.approx([1.0, 6 / 7, 8 / 7, 0.0])


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("divisor", ["step", "row"])
def test_loss_and_gradient_by_numpy(detach: bool, divisor: str) -> None:
    made = fixture(LENGTHS)
    loss, gradient = made.gradient(replace(METHOD, detach=detach, divisor=divisor))
    nll = -made.logprobs.detach().numpy()
    value, factors = 0.0, torch.zeros_like(made.logprobs.detach())
    for row, (n, _) in enumerate(LENGTHS):
        scale = 1 / 13 if divisor == "step" else 1 / n / 4
        own, w = nll[row, :n], weights_by_numpy(nll[row, :n], 0.5)
        value += scale * (w * own).sum()
        # Without detaching, the derivative of the sum of w l, by central differences.
        for t in range(n):
            up, down = own.copy(), own.copy()
            up[t], down[t] = up[t] + 1e-6, down[t] - 1e-6
            whole = (weights_by_numpy(up, 0.5) * up).sum() - (weights_by_numpy(down, 0.5) * down).sum()
            factors[row, t] = scale * (w[t] if detach else whole / 2e-6)
    assert loss.item() == pytest.approx(value, rel=1e-12)
    assert relative_error(gradient, -factors.unsqueeze(-1) * made.scores) < 1e-7


@pytest.mark.parametrize("splits", [None, *SPLITS])
def test_without_residual_and_weights_it_is_sft(splits: Any) -> None:
    made, method = fixture(LENGTHS), IFT(residual=0.0, decay_rate=0.0)
    assert all(map(torch.equal, made.gradient(method, splits), made.gradient(SFT(), splits)))
    assert collect(method, [example(3)]) == collect(SFT(), [example(3)]) and method.input_residual == 0


@pytest.mark.parametrize("splits", SPLITS)
def test_micro_batches_change_nothing(splits: Any) -> None:
    made = fixture(LENGTHS)
    for method in (METHOD, replace(METHOD, divisor="row")):
        assert relative_error(made.gradient(method, splits)[1], made.gradient(method)[1]) < 1e-12


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_inputs_are_mixed_as_the_equation_says(packing: bool, share: float) -> None:
    """Against one row at a time through transformers' own ``inputs_embeds``, with a gradient to the embedding too."""
    model = engine.small_model(4, **TINY).double()
    policy, rows = Policy(model, engine.TOKENIZER, packing=packing), collect(METHOD, engine.pool(3))
    found = policy.run(collate(rows, policy.device), Wanted(residual=share)).logprobs
    expected = []
    for row in rows:
        ids, start = torch.tensor([[*row.prompt_ids, *row.demo_ids]]), len(row.prompt_ids)
        embed = model.get_input_embeddings()
        with torch.no_grad():
            best = model(input_ids=ids).logits[0, start - 1 : -1].argmax(-1)
        own = embed(ids)
        inputs = torch.cat([own[:, :start], (1 - share) * own[:, start:] + share * embed(best).unsqueeze(0)], dim=1)
        logp = model(inputs_embeds=inputs).logits[0, start - 1 : -1].log_softmax(-1)
        expected.append(logp.gather(1, ids[0, start:].unsqueeze(1)).squeeze(1))
    targets = collate(rows, policy.device).targets
    assert torch.allclose(found[targets], torch.cat(expected), atol=1e-10)
    weight = model.get_input_embeddings().weight
    ours, theirs = (torch.autograd.grad(values.sum(), weight)[0] for values in (found, torch.cat(expected)))
    assert relative_error(ours, theirs) < 1e-8
    plain = policy.run(collate(rows, policy.device), Wanted()).logprobs  # the mixture is gone afterwards
    assert not torch.allclose(plain[targets], found[targets], atol=1e-3)


def test_the_first_pass_is_charged_and_the_loop_learns() -> None:
    found = {}
    for name in ("ift", "sft"):
        method = engine.method(name, warmup=0.0, batch_size=4, lr=0.01)
        current = engine.stage(engine.small_policy(budget="1Tflops", **TINY), method, engine.pool(4))
        bound = current.worst_case(current.examples())
        records = engine.run(current, 3)
        assert current.meter.ledger.flops / 3 == pytest.approx(bound, rel=1e-9)
        found[name] = current.meter.ledger.flops
        assert records[-1]["demo_nll"] < records[0]["demo_nll"]
    assert found["ift"] == pytest.approx(found["sft"] * 4 / 3)


@pytest.mark.parametrize("wrong", [{"residual": 1.5}, {"decay_rate": -0.1}, {"divisor": "micro-batch"}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(METHOD, **wrong)

"""Golden properties of OTR: closed form for given candidates, and the mean over many draws against its expectation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.types import Requests, Rows
from methods.dft import DFT
from methods.otr import OTR
from methods.sft import SFT
from tests.helpers.engine import method, pool, run, small_policy, stage
from tests.methods.batches import VOCAB, Fixture, collect, draw, example, fixture, relative_error

METHOD = OTR()
LENGTHS = [(5, 0), (2, 0), (3, 0), (1, 0)]
SPLITS = [[[0, 1, 2, 3]], [[0], [1], [2], [3]], [[3, 0], [2, 1]], [[1], [0, 2, 3]]]
DRAWS = 200_000


def drawn(num: int = 16, temperature: float = 1.0, dtype: torch.dtype = torch.float64) -> Fixture:
    made = fixture(LENGTHS, dtype=dtype)
    made.candidates = draw(made, num, temperature)
    return made


def onehot(tokens: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(tokens, VOCAB).double()


def expectation(made: Fixture, kappa: float, beta: float) -> Tensor:
    """-[(1 - beta) q_y (onehot - p) + beta (q - p)] / N on demonstration tokens."""
    logits = made.logits.detach()
    p, q = logits.softmax(-1), (logits / kappa).softmax(-1)
    hit = q.gather(-1, made.targets.unsqueeze(-1))
    mean = (1 - beta) * hit * (onehot(made.targets) - p) + beta * (q - p)
    return -mean * made.demo.unsqueeze(-1) / 11


def standard_error(made: Fixture, kappa: float, beta: float) -> Tensor:
    """Of the mean of DRAWS candidates, per logit: from the exact variance of -R (onehot(a) - p) / N under q."""
    logits = made.logits.detach()
    p, q = logits.softmax(-1), (logits / kappa).softmax(-1)
    rewards = beta + (1 - beta) * onehot(made.targets)  # [B, T, V] of each token that may be drawn
    effects = rewards.unsqueeze(-1) * (torch.eye(VOCAB, dtype=p.dtype) - p.unsqueeze(-2))  # [B, T, drawn, logit]
    mean = (q.unsqueeze(-1) * effects).sum(-2)
    variance = (q.unsqueeze(-1) * effects.square()).sum(-2) - mean.square()
    return variance.clamp(min=0).sqrt() / (11 * math.sqrt(DRAWS))


@pytest.mark.parametrize("beta", [0.0, -0.1, -2.0])
@pytest.mark.parametrize("kappa", [1.0, 1.7])
def test_gradient_for_given_candidates(kappa: float, beta: float) -> None:
    made = drawn(16, kappa)
    assert made.candidates is not None
    p = made.logits.detach().softmax(-1)
    rewards = torch.full(made.candidates.shape, beta, dtype=torch.float64)
    rewards[made.candidates == made.targets.unsqueeze(-1)] = 1.0
    expected = -(rewards.unsqueeze(-1) * (onehot(made.candidates) - p.unsqueeze(-2))).mean(-2)
    expected = expected * made.demo.unsqueeze(-1) / 11
    loss, gradient = made.gradient(OTR(miss_reward=beta))
    assert relative_error(gradient, expected) < 1e-9
    assert not gradient[~made.demo].any()
    logprobs = made.logits.detach().log_softmax(-1).gather(-1, made.candidates)
    assert loss.item() == pytest.approx(-(rewards * logprobs).mean(-1)[made.demo].mean().item(), rel=1e-9)


@pytest.mark.parametrize(
    ("kappa", "beta"), [(1.0, 0.0), (1.0, -0.1), (1.0, -1.0), (1.5, 0.0), (1.5, -1.0), (0.7, -1.0)]
)
def test_the_mean_gradient_converges_to_its_expectation(kappa: float, beta: float) -> None:
    """Every logit within 5 standard errors (77 logits: a wrong alarm has a chance of 5e-5); the seed is fixed."""
    made = drawn(DRAWS, kappa)
    _, gradient = made.gradient(OTR(miss_reward=beta))
    expected, bound = expectation(made, kappa, beta), 5 * standard_error(made, kappa, beta)
    assert ((gradient - expected).abs() <= bound + 1e-12).all()
    assert relative_error(gradient, expected) < 0.02
    if kappa == 1.0:
        _, dft = made.gradient(DFT())
        assert relative_error(expected, (1 - beta) * dft) < 1e-9


def test_the_expectations_are_far_apart() -> None:
    """What the bound above would not confuse: another penalty, another temperature, SFT."""
    made = drawn(DRAWS)
    gradient = made.gradient(OTR(miss_reward=-1.0))[1]
    bound = 5 * standard_error(made, 1.0, -1.0)
    wrong = [expectation(made, 1.0, -0.9), expectation(made, 1.2, -1.0), made.gradient(SFT())[1]]
    assert all(((gradient - other).abs() > bound)[made.demo].any() for other in wrong)


def test_more_candidates_bring_the_gradient_closer_to_dft() -> None:
    errors = []
    for num in (16, 256, 4096):
        made = drawn(num)
        errors.append(relative_error(made.gradient(OTR(miss_reward=0.0))[1], made.gradient(DFT())[1]))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_rewards_carry_no_gradient_and_misses_alone_push_the_guesses_down() -> None:
    made = drawn()
    made.candidates = ((made.targets + 1) % VOCAB).unsqueeze(-1).expand(*made.targets.shape, 4)
    assert not made.gradient(OTR(miss_reward=0.0))[1].any()
    _, gradient = made.gradient(OTR(miss_reward=-1.0))
    guess = gradient.gather(-1, made.candidates[..., :1]).squeeze(-1)
    assert (guess[made.demo] > 0).all()  # descent lowers the guessed token's logit


@pytest.mark.parametrize("splits", SPLITS)
def test_any_micro_batches_give_the_same_gradient(splits: list[list[int]]) -> None:
    made = drawn()
    loss, gradient = made.gradient(METHOD)
    split_loss, split_gradient = made.gradient(METHOD, splits)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(split_gradient, gradient) < 1e-12


def test_figures_logged() -> None:
    made = drawn()
    assert made.candidates is not None
    metrics = METHOD.loss(made.batch()).metrics
    hits = (made.candidates == made.targets.unsqueeze(-1))[made.demo].double().mean()
    assert metrics["hit_share"].item() == pytest.approx(hits.item())
    assert metrics["demo_nll"].item() == pytest.approx(-made.logprobs[made.demo].mean().item())
    assert not any(value.requires_grad for value in metrics.values())


def test_rows_are_those_of_sft() -> None:
    examples = [example(3), example(1, prompt_tokens=6)]
    rows = collect(METHOD, examples)
    assert rows == collect(SFT(), examples)
    assert METHOD.worst_case(examples, 100) == Rows(train=[(len(r), len(r.demo_ids)) for r in rows])
    assert Requests.of(METHOD) == Requests(num_candidates=METHOD.num_candidates)


def test_the_engine_draws_candidates_for_free_and_alike_for_any_micro_batches() -> None:
    runs = {}
    for name, tokens in (("dft", 512), ("otr", 10_000), ("otr", 100)):
        chosen = method(name, **({"num_candidates": 4} if name == "otr" else {}))
        current = stage(small_policy(budget="3steps"), chosen, pool(16), micro_batch_tokens=tokens)
        runs[name, tokens] = [record["grad_norm"] for record in run(current)], current.meter.ledger.flops
    whole, cut = runs["otr", 10_000], runs["otr", 100]
    assert whole[0] == pytest.approx(cut[0], rel=1e-3)
    assert whole[1] == pytest.approx(runs["dft", 512][1])


@pytest.mark.parametrize("wrong", [{"num_candidates": 0}, {"candidate_temperature": 0.0}, {"miss_reward": 0.1}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(METHOD, **wrong)

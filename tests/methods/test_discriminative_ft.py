"""Discriminative fine-tuning: weights and moving average by hand, and what it is without negatives."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bench.types import Completion, Example, Requests, Rows, Verdict
from methods.discriminative_ft import VARIANTS, DiscriminativeFT, moving
from methods.poft import PoFT
from methods.sft import SFT
from tests.methods.batches import Scripted, collect, example, fixture, relative_error, scripted_scores

METHOD, FREE = DiscriminativeFT(), DiscriminativeFT(**VARIANTS["dft2"])
LENGTHS = [(3, 0), (0, 2), (0, 4), (5, 0), (0, 1), (0, 3)]
ADVANTAGES = [0.0, -0.4, -0.1, 0.0, -0.9, -0.2]
SPLITS = [[[0], [1], [2], [3], [4], [5]], [[5, 0], [4, 2], [1, 3]]]
EXAMPLES = [example(2, name="a"), example(3, name="b")]


def prepared(**fields: Any) -> tuple[DiscriminativeFT, list[Example]]:
    method = DiscriminativeFT(**fields)
    return method, method.prepare(EXAMPLES, Scripted())


def test_the_moving_average_by_hand() -> None:
    """numpy's logarithms of sums of exponentials, not shifted."""
    for u, values, gamma in ((0.3, [1.0, -2.0, 0.5], 0.85), (-5.0, [4.0], 0.5), (7.0, [0.0, 0.0], 1.0)):
        expected = np.log((1 - gamma) * np.exp(u) + gamma * np.mean(np.exp(values)))
        assert moving(u, values, gamma) == pytest.approx(expected, rel=1e-12)
    assert math.isfinite(moving(0.0, [-9000.0, -8000.0], 0.85)) and moving(0.0, [9000.0], 1.0) == pytest.approx(9000.0)


@pytest.mark.parametrize("fields", [{}, {"tau": 0.5, "gamma": 0.6, "u_init": 0.7}, VARIANTS["dft2"]])
def test_weights_follow_the_average_of_each_demonstration(fields: dict[str, Any]) -> None:
    method, examples = prepared(**fields)
    ctx = Scripted()
    for example_ in examples:  # what the model that wrote a negative gave it; without the reference it is not asked
        rows = [row for row in method.collect([example_], Scripted()) if row.completion_ids]
        scored = [scripted_scores(row).logprobs.tolist() for row in rows]
        assert ([list(a.logprobs) for a in example_.answers] == scored) == method.reference
    averages = {e.id: method.u_init for e in examples}
    for _ in range(3):
        rows = method.collect(examples, ctx)
        assert [row.group for row in rows] == [0, 1, 0, 0, 1, 1] and not any(row.advantage for row in rows[:2])
        for group, e in enumerate(examples):
            own = [row for row in rows if row.group == group and row.completion_ids]
            values = []
            for row in own:
                logp = scripted_scores(row).logprobs.double().numpy()
                ours = logp.sum() / method.tau - sum(row.old_logprobs) if method.reference else logp.mean() / method.tau
                values.append(float(ours))
            old = (1 - method.gamma) * np.exp(averages[e.id])
            averages[e.id] = float(np.log(old + method.gamma * np.mean(np.exp(values))))
            expected = [-np.exp(s - averages[e.id]) / len(own) for s in values]
            assert [row.advantage for row in own] == pytest.approx(expected, rel=1e-9)
            assert float(ctx.memory[f"u/{e.id}"]) == pytest.approx(averages[e.id], rel=1e-9)
            assert all(-row.advantage <= 1 / method.gamma for row in own), "no weight exceeds m / gamma"


def test_loss_and_gradient_by_hand() -> None:
    made = fixture(LENGTHS, ADVANTAGES)
    logp, demos, negatives = made.logprobs.detach().numpy(), [0, 3], [1, 2, 4, 5]
    sums = [logp[i, : sum(LENGTHS[i])].sum() for i in range(6)]
    loss, gradient = made.gradient(METHOD)
    expected = (-sum(sums[i] for i in demos) - sum(ADVANTAGES[i] * sums[i] for i in negatives)) / 8
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    slopes = torch.tensor([-1.0 if i in demos else -ADVANTAGES[i] for i in range(6)], dtype=torch.float64) / 8
    inside = (made.demo | made.policy).unsqueeze(-1)
    assert relative_error(gradient, slopes.view(-1, 1, 1) * made.scores * inside) < 1e-12
    means = [total / sum(pair) for total, pair in zip(sums, LENGTHS)]
    loss, gradient = made.gradient(FREE)
    expected = (-sum(means[i] for i in demos) - sum(ADVANTAGES[i] * means[i] for i in negatives)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    counts = torch.tensor([sum(pair) for pair in LENGTHS], dtype=torch.float64)
    assert relative_error(gradient, (slopes * 8 / 2 / counts).view(-1, 1, 1) * made.scores * inside) < 1e-12


def test_without_negatives_it_is_sft_or_its_length_normalised_form() -> None:
    ctx = Scripted()
    method = DiscriminativeFT(num_negatives=0)
    assert method.prepare(EXAMPLES, ctx) == EXAMPLES and method.prepare_worst_case(EXAMPLES, 9) == Rows()
    assert method.collect(EXAMPLES, ctx) == collect(SFT(), EXAMPLES) and not ctx.calls and not ctx.memory
    assert method.worst_case(EXAMPLES, 9) == SFT().worst_case(EXAMPLES, 9)
    made = fixture([(3, 0), (5, 0), (1, 0)])
    assert all(map(torch.equal, made.gradient(method), made.gradient(SFT())))
    means = PoFT(preference=False)
    assert all(map(torch.equal, made.gradient(replace(FREE, num_negatives=0)), made.gradient(means)))
    assert Requests.of(METHOD) == Requests()


def test_a_shift_of_the_average_scales_the_negatives_alone() -> None:
    """gamma 0 in all but name: u stays what it was."""
    method, examples = prepared(gamma=1e-12)
    plain = method.collect(examples, Scripted())
    shifted = replace(method, u_init=0.75).collect(examples, Scripted())
    assert plain[:2] == shifted[:2]
    ratios = [row.advantage / other.advantage for row, other in zip(shifted[2:], plain[2:])]
    assert ratios == pytest.approx([math.exp(-0.75)] * 4, rel=1e-6)
    halved = fixture(LENGTHS, [a / 2 for a in ADVANTAGES]).gradient(METHOD)[1]
    made = fixture(LENGTHS, ADVANTAGES)
    whole = made.gradient(METHOD)[1]
    assert torch.equal(halved[made.demo], whole[made.demo])
    assert relative_error(halved[made.policy], whole[made.policy] / 2) < 1e-12


@pytest.mark.parametrize("splits", SPLITS)
@pytest.mark.parametrize("method", [METHOD, FREE])
def test_micro_batches_change_nothing(splits: Any, method: DiscriminativeFT) -> None:
    made = fixture(LENGTHS, ADVANTAGES)
    assert relative_error(made.gradient(method, splits)[1], made.gradient(method)[1]) < 1e-12


def test_negatives_are_drawn_once_and_chosen_at_each_visit() -> None:
    ctx = Scripted(reward=lambda e, prefix, i: float(i == 0))
    assert [len(e.answers) for e in METHOD.prepare(EXAMPLES, ctx)] == [2, 2]
    wrong = DiscriminativeFT(only_wrong=True, num_drawn=3, num_negatives=3).prepare(EXAMPLES, ctx)
    assert [[len(a.token_ids) for a in e.answers] for e in wrong] == [[2, 3], [2, 3]]  # the first one is right
    method, examples = prepared(num_drawn=6)
    seen = {
        tuple(len(r.completion_ids) for r in method.collect(examples, Scripted(rng=random.Random(seed)))[2:])
        for seed in range(9)
    }
    assert len(seen) > 3


def test_worst_cases() -> None:
    short = EXAMPLES[:1]  # prompt of 4 tokens, demonstration of 8
    assert METHOD.prepare_worst_case(short, 9) == Rows([4], [(4, 9)] * 2, score=[(13, 9)] * 2)
    assert FREE.prepare_worst_case(short, 9) == Rows([4], [(4, 9)] * 2)
    assert METHOD.worst_case(short, 9) == Rows([], [], [(12, 8), (13, 9), (13, 9)], ((13, 9), (13, 9)))
    answers = tuple(Completion((1,) * n, (0.0,) * n, "", "stop", Verdict(False, 0.0, "")) for n in (2, 5, 3))
    known = [replace(short[0], answers=answers)]
    assert METHOD.worst_case(known, 9) == Rows([], [], [(12, 8), (9, 5), (7, 3)], ((9, 5), (7, 3)))


@pytest.mark.parametrize("wrong", [{"num_negatives": -1}, {"num_drawn": 1}, {"tau": 0.0}, {"gamma": 0.0}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(METHOD, **wrong)

"""DPO: which pairs are made, the loss and gradient against numpy, and that pairs stay whole."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bench.engine.batching import split_micro_batches
from bench.types import Rows
from methods.dpo import DPO, VARIANTS
from tests.helpers import engine
from tests.methods.batches import Fixture, Scripted, collect, example, fixture, relative_error

LENGTHS = [(0, 3), (0, 2), (0, 4), (0, 4), (2, 0), (0, 5)]
SIGNS = [1.0, -1.0, 1.0, -1.0, 1.0, -1.0]
METHOD = DPO(beta=0.7)


def pairs(ref_shift: float = 0.8, dtype: torch.dtype = torch.float64) -> Fixture:
    """Three pairs: rows 0 and 1, 2 and 3, 4 and 5."""
    return fixture(LENGTHS, SIGNS, ref_shift=ref_shift, dtype=dtype)


def by_numpy(made: Fixture, beta: float, smoothing: float = 0.0) -> tuple[float, np.ndarray]:
    """Loss, and coefficient of each row's gradient of log pi, from sums over rows."""
    mask = (made.demo | made.policy).numpy()
    ref = made.logprobs.detach() if made.ref is None else made.ref
    ratios = ((made.logprobs.detach() - ref).numpy() * mask).sum(1)
    margins = ratios[0::2] - ratios[1::2]
    chance = 1 / (1 + np.exp(-beta * margins))
    loss = -((1 - smoothing) * np.log(chance) + smoothing * np.log(1 - chance)).mean()
    pull = -beta * ((1 - smoothing) * (1 - chance) - smoothing * chance) / len(margins)
    return float(loss), np.stack([pull, -pull], 1).flatten()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradient_are_those_of_numpy(smoothing: float) -> None:
    made = pairs()
    loss, gradient = made.gradient(replace(METHOD, label_smoothing=smoothing))
    expected, pull = by_numpy(made, 0.7, smoothing)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    rows = torch.tensor(pull)[:, None, None] * made.scores * (made.demo | made.policy).unsqueeze(-1)
    assert relative_error(gradient, rows) < 1e-9


def test_at_the_reference_the_loss_is_log_2_and_both_rows_pull_alike() -> None:
    made = pairs(ref_shift=0.0)
    loss, gradient = made.gradient(METHOD)
    assert loss.item() == pytest.approx(math.log(2), rel=1e-12)
    signs = torch.tensor(SIGNS, dtype=torch.float64)[:, None, None]
    expected = -0.7 / 2 / 3 * signs * made.scores * (made.demo | made.policy).unsqueeze(-1)
    assert relative_error(gradient, expected) < 1e-9


def test_a_pair_that_is_far_apart_already_is_left_alone() -> None:
    made = pairs(ref_shift=0.0)
    signs = torch.tensor(SIGNS, dtype=torch.float64)[:, None]
    made.ref = made.logprobs.detach() - 100 * signs
    assert made.gradient(METHOD)[1].abs().max() < 1e-12
    made.ref = made.logprobs.detach() + 100 * signs  # the wrong way round: the whole pull, beta
    _, gradient = made.gradient(METHOD)
    expected = -0.7 / 3 * signs.unsqueeze(-1) * made.scores * (made.demo | made.policy).unsqueeze(-1)
    assert relative_error(gradient, expected) < 1e-9


@pytest.mark.parametrize("splits", [[[0, 1], [2, 3], [4, 5]], [[5, 4, 1, 0], [3, 2]], [[3, 5, 0, 2, 4, 1]]])
def test_neither_order_nor_micro_batches_matter_while_pairs_are_whole(splits: list[list[int]]) -> None:
    made = pairs()
    loss, gradient = made.gradient(METHOD)
    split_loss, split_gradient = made.gradient(METHOD, splits)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(split_gradient, gradient) < 1e-12
    assert relative_error(made.gradient(METHOD, [[0, 2, 4], [1, 3, 5]])[1], gradient) > 1e-2, "a torn pair is another"


def test_one_pair_per_prompt_that_has_both() -> None:
    examples = [example(2, name=name) for name in ("both", "right", "wrong")]
    script = {"both": (0.0, 1.0, 1.0, 0.0), "right": (1.0,) * 4, "wrong": (0.1,) * 4}
    ctx = Scripted(reward=lambda e, prefix, i: script[e.id][i])
    rows = replace(METHOD, group_size=4).collect(examples, ctx)
    assert [(r.group, r.advantage, r.completion_ids, r.correct) for r in rows] == [
        (0, 1.0, (2000, 2001), True),
        (0, -1.0, (2000,), False),
    ]
    gold = replace(METHOD, group_size=4, gold=True).collect(examples, ctx)
    assert gold[:2] == rows and [r.group for r in gold] == [0, 0, 2, 2]
    assert (gold[2].demo_ids, gold[2].demo_advantage, gold[2].completion_ids) == (examples[2].demo_ids, 1.0, ())


def test_worst_case_covers_rollouts_and_pairs() -> None:
    [first] = [example(3)]  # a prompt of 4 tokens, a demonstration of 10
    assert DPO(group_size=2).worst_case([first], 6) == Rows([4], [(4, 6)] * 2, [(10, 6), (10, 6)])
    assert DPO(group_size=2, **VARIANTS["gold"]).worst_case([first], 6).train == [(14, 10), (10, 6)]


def test_the_loop_keeps_pairs_together_and_charges_the_reference() -> None:
    """Micro-batches of a few tokens give the gradient of one, and the charge stays within the worst case."""
    found, method = [], DPO(gold=True, batch_size=6, group_size=2, lr=1e-3)
    for tokens in (4096, 60):
        current = engine.stage(engine.small_policy(budget="1Tflops"), method, engine.pool(6))
        current.limit.tokens = tokens
        bound, before = current.worst_case(current.examples()), current.meter.ledger.flops
        [record] = engine.run(current, 1)
        ledger = current.meter.ledger
        assert record["num_trajectories"] == 12 and ledger.scored_tokens == ledger.trained_tokens
        assert 0 < ledger.flops - before <= bound and record["loss"] == pytest.approx(math.log(2), rel=1e-5)
        found.append(record["grad_norm"])
    assert found[0] > 0 and found[1] == pytest.approx(found[0], rel=1e-4)


def test_groups_are_never_cut() -> None:
    rows = collect(replace(METHOD, gold=True), [example(n, name=str(n)) for n in (1, 3, 5, 12)])
    for tokens in (1, 30, 10_000):
        parts = split_micro_batches(rows, tokens, whole_groups=True)
        assert sorted(map(id, (row for part in parts for row in part))) == sorted(map(id, rows))
        owners = [group for part in parts for group in {row.group for row in part}]
        assert len(owners) == len(set(owners)) and (len(parts) == len(set(owners)) or tokens > 1)


@pytest.mark.parametrize("wrong", [{"beta": 0.0}, {"label_smoothing": 0.5}, {"group_size": 1}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(METHOD, **wrong)

"""RIF-RFT: which prompts pass the filter, what the filter costs, and GRPO on the rest, or on all without a filter."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch

from bench.types import Requests, Rows
from methods.grpo import GRPO
from methods.rif_rft import RIFRFT, VARIANTS
from tests.helpers.engine import pool, small_policy, stage
from tests.methods.batches import Scripted, collect, example, fixture

EXAMPLES = [example(n, name=str(n)) for n in range(5)]
PLAIN = RIFRFT(min_correct=0)


def solved(method: RIFRFT) -> tuple[list[str], Scripted]:
    """What stays of five prompts of which 0 to 4 of four rollouts are right; the others earn 0.1."""
    ctx = Scripted(reward=lambda e, prefix, i: 1.0 if i < int(e.id) else 0.1)
    return [e.id for e in method.prepare(EXAMPLES, ctx)], ctx


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({}, "1234"),
        (VARIANTS["unsolved-only"], "123"),
        ({"min_correct": 2, "min_wrong": 1}, "23"),
        ({"min_correct": 0, "min_wrong": 4}, "0"),
    ],
)
def test_prompts_with_enough_right_and_wrong_rollouts_stay_in_order(limits: dict[str, Any], kept: str) -> None:
    found, ctx = solved(RIFRFT(filter_size=4, **limits))
    assert found == list(kept)
    assert ctx.calls == [(EXAMPLES, [()] * 5, 4)] and ctx.greedy == [False]


def test_examples_that_stay_are_not_changed() -> None:
    made = RIFRFT().prepare(EXAMPLES, Scripted(reward=lambda *_: 1.0))
    assert made == EXAMPLES


def test_without_a_filter_it_is_grpo_and_samples_nothing_before() -> None:
    found, ctx = solved(PLAIN)
    assert found == [e.id for e in EXAMPLES] and ctx.calls == []
    assert PLAIN.prepare_worst_case(EXAMPLES, 10) == Rows()
    theirs = GRPO()
    assert {f.name for f in fields(RIFRFT)} - {f.name for f in fields(GRPO)} == {
        "filter_size",
        "min_correct",
        "min_wrong",
    }
    assert all(getattr(PLAIN, f.name) == getattr(theirs, f.name) for f in fields(GRPO))
    assert collect(PLAIN, EXAMPLES) == collect(theirs, EXAMPLES) and Requests.of(PLAIN) == Requests.of(theirs)
    made = fixture([(0, 2), (0, 4), (0, 1)], [1.5, -0.5, 2.0], old_shift=0.5, ref_shift=0.5)
    for splits in (None, [[0], [1, 2]]):
        assert all(map(torch.equal, made.gradient(PLAIN, splits), made.gradient(theirs, splits)))
    assert PLAIN.worst_case(EXAMPLES, 10) == theirs.worst_case(EXAMPLES, 10)


def test_the_filter_is_charged_within_its_worst_case() -> None:
    """On a real sampler: a random model solves nothing, so that min_wrong alone decides."""
    method = RIFRFT(filter_size=3, min_correct=0, min_wrong=3, batch_size=2, group_size=2, num_updates=1)
    current = stage(small_policy(3, "1e15flops"), method, pool(4))
    most = current.meter.worst_case(method.prepare_worst_case(current.pool, 24), 0, 0)
    current.prepare()
    ledger = current.meter.ledger
    assert ledger.rollouts == ledger.verifier_calls == 12 and len(current.pool) == 4
    assert 0 < ledger.flops <= most and ledger.trained_tokens == ledger.steps == ledger.demonstrations == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"filter_size": 0},
        {"filter_size": 2, "min_correct": 2, "min_wrong": 1},
        {"min_correct": -1},
        {"min_wrong": -1},
        {"scale": "batch"},
        {"group_size": 0},
    ],
)
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RIFRFT(**wrong)

"""Hints of UFT on real tokens and through the engine: alignment, hints of one's own, what they cost."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from bench.engine.batching import collate
from bench.engine.step_context import StepContext
from bench.types import Rows, Trajectory
from methods import common
from methods.grpo import GRPO
from methods.uft import UFT, VARIANTS
from tests.helpers.engine import TASK, TOKENIZER, pool, small_policy, stage
from tests.methods.batches import Scripted, example

OWN = UFT(**VARIANTS["own-hints"])


def in_steps(one: Any, row: Trajectory) -> int:
    """Number of the demonstration's steps in a hint."""
    return [0, *one.step_ends].index(len(row.demo_ids))


def sampled(method: Any, examples: Any, seed: int = 5) -> tuple[list[Trajectory], Any, StepContext]:
    """Rows of one step of a small random model, its ledger and the context."""
    policy = small_policy(1, "1000steps")
    ctx = StepContext(policy, TASK, 0.1, random.Random(seed), seed, 12, 1.0, 256)
    rows = method.collect(examples, ctx)
    assert policy.meter is not None
    return rows, policy.meter.ledger, ctx


@pytest.mark.parametrize("method", [UFT(group_size=2), replace(OWN, group_size=2)], ids=["shared", "own"])
def test_masked_labels_are_the_text_of_the_hint(method: UFT) -> None:  # property 3.10.6
    examples = pool(40, level="4")
    rows = method.collect(examples, Scripted(progress=0.3, rng=random.Random(1)))
    micro = collate(rows, torch.device("cpu"))
    assert micro.demo.sum(1).tolist() == [len(row.demo_ids) for row in rows]
    shown = set()
    for row, labels, mask in zip(rows, micro.token_ids[:, 1:], micro.demo, strict=True):
        one = examples[row.group]
        steps = in_steps(one, row)
        assert TOKENIZER.decode(labels[mask]) == "".join(one.demonstration.steps[:steps])
        shown.add(steps)
    assert shown == {0, 1, 2, 3}


def test_own_hints_are_drawn_once_per_rollout_in_one_call() -> None:
    ctx = Scripted(progress=0.3, rng=random.Random(3), reward=lambda e, prefix, index: len(prefix) / 10)
    examples = [example(5, name=str(i)) for i in range(12)]
    rows = OWN.collect(examples, ctx)
    [(asked, prefixes, group_size)] = ctx.calls
    assert group_size == 1 and asked == [e for e in examples for _ in range(4)]
    assert [row.demo_ids for row in rows] == prefixes and [row.group for row in rows] == sorted([*range(12)] * 4)
    rng = random.Random(3)
    assert prefixes == [OWN.prefix(e, 0.3, rng) for e in asked]
    for i in range(12):
        group = [row for row in rows if row.group == i]
        assert len({row.demo_ids for row in group}) > 1
        assert [row.advantage for row in group] == common.group_advantages([row.reward for row in group])


def test_own_hints_are_independent_and_shared_ones_equal() -> None:
    """Pairs of rollouts under the uniform schedule with two steps: nine equal cells against three."""
    examples = [example(2)] * 10_000
    for shared in (True, False):
        method = UFT(schedule="uniform", group_size=2, shared_hint=shared)
        rows = method.collect(examples, Scripted(rng=random.Random(0)))
        counts = Counter((in_steps(examples[0], a), in_steps(examples[0], b)) for a, b in zip(rows[::2], rows[1::2]))
        assert set(counts) == {(a, b) for a in range(3) for b in range(3) if a == b or not shared}
        assert chisquare(list(counts.values())).pvalue > 1e-3


def test_worst_case_of_own_hints_prefills_every_rollout() -> None:
    one, two = example(3), example(12, prompt_tokens=6)
    rows = replace(OWN, group_size=2).worst_case([one, two], 10)
    shared = UFT(group_size=2).worst_case([one, two], 10)
    assert rows == Rows([11, 11, 36, 36], shared.decode, shared.train)


def test_own_hints_pay_for_each_different_context_once() -> None:
    examples = pool(6, level="4")
    rows, ledger, _ = sampled(OWN, examples)
    contexts = [(*row.prompt_ids, *row.demo_ids) for row in rows]
    assert len(examples) < len(set(contexts)) < len(contexts)
    assert ledger.prefilled_tokens == sum(map(len, set(contexts))) <= sum(OWN.worst_case(examples, 12).prefill)
    assert ledger.rollouts == len(rows) == 24


def test_own_hints_of_nothing_are_the_rollouts_of_grpo() -> None:
    examples = pool(5)
    plain, plain_ledger, _ = sampled(GRPO(), examples)
    rows, ledger, _ = sampled(replace(OWN, schedule="none"), examples)
    assert rows == plain and ledger.flops == plain_ledger.flops


def test_a_step_with_own_hints_keeps_within_its_worst_case() -> None:
    current = stage(small_policy(2, "1e15flops"), replace(OWN, batch_size=3, lr=1e-3), pool(16, level="4"))
    ledger = current.meter.ledger
    for _ in range(4):
        bound, before = current.worst_case(current.examples()), ledger.flops
        record = current.run_step()
        assert record is not None and record["num_trajectories"] == 12
        assert 0 < ledger.flops - before <= bound
    assert ledger.rollouts == 48
    assert 0 < ledger.demonstrations <= 12, "per prompt and step, not per rollout"

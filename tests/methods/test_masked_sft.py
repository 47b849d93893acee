"""Golden properties of masked SFT: what the copy holds at each ratio, that it has no loss, and SFT on the same rows."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.engine.batching import collate
from bench.types import Rows, Trajectory, UserError
from methods.masked_sft import VARIANTS, MaskedSFT
from methods.sft import SFT
from tests.helpers.engine import method, pool, run, small_policy, stage
from tests.methods.batches import Scripted, collect, example, fixture, relative_error

METHOD = MaskedSFT()
MASK = Scripted().mask_id
EXAMPLES = [example(3, name="a"), example(1, prompt_tokens=6, name="b"), example(12, name="c")]
LENGTHS = [(5, 0), (2, 0), (3, 0), (1, 0)]
SPLITS = [[[0, 1, 2, 3]], [[0], [1], [2], [3]], [[3, 0], [2, 1]], [[1], [0, 2, 3]]]


def copy_of(row: Trajectory, prompt_tokens: int) -> tuple[int, ...]:
    return row.prompt_ids[: len(row.prompt_ids) - prompt_tokens]


def test_a_copy_with_hidden_tokens_stands_before_prompt_and_demonstration() -> None:
    rows = collect(METHOD, EXAMPLES)
    assert [row.group for row in rows] == [0, 1, 2]
    for row, one in zip(rows, EXAMPLES, strict=True):
        copy = copy_of(row, len(one.prompt_ids))
        assert row.prompt_ids[len(copy) :] == one.prompt_ids and row.demo_ids == one.demo_ids
        assert row.completion_ids == () and row.demo_weights == ()
        assert len(copy) == len(one.demo_ids) - 1
        assert all(seen in (MASK, token) for seen, token in zip(copy, one.demo_ids))
        assert MASK in copy and set(copy) != {MASK}


@pytest.mark.parametrize(("variant", "hidden"), [("copying", False), ("hidden", True)])
def test_limits_of_the_ratio(variant: str, hidden: bool) -> None:
    """At 0 the copy is the demonstration without EOS, at 1 nothing but masks."""
    for seed in range(20):
        for row, one in zip(collect(MaskedSFT(**VARIANTS[variant]), EXAMPLES, seed=seed), EXAMPLES, strict=True):
            expected = (MASK,) * (len(one.demo_ids) - 1) if hidden else one.demo_ids[:-1]
            assert copy_of(row, len(one.prompt_ids)) == expected


def shares(chosen: MaskedSFT, count: int) -> list[float]:
    """Share of hidden tokens in each of ``count`` copies of a demonstration of 1003 tokens and EOS."""
    long = replace(example(), demo_ids=(*range(1, 1004), 0))
    rows = chosen.collect([long] * count, Scripted(rng=random.Random(1)))
    return [copy_of(row, len(long.prompt_ids)).count(MASK) / 1003 for row in rows]


def test_the_ratio_is_uniform_between_its_ends() -> None:
    found = sorted(shares(METHOD, 400))
    assert 0.0 < found[0] < 0.1 and 0.9 < found[-1] < 1.0
    for i, value in enumerate(found):
        assert value == pytest.approx(0.05 + 0.9 * (i + 0.5) / 400, abs=0.1)  # 2 / sqrt(400): Kolmogorov's 1e-3


def test_tokens_are_hidden_independently() -> None:
    """At a ratio of one half the count varies as a binomial's does: a variance of 1/4 per token."""
    found = torch.tensor(shares(MaskedSFT(**VARIANTS["half"]), 400), dtype=torch.float64)
    assert float(found.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(found.var() * 1003) == pytest.approx(0.25, rel=0.3)


def test_draws_follow_the_context_alone() -> None:
    one, again, other = (collect(METHOD, EXAMPLES, seed=seed) for seed in (0, 0, 1))
    assert one == again and one != other
    assert len({copy_of(row, 4)[:5] for row in collect(METHOD, [EXAMPLES[2]] * 8)}) > 4


@pytest.mark.parametrize(("plain_share", "expected"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_plain_rows_are_those_of_sft(plain_share: float, expected: float) -> None:
    examples = [EXAMPLES[0]] * 400
    plain = collect(SFT(), examples)
    rows = collect(MaskedSFT(plain_share=plain_share), examples)
    share = sum(row == bare for row, bare in zip(rows, plain, strict=True)) / 400
    assert share == pytest.approx(expected, abs=0.1 if 0 < expected < 1 else 0)


def test_only_demonstration_tokens_have_a_loss() -> None:
    rows = collect(METHOD, EXAMPLES)
    micro = collate(rows, torch.device("cpu"))
    assert not micro.policy.any()
    for row, ids, demo in zip(rows, micro.token_ids, micro.demo, strict=True):
        assert tuple(ids[1:][demo].tolist()) == row.demo_ids


def test_the_loss_is_that_of_sft_on_the_same_rows() -> None:
    made = fixture(LENGTHS)
    for splits in SPLITS:
        assert all(map(torch.equal, made.gradient(METHOD, splits), made.gradient(SFT(), splits)))
    metrics = METHOD.loss(made.batch()).metrics
    assert metrics["demo_nll"].item() == pytest.approx(-made.logprobs[made.demo].mean().item())
    assert not metrics["demo_nll"].requires_grad


@pytest.mark.parametrize("splits", SPLITS)
def test_any_micro_batches_give_the_same_gradient(splits: list[list[int]]) -> None:
    made = fixture(LENGTHS)
    loss, gradient = made.gradient(METHOD)
    split_loss, split_gradient = made.gradient(METHOD, splits)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(split_gradient, gradient) < 1e-12


def test_worst_case_is_the_cost_with_every_copy() -> None:
    for plain_share in (0.0, 0.5):
        chosen = MaskedSFT(plain_share=plain_share)
        rows = collect(METHOD, EXAMPLES)
        assert chosen.worst_case(EXAMPLES, 64) == Rows(train=[(len(row), len(row.demo_ids)) for row in rows])
    assert METHOD.worst_case([], 64).train == []


def test_a_copy_always_fits_the_room_of_a_completion() -> None:
    """A run keeps room for prompt, demonstration and max_new_tokens: the row is never longer."""
    num = len(EXAMPLES[2].demo_ids) - 1
    [(length, _)] = METHOD.worst_case([EXAMPLES[2]], num).train
    assert length == len(EXAMPLES[2].prompt_ids) + len(EXAMPLES[2].demo_ids) + num
    with pytest.raises(UserError, match=f"{num} tokens.*--max-new-tokens {num}"):
        METHOD.worst_case(EXAMPLES, num - 1)


def test_the_engine_spends_the_worst_case_and_repeats_itself() -> None:
    found = []
    for tokens in (512, 512, 100):
        current = stage(small_policy(budget="1Tflops"), method("masked_sft"), pool(16), max_new_tokens=64)
        current.limit.tokens = tokens
        expected = current.worst_case(current.examples())
        [record] = run(current, 1)
        assert current.meter.ledger.flops == pytest.approx(expected)
        assert current.meter.ledger.trained_tokens > 2 * current.meter.ledger.loss_tokens
        found.append((record["loss"], record["grad_norm"]))
    assert found[0] == found[1]
    assert found[2] == pytest.approx(found[0], rel=1e-3)


@pytest.mark.parametrize("wrong", [{"mask_low": -0.1}, {"mask_high": 1.5}, {"plain_share": 2.0}, {"mask_low": 0.99}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(METHOD, **wrong)

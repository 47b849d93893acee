"""Packed rows against padded ones, for every method: the same log-probabilities and the same gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from bench.engine import packing
from bench.engine.batching import collate, split_micro_batches
from bench.engine.packing import Borders
from bench.engine.policy import Policy
from bench.plan.budget import Budget, Meter
from bench.types import Trajectory
from tests.engine.test_golden import METHODS, Scripted
from tests.helpers.engine import TOKENIZER, kept_gradients, method, pool, small_model, stage

GROUPED = {"num_key_value_heads": 1}


def policy_of(packed: bool, double: bool = False, **changes: Any) -> Policy:
    model = small_model(**changes)
    policy = Policy(model.double() if double else model, TOKENIZER, packing=packed)
    policy.meter = Meter(policy.architecture, Budget.parse("1Ptokens"))
    assert policy.packed == packed
    return policy


def gradient(name: str, packed: bool, double: bool) -> tuple[torch.Tensor, dict[str, float]]:
    """Of one update at a learning rate of 0, in several micro-batches, and what was logged."""
    policy = policy_of(packed, double, **GROUPED)
    fields = {**METHODS[name], "num_updates": 1} if name != "base" else {}
    chosen = method(name.partition(" ")[0], **fields)
    current = stage(policy, chosen, pool(16), micro_batch_tokens=300, max_grad_norm=math.inf)
    with torch.no_grad():  # a reference that differs, so that the KL has a gradient
        for parameter in current.reference.parameters() if current.reference else ():
            parameter.mul_(1.03)
    rows = chosen.collect(current.examples(), Scripted(0.3, torch_free_random(), []))
    assert len({len(row) for row in rows}) > 1
    kept = kept_gradients(current)
    record = current.update(rows, 0.0, 0.3)
    (found,) = kept
    return found, record


def torch_free_random() -> Any:
    import random

    return random.Random(0)


# bnpo and the like divide by counts of a micro-batch, which packing makes larger: none is among these.
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("double", "tolerance"), [(True, 1e-10), (False, 1e-5)])
def test_gradients_equal_the_padded_ones(name: str, double: bool, tolerance: float) -> None:
    padded, before = gradient(name, False, double)
    packed, after = gradient(name, True, double)
    assert padded.norm() > 0
    assert (packed - padded).norm() <= tolerance * padded.norm()
    assert after == pytest.approx(before, rel=1e-4, abs=1e-6)


def ragged() -> list[Trajectory]:
    examples = pool(6)
    return [Trajectory(e.prompt_ids, e.demo_ids[: 2 + 3 * i], e.demo_ids[:1] * (i % 3)) for i, e in enumerate(examples)]


@pytest.mark.parametrize("kind", [None, (Qwen2Config, Qwen2ForCausalLM), (Qwen3Config, Qwen3ForCausalLM)])
def test_log_probabilities_equal_those_of_each_row_alone(kind: Any) -> None:
    """And the ledger counts no padding; the sampler, whose batches are padded, still works."""
    policy = policy_of(True, kind=kind, **GROUPED)
    alone = Policy(small_model(kind=kind, **GROUPED), TOKENIZER)
    rows = ragged()
    scores = policy.score(rows, policy.model, 10_000)
    assert policy.meter is not None and policy.meter.ledger.padding_tokens == 0
    for row in rows:
        (single,) = alone.score([row], alone.model, 1).values()
        assert torch.allclose(scores[id(row)], single, rtol=0, atol=2e-6)
    prompts = [e.prompt_ids for e in pool(3)]
    drawn = [p.sample(prompts, 2, 8, list(range(6))).token_ids for p in (policy, alone)]
    assert drawn[0] == drawn[1]


def test_a_head_that_is_more_than_linear_is_packed_too() -> None:
    policy, padded = policy_of(True), policy_of(False)
    policy.split_head = padded.split_head = False
    rows = ragged()
    for a, b in zip(
        policy.forward(collate(rows, policy.device), True), padded.forward(collate(rows, policy.device), True)
    ):
        assert torch.allclose(a, b, atol=2e-6)


def test_micro_batches_are_filled_by_tokens() -> None:
    rows = ragged()
    for part in split_micro_batches(rows, 60, packed=True):
        assert sum(map(len, part)) <= 60 or len(part) == 1
    assert len(split_micro_batches(rows, sum(map(len, rows)), packed=True)) == 1
    assert len(split_micro_batches(rows, sum(map(len, rows)))) > 1


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ((MistralConfig, MistralForCausalLM), {"sliding_window": 8}, "window of 8 tokens"),
        ((Gemma2Config, Gemma2ForCausalLM), {}, "layers of sliding_attention"),
        (None, {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "positions"),
    ],
)
def test_unusual_attention_is_padded(kind: Any, changes: dict[str, Any], reason: str) -> None:
    model = small_model(kind=kind, **changes)
    before = model.config._attn_implementation
    with pytest.warns(UserWarning, match=f"{reason}.*padded instead of packed"):
        policy = Policy(model, TOKENIZER, packing=True)
    assert not policy.packed and model.config._attn_implementation == before


def test_a_network_that_mixes_rows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hands the borders on to nothing: its rows see those before them."""
    model = small_model()
    forward = model.base_model.forward
    monkeypatch.setattr(model.base_model, "forward", lambda bench_borders=None, **given: forward(**given))
    with pytest.warns(UserWarning, match="packed rows differ"):
        assert not packing.packable(model)


def test_the_kernel_gets_rows_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What CUDA's kernel would be called with, played by a plain loop; the kernel itself was never run here."""
    import torch.nn.attention.varlen as varlen

    def played(q: Any, k: Any, v: Any, sums: Any, sums_k: Any, longest: int, longest_k: int, **how: Any) -> Any:
        assert how["window_size"] == (-1, 0) and how["enable_gqa"] and sums is sums_k and longest == longest_k == 5
        out = torch.empty_like(q)
        for a, b in zip(sums.tolist(), sums.tolist()[1:]):
            weights = torch.einsum("ihd,jhd->hij", q[a:b], k[a:b].repeat_interleave(2, 1)) * how["scale"]
            weights = weights.masked_fill(~torch.ones(b - a, b - a, dtype=torch.bool).tril(), -torch.inf).softmax(-1)
            out[a:b] = torch.einsum("hij,jhd->ihd", weights, v[a:b].repeat_interleave(2, 1))
        return out

    monkeypatch.setattr(varlen, "varlen_attn", played)
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 9, 8), torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8)
    borders = Borders((2, 5, 2), torch.tensor([0, 2, 7, 9], dtype=torch.int32))
    kernel = packing.by_kernel(query, key, value, borders, 0.3)
    assert kernel.shape == (1, 9, 4, 8)
    assert torch.allclose(kernel, packing.row_by_row(query, key, value, borders, 0.3), atol=1e-6)

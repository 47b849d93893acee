"""The step of ascent: its length and direction, its cost, and where it is refused; its states: tests of the memory."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.engine.ascent import Ascent, ascent_of
from bench.engine.batching import collate
from bench.engine.ranks import Ranks
from bench.engine.step import Step
from bench.engine.trainer import Stage
from bench.types import Requests, Trajectory, UserError
from methods.lfu import LfU
from tests.helpers.engine import method, pool, small_policy, stage


def climbed(**fields: Any) -> tuple[Stage, Ascent, list[Trajectory]]:
    """A stage whose parts have taken their step, and the rows."""
    current = stage(small_policy(2, "1Tflops"), method("lfu", batch_size=4, **fields), pool(4))
    rows = current.method.collect(current.examples(), current._context(0))
    assert current.ascent is not None
    made = Step(rows, 0.0)
    current.ascent.climb(current.policy, [rows], 7, lambda micro: current._uncharged_batch(rows, 1, made, micro))
    return current, current.ascent, rows


def test_the_step_has_its_length_and_raises_the_loss() -> None:
    current, ascent, rows = climbed(alpha=0.05)
    length = math.sqrt(sum(float(b.square().sum()) for _, b in ascent.parts.values()))
    assert length == pytest.approx(0.05, rel=1e-5)
    assert len(ascent.parts) == 14 and all(a.shape[0] == 8 == b.shape[1] for a, b in ascent.parts.values())
    micro, made = collate(rows, current.policy.device), Step(rows, 0.0)

    def loss() -> float:
        with torch.no_grad():
            return float(ascent.loss(current._uncharged_batch(rows, 1, made, micro)))

    before = loss()
    with ascent.with_parts():
        raised = loss()
    assert raised > before == loss(), "and nothing is left behind"
    assert all(p.grad is None for p in current.policy.model.parameters())


def test_a_gradient_of_zero_moves_nothing() -> None:
    current, ascent, rows = climbed()
    ascent.loss = lambda batch: 0.0 * batch.logprobs.sum()
    made = Step(rows, 0.0)
    ascent.climb(current.policy, [rows], 7, lambda micro: current._uncharged_batch(rows, 1, made, micro))
    assert not any(bool(b.any()) for _, b in ascent.parts.values())


def test_its_cost_bounds_what_torch_counts() -> None:
    """The first layer's input needs no gradient, A none and the frozen head's weight none: a little is charged more."""
    policy = small_policy(budget="1Tflops")
    rows = [Trajectory(e.prompt_ids, e.demo_ids) for e in pool(1)]
    current = stage(policy, LfU(batch_size=1, lr=1e-3), pool(1))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        current.update(rows, 0.0, 0.0)
    counted, charged = counter.get_total_flops(), policy.meter.spent  # type: ignore[union-attr]
    assert 0.97 * charged < counted <= charged
    size = (len(rows[0]), len(rows[0].demo_ids))
    architecture = policy.architecture
    assert charged == architecture.train(*size) + architecture.ascent(*size, 8)
    body = 2 * (4 * (64 + 64) + 2 * (64 + 128) + (128 + 64))
    assert architecture.sides == body, "by hand: inputs and outputs of q, k, v, o, gate, up and down of two layers"
    assert policy.meter.ledger.scored_tokens == 2 * size[0]  # type: ignore[union-attr]


def test_where_it_cannot_be_made_one_line_says_so() -> None:
    policy = small_policy()
    asks = Requests.of(LfU())
    assert ascent_of(Requests(), policy, "sft") is None
    policy.ranks = Ranks(0, 2)
    with pytest.raises(UserError, match=r"lfu: a step of ascent is made on one device: expected --devices-per-run 1$"):
        ascent_of(asks, policy, "lfu")
    with pytest.raises(UserError, match="mine: ascent_step needs ascent_loss"):
        ascent_of(replace(asks, ascent_loss=None), policy, "mine")

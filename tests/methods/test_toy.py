"""Toy of the theory: of 2^H paths of H binary choices one is correct; hints make it learnable, reward alone cannot."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.types import Batch, Completion, Demonstration, Example, Trajectory, Verdict
from methods.grpo import GRPO
from methods.uft import UFT
from tests.methods.batches import Scripted

HORIZON = 20
SETTINGS: dict[str, Any] = {"group_size": 8, "kl_coef": 0.0, "entropy_coef": 0.0}


def path(horizon: int = HORIZON) -> Example:
    """The correct path is the demonstration: one token per step, the last one being the ending; no EOS is needed."""
    ids = tuple(random.Random(1).choices((0, 1), k=horizon))
    steps = Demonstration(tuple(map(str, ids[:-1])), str(ids[-1]))
    return Example("toy", "", steps, {}, (), ids, tuple(range(1, horizon)))


@dataclass
class Tabular(Scripted):
    """A Context that samples from a table of logits [depth, still on the path or not, token]."""

    table: Tensor = field(default_factory=lambda: torch.zeros(HORIZON, 2, 2))
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def sample(
        self, examples: Sequence[Example], prefixes: Sequence[tuple[int, ...]], group_size: int
    ) -> list[list[Completion]]:
        return [[self.rollout(e, p) for _ in range(group_size)] for e, p in zip(examples, prefixes, strict=True)]

    def rollout(self, example: Example, prefix: tuple[int, ...]) -> Completion:
        draws = torch.rand(len(example.demo_ids), generator=self.generator).tolist()
        chances, ids, on = self.table.softmax(-1)[..., 1].tolist(), list(prefix), True
        for depth in range(len(prefix), len(example.demo_ids)):
            ids.append(int(draws[depth] < chances[depth][0 if on else 1]))
            on = on and ids[-1] == example.demo_ids[depth]
        new = tuple(ids[len(prefix) :])
        return Completion(new, (0.0,) * len(new), "", "stop", Verdict(on, float(on), ""))


def batch(rows: Sequence[Trajectory], table: Tensor, truth: Sequence[int]) -> Batch:
    """On-policy batch of full-length rows."""
    ids = torch.tensor([(*row.demo_ids, *row.completion_ids) for row in rows])
    right = (ids == torch.tensor(truth)).long().cumprod(1)
    state = 1 - torch.cat([torch.ones_like(right[:, :1]), right[:, :-1]], 1)
    depth = torch.arange(ids.shape[1]).expand_as(ids)
    logprobs = table.log_softmax(-1)[depth, state, ids]
    demo = depth < torch.tensor([[len(row.demo_ids)] for row in rows])
    old = logprobs.detach()
    advantages = torch.tensor([[row.advantage] for row in rows]).expand_as(old)
    counts = int(demo.sum()), int((~demo).sum()), len(rows)
    return Batch(logprobs, torch.zeros_like(old), old, old, advantages, demo, ~demo, *counts)


def success(table: Tensor, example: Example) -> float:
    """Exact probability of the correct path without hints."""
    chances = table.detach().softmax(-1)[range(len(example.demo_ids)), 0, list(example.demo_ids)]
    return float(chances.prod())


def train(method: Any, steps: int = 150, prompts: int = 8) -> float:
    """Success after training on ``steps * prompts * group_size`` rollouts."""
    one = path()
    table = torch.zeros(HORIZON, 2, 2, requires_grad=True)
    optimizer = torch.optim.Adam([table], lr=0.2)
    ctx = Tabular(rng=random.Random(0), table=table.detach())  # shares the table's storage
    for step in range(steps):
        ctx.progress = step / steps
        optimizer.zero_grad()
        method.loss(batch(method.collect([one] * prompts, ctx), table, one.demo_ids)).value.backward()
        optimizer.step()
    return success(table, one)


@pytest.mark.parametrize("hint", [0, 2, 4])
def test_hints_raise_the_chance_of_the_uniform_policy(hint: int) -> None:
    one = path(6)
    ctx = Tabular(table=torch.zeros(6, 2, 2))
    [rollouts] = ctx.sample([one], [one.demo_ids[:hint]], 4000)
    share = sum(rollout.verdict.correct for rollout in rollouts) / 4000
    assert share == pytest.approx(2.0 ** -(6 - hint), rel=0.25)


def test_reward_alone_never_finds_the_path() -> None:
    assert train(GRPO(**SETTINGS)) < 1e-4


@pytest.mark.parametrize("demo_coef", [0.0, 0.001])
def test_annealed_hints_do(demo_coef: float) -> None:
    assert train(UFT(num_chunks=HORIZON, demo_coef=demo_coef, **SETTINGS)) > 0.9

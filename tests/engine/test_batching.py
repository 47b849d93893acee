"""Micro-batches: masks, padding, cuts and order."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch

from bench.engine.batching import collate, num_targets, scatter, split_micro_batches
from bench.types import Trajectory
from tests.helpers.engine import TOKENIZER, pool, small_policy

CPU = torch.device("cpu")
EOS = TOKENIZER.eos_token_id


def row_of(length: int, number: int = 0) -> Trajectory:
    return Trajectory((1,) * (length - 2), (5,), (6,), group=number)


def test_masks_by_hand() -> None:
    both = Trajectory((1, 10, 11), (20, 21), (30, 31, EOS), advantage=0.5, demo_advantage=-1.5)
    demo = Trajectory((1, 12), (22, 23, EOS), advantage=9.0)  # no policy part: means nothing
    free = Trajectory((1, 13), (), (33,), advantage=-2.0)
    micro = collate([both, demo, free], CPU)
    assert micro.token_ids.tolist() == [
        [1, 10, 11, 20, 21, 30, 31, EOS],
        [1, 12, 22, 23, EOS, 0, 0, 0],
        [1, 13, 33, 0, 0, 0, 0, 0],
    ]
    assert micro.demo.int().tolist() == [[0, 0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0, 0], [0] * 7]
    assert micro.policy.int().tolist() == [[0, 0, 0, 0, 1, 1, 1], [0] * 7, [0, 1, 0, 0, 0, 0, 0]]
    assert micro.advantages.tolist() == [
        [0, 0, -1.5, -1.5, 0.5, 0.5, 0.5],
        [0] * 7,
        [0, -2, 0, 0, 0, 0, 0],
    ]
    assert (micro.lengths, micro.num_targets, micro.padding) == ([8, 5, 3], [5, 3, 1], 24 - 16)


def test_labels_spell_the_demonstration_and_the_completion() -> None:
    examples = pool(12)
    rows = []
    for i, e in enumerate(examples):
        cut = (0, e.step_ends[0], e.step_ends[-1], len(e.demo_ids))[i % 4]
        rows.append(Trajectory(e.prompt_ids, e.demo_ids[:cut], e.demo_ids[cut:]))
    micro = collate(rows, CPU)
    labels = micro.token_ids[:, 1:]
    assert not (micro.demo & micro.policy).any()
    for i, (row, e) in enumerate(zip(rows, examples)):
        demo, completion = labels[i][micro.demo[i]].tolist(), labels[i][micro.policy[i]].tolist()
        assert (demo, completion) == (list(row.demo_ids), list(row.completion_ids))
        assert TOKENIZER.decode(demo + completion) == e.demonstration.text + TOKENIZER.eos_token
        inputs = micro.token_ids[i, :-1][micro.targets[i]]  # what the network has just read at each target
        assert inputs[0] == e.prompt_ids[-1] and inputs[1:].tolist() == (demo + completion)[:-1]
        assert (demo + completion)[-1] == EOS  # the end is learnt too


def test_padding_changes_nothing() -> None:
    policy = small_policy()
    rows = [Trajectory(e.prompt_ids, e.demo_ids[:9], e.demo_ids[9 : 12 + 3 * i]) for i, e in enumerate(pool(5))]
    assert len(set(map(len, rows))) > 3
    for pad_id in (0, 9):
        micro = collate(rows, CPU, pad_id)
        together = policy.forward(micro, True)
        for i, row in enumerate(rows):
            alone = policy.forward(collate([row], CPU), True)
            for found, want in zip(together, alone):
                torch.testing.assert_close(found[i, : len(row) - 1], want[0], atol=1e-6, rtol=1e-6)
                assert not found[i, len(row) - 1 :].any()


@pytest.mark.parametrize("cap", [1, 10, 64, 100, 10_000])
def test_cuts_respect_the_cap_and_keep_every_row_once(cap: int) -> None:
    rng = random.Random(cap)
    rows = [row_of(rng.randint(3, 40), number) for number in range(60)]
    parts = split_micro_batches(rows, cap)
    for part in parts:
        assert len(part) == 1 or len(part) * max(map(len, part)) <= cap
        assert collate(part, CPU).token_ids.numel() == len(part) * max(map(len, part))
    flat = [row for part in parts for row in part]
    assert sorted(map(id, flat)) == sorted(map(id, rows))
    assert [(len(r), r.group) for r in flat] == sorted((len(r), r.group) for r in rows)  # stable
    if cap == 1:
        assert len(parts) == len(rows)
    if cap == 10_000:
        assert len(parts) == 1
    for part, following in pairwise(parts):  # no cut without need
        assert (len(part) + 1) * len(following[0]) > cap


def test_num_targets() -> None:
    assert num_targets(Trajectory((1, 2), (3, 4), (5,))) == 3 and num_targets(Trajectory((1, 2))) == 0
    assert split_micro_batches([], 10) == []


def test_scatter_places_values_row_by_row_with_gradient() -> None:
    mask = torch.tensor([[False, True, True], [True, False, False]])
    values = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    placed = scatter(values, mask)
    assert placed.tolist() == [[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]]
    (placed * torch.tensor([[9.0, 1.0, 2.0], [3.0, 9.0, 9.0]])).sum().backward()
    assert values.grad is not None and values.grad.tolist() == [1.0, 2.0, 3.0]

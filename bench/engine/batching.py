"""Trajectories to micro-batches: rows of similar length together, padded on the right, masks over target positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.engine.ranks import dealt
from bench.types import Trajectory

BREAKING = {"divisor": "micro-batch", "aggregation": "bnpo", "pool": "micro-batch"}  # means per micro-batch, on purpose


@dataclass(frozen=True)
class MicroBatch:
    """Rows [B, T+1] of token ids; masks [B, T] over targets (target t is token t+1); ``rows`` are the trajectories.

    Padding stands on the right, where causal attention never looks, so no attention mask is needed.
    """

    rows: tuple[Trajectory, ...]
    token_ids: Tensor
    demo: Tensor
    policy: Tensor
    advantages: Tensor
    demo_weights: Tensor  # 1 on every demonstration token unless the trajectory says otherwise
    groups: Tensor  # [B] of the trajectories

    @property
    def targets(self) -> Tensor:
        return self.demo | self.policy

    @property
    def lengths(self) -> list[int]:
        return [len(row) for row in self.rows]

    @property
    def num_targets(self) -> list[int]:
        return [num_targets(row) for row in self.rows]

    @property
    def padding(self) -> int:
        return self.token_ids.numel() - sum(self.lengths)


def num_targets(row: Trajectory) -> int:
    return len(row.demo_ids) + len(row.completion_ids)


def units(rows: Sequence[Trajectory], whole_groups: bool = False) -> list[list[Trajectory]]:
    """What may not be cut: each row, or all rows of each group."""
    if not whole_groups:
        return [[row] for row in rows]
    groups: dict[int, list[Trajectory]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return list(groups.values())


def split_micro_batches(
    rows: Sequence[Trajectory], max_tokens: int, packed: bool = False, whole_groups: bool = False
) -> list[list[Trajectory]]:
    """Sort by length and cut into lists whose padded size stays within ``max_tokens``, or that cannot be cut further.

    ``packed``: rows are laid end to end, so that their tokens alone count.
    """
    # Similar lengths share a micro-batch to save padding.  Where rows are cut does not matter to the gradient if a loss
    # divides by counts of the whole optimizer batch (``Batch`` in bench/types.py), not of its micro-batch.
    batches: list[list[Trajectory]] = []
    total = 0  # tokens in the last list
    for unit in sorted(units(rows, whole_groups), key=longest):  # stable: equal lengths keep their order
        size = sum(map(len, unit))
        # The new rows include the longest of their list, so its length is the width that all are padded to.
        if batches and (total + size if packed else (len(batches[-1]) + len(unit)) * longest(unit)) <= max_tokens:
            batches[-1] += unit
            total += size
        else:
            batches.append(list(unit))
            total = size
    return batches


def longest(rows: Sequence[Trajectory]) -> int:
    return max(map(len, rows))


def split_among(
    rows: Sequence[Trajectory],
    count: int,
    max_tokens: int,
    packed: bool = False,
    fixed: bool = False,
    whole_groups: bool = False,
) -> list[list[list[Trajectory]]]:
    """The micro-batches of each of ``count`` ranks: equally many, some of them empty, and about equally many tokens.

    ``fixed``: micro-batches are those of one rank and dealt as a whole, where a loss depends on how rows are cut.
    """
    how = (max_tokens, packed, whole_groups)
    if count == 1:
        return [split_micro_batches(rows, *how)]
    if fixed:
        parts = split_micro_batches(rows, *how)
        shares = [[parts[i] for i in share] for share in dealt([sum(map(len, part)) for part in parts], count)]
    else:
        whole = units(rows, whole_groups)
        dealing = dealt([sum(map(len, unit)) for unit in whole], count)
        shares = [split_micro_batches([row for i in share for row in whole[i]], *how) for share in dealing]
    most = max(map(len, shares))
    return [[*share, *[[] for _ in range(most - len(share))]] for share in shares]


def split_dependent(method: Any) -> str:
    """The setting by which a method's loss depends on where micro-batches are cut, as FIELD=VALUE; "" for none."""
    return next((f"{field}={value}" for field, value in BREAKING.items() if getattr(method, field, None) == value), "")


def collate(rows: Sequence[Trajectory], device: torch.device, pad_id: int = 0) -> MicroBatch:
    """One padded micro-batch."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    # The logits at token t predict token t + 1: masks are one shorter than rows, and parts begin one place earlier.
    demo = torch.zeros((len(rows), width - 1), dtype=torch.bool)
    policy = torch.zeros_like(demo)
    advantages, weights = torch.zeros(demo.shape), torch.zeros(demo.shape)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor((*row.prompt_ids, *row.demo_ids, *row.completion_ids))
        first = len(row.prompt_ids) - 1  # the last prompt token predicts the first target
        border = first + len(row.demo_ids)
        demo[i, first:border] = True
        end = border + len(row.completion_ids)
        policy[i, border:end] = True
        advantages[i, first:border] = row.demo_advantage
        advantages[i, border:end] = row.advantage
        weights[i, first:border] = torch.tensor(row.demo_weights or 1.0)
    move = lambda t: t.to(device, non_blocking=True)  # noqa: E731
    groups = torch.tensor([row.group for row in rows])
    return MicroBatch(tuple(rows), *map(move, (ids, demo, policy, advantages, weights, groups)))


def scatter(values: Tensor, mask: Tensor) -> Tensor:
    """Values [M, ...] at the True places of a [B, T] mask, zeros elsewhere: [B, T, ...]; differentiable."""
    # masked_scatter fills in row-major order, the order in which ``hidden[mask]`` has read.
    shape = (*mask.shape, *values.shape[1:])
    places = mask.reshape(*mask.shape, *(1 for _ in values.shape[1:])).expand(shape)
    return torch.zeros(shape, dtype=values.dtype, device=values.device).masked_scatter(places, values)


def at_targets(scores: Mapping[int, Tensor], micro: MicroBatch, otherwise: Tensor) -> Tensor:
    """Scores of the rows' targets, keyed by id(row), at their places [B, T]; ``otherwise`` where there are none."""
    if not scores:
        return otherwise
    return scatter(torch.cat([scores[id(row)] for row in micro.rows]), micro.targets)

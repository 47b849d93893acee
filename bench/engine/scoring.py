"""What a method asks of the current policy while it collects: log-probabilities, entropies, features of logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.engine.batching import MicroBatch, collate, num_targets, split_among
from bench.engine.ranks import Ranks
from bench.engine.token_values import Wanted, wide
from bench.types import Scores, Trajectory

Features = Callable[[Tensor], Tensor]  # logits [n, V] of a row's targets to a vector of fixed length
Shares = Sequence[Sequence[Sequence[Trajectory]]]  # the micro-batches of each rank


def by_row(ranks: Ranks, shares: Shares, own: Tensor, width: Callable[[Trajectory], int]) -> dict[int, Tensor]:
    """The values of all rows, keyed by id(row), from this rank's own, end to end; all ranks call this."""
    found: dict[int, Tensor] = {}
    for share, values in zip(shares, ranks.flat(own)):
        order = [row for part in share for row in part]
        found.update(zip(map(id, order), values.to(own.device).split([width(row) for row in order])))
    return found


def row_features(policy: Any, model: Any, hidden: Tensor, batch: MicroBatch, features: Features) -> Tensor:
    """Features of each row [B, F] from what the head gets at the targets; logits are there for one row at a time."""
    parts = hidden.split(batch.num_targets)
    if not policy.split_head:
        return torch.stack([features(wide(logits)) for logits in parts])
    head = model.get_output_embeddings()
    return torch.stack([features(wide(head(part))) for part in parts])


@torch.no_grad()
def scores(
    policy: Any, rows: Sequence[Trajectory], model: Any, features: Features | None, max_tokens: int
) -> list[Scores]:
    """Scores of rows under a model, one forward pass each; charged as scoring."""
    shares = split_among(rows, policy.ranks.count, max_tokens, policy.packed)
    values: list[Tensor] = []
    summaries: list[Tensor] = []
    for part in filter(None, shares[policy.ranks.number]):
        batch = collate(part, policy.device)
        policy.charge_score(batch)
        with policy._autocast():
            hidden = policy.hidden(model, batch)
            found = policy.values(model, hidden, batch, Wanted(entropies=True))
            values.append(torch.stack([found.logprobs, found.entropies], 1).flatten())
            if features is not None:
                summaries.append(row_features(policy, model, hidden, batch, features).flatten())
    none = torch.zeros(0, dtype=torch.promote_types(model.dtype, torch.float32), device=policy.device)
    policy.ranks.all_have_memory()
    known = by_row(policy.ranks, shares, torch.cat([none, *values]), lambda row: 2 * num_targets(row))
    made: dict[int, Tensor] = {}
    if features is not None:
        # Every rank that has rows knows how long a vector is; one without hears it from the others.
        longest = max(ranks_widths(policy.ranks, summaries, shares))
        made = by_row(policy.ranks, shares, torch.cat([none, *summaries]), lambda row: longest)
    pairs = [known[id(row)].cpu().view(-1, 2).unbind(1) for row in rows]
    vectors = [made[id(row)].cpu() if made else None for row in rows]
    return [Scores(logprobs, entropies, vector) for (logprobs, entropies), vector in zip(pairs, vectors)]


def ranks_widths(ranks: Ranks, summaries: Sequence[Tensor], shares: Shares) -> list[int]:
    """How many features a row has, as each rank knows it; 0 from a rank without rows."""
    count = sum(map(len, shares[ranks.number]))
    own = sum(map(len, summaries)) // count if count else 0
    return [int(width) for width in ranks.objects(own)]

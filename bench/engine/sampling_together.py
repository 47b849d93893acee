"""Sampling by all ranks of a run: each has some of the rows, and all get all completions.

A row's draws follow from its seed alone, so it does not matter which rank has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from bench.engine.engines import Request
from bench.engine.ranks import Ranks
from bench.engine.sampler import Finished, Row, Samples, summary
from bench.engine.signals import agree

Sampled = Callable[[Request, Finished | None], Samples]


def sample_together(ranks: Ranks, request: Request, run: Sampled, finished: Finished | None) -> Samples:
    """Completions of all rows, of which ``run`` samples this rank's.

    ``finished`` gets this rank's rows only.  Preempted if a signal wants this run to end and nothing is held.
    """
    if ranks.count == 1:
        return run(request, finished)
    prompts, size = request.prompts, request.group_size
    shares = [own_rows(rank, ranks.count, len(prompts), size) for rank in range(ranks.count)]
    rows = shares[ranks.number]
    seeds = None if request.seeds is None else [request.seeds[row] for row in rows]
    own = replace(request, prompts=[prompts[row // size] for row in rows], group_size=1, seeds=seeds)

    def known(places: Sequence[int], tokens: Sequence[list[int]]) -> None:
        if finished is not None:
            finished([rows[place] for place in places], tokens)

    out = run(own, known)
    agree(ranks)
    # All that this rank ran; what of it was needed is known when all rows are there.
    processed = out.wasted + sum(out.prefill_lengths) + sum(new - 1 for _, new in out.rows)
    return summary(prompts, size, collected(ranks, shares, out), sum(ranks.objects(processed)))


def own_rows(rank: int, count: int, prompts: int, group_size: int) -> list[int]:
    """The rows of a rank: those of some prompts where there are enough, since the rows of a prompt share its pass."""
    size = group_size if prompts >= count else 1
    return [row for row in range(prompts * group_size) if row // size % count == rank]


def collected(ranks: Ranks, shares: Sequence[Sequence[int]], out: Samples) -> list[Row]:
    """Tokens and log-probabilities of all rows, in order."""
    lengths = ranks.flat(torch.tensor([len(ids) for ids in out.token_ids], dtype=torch.int64))
    tokens = ranks.flat(torch.tensor([i for ids in out.token_ids for i in ids], dtype=torch.int64))
    values = ranks.flat(torch.tensor([v for row in out.logprobs for v in row], dtype=torch.float64))
    done: dict[int, Row] = {}
    for share, sizes, ids, logprobs in zip(shares, lengths, tokens, values):
        cuts = sizes.tolist()
        parts = zip(ids.split(cuts), logprobs.split(cuts))
        done.update((row, (own.tolist(), logp.tolist())) for row, (own, logp) in zip(share, parts))
    return [done[row] for row in range(len(done))]

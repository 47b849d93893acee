"""Sampling of completions: inverse transform with the caller's uniforms, shared prompts, finished rows dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.engine.decoder import Decoder
from bench.engine.out_of_memory import is_out_of_memory
from bench.engine.row_budget import RowBudget, next_chunk

Row = tuple[list[int], list[float]]  # tokens and their log-probabilities

Finished = Callable[[Sequence[int], Sequence[list[int]]], None]  # rows of a chunk, and the tokens of each

DROP_SHARE = 1 / 16  # finished share of the running rows from which dropping them pays
# Steps between two looks at which rows have ended: a look waits for the device, which costs a CPU nothing.
CHECK_EVERY = {"cpu": 1, "cuda": 8}


@dataclass(frozen=True)
class Samples:
    """Completions, one per row, and the tokens that were run for them."""

    token_ids: list[list[int]]  # ends with EOS if that was sampled
    logprobs: list[list[float]]  # of each token at the sampling temperature
    wasted: int  # tokens run only because of batching: padding, finished rows before they were dropped, prompts again
    prefill_lengths: list[int]  # of the distinct prompts
    rows: list[tuple[int, int]]  # per row: prompt length, number of generated tokens; the last one is not fed back


@torch.inference_mode()
def sample(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    max_new_tokens: int | Sequence[int],
    eos_ids: frozenset[int],
    uniforms: Tensor | None,
    temperature: float = 1.0,
    max_rows: int = 256,
    budget: RowBudget | None = None,
    finished: Finished | None = None,
) -> Samples:
    """Complete each prompt ``group_size`` times; row r belongs to prompt ``r // group_size``.

    ``max_new_tokens``: for all rows or one per row.  ``uniforms`` [rows, steps] in [0, 1): the number that picks each
    token; None takes the most likely one.  At most ``max_rows`` rows run at a time, fewer where ``budget`` says so, and
    half as many again after running out of memory; chunks change results by rounding alone.  ``finished`` gets the rows
    of each chunk and their tokens as soon as they are known.  ValueError for an empty prompt or arguments that do not
    fit.
    """
    count = len(prompts) * group_size
    limits = [max_new_tokens] * count if isinstance(max_new_tokens, int) else list(max_new_tokens)
    check_sampling(prompts, limits, count, uniforms, temperature)
    budget = budget or RowBudget()
    done: list[Row] = [([], [])] * count
    processed = 0
    # Neighbours in length share a chunk, for less padding.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    rows = [i * group_size + k for i in order for k in range(group_size)]
    need = lambda r: decoder.row_bytes(len(prompts[r // group_size]), limits[r])  # noqa: E731
    while rows:
        index = rows[: next_chunk(rows, group_size, need, max_rows, budget.available(decoder.device))]
        chunk = Chunk(decoder, [tuple(prompts[r // group_size]) for r in index], [limits[r] for r in index])
        # A row takes its own line of uniforms along, whatever chunk and place it runs in: regrouping changes no draw.
        chosen = None if uniforms is None else uniforms[index, : chunk.steps]
        found = attempt(chunk, eos_ids, chosen, temperature)
        if found is None:
            budget.lower(len(index), max(map(need, index)))
            continue
        for r, row in zip(index, found):
            done[r] = row
        if finished is not None:
            finished(index, [tokens for tokens, _ in found])
        processed += chunk.processed
        rows = rows[len(index) :]
    return gathered(prompts, group_size, done, processed)


def gathered(prompts: Sequence[Sequence[int]], group_size: int, done: list[Row], processed: int) -> Samples:
    """The rows of all chunks with what they cost; ``processed``: tokens run through the network."""
    # Once each, though a prompt whose rows part runs again: what is charged must not depend on the memory.
    prefill_lengths = [len(p) for p in dict.fromkeys(map(tuple, prompts))] if done else []
    token_ids, logprobs = [tokens for tokens, _ in done], [values for _, values in done]
    sizes = [(len(prompts[i // group_size]), len(tokens)) for i, tokens in enumerate(token_ids)]
    # A rollout of n tokens feeds n - 1 of them back: nothing follows the last one.
    useful = sum(prefill_lengths) + sum(new - 1 for _, new in sizes)
    return Samples(token_ids, logprobs, processed - useful, prefill_lengths, sizes)


def row_uniforms(seeds: Sequence[int], steps: int) -> Tensor:
    """The numbers in [0, 1) that pick the tokens of each row, [rows, steps] in float64, from a seed per row.

    Made on the CPU: a row's numbers depend on its seed alone, never on the device, on chunks or on other rows.  A row
    that may be longer has the same numbers, and more.
    """
    # float64, because float32 has only 2^24 numbers in [0, 1).
    drawn = [torch.rand(steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
    return torch.stack(drawn) if drawn else torch.zeros(0, steps, dtype=torch.float64)


def check_sampling(
    prompts: Sequence[Sequence[int]], limits: list[int], count: int, uniforms: Tensor | None, temperature: float
) -> None:
    """ValueError that names what is wrong with the arguments of ``sample``."""
    if len(limits) != count:
        raise ValueError(f"max_new_tokens has {len(limits)} entries for {count} rows")
    if any(limit < 1 for limit in limits):
        raise ValueError("max_new_tokens must be at least 1 in every row")
    if not all(len(prompt) for prompt in prompts):
        raise ValueError("a prompt is empty")
    if temperature <= 0:
        raise ValueError("temperature must be positive; pass uniforms=None for the most likely tokens")
    if uniforms is not None and (uniforms.shape[0] != count or uniforms.shape[1] < max(limits, default=0)):
        raise ValueError(f"uniforms {tuple(uniforms.shape)} do not cover {count} rows x {max(limits)} steps")


class Chunk:
    """Rows that run together; ``prompts`` and ``limits`` have one entry per row, equal prompts are run once."""

    def __init__(self, decoder: Decoder, prompts: list[tuple[int, ...]], limits: list[int]) -> None:
        self.decoder, self.limits = decoder, limits
        self.distinct = list(dict.fromkeys(prompts))
        where = {prompt: i for i, prompt in enumerate(self.distinct)}
        self.prompt_of = [where[prompt] for prompt in prompts]
        self.steps = max(limits)
        self.processed = 0  # tokens run through the network, the wasted ones included

    def run(self, eos_ids: frozenset[int], uniforms: Tensor | None, temperature: float) -> list[Row]:
        """Tokens and log-probabilities of each row; uniforms [rows, steps]."""
        device = self.decoder.device
        limits = torch.tensor(self.limits, device=device)
        if uniforms is not None:
            uniforms = uniforms.to(device, torch.float64).T.contiguous()
        logits, session = self.decoder.start(self.distinct, self.prompt_of, self.steps - 1)
        self.processed += session.prefilled
        logits = logits[torch.tensor(self.prompt_of, device=device)]
        is_eos = torch.zeros(logits.shape[1], dtype=torch.bool, device=device)
        is_eos[list(eos_ids)] = True
        tokens = torch.zeros(len(limits), self.steps, dtype=torch.int64, device=device)
        logprobs = torch.zeros(len(limits), self.steps, device=device)
        rows = torch.arange(len(limits), device=device)  # the output row of each running row
        alive = torch.ones_like(rows, dtype=torch.bool)
        every = CHECK_EVERY[device.type]
        # The uniform of a token belongs to its (row, step).  Dropping finished rows therefore shifts no other row's
        # draws, as one stream of random numbers for the whole batch would.
        for step in range(self.steps):
            chosen, logprob = choose_tokens(logits, None if uniforms is None else uniforms[step, rows], temperature)
            tokens[rows, step], logprobs[rows, step] = chosen, logprob
            if step + 1 == self.steps:
                break
            alive &= ~is_eos[chosen] & (limits[rows] > step + 1)
            if step % every == 0:
                seen = Copied(alive)
            if step % every == every - 1:
                # As it was when it was copied: rows that have ended since are found at the next look.
                known = seen.get()
                if not (left := int(known.sum())):
                    break
                size = rows_to_run(left, len(rows), session.keeps_shape)
                if size < len(rows):
                    kept = packed(known, size)
                    session.keep(kept)
                    kept = kept.to(device)
                    rows, chosen, alive = rows[kept], chosen[kept], alive[kept]
            logits = session.step(chosen)
            self.processed += len(rows)
        # A finished row goes on until it is dropped; what it wrote after its end is cut off here.
        last = is_eos[tokens] | (torch.arange(1, self.steps + 1, device=device) == limits[:, None])
        lengths = (last.int().argmax(1) + 1).tolist()
        return [(t[:n], p[:n]) for t, p, n in zip(tokens.tolist(), logprobs.tolist(), lengths)]


def attempt(chunk: Chunk, eos_ids: frozenset[int], uniforms: Tensor | None, temperature: float) -> list[Row] | None:
    """The rows of a chunk, None if they do not fit into memory; a single row that does not fit is an error."""
    try:
        return chunk.run(eos_ids, uniforms, temperature)
    except (RuntimeError, MemoryError) as error:
        if len(chunk.limits) == 1 or not is_out_of_memory(error):
            raise
    # Here the exception is gone, and with it the frames that held the chunk's tensors.
    if chunk.decoder.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


class Copied:
    """A tensor's values on the host, as they were at this point of the device's work."""

    def __init__(self, values: Tensor) -> None:
        self.event: torch.cuda.Event | None = None
        if values.device.type == "cuda":
            # Into pinned memory, the only kind that is copied to while this thread goes on.
            self.values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self.values.copy_(values, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()
        else:
            self.values = values.clone()

    def get(self) -> Tensor:
        """The values; waits for the copy, not for what the device was given to do since."""
        if self.event is not None:
            self.event.synchronize()
        return self.values


def rows_to_run(left: int, running: int, keeps_shape: bool) -> int:
    """How many of the running rows go on when ``left`` of them have not finished."""
    if not keeps_shape:
        return left if running - left >= DROP_SHARE * running else running
    # Another number of rows is another graph: only halves pay.
    while (half := -(-running // 2)) >= left and half < running:
        running = half
    return running


def packed(alive: Tensor, size: int) -> Tensor:
    """Order of ``size`` rows that keeps all alive ones and moves the fewest, from the end to holes; bool [R] -> ids."""
    order = torch.arange(size, device=alive.device)
    moved = size + alive[size:].nonzero().squeeze(1)
    order[(~alive[:size]).nonzero().squeeze(1)[: len(moved)]] = moved
    return order


def choose_tokens(logits: Tensor, uniforms: Tensor | None, temperature: float) -> tuple[Tensor, Tensor]:
    """Next token of each row and its log-probability: logits [R, V], uniforms [R] float64 -> ids [R], float32 [R].

    The token is the first whose cumulated probability exceeds the uniform (scaled by their sum, which rounding keeps
    from being 1).  The threshold stays below that sum, so the token always exists and has positive probability.
    """
    # Inverse transform: with F the cumulative distribution and u uniform, the first token with F > u has probability p.
    # Not torch.multinomial, whose draws depend on the device and on how many rows were drawn before.  Uniforms from
    # outside give the same token bit for bit in any batch, unless rounding moves a border across u.
    probabilities = (logits / temperature if temperature != 1 else logits).softmax(-1)
    if uniforms is None:
        chosen = logits.argmax(-1, keepdim=True)
    else:
        # In float64, because sums of float32 round the small probabilities of a large vocabulary away.
        cumulated = probabilities.cumsum(-1, dtype=torch.float64)
        total = cumulated[:, -1:]
        threshold = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
        # right=True: a token of probability 0 shares its predecessor's cumulated value, so it is never the first above.
        chosen = torch.searchsorted(cumulated, threshold, right=True)
    return chosen.squeeze(1), probabilities.gather(1, chosen).log().squeeze(1)

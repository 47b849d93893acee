"""The sampler's own draws inside vLLM: a logits processor that leaves one token possible in every row.

It imports nothing of vLLM; ``bench/engine/vllm_engine.py`` makes a class of it that vLLM accepts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.engine.sampler import choose_tokens

ROW = "bench_row"  # in the extra arguments of a request: its row in the call's uniforms


class Call:
    """One call of the sampler: its uniforms [rows, steps], None for the likeliest tokens, and what was found.

    ``logprobs`` float32 [rows, steps]: of each token at the sampling temperature, 0 after a row's end.
    """

    def __init__(self, rows: int, steps: int, uniforms: Tensor | None, temperature: float, device: Any) -> None:
        self.uniforms = None if uniforms is None else uniforms.to(device)
        self.temperature = temperature
        self.logprobs = torch.zeros(rows, steps, device=device)


class UniformRows:
    """State of vLLM's batch, place by place: a request's row and the list of tokens that it has so far."""

    call: Call | None = None  # of the class: the engine sets it before it hands requests to vLLM

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self.places: dict[int, tuple[int, list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow requests that leave, come and move, in vLLM's order: removed, added, moved."""
        if batch_update is None:
            return
        for place in batch_update.removed:
            self.places.pop(place, None)
        for place, params, _, written in batch_update.added:
            self.places[place] = ((params.extra_args or {})[ROW], written)
        for source, target, direction in batch_update.moved:
            moved, other = self.places.pop(source, None), self.places.pop(target, None)
            if moved is not None:
                self.places[target] = moved
            if direction.name == "SWAP" and other is not None:
                self.places[source] = other

    def apply(self, logits: Tensor) -> Tensor:
        """Logits [places, V] in which the chosen token of each row is the only possible one."""
        call = type(self).call
        if call is None or not self.places:  # vLLM tries itself out before the first request
            return logits
        places = torch.tensor(list(self.places), device=logits.device)
        rows = torch.tensor([row for row, _ in self.places.values()], device=logits.device)
        # A prompt that runs in several pieces draws for its first token at each, and the last piece counts.
        steps = torch.tensor([len(written) for _, written in self.places.values()], device=logits.device)
        uniforms = None if call.uniforms is None else call.uniforms[rows, steps]
        chosen, logprobs = choose_tokens(logits[places], uniforms, call.temperature)
        call.logprobs[rows, steps] = logprobs
        logits[places] = torch.full_like(logits[places], -torch.inf).scatter_(1, chosen[:, None], 0.0)
        return logits

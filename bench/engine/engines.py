"""Sampler engines: what writes completions from the policy's weights, behind one protocol (docs/engines.md).

An engine decides how completions are computed, never which: every draw is a function of its row's seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from bench.engine.adapters import MARK, adapter_layers, merged_weight
from bench.engine.decoder import Decoder
from bench.engine.row_budget import RowBudget
from bench.engine.sampler import Finished, Samples, row_uniforms, sample


@dataclass(frozen=True)
class Request:
    """``group_size`` completions of each prompt, row r for prompt ``r // group_size``; greedy without ``seeds``.

    ``seeds``: one per row, which decides all its draws; ``max_rows``: at most so many rows at a time.
    """

    prompts: Sequence[Sequence[int]]
    group_size: int
    max_new_tokens: int
    eos_ids: frozenset[int]
    seeds: Sequence[int] | None
    temperature: float = 1.0
    max_rows: int = 256

    @property
    def count(self) -> int:
        return len(self.prompts) * self.group_size

    def uniforms(self) -> Tensor | None:
        """The numbers in [0, 1) that pick the tokens, float64 [rows, max_new_tokens]; None where the likeliest wins."""
        return None if self.seeds is None else row_uniforms(self.seeds, self.max_new_tokens)


class StaleWeights(RuntimeError):
    """An engine was asked for completions of weights that it was not given."""


class Engine(Protocol):
    """Writes completions; ``version`` is that of the weights which it was given last, None without any."""

    name: str
    version: int | None

    def sync(self, model: Any, version: int) -> None:
        """Take over the weights of a model as they are now."""
        ...

    def sample(self, request: Request, version: int, finished: Finished | None = None) -> Samples:
        """The completions, by the weights of this version; StaleWeights if the engine holds others.

        ``finished`` gets rows and their tokens as soon as they are known.
        """
        ...

    def release(self) -> None:
        """Give memory back until the next ``sync``: training begins."""
        ...

    def facts(self) -> dict[str, Any]:
        """What a run's environment record says of it."""
        ...


def check_version(engine: Engine, version: int) -> None:
    """StaleWeights unless the engine has the weights of this version."""
    if engine.version != version:
        raise StaleWeights(f"the sampler engine {engine.name} has weights {engine.version}, asked for {version}")


def weights_version(model: nn.Module) -> int:
    """A number that rises whenever a weight is written to, by whomever: torch counts that in every tensor."""
    return sum(p._version for p in model.parameters())


def plain_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights by a checkpoint's names; an adapter is merged into copies, a tied head has a name of its own."""
    layers = {f"{name}.base_layer.weight": layer for name, layer in adapter_layers(model).items()}
    for name, weight in model.named_parameters(remove_duplicate=False):
        if MARK not in name:
            value = merged_weight(layers[name]) if name in layers else weight
            yield name.replace(".base_layer.", "."), value.detach()


class TorchEngine:
    """The sampler of this process, on the model's own weights: nothing is copied, so every version is at hand."""

    name = "torch"
    version: int | None = None

    def __init__(self, decoder: Decoder, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        self.decoder, self.autocast, self.row_budget = decoder, autocast, RowBudget()

    def sync(self, model: Any, version: int) -> None:
        self.version = version

    def sample(self, request: Request, version: int, finished: Finished | None = None) -> Samples:
        check_version(self, version)
        uniforms, most = request.uniforms(), request.max_rows
        how = (request.group_size, request.max_new_tokens, request.eos_ids, uniforms, request.temperature, most)
        with self.autocast():
            return sample(self.decoder, request.prompts, *how, self.row_budget, finished)

    def release(self) -> None:
        """Nothing is held between two calls."""

    def facts(self) -> dict[str, Any]:
        return {"name": self.name, "decoder": type(self.decoder).__name__}

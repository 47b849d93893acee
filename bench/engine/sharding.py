"""A model whose weights, gradients and moments are divided among ranks, by torch's FSDP2.

Training passes put one layer's weights together at a time.  Sampling and scoring run on a plain copy of the model, put
together once for all of them and dropped before the next training pass: inside they exchange nothing, so that ranks may
have rows of any number and length.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from bench.engine.ranks import Ranks
from bench.engine.recompute import decoder_layers

T = TypeVar("T")


class Root(nn.Module):
    """Whatever is computed with a model inside one call, so that FSDP sees body and head as one forward pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, run: Callable[[], T]) -> T:
        return run()


@dataclass(frozen=True)
class Exchange:
    """FSDP's exchange of something, after asking whether all ranks can take part (its ``Comm``)."""

    ranks: Ranks

    def allocate(self, size: Any, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)


class Gather(Exchange):
    """Of weights."""

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, group: Any, async_op: bool = False) -> Any:
        self.ranks.all_have_memory()
        return dist.all_gather_single(output_tensor, input_tensor, group=group, async_op=async_op)


class Scatter(Exchange):
    """Of gradients."""

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, group: Any, op: Any, async_op: bool = False) -> Any:
        self.ranks.all_have_memory()
        return dist.reduce_scatter_single(output_tensor, input_tensor, op=op, group=group, async_op=async_op)


class Sharded:
    """A model divided among ranks in place, and its plain copy, which has weights only at times."""

    def __init__(self, model: Any, device: torch.device, ranks: Ranks) -> None:
        self.model, self.device = model, device
        self.plain = hollow(model)
        self.filled = False
        self.begun = False  # whether there was a training pass
        mesh = init_device_mesh(device.type, (ranks.count,))
        for layer in decoder_layers(model, "--devices-per-run 1"):
            fully_shard(layer, mesh=mesh)
        self.root = Root(model)
        fully_shard(self.root, mesh=mesh)
        for module in self.root.modules():
            if isinstance(module, FSDPModule):
                # Losses are divided by counts of the whole batch, so gradients add up: no mean over ranks.
                module.set_force_sum_reduction_for_comms(True)
                module.set_gradient_divide_factor(1.0)
                module.set_custom_all_gather(Gather(ranks))  # type: ignore[arg-type]
                module.set_custom_reduce_scatter(Scatter(ranks))  # type: ignore[arg-type]

    def training_pass(self, run: Callable[[], T]) -> T:
        """What ``run`` computes with the model, all ranks together."""
        self.begun = True
        return self.root(run)  # type: ignore[no-any-return]

    def whole(self) -> Any:
        """The plain copy with the weights as they are now."""
        if not self.filled:
            values = dict(self.model.named_parameters())
            for name, p in self.plain.named_parameters():
                p.data = whole(values[name])
            self.filled = True
        return self.plain

    def drop(self) -> None:
        """Let go of the plain copy's weights: they will change, or others need the room."""
        for p in self.plain.parameters():
            p.data = torch.empty(0, dtype=p.dtype, device=self.device)
        self.filled = False

    def reset(self) -> None:
        """Be ready for a new training pass after one that was not finished."""
        if not self.begun:
            return
        root: Any = self.root
        # What is put together now has gradients that were not exchanged, which FSDP would add to the next ones.
        for p in root.parameters():
            p.grad = None
        root.reset_iter_state()


def hollow(model: nn.Module) -> Any:
    """A copy whose parameters have no values; shared ones stay shared."""
    empty = {id(p): nn.Parameter(torch.empty(0, dtype=p.dtype, device=p.device), False) for p in model.parameters()}
    return copy.deepcopy(model, dict(empty))  # type: ignore[arg-type]


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be divided among ranks, who then all have to ask for it."""
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()


def like(tensor: Tensor, value: Tensor) -> Tensor:
    """A value that every rank knows, divided as a tensor is."""
    value = value.to(tensor.device)
    if not isinstance(tensor, DTensor):
        return value
    return distribute_tensor(value, tensor.device_mesh, tensor.placements, src_data_rank=None)

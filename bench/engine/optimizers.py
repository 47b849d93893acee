"""The optimizers that a plan can name, and their state as plain tensors for checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.distributed.tensor import DTensor

from bench.types import Method

EAGER = "force_eager"


def make_optimizer(name: str, parameters: Iterable[nn.Parameter], method: Method) -> torch.optim.Optimizer:
    """AdamW, or AdamW with moments of 8 bits in blocks of 256 (Dettmers et al., arXiv 2110.02861), by torchao."""
    trained = [p for p in parameters if p.requires_grad]
    how: dict[str, Any] = {"lr": method.lr, "betas": method.betas, "weight_decay": method.weight_decay}
    if name == "adamw":
        # One kernel for all weights; on a CPU the plain one, whose results are stored in golden files.
        return torch.optim.AdamW(trained, **how, fused=True if trained[0].device.type == "cuda" else None)
    from torchao.optim import AdamW8bit

    return AdamW8bit(trained, **how)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):  # torchao compiles its update, which reads a number once only
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def apply_update(optimizer: torch.optim.Optimizer) -> None:
    """One update; torchao's, which it would compile, runs as written on a CPU, where there may be no compiler."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    on_cpu = parameters[0].device.type == "cpu"
    if on_cpu and isinstance(optimizer.param_groups[0]["lr"], Tensor):
        with torch.compiler.set_stance(EAGER):
            optimizer.step()
    else:
        optimizer.step()
    # By hand: the fused AdamW writes without telling torch's counter of changes, from which versions of weights are.
    increment_version(parameters)


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state, where it is, by ``index.key``; the parts of a quantised tensor by ``index.key.part``."""
    tensors: dict[str, Tensor] = {}
    for index, entry in optimizer.state_dict()["state"].items():
        for key, value in entry.items():
            quantised = hasattr(value, "__tensor_flatten__") and not isinstance(value, DTensor)
            parts = value.__tensor_flatten__()[0] if quantised else []
            named = {f"{index}.{key}.{part}": getattr(value, part) for part in parts} or {f"{index}.{key}": value}
            tensors |= {name: v.detach() for name, v in named.items()}
    return tensors


def restore_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer the state that ``state_tensors`` told."""
    plain: dict[int, dict[str, Any]] = {}
    quantised: dict[tuple[int, str], dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key, *piece = name.split(".")
        if piece:
            quantised.setdefault((int(index), key), {})[piece[0]] = value
        else:
            plain.setdefault(int(index), {})[key] = value
    state = optimizer.state_dict()
    state["state"] = plain
    optimizer.load_state_dict(state)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for (number, moment), parts in quantised.items():
        p = parameters[number]
        buffer: Any = optimizer._new_buffer(p, signed=moment == "exp_avg")  # type: ignore[attr-defined]
        for part, value in parts.items():
            getattr(buffer, part).copy_(value)
        optimizer.state[p][moment] = buffer

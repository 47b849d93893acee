"""The reference model: a frozen copy of the policy that shares, shrinks or moves away what it can."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from bench.engine.adapters import adapter_layers, has_adapter, is_fresh, merge, merged_weight, own_parameters, switch
from bench.engine.recompute import decoder_layers
from bench.types import Requests

TRAINING_BYTES = 12  # of a trained float32 weight once training has begun: its gradient and two moments


def frozen_copy(model: Any, device: torch.device, where: str, mixed: bool) -> Any:
    """A copy without gradients.  ``where`` is auto, device or offload; ``mixed``: it will be averaged with the policy.

    With an adapter, the weights below it are shared and only the adapter is copied; where it will be averaged, the
    merged weights are copied instead, since averages of adapters are no adapters.
    """
    if has_adapter(model) and not mixed:
        reference = copy.deepcopy(model, shared(model)).requires_grad_(False)
        switch_off_if_fresh(reference)
        return reference
    memo = halves(model) if device.type == "cuda" and not mixed else {}
    reference = merge(copy.deepcopy(model, memo)).requires_grad_(False)
    if device.type == "cuda" and chosen_place(where, reference, own_parameters(model), device) == "offload":
        offload(reference, device)
    return reference


def mixed_by(method: object) -> bool:
    """Whether a method averages its reference with the policy, instead of keeping or replacing it."""
    asks = Requests.of(method)
    return asks.reference_sync > 0 and asks.reference_mix < 1


def shared(model: nn.Module) -> dict[int, Any]:
    """For deepcopy: everything but the adapter is the policy's own tensor in the copy too."""
    own = {id(p) for p in own_parameters(model).values()}
    return {id(t): t for t in (*model.parameters(), *model.buffers()) if id(t) not in own}


def halves(model: nn.Module) -> dict[int, Any]:
    """For deepcopy: weights of linear layers in bfloat16.

    Autocast rounds them to it in every product anyway, so nothing changes but their size.  A weight that is the
    embedding too is not rounded where it is looked up, and stays as it is.
    """
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Linear) and id(m.weight) not in looked_up]
    return {id(w): nn.Parameter(w.detach().to(torch.bfloat16), requires_grad=False) for w in weights}


def switch_off_if_fresh(reference: nn.Module) -> None:
    """Skip an adapter that changes nothing."""
    if has_adapter(reference):
        switch(reference, not is_fresh(reference))


@torch.no_grad()
def mix(reference: nn.Module, policy: nn.Module, share: float) -> None:
    """Move the reference's weights towards the policy's: (1 - share) reference + share policy."""
    ours: dict[str, Tensor] = {**own_parameters(policy)}
    if has_adapter(policy) and not has_adapter(reference):  # only weights with an adapter have changed
        ours = {f"{name}.weight": merged_weight(layer) for name, layer in adapter_layers(policy).items()}
    theirs = own_parameters(reference)
    for name, value in ours.items():
        if share == 1.0:
            theirs[name].copy_(value)
        else:
            theirs[name].lerp_(value.to(theirs[name].device), share)
    switch_off_if_fresh(reference)


def widened(model: Any) -> Any:
    """The model if all its weights are float32, else a float32 copy: for computations without autocast."""
    narrow = any(p.dtype == torch.bfloat16 for p in model.parameters())
    return copy.deepcopy(model).float() if narrow else model


# --- in host memory -------------------------------------------------------------------------------------------------


def size(model: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


def chosen_place(where: str, reference: nn.Module, trained: dict[str, nn.Parameter], device: torch.device) -> str:
    """``device`` or ``offload``, from the memory that is free now, after the copy was made."""
    if where != "auto":
        return where
    free, total = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return place(free + unused, total, sum(p.numel() for p in trained.values()))


def place(free: int, total: int, num_trained: int) -> str:
    """Offload if gradients and moments, which are still to come, would leave less than a quarter of the device."""
    # A quarter is a rule of thumb for activations, logits and the key-value cache, which all adapt to what is there.
    return "device" if free - TRAINING_BYTES * num_trained >= total / 4 else "offload"


def offload(model: Any, device: torch.device) -> None:
    """Keep the weights of the decoder's layers in host memory; each layer fetches its own while it runs.

    Embedding, last norm and head stay: the head is used outside the model's forward too.
    """
    for block in decoder_layers(model):
        home = {p: kept(p) for p in block.parameters()}

        def fetch(module: Any, args: Any, home: dict[nn.Parameter, Tensor] = home) -> None:
            for p, host in home.items():
                p.data = host.to(device, non_blocking=True, copy=True)

        def release(module: Any, args: Any, output: Any, home: dict[nn.Parameter, Tensor] = home) -> None:
            for p, host in home.items():
                p.data = host

        for p, host in home.items():
            p.data = host
        block.register_forward_pre_hook(fetch)
        block.register_forward_hook(release)


def kept(parameter: nn.Parameter) -> Tensor:
    """The values in host memory, pinned where there is a device to copy them to."""
    host = parameter.detach().cpu()
    return host.pin_memory() if torch.cuda.is_available() else host

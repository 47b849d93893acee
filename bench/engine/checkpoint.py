"""Atomic save and exact resume: weights, optimizer state, data position, ledger and the length of every record.

No state of a random generator is among them.  Every draw has a seed of its own, hashed from the run's seed, the stage
and the step, so a step that is made again draws what it would have drawn.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from bench.store.run_folder import read_json, write_atomic

PREFIX = "checkpoint-"
KEPT = "selected.safetensors"  # the weights of the best validation so far


def weights(model: Any) -> dict[str, torch.Tensor]:
    """Parameters by name (shared ones once), on the CPU."""
    # safetensors takes neither views nor two names for one tensor.
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}


def load_weights(model: Any, path: Path) -> None:
    """Copy saved parameters into a model in place."""
    copy_weights(model, load_file(path))


def copy_weights(model: Any, saved: Mapping[str, torch.Tensor]) -> None:
    """Copy parameters by name into a model in place."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(saved[name])


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{i}.{k}": v.detach().cpu().contiguous() for i, entry in state.items() for k, v in entry.items()}


def _number(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX))


def save(
    path: Path,
    model: Any,
    optimizer: torch.optim.Optimizer | None,
    reference: Any | None,
    state: dict[str, Any],
    selected: bool = False,
) -> None:
    """Write under another name, rename when complete, then drop the older ones: a kill never costs the last one.

    The numbers count up and never repeat, so that no checkpoint has to make room for its successor.  ``selected``:
    these weights are the best validated so far; otherwise those of the previous checkpoint are handed on.
    """
    previous = latest(path)
    final = path / f"{PREFIX}{_number(previous) + 1 if previous else 1}"
    part = path / f"part-{PREFIX}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    save_file(weights(model), part / "policy.safetensors")
    if optimizer is not None:
        save_file(_optimizer_tensors(optimizer), part / "optimizer.safetensors")
    if reference is not None:
        save_file(weights(reference), part / "reference.safetensors")
    best = part / "policy.safetensors" if selected else previous / KEPT if previous else None
    if best is not None and best.exists():
        # A link costs nothing, however large the weights are.  It is safe because neither name is ever written again.
        hand_on(best, part / KEPT)
    # The state goes last, since ``latest`` takes it as the sign of a complete folder.  The rename is atomic, and only
    # after it may the predecessor go.
    write_atomic(part / "state.json", state)
    part.rename(final)
    for old in path.glob(f"{PREFIX}*"):
        if old != final:
            shutil.rmtree(old)


def hand_on(source: Path, target: Path) -> None:
    """Give a file a second name (a hard link); copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def latest(path: Path) -> Path | None:
    """The newest complete checkpoint of a run directory, None if it has none."""
    complete = [p for p in path.glob(f"{PREFIX}*") if (p / "state.json").exists()]
    return max(complete, key=_number, default=None)


def read_state(path: Path) -> dict[str, Any]:
    return read_json(path / "state.json")


def restore_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer its saved state; one that had none when it was saved stays as it is."""
    if not (path / "optimizer.safetensors").exists():
        return
    state = optimizer.state_dict()
    state["state"] = {}
    for name, value in load_file(path / "optimizer.safetensors").items():
        index, _, key = name.partition(".")
        state["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(state)


def clear(path: Path) -> None:
    """Drop all checkpoints of a finished run."""
    for old in [*path.glob(f"{PREFIX}*"), *path.glob(f"part-{PREFIX}*")]:
        shutil.rmtree(old)

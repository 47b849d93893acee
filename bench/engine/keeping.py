"""Which policy a run leaves beside its records, and in which numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bench.engine import checkpoint
from bench.engine.adapters import merge
from bench.engine.policy import Policy
from bench.store.files import sync
from bench.store.run_folder import KEEPS, LAST, NONE


def keep_policy(
    policy: Policy, folder: Path, keep: str, best: Mapping[str, Any] | None, saved: checkpoint.Saved | None
) -> None:
    """Write the policy that is to stay, in bfloat16 where it was trained under bfloat16; the run's last use of it.

    ``saved``: the last checkpoint, which has the weights of the best validation.
    """
    assert keep in KEEPS and keep != NONE, keep
    if keep != LAST and best is not None and best["fraction"] < 1.0:
        assert saved is not None, "a validation is followed by a checkpoint"
        checkpoint.check_file(saved.path / checkpoint.KEPT, saved.files[checkpoint.KEPT])
        checkpoint.load_weights(policy.model, saved.path / checkpoint.KEPT)
        policy.changed()
    write_policy(policy, folder, kept_numbers(policy.device.type))


def kept_numbers(device: str) -> torch.dtype:
    """The numbers of a kept policy: on CUDA all its products were made in bfloat16, in training and in judging."""
    return torch.bfloat16 if device == "cuda" else torch.float32


def write_policy(policy: Policy, folder: Path, numbers: torch.dtype) -> None:
    """Write model and tokenizer to the disk; the model's own weights are rounded."""
    merge(policy.whole()).to(numbers)
    if not policy.ranks.first:
        return
    policy.save(folder)
    for path in [*folder.iterdir(), folder]:
        sync(path)

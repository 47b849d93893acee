"""The optimizers that a plan can name: part of what is compared, the same for all arms."""

from __future__ import annotations

from importlib.util import find_spec

from bench.plan.registry import check_choice
from bench.types import UserError

OPTIMIZERS = ("adamw", "adamw8bit")
EXTRA = "pip install 'posttrain-bench[optim]'"


def check_optimizer(name: str) -> str:
    """The name; UserError for an unknown optimizer, and for one whose package is not installed."""
    check_choice(name, OPTIMIZERS, "optimizer")
    if name == "adamw8bit" and find_spec("torchao") is None:
        raise UserError(
            f"--optimizer adamw8bit needs the package torchao, which is not installed: {EXTRA}, or use adamw"
        )
    return name

"""Tasks that say which of their problems are near duplicates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from bench.plan.registry import check_choice
from bench.types import Task, UserError


@runtime_checkable
class Grouped(Protocol):
    """A task that also says which of its problems are near duplicates."""

    def near_keys(self, problem: Mapping[str, Any]) -> dict[str, str]:
        """What near duplicates share, by a name in words: "number set" -> "3,7,12".

        The problems of a level have the same names.  Equal problems (``key``) have equal keys.
        """

    def cluster(self, problem: Mapping[str, Any]) -> str:
        """What items share whose errors may be alike; empty: nothing."""


def near_key(task: Task, problem: Mapping[str, Any], name: str) -> str:
    """What a problem shares with its near duplicates by the key of this name; UserError if it has no such key."""
    if not isinstance(task, Grouped):
        raise UserError(f"task {task.name} does not say which problems are near duplicates: leave --split-by out")
    keys = task.near_keys(problem)
    check_choice(name, keys, f"key of near duplicates of {task.name}")
    return keys[name]

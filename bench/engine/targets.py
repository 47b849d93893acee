"""Lines of targets.jsonl: what a method that rewrites its data has made of each example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.types import Example


def target_line(stage: str, example: Example, text: str) -> dict[str, Any]:
    """The line of an example, whose target reads ``text``."""
    return {
        "stage": stage,
        "id": example.id,
        "source": example.source,
        "gold_tokens": example.gold_tokens,
        "text": text,
        "token_ids": list(example.demo_ids),
    }


def with_target(example: Example, line: Mapping[str, Any]) -> Example:
    """The example with the target that a line holds."""
    made = {"source": line["source"], "gold_tokens": line["gold_tokens"], "step_ends": ()}
    return replace(example, demo_ids=tuple(line["token_ids"]), **made)

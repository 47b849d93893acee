"""What a method that rewrites its data has made of it: rows of ``targets.jsonl``, and the examples that they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.engine.policy import Policy
from bench.engine.trainer import Stage
from bench.types import Example


def target_rows(stage: Stage, policy: Policy) -> list[dict[str, Any]]:
    """A row for each rewritten example of a stage."""
    texts = policy.decode([e.demo_ids for e in stage.pool])
    return [
        {
            "stage": stage.name,
            "id": e.id,
            "source": e.source,
            "gold_tokens": e.gold_tokens,
            "text": text,
            "token_ids": list(e.demo_ids),
        }
        for e, text in zip(stage.pool, texts)
    ]


def with_target(example: Example, line: Mapping[str, Any]) -> Example:
    """The example with the target that a line of targets.jsonl holds."""
    made = {"source": line["source"], "gold_tokens": line["gold_tokens"], "step_ends": ()}
    return replace(example, demo_ids=tuple(line["token_ids"]), **made)

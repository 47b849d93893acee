"""What a method that rewrites its data has made of it: rows of ``targets.jsonl``, and the examples that they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from bench.engine.policy import Policy
from bench.engine.trainer import Stage
from bench.types import Completion, Example, Verdict


def target_rows(stage: Stage, policy: Policy) -> list[dict[str, Any]]:
    """A row for each rewritten example of a stage."""
    texts = policy.decode([e.demo_ids for e in stage.pool])
    rows = []
    for e, text in zip(stage.pool, texts):
        row: dict[str, Any] = {
            "stage": stage.name,
            "id": e.id,
            "source": e.source,
            "gold_tokens": e.gold_tokens,
            "text": text,
        }
        row["token_ids"] = list(e.demo_ids)
        if e.answers:
            row["answers"] = [asdict(answer) for answer in e.answers]
        rows.append(row)
    return rows


def with_target(example: Example, line: Mapping[str, Any]) -> Example:
    """The example with the target that a line of targets.jsonl holds."""
    made: dict[str, Any] = {"source": line["source"], "gold_tokens": line["gold_tokens"], "step_ends": ()}
    made["answers"] = tuple(map(answer_of, line.get("answers", ())))
    return replace(example, demo_ids=tuple(line["token_ids"]), **made)


def answer_of(line: Mapping[str, Any]) -> Completion:
    """A completion from its form in targets.jsonl."""
    numbers: dict[str, Any] = {name: tuple(line[name]) for name in ("token_ids", "logprobs")}
    words = {name: line[name] for name in ("text", "finish_reason")}
    return Completion(**numbers, **words, verdict=Verdict(**line["verdict"]))

"""What trackers get of a run: numbers along its training with the ledger beside them, its settings, its last scores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.store.stored_run import StoredRun, sense

Values = dict[str, float]
NOT_MEASURED = {"step", "fraction", "num_items", "num_samples"}


@dataclass(frozen=True)
class Point:
    """Numbers at one moment: ``step`` counts optimizer updates, ``seconds`` is the ledger's time by then."""

    step: int
    seconds: float
    values: Values


@sense()
def run_points(run: StoredRun) -> list[Point]:
    """One point per line of metrics.jsonl and of evals.jsonl, in the order of what was spent.

    Names are train/NAME, eval/SPLIT/NAME and spent/CURRENCY; the ledger stands in every point, so that any of its
    currencies can be an axis.
    """
    lines = [(line, flat_numbers(line, "train")) for line in run.metrics()]
    lines += [(line, flat_numbers(line, f"eval/{tracker_name(line['split'])}")) for line in run.evals]
    points = [
        Point(
            line["step"],
            float(line["spent"]["seconds"]),
            {**values, **flat_numbers(line["spent"], "spent", frozenset())},
        )
        for line, values in lines
    ]
    return sorted(points, key=lambda p: (p.values["spent/flops"], p.step))  # stable: training before its evaluation


def flat_numbers(line: Mapping[str, Any], prefix: str, without: frozenset[str] | set[str] = NOT_MEASURED) -> Values:
    """The numbers of a record under names that every tracker takes; texts and the ledger are left out."""
    numbers: Values = {}
    for key, value in line.items():
        if key == "stage":
            numbers[f"{prefix}/stage"] = float(value.partition(":")[0])
        elif isinstance(value, int | float) and key not in without:
            numbers[f"{prefix}/{tracker_name(key)}"] = float(value)
        elif isinstance(value, dict) and key != "spent":
            numbers |= {f"{prefix}/{tracker_name(key)}_{tracker_name(k)}": float(v) for k, v in value.items()}
    return numbers


def tracker_name(name: str) -> str:
    """Letters, digits, underscores, dots and hyphens: all that every tracker allows in a part of a name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)


@sense()
def final_scores(run: StoredRun) -> Values:
    """The numbers of the last evaluation of each split, and what the run spent in all."""
    numbers: Values = {}
    for split, line in run.splits.items():
        numbers |= flat_numbers(line, f"final/{tracker_name(split)}")
    return numbers | flat_numbers(run.ledger, "total", frozenset())


def points_and_scores(run: StoredRun) -> list[Point]:
    """All points, and the last scores as one more at the moment of the last point."""
    points = run_points(run)
    return [*points, Point(points[-1].step, points[-1].seconds, final_scores(run))]


def run_settings(run: StoredRun) -> dict[str, Any]:
    """The plan, its identity and the environment as one level of names; lists are texts."""
    plan = run.plan.model_dump(mode="json", exclude={"stages"})
    leaves: dict[str, Any] = {"run": run.name, "run_id": run.plan.run_id, "comparison": run.plan.comparison}
    deepen(leaves, "", plan)
    for number, stage in enumerate(run.plan.stages):
        deepen(leaves, f"stage{number}.", {"method": stage.name, "share": stage.share, **stage.fields})
    deepen(leaves, "env.", run.env)
    return leaves


def deepen(leaves: dict[str, Any], prefix: str, value: Mapping[str, Any]) -> None:
    """Add the leaves of nested objects under dotted names."""
    for key, part in value.items():
        if isinstance(part, Mapping):
            deepen(leaves, f"{prefix}{key}.", part)
        else:
            leaves[prefix + key] = str(part) if isinstance(part, list | tuple) else part

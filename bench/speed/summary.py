"""From turns to figures: medians with their spread, ratios by turn, shares of the matrix rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.speed.sides import OURS, Side

CLOCKS = ("cpu_seconds", "seconds")
MOST_OPERATORS = 12


@dataclass
class Told:
    """What a side's process said: when it was ready, after each turn, at its end, and of the profiled turn."""

    side: Side
    ready: dict[str, Any] = field(default_factory=dict)
    turns: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)
    operators: dict[str, float] = field(default_factory=dict)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": median(values), "least": min(values), "most": max(values)}


def summarise(told: Sequence[Told]) -> dict[str, Any]:
    """Figures of each case and side, in the order of the sides; bench comes first."""
    if not told:
        return {"cases": [], "memory": {}, "operators": {}}
    ours = told[0]
    assert ours.side.name == OURS
    names = list(dict.fromkeys(case for p in told for turn in p.turns for case in turn["cases"]))
    return {
        "cases": [summarise_case(case, ours, [p for p in told if case in p.turns[0]["cases"]]) for case in names],
        "memory": {p.side.name: {"ready": p.ready, "peak": p.end["end"]} for p in told},
        "operators": {p.side.name: shares(p.operators) for p in told if p.operators},
    }


def summarise_case(case: str, ours: Told, sides: Sequence[Told]) -> dict[str, Any]:
    """One case: rates per second of the processor and by the clock, and how many times as fast bench is."""
    own = [turn["cases"][case] for turn in ours.turns]
    found: dict[str, Any] = {}
    for theirs in sides:
        turns = [turn["cases"][case] for turn in theirs.turns]
        record: dict[str, Any] = {clock: spread([turn[clock] for turn in turns]) for clock in CLOCKS}
        for clock in CLOCKS:
            record[f"per_{clock[:-1]}"] = spread([turn["units"] / turn[clock] for turn in turns])
        if theirs is not ours:
            # Turn by turn: what else the machine does meanwhile falls on both.
            record["ratio"] = {
                clock: spread([rate(mine, clock) / rate(other, clock) for mine, other in zip(own, turns)])
                for clock in CLOCKS
            }
        record["counts"] = turns[0]["counts"]
        record["share_of_matrix_rate"] = matrix_share(case, ours, turns)
        found[theirs.side.name] = record
    return {"case": case, "turns": len(own), "sides": found, "counts_differ": differing(found)}


def rate(turn: Mapping[str, Any], clock: str) -> float:
    return float(turn["units"]) / float(turn[clock])


def matrix_share(case: str, ours: Told, turns: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """FLOPs that the work needs, per second, as a share of the products that the machine made beside it.

    The same FLOPs for every side: those of bench's ledger.  None for work without any.
    """
    clock = "seconds" if "device_peak_bytes" in ours.ready else "cpu_seconds"
    pairs = [(turn, turn["cases"][case]["flops"]) for turn in ours.turns]
    found = [
        flops / theirs[clock] / turn["matrix_rate"]
        for (turn, flops), theirs in zip(pairs, turns)
        if turn["matrix_rate"]
    ]
    return spread(found) if found and min(found) > 0 else None


def differing(sides: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Counts that are not the same on all sides, by name and side."""
    names = list(dict.fromkeys(name for record in sides.values() for name in record["counts"]))
    values = {
        name: {side: record["counts"][name] for side, record in sides.items() if name in record["counts"]}
        for name in names
    }
    return {name: by_side for name, by_side in values.items() if len(set(by_side.values())) > 1}


def shares(operators: Mapping[str, float]) -> dict[str, float]:
    """The operators that take most of the time, each with its share."""
    total = sum(operators.values()) or 1.0
    ranked = sorted(operators.items(), key=lambda item: -item[1])[:MOST_OPERATORS]
    return {name: time / total for name, time in ranked}

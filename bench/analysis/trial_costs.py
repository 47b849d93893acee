"""What the settings of tuned methods cost: the trials behind them, beside what the runs themselves spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Trials = Mapping[str, Any]  # what bench.plan.spec.Tuned holds


def trial_fields(tuned: Trials | None) -> dict[str, Any]:
    """For JSON and CSV: number of trials and their FLOPs, 0 for settings that no trials found."""
    return {"trials": tuned["trials"] if tuned else 0, "trials_flops": tuned["flops"] if tuned else 0.0}


def say_trials(methods: Mapping[str, Trials | None]) -> list[str]:
    """Which trained methods of a table were tuned and at what cost; then which were not, or with fewer trials."""
    tuned = {method: trials for method, trials in methods.items() if trials}
    if not tuned:
        return []
    parts = [
        f"{method}: {trials['trials']} trials, {trials['flops']:.1e} FLOPs, "
        + ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trials["settings"].items()
        )
        for method, trials in tuned.items()
    ]
    sentences = [f"Tuned on validation, at a cost beside that of the runs: {'; '.join(parts)}."]
    rest = [method for method in methods if method not in tuned]
    if rest:
        sentences.append(f"Not tuned like these: {', '.join(rest)}.")
    if len({trials["trials"] for trials in tuned.values()}) > 1:
        sentences.append("The numbers of trials differ: the comparison favours the methods with more.")
    return sentences

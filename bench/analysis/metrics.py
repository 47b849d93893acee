"""What a table ranks by: sampled accuracy, greedy accuracy or pass@k, each as one score per item."""

from __future__ import annotations

import re

import numpy as np

from bench.stats.pass_rates import pass_at_k
from bench.types import UserError

ACCURACY, GREEDY = "accuracy", "greedy"
PASS = re.compile(r"pass@([1-9][0-9]*)")


def check_metric(metric: str) -> str:
    """The metric's name.  UserError for an unknown one."""
    if metric not in (ACCURACY, GREEDY) and not PASS.fullmatch(metric):
        from bench.plan.registry import nearest

        raise nearest(metric, (ACCURACY, GREEDY, "pass@2", "pass@4", "pass@8"), "metric")
    return metric


def num_tries(metric: str) -> int | None:
    """k of pass@k, None for the other metrics."""
    match = PASS.fullmatch(metric)
    return int(match[1]) if match else None


def item_scores(metric: str, correct: np.ndarray, greedy: np.ndarray) -> np.ndarray:
    """Scores [items] between 0 and 1 from verdicts ``correct`` [items, samples] and ``greedy`` [items].

    Greedy scores are 0 or 1; pass@k is each item's unbiased estimate.  UserError if there are fewer than k samples.
    """
    if metric == GREEDY:
        return greedy.astype(float)
    k = num_tries(metric)
    if k is None:
        return np.asarray(correct.mean(axis=1))
    if k > correct.shape[1]:
        raise UserError(
            f"metric '{metric}': these runs have {correct.shape[1]} samples per item, expected at least {k}"
        )
    return pass_at_k(correct, k)


def metric_chance(metric: str, single: float) -> float:
    """What a random valid answer scores; unknown (nan) for pass@k, because items differ in their chances."""
    return float("nan") if (num_tries(metric) or 1) > 1 else single


def metric_meaning(metric: str, num_samples: int) -> str:
    """The metric in words, for legends."""
    if metric == GREEDY:
        return "Greedy: share of items solved by greedy decoding"
    if (k := num_tries(metric)) is not None:
        return f"{metric}: chance that one of {k} samples is right, estimated without bias from {num_samples} per item"
    return f"Accuracy: mean of {num_samples} sample{'s' if num_samples > 1 else ''} per item at temperature 1"

"""Summaries of methods over several tasks: interquartile mean, probability of improvement, performance profiles.

Scores are fractions: one number per run and task (the run's accuracy).  Source: Agarwal et al. 2021, Deep Reinforcement
Learning at the Edge of the Statistical Precipice (arXiv 2108.13264); limits are from bench.stats.resample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from bench.analysis.runs import Scores, paired_values
from bench.stats.borders import bounded_limits
from bench.stats.clusters import Labels
from bench.stats.intervals import Interval
from bench.stats.resample import drawn_means, interval_of_draws, item_weights

DRAWS = 500
RunSummary = Callable[[list[np.ndarray]], np.ndarray]  # from [draws, runs, methods] per task to [draws]


def middle_half(flat: np.ndarray) -> np.ndarray:
    """Interquartile means of the rows of [draws, scores]: a quarter, rounded down, is cut off at each end."""
    cut = int(0.25 * flat.shape[1])
    return np.sort(flat, axis=1)[:, cut : flat.shape[1] - cut].mean(axis=1)


def wins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Share of pairs of runs in which a is higher, ties half: from two [draws, runs] to [draws]."""
    gaps = a[:, :, None] - b[:, None, :]
    return ((gaps > 0) + 0.5 * (gaps == 0)).mean(axis=(1, 2))


def performance_profile(scores: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Share of scores [runs, tasks] above each threshold, [thresholds]."""
    return (np.asarray(scores)[..., None] > np.asarray(thresholds)).mean(axis=(0, 1))


def draw_items(
    sizes: Sequence[int], rng: np.random.Generator, num: int = DRAWS, labels: Sequence[Labels | None] = ()
) -> list[np.ndarray]:
    """Draws of items for tasks of these sizes.  All methods use them, since all are judged on the same items.

    ``labels`` are those of each task's items, none by default: items that share one are drawn together.
    """
    return [item_weights(size, num, rng, of_task) for size, of_task in zip(sizes, labels or [None] * len(sizes))]


def summary_intervals(
    tasks: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    summaries: Sequence[tuple[RunSummary, int]],
    rng: np.random.Generator,
) -> list[Interval]:
    """Two-level intervals of summaries of runs' accuracies, in [0, 1]; tasks are [seeds, items, methods].

    With each summary stands how many scores it is a mean of.  Where all or none of few runs are above a bound, no draw
    varies, which proves nothing of other runs: ``bounded_limits`` are those of that many trials.

    Seeds and items are drawn for every task by itself, since tasks have neither runs nor problems in common.  Tasks are
    not drawn: the interval says nothing about tasks that were not run.  The inflation and the degrees of freedom are
    those of the fewest seeds and the fewest items of any task, which errs on the safe side.
    """
    drawn = [drawn_means(np.asarray(t, dtype=float), w, rng) for t, w in zip(tasks, weights, strict=True)]
    sizes = [min(task.shape[axis] for task in tasks) for axis in (0, 1)]
    intervals = []
    for summary, num_scores in summaries:
        whole, by_seed, by_item, by_both = (summary([parts[n] for parts in drawn]) for n in range(4))
        interval = interval_of_draws(float(whole[0]), by_seed, by_item, by_both, sizes[0], sizes[1])
        mean = min(max(interval.mean, 0.0), 1.0)
        low, high = bounded_limits(mean, (interval.low, interval.high), num_scores, 0.95)
        intervals.append(replace(interval, low=low, high=high))
    return intervals


def all_runs(means: list[np.ndarray]) -> np.ndarray:
    """Accuracies of the first method's runs over all tasks, [draws, runs]."""
    return np.concatenate([m[:, :, 0] for m in means], axis=1)


def share_above(threshold: float, means: list[np.ndarray]) -> np.ndarray:
    """Share of the first method's runs over all tasks above a threshold, [draws]."""
    return np.asarray((all_runs(means) > threshold).mean(axis=1))


def method_intervals(
    tasks: Sequence[Scores], thresholds: Sequence[float], weights: Sequence[np.ndarray], rng: np.random.Generator
) -> list[Interval]:
    """Interquartile mean over one method's runs on several tasks, then the share of runs above each threshold."""
    num_runs, num_items = (sum(task.values.shape[axis] for task in tasks) for axis in (0, 1))
    summaries: list[tuple[RunSummary, int]] = [(lambda means: middle_half(all_runs(means)), num_items)]
    for threshold in thresholds:
        summaries.append((partial(share_above, threshold), num_runs))
    return summary_intervals([task.values[:, :, None] for task in tasks], weights, summaries, rng)


def improvement_interval(
    a: Sequence[Scores], b: Sequence[Scores], weights: Sequence[np.ndarray], rng: np.random.Generator
) -> Interval:
    """Probability that a run of method a beats one of b, over the same tasks in the same order.

    Runs are paired for the draws (``paired_values``), items always; every run of a meets every run of b, or the mean
    of the control's.
    """
    tasks = [np.stack(paired_values(one, other), axis=2) for one, other in zip(a, b, strict=True)]

    def summary(means: list[np.ndarray]) -> np.ndarray:
        return np.mean([wins(m[:, :, 0], m[:, :, 1]) for m in means], axis=0)

    return summary_intervals(tasks, weights, [(summary, sum(len(task) for task in tasks))], rng)[0]

"""Simulated runs with known truth, with effects of the size measured on Countdown.

A verdict is right with probability sigmoid(mu + item + method x item + seed + seed x item), all effects normal unless
said; four samples per item.  The mean over new seeds and new items is then an integral over one normal variable, so
the truth is known.  The effects' sizes are those measured on 27 runs of nine methods on Countdown (tiny model, 3 seeds,
500 items): items' accuracies with a standard deviation of some 28 points, seed x item of some 10, a correlation of .84
between two methods' difficulties of items, and seeds from 0 points (SFT then GRPO) by 1.3 (SFT) to 5 (GRPO).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

MU, SHIFT, ITEM, INTERACTION, SHARED, SAMPLES = -1.0, 0.3, 1.9, 0.6, 0.84, 4  # logits, but for the last two
SEED_POINTS = (0.0, 1.3, 2.5, 5.0)


def integral(mu: float, spread: float, function: str = "mean") -> float:
    """Mean of sigmoid(mu + spread z), or of its slope, over a standard normal z."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    value = expit(mu + spread * nodes)
    return float(weights @ (value if function == "mean" else value * (1 - value)) / weights.sum())


def seed_logits(points: float) -> float:
    """Standard deviation in logits that moves a run's accuracy by this many points."""
    return points / 100 / integral(MU, math.hypot(ITEM, INTERACTION), "slope")


def seed_effects(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Effects with mean 0 and standard deviation 1: normal, uniform or exponential."""
    if kind == "uniform":
        return rng.uniform(-math.sqrt(3), math.sqrt(3), shape)
    return rng.exponential(size=shape) - 1 if kind == "exponential" else rng.standard_normal(shape)


def shared_difficulty(rng: np.random.Generator, num: int, num_items: int) -> np.ndarray:
    """The part of the items' effects that all methods share, [repetitions, 1, items]."""
    return np.float32(ITEM * math.sqrt(SHARED)) * rng.standard_normal((num, 1, num_items), dtype=np.float32)


def chances(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    mu: float,
    common: np.ndarray,
    seed: float,
    interaction: float = INTERACTION,
    kind: str = "normal",
) -> np.ndarray:
    """Probabilities of right, [repetitions, seeds, items]; ``common`` is the part of the items' effects it shares."""
    num, num_seeds, num_items = shape
    own = np.float32(ITEM * math.sqrt(1 - SHARED)) * rng.standard_normal((num, 1, num_items), dtype=np.float32)
    logits = np.float32(mu) + common + own + (seed * seed_effects(rng, (num, num_seeds, 1), kind)).astype(np.float32)
    return expit(logits + np.float32(interaction) * rng.standard_normal(shape, dtype=np.float32))


def runs(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    mu: float,
    common: np.ndarray,
    seed: float,
    kind: str = "normal",
) -> np.ndarray:
    """Scores [repetitions, seeds, items] of one method."""
    right = chances(rng, shape, mu, common, seed, kind=kind)
    return np.sum(rng.random((SAMPLES, *shape), dtype=np.float32) < right, axis=0) / SAMPLES


def mean_as(truth: float, spread: float) -> float:
    """The mean logit with which effects of this spread have the accuracy ``truth``."""
    return float(brentq(lambda mu: integral(mu, spread) - truth, MU - 1, MU + 1))


def markdown(head: list[str], lines: list[list[str]]) -> str:
    """A table whose cells are aligned to the right."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---:"] * len(head), *lines])

"""What several samples of an item say of it: pass@k, which runs record and tables compute by the same function."""

from __future__ import annotations

import math

import numpy as np


def pass_at_k(correct: np.ndarray, k: int) -> np.ndarray:
    """Probability that at least one of k samples is right, per item: 1 - C(n-c, k) / C(n, k).

    ``correct`` is bool [items, samples]; returns float [items].  Raises ValueError unless 1 <= k <= samples.
    Source: unbiased estimator of Chen et al. 2021 (arXiv 2107.03374).
    """
    num_samples = correct.shape[1]
    if not 1 <= k <= num_samples:
        raise ValueError(f"pass@{k} needs 1 <= k <= {num_samples} samples")
    # The plug-in estimate 1 - (1 - c/n)^k would be too low: it draws the k samples with replacement.
    by_count = [1 - math.comb(num_samples - c, k) / math.comb(num_samples, k) for c in range(num_samples + 1)]
    return np.array(by_count)[correct.astype(bool).sum(axis=1)]

"""Items that share a key, such as the same numbers, as clusters: their errors are counted together.

Labels are one value per item, equal where items share a key; None: every item is a cluster of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

Labels = Sequence[Hashable] | np.ndarray


def cluster_numbers(labels: Labels | None) -> np.ndarray | None:
    """The labels as numbers from 0, [items]; None where no two items share one, which is the case without labels."""
    if labels is None or len(set(labels)) == len(labels):
        return None
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels])


def num_clusters(clusters: np.ndarray | None, num_items: int) -> int:
    """How many clusters there are: as many as items without labels."""
    return num_items if clusters is None else int(clusters.max()) + 1


def cluster_sums(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Sums of [..., items] over the items of each cluster, [..., clusters]."""
    order = np.argsort(clusters, kind="stable")
    starts = np.searchsorted(clusters[order], np.arange(num_clusters(clusters, len(clusters))))
    return np.asarray(np.add.reduceat(values[..., order], starts, axis=-1))

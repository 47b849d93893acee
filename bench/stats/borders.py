"""Limits where a variance estimated from the data says too little: near 0 and 1, and where nothing varies."""

from __future__ import annotations

RARE, FEW = 0.01, 5.0  # up to this share of the items, and to this many, the limit of a binomial counts too


def highest_mean(right: float, num_items: int, level: float) -> float:
    """Upper limit of the mean of scores in [0, 1] that add up to ``right`` over ``num_items`` items, as a floor.

    Few right answers vary little, so that their t limit would lie below that of none at all.  Clopper and Pearson's
    limit (1934, doi 10.1093/biomet/26.4.404) for one trial per item holds even if each item is solved always or never.
    It grows with ``right`` up to RARE of the items and FEW; from there on the floor stays, and the t limit passes it.
    """
    return binomial_limit(min(right, RARE * num_items, FEW), num_items, level)


def binomial_limit(right: float, num_items: int, level: float) -> float:
    """Clopper-Pearson's upper limit of a share, for a number of right ones that need not be whole; 1 if all are."""
    from scipy.special import betaincinv

    return float(betaincinv(right + 1, num_items - right, (1 + level) / 2)) if right < num_items else 1.0


def bounded_limits(mean: float, limits: tuple[float, float], num_items: int, level: float) -> tuple[float, float]:
    """Limits of a mean of scores in [0, 1], clipped to that, and with the floor of ``highest_mean`` near 0 and 1."""
    low = min(limits[0], 1 - highest_mean(num_items * (1 - mean), num_items, level))
    high = max(limits[1], highest_mean(num_items * mean, num_items, level))
    return max(low, 0.0), min(high, 1.0)


def difference_limits(
    limits: tuple[float, float], parts: tuple[float, float], num_items: int, level: float
) -> tuple[float, float]:
    """Limits of a mean difference of scores in [0, 1], with a floor where few items differ.

    It is for at most FEW items that differ.  ``parts`` are the sums of the items' positive and of their negative mean
    differences.  Each is bounded as the right answers of ``highest_mean`` are, so that one item that differs never
    makes limits narrower than none.
    """
    gains, losses = (part / num_items for part in parts)
    most_gain, most_loss = (binomial_limit(part, num_items, level) for part in parts)
    return min(limits[0], gains - most_loss), max(limits[1], most_gain - losses)


def difference_p(parts: tuple[float, float], num_items: int) -> float:
    """Two-sided p-value of "no difference" that belongs to the floor of ``difference_limits``."""
    from scipy.special import betainc

    gains, losses = parts
    larger, smaller = max(gains, losses), min(gains, losses)
    return min(1.0, 2 * float(1 - betainc(smaller + 1, num_items - smaller, larger / num_items)))


def unseen_share(num_items: int, level: float) -> float:
    """Share of items that may be of another kind where all ``num_items`` are alike: Clopper-Pearson's limit."""
    return 1.0 - ((1 - level) / 2) ** (1 / num_items)


def constant_limits(value: float, num_items: int, level: float) -> tuple[float, float]:
    """Limits of the mean difference where it is ``value`` on every item: the unseen ones may have -1 or 1."""
    share, most = unseen_share(num_items, level), max(1.0, abs(value))
    return value - share * (most + value), value + share * (most - value)


def constant_p(value: float, num_items: int) -> float:
    """Two-sided p-value of "no difference" of ``constant_limits``; for a value of 1 that of the sign test."""
    return min(1.0, 2 * (1 + abs(value) / max(1.0, abs(value))) ** -num_items) if value else 1.0

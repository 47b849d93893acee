"""How often intervals hold the truth, and how often tests, tables and claims find what is not there, by simulation.

    python -m benchmarks.coverage [--repetitions 2000] [--only TABLE] [--out docs/statistics.md]

The runs are those of benchmarks/simulated_runs.py.  ``coverage``: intervals and tests of one pair at 5 %.  ``claims``:
claims about two equally good methods with different numbers of seeds.  ``tail``, ``families`` and ``power`` are in
benchmarks/tails.py.  With --out the tables replace what stands between their markers in that file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any
from unittest.mock import patch

import numpy as np

from bench.analysis.claim_grammar import parse_claim
from bench.analysis.claims import answer_claim
from bench.analysis.runs import RunRecord
from bench.stats.intervals import ALPHA, Interval, spread_of_mean
from bench.stats.limits import half_width
from bench.stats.resample import interval_of_draws
from bench.stats.tests import sign_flip
from benchmarks.simulated_runs import (
    INTERACTION,
    ITEM,
    MU,
    SAMPLES,
    SEED_POINTS,
    SHIFT,
    chances,
    integral,
    markdown,
    mean_as,
    runs,
    seed_logits,
    shared_difficulty,
)
from benchmarks.tables import make_tables
from benchmarks.tails import families_table, p_values, power_table, tail_table

CHUNK, SLOW = 250, 400  # repetitions at a time; of the tests that draw
UNEQUAL = ((3, 3), (3, 1), (5, 1), (10, 1), (5, 2), (10, 3))  # seeds of A and B
CONTROLLED = tuple(product((3, 5, 10), (1, 3, 10)))  # seeds of A, runs of the control
CLAIM_ITEMS, CLAIM_POINTS, MORE = 500, (0.0, 2.5, 5.0), 3  # claims: times as many repetitions as asked for
HEAD = (
    *("seeds", "items", "seed sd, points", "accuracy", "naive", "resampled", "difference", "naive"),
    *("false positives", "naive", "sign flips"),
)


def half_widths(scores: np.ndarray) -> np.ndarray:
    """Half of the 95 % intervals of crossed_interval, for all repetitions at once."""
    return half_width(spread_of_mean(scores), ALPHA)


def held(scores: np.ndarray, truth: float) -> tuple[np.ndarray, np.ndarray]:
    """Whether the interval holds the truth, and whether the naive one does, which takes seeds for fixed."""
    error = np.abs(scores.mean(axis=(1, 2)) - truth)
    return error <= half_widths(scores), error <= half_widths(scores.mean(axis=1, keepdims=True))


def two_level(
    scores: np.ndarray | Sequence[np.ndarray],
    statistic: Callable[[Any], float],
    num: int,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Interval:
    """Interval of ``statistic(scores)`` from ``num`` draws of seeds, of items, and of both with the same indices.

    ``scores`` is [seeds, items, ...], or several such arrays with equal seeds and items, for example of two methods.
    Several are resampled together, and ``statistic`` gets what ``scores`` is: one array or a list of them.  Further
    axes (samples, points of a curve) stay whole.  Raises ValueError for shapes that cannot be paired and for fewer
    than 2 draws.
    """
    blocks = [scores] if isinstance(scores, np.ndarray) else list(scores)
    if not blocks or num < 2:
        raise ValueError(f"resampling needs scores and at least 2 draws, got {len(blocks)} blocks and {num} draws")
    shapes = {block.shape[:2] for block in blocks}
    if len(shapes) > 1 or min(blocks[0].shape[:2], default=0) < 1 or blocks[0].ndim < 2:
        raise ValueError(f"scores resampled together must share seeds and items, got shapes {sorted(shapes)}")
    num_seeds, num_items = blocks[0].shape[:2]

    def value(rows: Any, columns: Any) -> float:
        taken = [block[rows][:, columns] for block in blocks]
        return float(statistic(taken[0] if isinstance(scores, np.ndarray) else taken))

    by_seed, by_item, by_both = np.empty((3, num))
    whole = slice(None)
    for n in range(num):
        rows, columns = rng.integers(num_seeds, size=num_seeds), rng.integers(num_items, size=num_items)
        by_seed[n], by_item[n], by_both[n] = value(rows, whole), value(whole, columns), value(rows, columns)
    return interval_of_draws(value(whole, whole), by_seed, by_item, by_both, num_seeds, num_items, level)


def resampled(scores: np.ndarray, truth: float, rng: np.random.Generator) -> bool:
    found = two_level(scores, np.mean, 200, rng)
    return found.low <= truth <= found.high


def cell(num_seeds: int, num_items: int, points: float, repetitions: int, rng: np.random.Generator) -> list[str]:
    """One line of the table."""
    seed = seed_logits(points)
    spread = math.sqrt(ITEM**2 + INTERACTION**2 + seed**2)
    truth, gap = integral(MU, spread), integral(MU + SHIFT, spread) - integral(MU, spread)
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("one", "difference", "null")}
    slow: dict[str, list[bool]] = {"resampled": [], "flips": []}
    for start in range(0, repetitions, CHUNK):
        shape = (min(CHUNK, repetitions - start), num_seeds, num_items)
        common = shared_difficulty(rng, shape[0], num_items)
        a, same, better = (runs(rng, shape, mu, common, seed) for mu in (MU, MU, MU + SHIFT))
        found["one"].append(np.stack(held(a, truth)))
        found["difference"].append(np.stack(held(better - a, gap)))
        found["null"].append(np.stack(held(same - a, 0.0)))
        for n in range(min(shape[0], SLOW - len(slow["flips"]))):
            slow["resampled"].append(resampled(a[n], truth, rng))
            slow["flips"].append(sign_flip(same[n] - a[n], rng, 400) <= 0.05)
    one, difference, null = (np.concatenate(parts, axis=1).mean(axis=1) for parts in found.values())
    shares = [one[0], one[1], np.mean(slow["resampled"]), *difference, 1 - null[0], 1 - null[1], np.mean(slow["flips"])]
    return [str(num_seeds), str(num_items), f"{points:.1f}", *(f"{100 * share:.1f}" for share in shares)]


def table(repetitions: int) -> str:
    """The table in markdown, and how it was made."""
    rng = np.random.default_rng(0)
    grid = product((3, 5), (100, 500), SEED_POINTS)
    drawn = markdown(list(HEAD), [cell(*of, repetitions, rng) for of in grid])
    return (
        f"{drawn}\n\nIn %, {repetitions:,} repetitions per line (resampled and sign flips: {SLOW}); made by "
        "`python -m benchmarks.coverage --only coverage --out docs/statistics.md`."
    )


# --- claims about two equally good methods ---------------------------------------------------------------------------


def records_of(method: str, right: np.ndarray) -> list[RunRecord]:
    """Finished runs with these verdicts [seeds, items, samples], which differ in nothing but method and seed."""
    shared: dict[str, Any] = {
        **{"task": "t", "level": "1", "model": "m", "template": "t", "data": "generated", "budget_unit": "flops"},
        **{"budget_limit": 1.0, "protocol": 1, "comparison": "c", "split": "test", "chance": 0.0, "ledger": {}},
        **{"method": method, "item_ids": tuple(f"{n:04}" for n in range(right.shape[1]))},
    }
    return [
        RunRecord(run_id=f"{method}-{n}", path=f"{method}-{n}", seed=n, correct=of_run, greedy=of_run[:, 0], **shared)
        for n, of_run in enumerate(right)
    ]


def drawn_sides(
    num_a: int, num_b: int, points: float, repetitions: int, rng: np.random.Generator, control: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Verdicts [repetitions, seeds, items, samples] of two equally good methods a and b.

    With ``control`` b is the untrained model, whose runs are samples of one model.  Its mean is moved so that its
    accuracy is that of a.
    """
    seed = seed_logits(points)
    truth = integral(MU, math.sqrt(ITEM**2 + INTERACTION**2 + seed**2))
    mu_b = mean_as(truth, ITEM) if control else MU
    effects = (0.0, 0.0) if control else (seed, INTERACTION)
    common = shared_difficulty(rng, repetitions, CLAIM_ITEMS)
    a = chances(rng, (repetitions, num_a, CLAIM_ITEMS), MU, common, seed)
    b = chances(rng, (repetitions, num_b, CLAIM_ITEMS), mu_b, common, *effects)
    right_a, right_b = (rng.random((*p.shape, SAMPLES), dtype=np.float32) < p[..., None] for p in (a, b))
    return right_a, right_b


def verdicts(a: np.ndarray, b: np.ndarray, control: bool) -> list[str]:
    """Answers of `bench claim` to "a > b", one for each repetition."""
    other = "base" if control else "b"
    claim = parse_claim(f"a > {other}")
    with patch("bench.analysis.claims.seeds_to_find", return_value=None):  # slow, and no part of the verdict
        return [answer_claim(claim, [*records_of("a", one), *records_of(other, two)]).verdict for one, two in zip(a, b)]


def decisions(a: np.ndarray, b: np.ndarray, control: bool) -> np.ndarray:
    """Whether `bench claim` decides, [repetitions], by the test alone: many times faster, and the same."""
    num = a.shape[1] if control else min(a.shape[1], b.shape[1])
    if num == 1:
        return np.zeros(len(a), dtype=bool)
    scores_a, scores_b = a.mean(axis=3), b.mean(axis=3)
    differences = scores_a - scores_b.mean(axis=1, keepdims=True) if control else scores_a[:, :num] - scores_b[:, :num]
    return p_values(differences.mean(axis=(1, 2)), spread_of_mean(differences), ALPHA) <= ALPHA


def decided(
    num_a: int, num_b: int, points: float, repetitions: int, rng: np.random.Generator, *, control: bool = False
) -> float:
    """Share of claims that are supported or refuted although there is no difference."""
    found = [
        decisions(*drawn_sides(num_a, num_b, points, min(CHUNK, repetitions - start), rng, control), control)
        for start in range(0, repetitions, CHUNK)
    ]
    return float(np.mean(np.concatenate(found)))


def claims_table(repetitions: int) -> str:
    """The table of unequal numbers of seeds in markdown, and how it was made."""
    rng = np.random.default_rng(1)
    repetitions *= MORE
    head = ["seeds of A", "seeds of B", *(f"seed sd {points:.1f}" for points in CLAIM_POINTS)]
    lines = []
    for control, pairs in ((False, UNEQUAL), (True, CONTROLLED)):
        for num_a, num_b in pairs:
            shares = [decided(num_a, num_b, points, repetitions, rng, control=control) for points in CLAIM_POINTS]
            label = f"control, {num_b} run{'s' if num_b > 1 else ''}" if control else str(num_b)
            lines.append([str(num_a), label, *(f"{100 * share:.1f}" for share in shares)])
    return (
        f"{markdown(head, lines)}\n\nClaims decided, in %, {CLAIM_ITEMS} items, {repetitions:,} repetitions per cell; "
        "made by `python -m benchmarks.coverage --only claims --out docs/statistics.md`."
    )


TABLES = {
    "coverage": table,
    "claims": claims_table,
    "tail": tail_table,
    "families": families_table,
    "power": power_table,
}


if __name__ == "__main__":
    make_tables(__doc__, TABLES, 2000)

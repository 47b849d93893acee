"""What a leaderboard consists of: rows, the tables that hold them, and the board of all tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.analysis.concerns import Concern
from bench.analysis.contests import Pair
from bench.analysis.metrics import ACCURACY
from bench.analysis.runs import RunRecord, Scores
from bench.analysis.transfer import Elsewhere, Selected
from bench.stats.intervals import Difference, Interval


@dataclass(frozen=True)
class Row:
    """One method of one table; ``gain`` over base is None for base itself, and without a base run.

    ``scores``, ``score``, gain and ties are by the table's metric.  ``accuracy`` is the sampled one, whatever the
    metric.  ``ledger`` holds means over the seeds.  ``spent`` is in the budget's unit, ``unspent_share`` a fraction of
    its limit.
    """

    method: str
    scores: Scores
    accuracy: Interval
    greedy: float
    pass_at_k: Mapping[int, float]
    gain: Difference | None
    gain_adjusted: float | None
    ties: str
    ledger: Mapping[str, float]
    spent: float
    unspent_share: float
    passport: str  # the worst of its runs', one of bench.store.passport.STATES
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    selected: Selected | None = None  # of the best validation; None unless every run of the method has one
    tuned: Mapping[str, Any] | None = None  # trials behind its settings, as in RunRecord
    score: Interval | None = None  # None: the accuracy
    runs: tuple[str, ...] = ()  # directories
    concerns: tuple[Concern, ...] = ()

    @property
    def ranked(self) -> Interval:
        """What the table is sorted by."""
        return self.score or self.accuracy


@dataclass(frozen=True)
class Table:
    """Rows that may be compared, best first, and every pairwise test; ``record`` is any run, for what all share."""

    record: RunRecord
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    sentences: tuple[str, ...]
    metric: str = ACCURACY

    @property
    def num_items(self) -> int:
        return self.rows[0].scores.values.shape[1]

    @property
    def max_k(self) -> int:
        return max(set.intersection(*(set(r.pass_at_k) for r in self.rows)), default=1)

    @property
    def seeds(self) -> str:
        """Number of seeds in words: "3 seeds", "1 to 3 seeds"; base counts only when it is alone."""
        counts = [len(r.scores.seeds) for r in self.rows if r.method != "base"] or [len(self.rows[0].scores.seeds)]
        words = " to ".join(str(c) for c in sorted({min(counts), max(counts)}))
        return f"{words} seed{'' if max(counts) == 1 else 's'}"


@dataclass(frozen=True)
class Board:
    """One table per comparison."""

    tables: tuple[Table, ...]

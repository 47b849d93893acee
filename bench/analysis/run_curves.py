"""The validations of one run as a curve: scores of every item against what the run had spent by then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.analysis.metrics import ACCURACY, item_scores
from bench.analysis.records import load_run
from bench.analysis.runs import RunRecord, sorted_labels
from bench.store.run_folder import CorruptRun, check_records, read_lines
from bench.store.stored_run import corrupted

CURRENCIES: Mapping[str, str] = {  # what may be made equal -> its entry of the ledger
    "flops": "flops",
    "tokens": "tokens",
    "seconds": "seconds",
    "rollouts": "rollouts",
    "demonstrations": "distinct_demonstrations",  # what must be written or bought: a repeat costs compute, not data
    "steps": "steps",
}


@dataclass(frozen=True)
class RunCurve:
    """The validations of one run in order: ledgers, and ``scores`` [validations, items], items sorted by id.

    With ``from_base`` the first validation is that of the untrained model, which had spent nothing.
    """

    method: str
    seed: int
    path: str
    item_ids: tuple[str, ...]
    fractions: tuple[float, ...]
    ledgers: tuple[Mapping[str, float], ...]
    scores: np.ndarray
    from_base: bool = False
    clusters: tuple[str, ...] | None = None  # labels of the items, as in RunRecord

    def spent(self, currency: str) -> np.ndarray:
        """Amounts of one of CURRENCIES at the validations, never falling."""
        return np.array([float(ledger[CURRENCIES[currency]]) for ledger in self.ledgers])

    def at(self, currency: str, amount: float) -> np.ndarray | None:
        """Scores [items] at an amount, linear between the validations around it; None before the first validation.

        Where several validations have spent the same, the last of them counts; beyond the end, the end.
        """
        spent = self.spent(currency)
        after = int(np.searchsorted(spent, amount, side="right"))
        if after == 0:
            return None
        if after == len(spent):
            return np.asarray(self.scores[-1])
        # side="right" skips equal amounts, so the two spent values differ and the divisor is positive.
        share = (amount - spent[after - 1]) / (spent[after] - spent[after - 1])
        return np.asarray((1 - share) * self.scores[after - 1] + share * self.scores[after])


def run_curve(record: RunRecord, metric: str = ACCURACY) -> RunCurve:
    """All validations of a finished run, read from its directory; UserError if they cannot be read."""
    path = Path(record.path)
    try:
        check_records(path, ("evals.jsonl",))
        evals = [e for e in read_lines(path / "evals.jsonl") if e["split"] == "val"]
        judged = [load_run(path, "val", e["fraction"]) for e in evals]
    except CorruptRun as fault:
        raise corrupted(path, fault) from None
    order = np.argsort(judged[0].item_ids)
    scores = np.stack([item_scores(metric, j.correct, j.greedy)[np.argsort(j.item_ids)] for j in judged])
    ids = tuple(judged[0].item_ids[i] for i in order)
    fractions, ledgers = tuple(e["fraction"] for e in evals), tuple(e["spent"] for e in evals)
    labels = sorted_labels(judged[0])
    return RunCurve(record.method, record.seed, record.path, ids, fractions, ledgers, scores, clusters=labels)


def run_curves(records: Sequence[RunRecord], metric: str = ACCURACY) -> dict[str, list[RunCurve]]:
    """Curves of one comparison's runs by method, seeds ascending.  Those of trained methods begin with base."""
    curves: dict[str, list[RunCurve]] = defaultdict(list)
    for record in sorted(records, key=lambda r: (r.method, r.seed)):
        curves[record.method].append(run_curve(record, metric))
    base = curves.get("base", [])
    return {m: runs if m == "base" else [begun(run, base) for run in runs] for m, runs in curves.items()}


def begun(run: RunCurve, base: Sequence[RunCurve]) -> RunCurve:
    """The curve with the untrained model put before its first validation.

    That is the base run of the same seed, or the mean of all base runs if there is none.  Without a base run judged on
    the same items the curve stays as it is.
    """
    same = [b for b in base if b.item_ids == run.item_ids]
    if not same:
        return run
    paired = [b.scores[-1] for b in same if b.seed == run.seed] or [b.scores[-1] for b in same]
    nothing = dict.fromkeys(run.ledgers[0], 0.0)
    return replace(
        run,
        fractions=(0.0, *run.fractions),
        ledgers=(nothing, *run.ledgers),
        scores=np.concatenate([np.mean(paired, axis=0)[None], run.scores]),
        from_base=True,
    )

"""Leaderboards of finished runs: rows, pairwise tests and the sentences that say what the tests found.

``leaderboard`` computes a Board, ``bench.report.formats.render_board`` writes it.  Accuracies are fractions; gains in
the sentences and in ``row_as_dict`` are percentage points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.analysis.concerns import SIGNS, Concern, Concerns, fewer_seeds
from bench.analysis.contests import Contest, board_setting, contests
from bench.analysis.metrics import ACCURACY
from bench.analysis.metrics import metric_chance as chance_of
from bench.analysis.runs import BASE, RunRecord, Scores, by_method, by_table, method_scores, scores_intervals
from bench.analysis.sentences import say_selected, table_sentences
from bench.analysis.table import Board, Row, Table
from bench.analysis.transfer import (
    Elsewhere,
    Selected,
    elsewhere_fields,
    figures_elsewhere,
    selected,
    selected_fields,
)
from bench.stats.intervals import Interval, interval_fields
from bench.stats.pass_rates import pass_at_k
from bench.store.passport import worst

LEDGER = (
    *("tokens", "trained_tokens", "loss_tokens", "generated_tokens", "scored_tokens", "rollouts"),
    *("distinct_demonstrations", "demonstrations", "verifier_calls", "steps", "seconds"),
)


def leaderboard(records: Sequence[RunRecord], metric: str = ACCURACY, concerns: Concerns | None = None) -> Board:
    """Tables of all records: one per (comparison, protocol, split), sorted by task, level, model, then protocol.

    ``metric`` is what rows are ranked and tested by, ``concerns`` what is to be marked.  Holm's correction runs over
    all tables of one setting (``contests``).  Raises UserError if runs of one comparison were judged on different
    items, or two runs of a method share a seed.
    """
    tables = [by_method(group) for group in by_table(records)]
    scores = [{method: method_scores(runs, metric) for method, runs in table.items()} for table in tables]
    settings = [board_setting(next(iter(table.values()))[0]) for table in tables]
    return Board(
        tuple(
            make_table(table, of_table, contest, metric, concerns or {})
            for table, of_table, contest in zip(tables, scores, contests(scores, settings))
        )
    )


def make_table(
    runs: Mapping[str, Sequence[RunRecord]],
    scores: Mapping[str, Scores],
    contest: Contest,
    metric: str,
    concerns: Concerns,
) -> Table:
    """One table with its sentences, from the runs of one comparison by method."""
    record = next(iter(runs.values()))[0]
    few = fewer_seeds({method: len(of_method.seeds) for method, of_method in scores.items()})
    marks = {m: (*concerns.get((*record.table, m), ()), *few[m]) for m in contest.order}
    rows = make_rows(runs, scores, contest, marks, metric)
    sentences = table_sentences(rows, contest.pairs, chance_of(metric, record.chance))
    if record.split == "test":
        sentences += say_selected(rows)
    return Table(record, tuple(rows), contest.pairs, tuple(sentences), metric)


def make_rows(
    runs: Mapping[str, Sequence[RunRecord]],
    scores: Mapping[str, Scores],
    contest: Contest,
    marks: Mapping[str, Sequence[Concern]],
    metric: str,
) -> list[Row]:
    """The rows of one table, best first; all intervals of a kind are worked out together."""
    several, base = [runs[method] for method in contest.order], runs.get(BASE, [])
    sampled = scores if metric == ACCURACY else {method: method_scores(runs[method]) for method in contest.order}
    accuracies = scores_intervals([sampled[method] for method in contest.order])
    ranked = [None] * len(several) if metric == ACCURACY else scores_intervals([scores[m] for m in contest.order])
    far, best = figures_elsewhere(several, base), selected(several)
    return [
        make_row(runs[method], scores[method], contest, accuracy, score, elsewhere, policy, marks[method])
        for method, accuracy, score, elsewhere, policy in zip(contest.order, accuracies, ranked, far, best)
    ]


def make_row(
    runs: Sequence[RunRecord],
    scores: Scores,
    contest: Contest,
    accuracy: Interval,
    score: Interval | None,
    elsewhere: Elsewhere,
    policy: Selected | None,
    concerns: Sequence[Concern],
) -> Row:
    """Row of one method from its runs; ledger entries that a run lacks are left out of the mean."""
    first = runs[0]
    runs = list({r.run_id: r for r in runs}.values())
    keys = {key for r in runs for key in r.ledger}
    ledger = {key: float(np.mean([r.ledger[key] for r in runs if key in r.ledger])) for key in keys}
    num_samples = min(r.correct.shape[1] for r in runs)
    ks = sorted({k for k in (2**n for n in range(1, 20)) if k <= num_samples} | ({num_samples} - {1}))
    against = next((p for p in contest.pairs if {p.first, p.second} == {first.method, BASE}), None)
    gain = None if against is None else against.difference
    if gain is not None and against is not None and against.first == BASE:
        gain = gain.reversed()
    spent = ledger.get(first.budget_unit, float("nan"))
    return Row(
        method=first.method,
        scores=scores,
        accuracy=accuracy,
        score=score,
        greedy=float(np.mean([r.greedy.mean() for r in runs])),
        pass_at_k={k: float(np.mean([pass_at_k(r.correct, k).mean() for r in runs])) for k in ks},
        gain=gain,
        gain_adjusted=None if against is None else against.adjusted,
        ties=contest.letters[first.method],
        ledger=ledger,
        spent=spent,
        unspent_share=1 - spent / first.budget_limit if first.budget_limit > 0 else float("nan"),
        passport=worst([r.passport for r in runs]),
        elsewhere=elsewhere,
        selected=policy,
        tuned=first.tuned,
        runs=tuple(r.path for r in runs),
        concerns=tuple(concerns),
    )


def rows_as_dicts(board: Board) -> list[dict[str, Any]]:
    """Flat rows of all tables for JSON and CSV: accuracies as fractions, gains in points, absent values None."""
    return [row_as_dict(table.record, row, table.metric) for table in board.tables for row in table.rows]


def row_as_dict(record: RunRecord, row: Row, metric: str = ACCURACY) -> dict[str, Any]:
    """One flat row; ``record`` is any run of the table, ``metric`` what gain and ties are by."""
    gain = row.gain
    values: dict[str, Any] = {
        **{key: getattr(record, key) for key in ("task", "level", "model", "template", "data", "split")},
        **{"method": row.method, **interval_fields("accuracy", row.accuracy), "interval_over": row.accuracy.over},
        **{"metric": metric, **interval_fields("score", row.ranked)},
        "greedy": row.greedy,
        **{f"pass_at_{k}": value for k, value in row.pass_at_k.items()},
        "chance": record.chance,
        "gain_points": 100 * gain.mean if gain else None,
        "gain_points_low": 100 * gain.low if gain else None,
        "gain_points_high": 100 * gain.high if gain else None,
        **{"gain_p_holm": row.gain_adjusted, "ties": row.ties},
        **{"num_seeds": len(row.scores.seeds), "num_items": row.scores.values.shape[1]},
        "spent_flops": row.ledger.get("flops"),
        **{"spent": row.spent, "limit": record.budget_limit, "unit": record.budget_unit},
        "unspent_share": row.unspent_share,
        **selected_fields(row.selected),
        **elsewhere_fields(row.elsewhere),
        "trials": row.tuned["trials"] if row.tuned else 0,
        "trials_flops": row.tuned["flops"] if row.tuned else 0.0,
        **{key: row.ledger.get(key) for key in LEDGER},
        **{"protocol": record.protocol, "comparison": record.comparison, "passport": row.passport},
        **{kind: "; ".join(words for k, words in row.concerns if k == kind) or None for kind in SIGNS},
        "runs": list(row.runs),
    }
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}

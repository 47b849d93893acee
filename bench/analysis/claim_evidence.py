"""What finished runs say of a claim, before it is judged: the tested difference, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.analysis.board import leaderboard
from bench.analysis.claim_grammar import Claim
from bench.analysis.contests import board_setting
from bench.analysis.equal_currency import ASK_RUNS, FREE, UNMEASURED, WORDS, pair_amount, pair_scores, score_state
from bench.analysis.run_curves import RunCurve, run_curves
from bench.analysis.runs import RunRecord, Scores, compare, method_scores, paired_values, shared_clusters
from bench.analysis.sentences import listed_names
from bench.stats.intervals import ALPHA, Difference
from bench.types import UserError


@dataclass(frozen=True)
class Evidence:
    """``difference`` is None where a side was not measured, and ``why`` says so; ``how`` is about the test.

    ``values`` are the paired differences [seeds, items], ``one_sided`` their 90 % interval; ``single`` are the trained
    sides with one seed.  ``num_tests`` is the size of the family that the p-value is corrected for.
    """

    difference: Difference | None
    what: str  # the figure that was judged
    values: np.ndarray | None = None
    one_sided: Difference | None = None
    how: str = ""
    why: str = ""
    single: tuple[str, ...] = ()
    num_tests: int = 1
    clusters: tuple[str, ...] | None = None  # labels of the items


def compare_sides(
    claim: Claim, first: Sequence[RunRecord], second: Sequence[RunRecord], records: Sequence[RunRecord]
) -> Evidence:
    """The difference of A and B on the claim's split, or on the validations at an equal amount."""
    if claim.equal not in (None, first[0].budget_unit):
        return compare_at_equal(claim, str(claim.equal), first, second)
    if sorted(first[0].item_ids) != sorted(second[0].item_ids):
        raise UserError(f"{claim.first} and {claim.second} were judged on different items: they cannot be compared")
    found = paired_evidence(claim, method_scores(first, claim.metric), method_scores(second, claim.metric))
    if not claim.corrected or found.difference is None:
        return found
    p_value, num_tests = in_family(claim, first[0], records)
    corrected = replace(found.difference, p_value=p_value)
    how = ", Holm-adjusted as in the tables of all these runs"
    return replace(found, difference=corrected, how=how, num_tests=num_tests)


def paired_evidence(claim: Claim, a: Scores, b: Scores) -> Evidence:
    values_a, values_b = paired_values(a, b)
    return Evidence(
        compare(a, b),
        f"{claim.first} - {claim.second}",
        values_a - values_b,
        compare(a, b, 1 - 2 * ALPHA),
        single=single_seeds({claim.first: a, claim.second: b}),
        clusters=shared_clusters(a, b),
    )


def single_seeds(sides: dict[str, Scores]) -> tuple[str, ...]:
    """Trained methods with one seed."""
    return tuple(method for method, scores in sides.items() if len(scores.seeds) == 1 and not scores.control)


def compare_at_equal(claim: Claim, currency: str, first: Sequence[RunRecord], second: Sequence[RunRecord]) -> Evidence:
    """A and B by their validations at an equal amount: the least that a run of these two ended with.

    No third method has a part in it.  A side whose first validation had spent more is not measured there, which no
    line from the untrained model to that validation replaces.  UserError for clauses that need the test split.
    """
    if claim.split != "test" or claim.corrected:
        raise UserError(f"'at equal {currency}' reads the validations: leave 'split' and 'corrected' out")
    curves: dict[str, list[RunCurve]] = run_curves([*first, *second], claim.metric)
    a, b = curves[claim.first], curves[claim.second]
    if a[0].item_ids != b[0].item_ids:
        raise UserError(f"{claim.first} and {claim.second} were judged on different items: they cannot be compared")
    amount = pair_amount(a, b, currency)
    states = {name: score_state(curves[name], currency, amount) for name in (claim.first, claim.second)}
    at = f"{'their ends' if amount is None else f'{amount:,.0f}'} {currency}"
    late = [name for name, state in states.items() if state == UNMEASURED]
    if late:
        more = f"; {ASK_RUNS}" if currency == "demonstrations" else ""
        why = f"{listed_names(late)} not measured at {at}: the first validation had spent more{more}"
        return Evidence(None, f"{claim.first} - {claim.second}", why=why)
    free = "".join(f"; {name}: {WORDS[FREE]}" for name, state in states.items() if state == FREE)
    return replace(paired_evidence(claim, *pair_scores(a, b, currency)), how=f", on the validation split at {at}{free}")


def in_family(claim: Claim, run: RunRecord, records: Sequence[RunRecord]) -> tuple[float, int]:
    """The pair's p-value on the leaderboard of all these records, and the number of pairs in its Holm family."""
    with_base = "base" in (claim.first, claim.second)
    tables = [t for t in leaderboard(records).tables if board_setting(t.record) == board_setting(run)]
    family = [(t, p) for t in tables for p in t.pairs if ("base" in (p.first, p.second)) == with_base]
    own = (p for t, p in family if t.record.table == run.table and {p.first, p.second} == {claim.first, claim.second})
    return next(own).adjusted, max(1, sum(p.difference.correctable for _, p in family))

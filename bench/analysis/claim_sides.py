"""The runs that a claim is about: those of its two sides, all of one comparison."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.claim_grammar import Claim
from bench.analysis.runs import SHARED, RunRecord
from bench.plan.registry import nearest
from bench.types import UserError


def sides(claim: Claim, records: Sequence[RunRecord]) -> tuple[list[RunRecord], list[RunRecord]]:
    """The runs of A and of B, all of one comparison.

    UserError when there are none, when several comparisons fit, or when none of them may be compared.
    """
    if not records:
        raise UserError("no finished run to test a claim on: give --results with finished runs")
    chosen = records
    for key in ("task", "level"):
        wanted = getattr(claim, key)
        if wanted is not None:
            known = {getattr(r, key) for r in chosen}
            if wanted not in known:
                raise nearest(wanted, known, f"{key} of these runs")
            chosen = [r for r in chosen if getattr(r, key) == wanted]
    by_method = {name: [r for r in chosen if r.method == name] for name in (claim.first, claim.second)}
    for name, runs in by_method.items():
        if not runs:
            raise nearest(name, {r.method for r in chosen}, "method of these runs")
    both = {r.table for r in by_method[claim.first]} & {r.table for r in by_method[claim.second]}
    if not both:
        raise UserError(
            f"{claim.first} and {claim.second} cannot be compared here: {what_differs(*by_method.values())}"
        )
    if len(both) > 1:
        raise UserError(several([r for r in by_method[claim.first] if r.table in both]))
    first, second = ([r for r in runs if r.table in both] for runs in by_method.values())
    return first, second


def what_differs(a: Sequence[RunRecord], b: Sequence[RunRecord]) -> str:
    """The first setting in which two groups of runs differ, in words."""
    for key in SHARED:
        left, right = ({str(getattr(r, key)) for r in runs} for runs in (a, b))
        if not left & right:
            what = "settings of evaluation or machine" if key == "comparison" else key.replace("_", " ")
            return f"their {what} differs, {', '.join(sorted(left))} and {', '.join(sorted(right))}"
    return "no two of their runs share model, task, budget, evaluation and protocol"


def several(runs: Sequence[RunRecord]) -> str:
    """The message when more than one comparison fits."""
    for key in SHARED:
        seen = sorted({str(getattr(r, key)) for r in runs})
        if len(seen) > 1:
            how = {"task": "say 'on TASK'", "level": "say 'on TASK level LEVEL'"}.get(key, "choose with --comparison")
            break
    ids = sorted({r.comparison for r in runs})
    return (
        f"the claim fits {len(ids)} comparisons, whose {key.replace('_', ' ')} differs ({', '.join(seen)}): {how} "
        f"(comparisons {', '.join(ids)})"
    )

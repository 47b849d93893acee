"""Claims about what training leaves of the untrained model's abilities: which runs, which tasks, and the test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.analysis.claim_evidence import Evidence, single_seeds
from bench.analysis.claim_grammar import OTHER_TASKS, SKILLS, Claim
from bench.analysis.retained import gained_ratios, joined, kept_ratios
from bench.analysis.runs import BASE, RunRecord, Scores
from bench.analysis.sentences import listed_names
from bench.analysis.transfer import OTHER, SKILL, scores_by_name
from bench.plan.registry import nearest
from bench.stats.intervals import Difference
from bench.stats.ratios import Ratios
from bench.types import UserError

UNBOUNDED = "base's own figures there are too near 0: nothing bounds a share of them"


def compare_retained(
    claim: Claim, first: Sequence[RunRecord], second: Sequence[RunRecord], records: Sequence[RunRecord]
) -> Evidence:
    """The difference of two methods' retained shares, or the share of one; UserError where there is none to judge."""
    base = [r for r in records if r.table == first[0].table and r.method == BASE]
    if not base:
        raise UserError(f"claim '{claim.text}': no base run in this comparison, whose abilities could be retained")
    sides = {BASE: base, claim.second: second, claim.first: first}
    figures = {method: chosen_scores(claim, runs) for method, runs in sides.items()}
    a, before = figures[claim.first], figures[BASE]
    if claim.least is None:
        ratios = joined(gained_ratios(a, figures[claim.second], before))
        what = f"{claim.first} - {claim.second}, in shares of base"
    else:
        ratios = joined(kept_ratios(a, before))
        what = f"{claim.first} retains"
    names = [name for name in a if name in before and before[name].values.mean() > 0]
    if ratios is None:
        raise UserError(
            f"claim '{claim.text}': base is never right on {listed_names(list(a))}, there is nothing to retain"
        )
    difference = tested(ratios, claim)
    single = single_seeds({method: next(iter(figures[method].values())) for method in (claim.first, claim.second)})
    why = "" if math.isfinite(difference.low) else UNBOUNDED
    return Evidence(difference, what, how=f", accuracy on {listed_names(names)}", why=why, single=single)


def tested(ratios: Ratios, claim: Claim) -> Difference:
    """The mean ratio with its limits, and the p-value of "no difference" or "exactly the stated share"."""
    interval = ratios.interval(share=claim.least is not None)
    p_value = ratios.p_value(0.0 if claim.least is None else claim.least)
    return Difference(
        *(interval.mean, interval.low, interval.high, p_value),
        *(ratios.num_seeds, ratios.num_items, interval.over),
    )


def chosen_scores(claim: Claim, runs: Sequence[RunRecord]) -> Mapping[str, Scores]:
    """Scores on what a claim is about, by task or skill; UserError where these runs were not judged there."""
    tasks, skills = scores_by_name(OTHER, runs), scores_by_name(SKILL, runs)
    chosen = {OTHER_TASKS: tasks, SKILLS: skills}.get(str(claim.retained))
    if chosen is None:
        chosen = {name: scores for name, scores in {**tasks, **skills}.items() if name == claim.retained}
    if not chosen:
        known = [*([OTHER_TASKS] if tasks else []), *([SKILLS] if skills else []), *tasks, *skills]
        if not known:
            raise UserError(f"claim '{claim.text}': the runs of {runs[0].method} were not judged on other tasks")
        raise nearest(str(claim.retained), known, f"task or skill that the runs of {runs[0].method} were judged on")
    return chosen

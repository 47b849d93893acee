"""Claims such as "uft > sft on countdown at equal flops": read, tested on finished runs, and answered.

Grammar: A > B | A < B | A = B, then in any order [on TASK [level L]], [at equal CURRENCY], [by N points],
[split NAME], [metric accuracy|greedy|pass@K], [corrected].  A and B are methods as tables name them.  A claim is one
test at 5 %; ``corrected`` takes it as one of the pairs of its table, with their Holm-adjusted p-value, as tables do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.analysis.board import leaderboard
from bench.analysis.contests import board_setting
from bench.analysis.equal_currency import BETWEEN, FREE, UNKNOWN, WORDS, common_amount, score_state, scores_at
from bench.analysis.run_curves import CURRENCIES, run_curves
from bench.analysis.runs import SHARED, RunRecord, Scores, method_scores, paired_values
from bench.analysis.sentences import listed_names, signed_points
from bench.plan.registry import nearest
from bench.stats.intervals import ALPHA, Difference, paired_difference
from bench.stats.power import MARGIN, REFUTED, SUPPORTED, UNDERPOWERED, seeds_to_settle
from bench.store.passport import worst
from bench.types import UserError

CLAUSES = {
    "task": re.compile(r"\bon\s+(?P<task>\S+)(\s+level\s+(?P<level>\S+))?"),
    "equal": re.compile(r"\bat\s+equal\s+(?P<equal>\S+)"),
    "by": re.compile(r"\bby\s+(?P<by>[0-9.]+)\s+points?\b"),
    "split": re.compile(r"\bsplit\s+(?P<split>\S+)"),
    "metric": re.compile(r"\bmetric\s+(?P<metric>\S+)"),
    "corrected": re.compile(r"(?P<corrected>\bcorrected\b)"),
}
EXAMPLE = "for example 'uft > sft on countdown at equal flops'"


@dataclass(frozen=True)
class Claim:
    """A parsed claim; ``by`` is a fraction, None without the clause."""

    text: str
    first: str
    relation: str  # ">" or "="; "<" is turned around
    second: str
    task: str | None = None
    level: str | None = None
    equal: str | None = None
    by: float | None = None
    split: str = "test"
    metric: str = "accuracy"
    corrected: bool = False


@dataclass(frozen=True)
class Answer:
    """What the runs say of a claim; differences are fractions, ``passport`` is the worst of the runs'.

    ``single`` are the trained sides that have one seed.
    """

    claim: Claim
    verdict: str
    test: str
    difference: Difference
    seeds_needed: int | None
    record: RunRecord
    passport: str
    single: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        d, r = self.difference, self.record
        seeds = f"{d.num_seeds} seed{'s' if d.num_seeds > 1 else ''}"
        split = "" if self.claim.equal not in (None, r.budget_unit) else f"{r.split} split, "
        return (
            f"{self.verdict}: {self.claim.text}. {self.claim.first} - {self.claim.second}: "
            f"{signed_points(d.mean)} points, 95 % interval {signed_points(d.low)} to {signed_points(d.high)} "
            f"({d.over}), p {d.p_value:.3g}, {seeds} x {d.num_items} items; "
            f"{self.test}; {self.claim.metric}, {r.task}, level {r.level}, model {r.model}, {split}"
            f"budget {r.budget_limit:g} {r.budget_unit}, protocol {r.protocol}, passport: {self.passport}.{self.more}"
        )

    @property
    def more(self) -> str:
        """What would settle it, of an underpowered claim."""
        if self.verdict != UNDERPOWERED:
            return ""
        if self.difference.num_seeds < 2:
            few = f" One seed of {listed_names(self.single)}"
            return f"{few}: the variation between seeds is unknown, so nothing can be claimed of the methods."
        too_few = self.claim.corrected and not self.difference.correctable
        few = " Two seeds are too few for a corrected test." if too_few else ""
        needed = "More seeds alone would not" if self.seeds_needed is None else f"About {self.seeds_needed} seeds would"
        return f"{few} {needed} settle it{' on these items' if self.seeds_needed is None else ''}."

    def as_dict(self) -> dict[str, Any]:
        shared = {key: getattr(self.record, key) for key in SHARED}
        return {
            "claim": asdict(self.claim),
            "verdict": self.verdict,
            "test": self.test,
            "difference": asdict(self.difference),
            "seeds_needed": self.seeds_needed,
            **shared,
            "passport": self.passport,
            "sentence": self.sentence,
        }


# --- reading -------------------------------------------------------------------------------------------------------


def parse_claim(text: str) -> Claim:
    """The claim that these words state.  UserError says what is malformed."""
    words = " ".join(text.split())
    rest = words
    clauses: dict[str, str] = {}
    for name, clause in CLAUSES.items():
        match = clause.search(rest)
        if match is not None:
            clauses |= {key: value for key, value in match.groupdict().items() if value is not None}
            rest = f"{rest[: match.start()]} {rest[match.end() :]}"
            if clause.search(rest):
                raise UserError(f"malformed claim '{words}': '{name}' is given twice")
    match = re.fullmatch(r"\s*(\S+)\s*([<>=])\s*(\S+)\s*", rest) or re.fullmatch(r"\s*([^\s<>=]+)([<>=])(\S+)\s*", rest)
    if match is None:
        raise UserError(f"malformed claim '{words}': expected A > B, A < B or A = B and clauses, {EXAMPLE}")
    first, relation, second = match.groups()
    if relation == "<":
        first, relation, second = second, ">", first
    if first == second:
        raise UserError(f"malformed claim '{words}': it compares {first} with itself, {EXAMPLE}")
    return checked_claim(Claim(words, first, relation, second), clauses)


def checked_claim(claim: Claim, clauses: dict[str, str]) -> Claim:
    """The claim with its clauses.  UserError for a value that a clause cannot have."""
    if "equal" in clauses and clauses["equal"].lower() not in CURRENCIES:
        raise nearest(clauses["equal"], CURRENCIES, "currency")
    metric = clauses.get("metric", "accuracy").lower()
    if metric not in ("accuracy", "greedy") and not re.fullmatch(r"pass@[1-9][0-9]*", metric):
        raise nearest(metric, ("accuracy", "greedy", "pass@4"), "metric")
    try:
        by = float(clauses["by"]) / 100 if "by" in clauses else None
    except ValueError:
        raise UserError(f"malformed claim '{claim.text}': '{clauses['by']}' is not a number of points") from None
    if by is not None and not 0 < by < 1:
        raise UserError(f"malformed claim '{claim.text}': expected between 0 and 100 points, got {clauses['by']}")
    if "corrected" in clauses and (claim.relation == "=" or by is not None or metric != "accuracy"):
        raise UserError(
            f"malformed claim '{claim.text}': 'corrected' is for A > B or A < B by accuracy, as in the tables"
        )
    plain = {key: clauses[key] for key in ("task", "level", "split") if key in clauses}
    equal = clauses["equal"].lower() if "equal" in clauses else None
    return replace(claim, equal=equal, by=by, metric=metric, corrected="corrected" in clauses, **plain)


# --- which runs ----------------------------------------------------------------------------------------------------


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


def scores_along_curves(claim: Claim, currency: str, records: Sequence[RunRecord]) -> tuple[Scores, Scores, str]:
    """Validation scores of A and B at an equal amount of a currency, and in words which amount that is.

    It is the least amount that any run of their table ended with; ``records`` are the table's runs.  UserError where a
    curve does not begin early enough, and for clauses that need the test split.
    """
    if claim.split != "test" or claim.corrected:
        raise UserError(f"'at equal {currency}' reads the validations: leave 'split' and 'corrected' out")
    curves = run_curves(records, claim.metric)
    amount = common_amount(curves, currency)
    states = {name: score_state(curves[name], currency, amount) for name in (claim.first, claim.second)}
    for name, how in states.items():
        if how == UNKNOWN:
            raise UserError(f"{name} had spent more {currency} at its first validation, and there is no base run")
    first, second = (scores_at(curves[name], currency, amount) for name in states)
    notes = "".join(f"; {name}: {WORDS[how]}" for name, how in states.items() if how in (BETWEEN, FREE))
    return first, second, f"{'their ends' if amount is None else f'{amount:,.0f}'} {currency}{notes}"


# --- the answer ----------------------------------------------------------------------------------------------------


def answer_claim(claim: Claim, records: Sequence[RunRecord]) -> Answer:
    """Test a claim on the runs of its split."""
    first, second = sides(claim, records)
    currency = claim.equal if claim.equal != first[0].budget_unit else None
    if currency is None:
        a, b = method_scores(first, claim.metric), method_scores(second, claim.metric)
    else:
        a, b, where = scores_along_curves(claim, currency, [r for r in records if r.table == first[0].table])
    if sorted(first[0].item_ids) != sorted(second[0].item_ids):
        raise UserError(f"{claim.first} and {claim.second} were judged on different items: they cannot be compared")
    values_a, values_b = paired_values(a, b)
    test = paired_difference(values_a, values_b)
    tost = paired_difference(values_a, values_b, 1 - 2 * ALPHA)
    verdict, how = equivalent(claim, test, tost) if claim.relation == "=" else greater(claim, test)
    num_tests = 1
    if claim.corrected:
        p_value, num_tests = in_family(claim, first[0], records)
        test = replace(test, p_value=p_value)
        verdict, how = greater(claim, test)
        how += ", Holm-adjusted as in the tables of all these runs"
    if currency is not None:
        how += f", on the validation split at {where}"
    needed = None
    if verdict == UNDERPOWERED:
        border = claim.by if claim.by is not None else MARGIN if claim.relation == "=" else 0.0
        at = abs(test.mean) if claim.relation == "=" else test.mean
        needed = seeds_to_settle(values_a - values_b, abs(at - border), ALPHA / num_tests, corrected=claim.corrected)
    single = tuple(
        runs[0].method for runs, side in ((first, a), (second, b)) if len(side.seeds) == 1 and not side.control
    )
    passport = worst([r.passport for r in (*first, *second)])
    return Answer(claim, verdict, how, test, needed, first[0], passport, single)


def in_family(claim: Claim, run: RunRecord, records: Sequence[RunRecord]) -> tuple[float, int]:
    """The pair's p-value on the leaderboard of all these records, and the number of pairs in its Holm family."""
    with_base = "base" in (claim.first, claim.second)
    tables = [t for t in leaderboard(records).tables if board_setting(t.record) == board_setting(run)]
    family = [(t, p) for t in tables for p in t.pairs if ("base" in (p.first, p.second)) == with_base]
    own = (p for t, p in family if t.record.table == run.table and {p.first, p.second} == {claim.first, claim.second})
    return next(own).adjusted, max(1, sum(p.difference.correctable for _, p in family))


def greater(claim: Claim, test: Difference) -> tuple[str, str]:
    """A > B [by N points]: the 95 % interval lies above N (supported), below it (refuted), or neither."""
    least = claim.by or 0.0
    how = f"two-sided paired test of the difference {'' if not least else f'minus {100 * least:g} points '}at 5 %"
    if test.num_seeds < 2 or test.low == test.high:
        return UNDERPOWERED, how
    if test.low > least and (claim.by or test.p_value <= ALPHA):
        return SUPPORTED, how
    return (REFUTED if test.high < least and (claim.by or test.p_value <= ALPHA) else UNDERPOWERED), how


def equivalent(claim: Claim, test: Difference, tost: Difference) -> tuple[str, str]:
    """A = B within N points: the 90 % interval inside -N to N supports it, a 95 % interval outside refutes it."""
    margin = MARGIN if claim.by is None else claim.by
    how = f"equivalence within {100 * margin:g} points by two one-sided paired tests at 5 %"
    if test.num_seeds < 2 or test.low == test.high:
        return UNDERPOWERED, how
    # Two one-sided tests at 5 % are a 90 % interval within the margin (Schuirmann 1987, doi 10.1007/BF01068419).
    if max(abs(tost.low), abs(tost.high)) < margin:
        return SUPPORTED, how
    return (REFUTED if test.low > margin or test.high < -margin else UNDERPOWERED), how

"""Claims such as "uft > sft on countdown at equal flops", tested on finished runs and answered.

``claim_grammar`` says how they read.  A claim is one test at 5 %; ``corrected`` takes it as one of the pairs of its
table, with their Holm-adjusted p-value, as tables do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.analysis.claim_evidence import Evidence, compare_sides
from bench.analysis.claim_grammar import Claim
from bench.analysis.claim_sides import sides
from bench.analysis.retained_claims import compare_retained
from bench.analysis.runs import SHARED, RunRecord
from bench.analysis.sentences import listed_names, say_planning, signed_points
from bench.stats.intervals import ALPHA, Difference
from bench.stats.power import MARGIN, MOST_SEEDS, POWER, REFUTED, SUPPORTED, UNDERPOWERED, seeds_to_find
from bench.store.passport import worst


@dataclass(frozen=True)
class Answer:
    """What the runs say of a claim; differences are fractions, ``passport`` is the worst of the runs'.

    ``difference`` is None where a side was not measured.  ``seeds_needed`` is for planning, by effect in points.
    """

    claim: Claim
    verdict: str
    test: str
    evidence: Evidence
    seeds_needed: Mapping[str, int | None] | None
    record: RunRecord
    passport: str

    @property
    def difference(self) -> Difference | None:
        return self.evidence.difference

    @property
    def sentence(self) -> str:
        r, claim = self.record, self.claim
        split = "" if claim.equal not in (None, r.budget_unit) or claim.retained else f"{r.split} split, "
        metric = "shares of base" if claim.retained else claim.metric
        return (
            f"{self.verdict}: {claim.text}. {self.figures}"
            f"{self.test}; {metric}, {'after ' if claim.retained else ''}{r.task}, level {r.level}, model {r.model}, "
            f"{split}budget {r.budget_limit:g} {r.budget_unit}, protocol {r.protocol}, passport: "
            f"{self.passport}.{self.more}"
        )

    @property
    def figures(self) -> str:
        """The figure that was judged with its limits, p-value and sizes; nothing where there is none."""
        d = self.difference
        if d is None:
            return ""
        seeds = f"{d.num_seeds} seed{'s' if d.num_seeds > 1 else ''}"
        if self.claim.least is None:
            mean, low, high = f"{signed_points(d.mean)} points", signed_points(d.low), signed_points(d.high)
        else:
            mean, low, high = (f"{100 * x:.1f}{mark}" for x, mark in ((d.mean, " %"), (d.low, ""), (d.high, "")))
        colon = "" if self.claim.least is not None else ":"
        return (
            f"{self.evidence.what}{colon} {mean}, 95 % interval {low} to {high} ({d.over}), p {d.p_value:.3g}, "
            f"{seeds} x {d.num_items} items; "
        )

    @property
    def more(self) -> str:
        """Why a claim is underpowered, and what it takes to find effects of a stated size."""
        if self.verdict != UNDERPOWERED:
            return ""
        if self.evidence.why:
            return f" Not decided: {self.evidence.why}."
        if self.difference is not None and self.difference.num_seeds < 2:
            few = f" One seed of {listed_names(self.evidence.single)}"
            return f"{few}: the variation between seeds is unknown, so nothing can be claimed of the methods."
        few = ""
        if self.claim.corrected and self.difference is not None and not self.difference.correctable:
            few = " Two seeds are too few for a corrected test."
        if self.seeds_needed is None:
            return few
        if self.claim.relation == "=":
            [(margin, number)] = self.seeds_needed.items()
            seeds = f"over {MOST_SEEDS}" if number is None else number
            return (
                f"{few} For planning: to show equal methods within {margin} points with power {POWER:g}: {seeds} seeds."
            )
        beyond = f" beyond these {100 * self.claim.by:g}" if self.claim.by else ""
        return f"{few} For planning: {say_planning(self.seeds_needed, beyond)}."

    def as_dict(self) -> dict[str, Any]:
        shared = {key: getattr(self.record, key) for key in SHARED}
        return {
            "claim": asdict(self.claim),
            "verdict": self.verdict,
            "test": self.test,
            "difference": None if self.difference is None else asdict(self.difference),
            "not_decided": self.evidence.why or None,
            "seeds_needed": self.seeds_needed,
            **shared,
            "passport": self.passport,
            "sentence": self.sentence,
        }


def answer_claim(claim: Claim, records: Sequence[RunRecord]) -> Answer:
    """Test a claim on the runs of its split."""
    first, second = sides(claim, records)
    found = (compare_sides if claim.retained is None else compare_retained)(claim, first, second, records)
    how = how_tested(claim) + found.how if found.difference is not None else "nothing was tested"
    verdict = UNDERPOWERED
    if found.difference is not None and found.difference.decides and not found.why:
        verdict = equivalent(claim, found) if claim.relation == "=" else greater(claim, found.difference)
    needed = None
    if verdict == UNDERPOWERED and found.values is not None:
        if claim.relation == "=":
            power = 1 - (1 - POWER) / 2  # both one-sided tests have to reject: .9 of each makes .8 at least
            needed = seeds_to_find(found.values, 2 * ALPHA, power, [margin_of(claim)], clusters=found.clusters)
        else:
            needed = seeds_to_find(
                found.values, ALPHA / found.num_tests, clusters=found.clusters, corrected=claim.corrected
            )
    passport = worst([r.passport for r in (*first, *second)])
    return Answer(claim, verdict, how, found, needed, first[0], passport)


def margin_of(claim: Claim) -> float:
    return MARGIN if claim.by is None else claim.by


def how_tested(claim: Claim) -> str:
    """The test in words."""
    if claim.relation == "=":
        return f"equivalence within {100 * margin_of(claim):g} points by two one-sided paired tests at 5 %"
    if claim.least is not None:
        return f"two-sided paired test against {100 * claim.least:g} % of base at 5 %"
    return f"two-sided paired test of the difference {f'minus {100 * claim.by:g} points ' if claim.by else ''}at 5 %"


def greater(claim: Claim, test: Difference) -> str:
    """A > B [by N points]: the 95 % interval lies above N (supported), below it (refuted), or neither."""
    border = claim.by or claim.least or 0.0
    if not (claim.by or test.p_value <= ALPHA):
        return UNDERPOWERED
    return SUPPORTED if test.low > border else REFUTED if test.high < border else UNDERPOWERED


def equivalent(claim: Claim, found: Evidence) -> str:
    """A = B within N points: the 90 % interval inside -N to N supports it, a 95 % interval outside refutes it."""
    margin, test, tost = margin_of(claim), found.difference, found.one_sided
    assert test is not None and tost is not None
    # Two one-sided tests at 5 % are a 90 % interval within the margin (Schuirmann 1987, doi 10.1007/BF01068419).
    if max(abs(tost.low), abs(tost.high)) < margin:
        return SUPPORTED
    return REFUTED if test.low > margin or test.high < -margin else UNDERPOWERED

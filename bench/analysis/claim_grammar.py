"""What a claim such as "uft > sft on countdown at equal flops" says.

Grammar: A > B | A < B | A = B, then in any order [on TASK [level L]], [at equal CURRENCY], [by N points],
[split NAME], [metric accuracy|greedy|pass@K], [corrected].  A and B are methods as tables name them.  Or, about what
training leaves of the untrained model's abilities: A retains more than B | A retains less than B |
A retains at least N %, then on other tasks | on skills | on NAME (one of them), and in any order
[after TASK [level L]], [by N points].
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bench.analysis.run_curves import CURRENCIES
from bench.plan.registry import nearest
from bench.types import UserError

CLAUSES = {
    "task": re.compile(r"\bon\s+(?P<task>\S+)(\s+level\s+(?P<level>\S+))?"),
    "equal": re.compile(r"\bat\s+equal\s+(?P<equal>\S+)"),
    "by": re.compile(r"\bby\s+(?P<by>[0-9.]+)\s+points?\b"),
    "split": re.compile(r"\bsplit\s+(?P<split>\S+)"),
    "metric": re.compile(r"\bmetric\s+(?P<metric>\S+)"),
    "corrected": re.compile(r"(?P<corrected>\bcorrected\b)"),
}
OF_RETAINED = {
    "after": re.compile(r"\bafter\s+(?P<task>\S+)(\s+level\s+(?P<level>\S+))?"),
    "by": CLAUSES["by"],
}
RETAINS = re.compile(
    r"\s*(?P<first>\S+)\s+retains\s+(?:(?P<how>more|less)\s+than\s+(?P<second>\S+)|at\s+least\s+(?P<least>[0-9.]+)\s*%)"
    r"\s+on\s+(?P<what>other\s+tasks|\S+)\s*"
)
EXAMPLE = "for example 'uft > sft on countdown at equal flops'"
OF_RETAINED_EXAMPLE = "for example 'uft retains more than sft on other tasks' or 'uft retains at least 90 % on logic'"
OTHER_TASKS, SKILLS = "other tasks", "skills"


@dataclass(frozen=True)
class Claim:
    """A parsed claim; ``by`` and ``least`` are fractions, None without the clause.

    With ``retained`` (OTHER_TASKS, SKILLS, a task or a skill) it is about shares of base's abilities there; ``least``
    is the share that A retains at least, and then B is base.
    """

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
    retained: str | None = None
    least: float | None = None


def parse_claim(text: str) -> Claim:
    """The claim that these words state.  UserError says what is malformed."""
    words = " ".join(text.split())
    if re.search(r"\sretains\s", words):
        return parse_retained(words)
    rest, clauses = taken_out(words, CLAUSES)
    match = re.fullmatch(r"\s*(\S+)\s*([<>=])\s*(\S+)\s*", rest) or re.fullmatch(r"\s*([^\s<>=]+)([<>=])(\S+)\s*", rest)
    if match is None:
        raise UserError(f"malformed claim '{words}': expected A > B, A < B or A = B and clauses, {EXAMPLE}")
    first, relation, second = match.groups()
    if relation == "<":
        first, relation, second = second, ">", first
    return checked_claim(Claim(words, first, relation, second), clauses)


def parse_retained(words: str) -> Claim:
    """A claim about retained shares."""
    rest, clauses = taken_out(words, OF_RETAINED)
    match = RETAINS.fullmatch(rest)
    if match is None:
        raise UserError(
            f"malformed claim '{words}': expected A retains more than B on WHAT or A retains at least N % on WHAT, "
            f"[after TASK], [by N points], {OF_RETAINED_EXAMPLE}"
        )
    found = match.groupdict()
    first, second = found["first"], found["second"] or "base"
    if found["how"] == "less":
        first, second = second, first
    least = number(words, found["least"], "%") if found["least"] else None
    if least is not None and (least <= 0 or "by" in clauses):
        raise UserError(f"malformed claim '{words}': expected a share above 0 % and no 'by N points' beside it")
    what = " ".join(found["what"].split())
    return checked_claim(Claim(words, first, ">", second, retained=what, least=least), clauses)


def taken_out(words: str, known: Mapping[str, re.Pattern[str]]) -> tuple[str, dict[str, str]]:
    """The words without their clauses, and the values of these.  UserError for a clause that is given twice."""
    rest, clauses = words, dict[str, str]()
    for name, clause in known.items():
        match = clause.search(rest)
        if match is not None:
            clauses |= {key: value for key, value in match.groupdict().items() if value is not None}
            rest = f"{rest[: match.start()]} {rest[match.end() :]}"
            if clause.search(rest):
                raise UserError(f"malformed claim '{words}': '{name}' is given twice")
    return rest, clauses


def checked_claim(claim: Claim, clauses: dict[str, str]) -> Claim:
    """The claim with its clauses.  UserError for a value that a clause cannot have."""
    if claim.first == claim.second:
        example = EXAMPLE if claim.retained is None else OF_RETAINED_EXAMPLE
        raise UserError(f"malformed claim '{claim.text}': it compares {claim.first} with itself, {example}")
    if "equal" in clauses and clauses["equal"].lower() not in CURRENCIES:
        raise nearest(clauses["equal"], CURRENCIES, "currency")
    metric = clauses.get("metric", "accuracy").lower()
    if metric not in ("accuracy", "greedy") and not re.fullmatch(r"pass@[1-9][0-9]*", metric):
        raise nearest(metric, ("accuracy", "greedy", "pass@4"), "metric")
    by = number(claim.text, clauses["by"], "points") if "by" in clauses else None
    if by is not None and not 0 < by < 1:
        raise UserError(f"malformed claim '{claim.text}': expected between 0 and 100 points, got {clauses['by']}")
    if "corrected" in clauses and (claim.relation == "=" or by is not None or metric != "accuracy"):
        raise UserError(
            f"malformed claim '{claim.text}': 'corrected' is for A > B or A < B by accuracy, as in the tables"
        )
    equal = clauses["equal"].lower() if "equal" in clauses else None
    task, level, split = clauses.get("task"), clauses.get("level"), clauses.get("split", "test")
    checked = replace(claim, task=task, level=level, equal=equal, by=by, split=split, metric=metric)
    return replace(checked, corrected="corrected" in clauses)


def number(words: str, text: str, of: str) -> float:
    """A number of points or per cent as a fraction.  UserError for another text."""
    try:
        return float(text) / 100
    except ValueError:
        raise UserError(f"malformed claim '{words}': '{text}' is not a number of {of}") from None

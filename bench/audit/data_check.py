"""`bench tasks check`: every row's own answer through the verifier, and another row's answer, which must fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.audit.golds import describe_golds, golds_text
from bench.audit.near_duplicates import contradictions, near_text, of_rows
from bench.plan.data import Source
from bench.types import Example, Task
from tasks.common import problems_of

NEIGHBOURS = 5  # other rows tried until one has an answer that this row's problem should refuse
SHOWN = 20


def check_rows(
    task: Task, source: Source, template: str, train_size: int | None = None, split_by: str = ""
) -> dict[str, Any]:
    """What the verifier says of every row; numbers count from 0.

    A row passes if its demonstration is judged correct.  ``foreign`` are rows that accept the answer of another row
    although that row refuses theirs; rows whose neighbours all have an equal answer are not tested that way.
    ``train_size`` and ``split_by`` are those of the run whose near duplicates are counted.
    """
    good, broken = problems_of(task, source, template)
    passed, failed, foreign, untested = 0, [], [], 0
    for place, (number, shown) in enumerate(good):
        verdict = task.verify(shown.problem, shown.demonstration.text)
        if verdict.correct:
            passed += 1
        else:
            failed.append({"row": number, "reason": verdict.reason})
        other = stranger(task, good, place)
        if other is None:
            untested += 1
        elif task.verify(shown.problem, other[1].demonstration.text).correct:
            foreign.append({"row": number, "accepts_answer_of": other[0]})
    return {
        "task": task.name,
        "data": source.name,
        "rows": len(good) + len(broken),
        "passed": passed,
        "failed": failed,
        "unreadable": [{"row": number, "reason": reason} for number, reason in broken],
        "foreign": foreign,
        "untested_against_others": untested,
        "golds": describe_golds(task, good),
        "contradictions": contradictions(task, good),
        "near_duplicates": of_rows(task, (example for _, example in good), source.name, train_size, split_by),
    }


def stranger(task: Task, rows: Sequence[tuple[int, Example]], place: int) -> tuple[int, Example] | None:
    """The next row whose problem refuses this row's answer; None if the next few all accept it."""
    own = rows[place][1].demonstration.text
    for step in range(1, min(NEIGHBOURS, len(rows) - 1) + 1):
        number, other = rows[(place + step) % len(rows)]
        if not task.verify(other.problem, own).correct:
            return number, other
    return None


def check_text(result: Mapping[str, Any]) -> str:
    """A summary, the first rows of each kind of fault, what the golds are, and how many rows are near duplicates."""
    shown_first = result["contradictions"][:SHOWN]
    counts = f"{len(result['failed'])} fail, {len(result['unreadable'])} unreadable"
    lines = [
        f"{result['data']} as {result['task']}: {result['rows']} rows: {result['passed']} pass, {counts}; "
        f"{len(result['foreign'])} accept another row's answer, "
        f"{result['untested_against_others']} have no neighbour with another answer"
    ]
    for kind in ("failed", "unreadable"):
        lines += [f"row {entry['row']} {kind}: {entry['reason']}" for entry in result[kind][:SHOWN]]
        lines += more(result[kind])
    lines += [f"row {e['row']} accepts the answer of row {e['accepts_answer_of']}" for e in result["foreign"][:SHOWN]]
    lines += more(result["foreign"])
    lines += [f"row {e['row']} contradicts row {e['contradicts']}, which has the same prompt" for e in shown_first]
    lines += [*more(result["contradictions"]), *golds_text(result["golds"])]
    return "\n".join([*lines, near_text(result["near_duplicates"])] if result["passed"] else lines)


def more(entries: Sequence[Any]) -> list[str]:
    return [f"... and {len(entries) - SHOWN} more (--json lists all)"] if len(entries) > SHOWN else []


def clean(result: Mapping[str, Any]) -> bool:
    """Whether no row failed, was unreadable, accepted a foreign answer or contradicted another."""
    return not any(result[fault] for fault in ("failed", "unreadable", "foreign", "contradictions"))

"""What the right answers of a data file are: how often each comes, of which kinds they are, and three rows in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bench.types import Example, Task
from tasks.common import last_answer

LISTED = 6  # most frequent golds, and kinds in the text
LARGE = 0.5  # share of the rows above which one gold dominates
SHOWN = 60  # characters of a gold in the text
SHOWN_LINES = 6  # of a demonstration in the text
SHOWN_LINE = 110  # characters of each


def gold_of(task: Task, shown: Example) -> tuple[str, str]:
    """The gold of a row and its kind, by the task's own ``gold`` if it has one, else what the demonstration answers."""
    own = getattr(task, "gold", None)
    if own is not None:
        gold, kind = own(shown.problem)
        return str(gold), str(kind)
    return (last_answer(shown.demonstration.text) or "").strip(), "text"


def describe_golds(task: Task, rows: Sequence[tuple[int, Example]]) -> dict[str, Any]:
    """Golds of readable rows by number: distinct ones, the most frequent, kinds; the first, middle and last row."""
    pairs = [gold_of(task, shown) for _, shown in rows]
    golds, kinds = (Counter(side) for side in zip(*pairs)) if pairs else (Counter[str](), Counter[str]())
    top = shares(golds, len(rows), "gold")[:LISTED]
    dominant = bool(top) and top[0]["rows"] > 1 and top[0]["share"] > LARGE
    places = sorted({0, len(rows) // 2, len(rows) - 1}) if rows else []
    return {
        "distinct": len(golds),
        "most_frequent": top,
        "kinds": shares(kinds, len(rows), "kind"),
        "dominant": top[0]["gold"] if dominant else None,
        "examples": [
            {
                **{"row": rows[place][0], "gold": pairs[place][0], "kind": pairs[place][1]},
                "demonstration": rows[place][1].demonstration.text,
            }
            for place in places
        ],
    }


def shares(counts: Counter[str], total: int, name: str) -> list[dict[str, Any]]:
    """Most frequent first, equal ones by name."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{name: text, "rows": count, "share": count / total} for text, count in ordered]


def golds_text(found: Mapping[str, Any]) -> list[str]:
    """Lines for people; none without a readable row."""
    if not found["examples"]:
        return []
    kinds = [f"{kind['kind']} {100 * kind['share']:.1f} %" for kind in found["kinds"]]
    rest = [f"{len(kinds) - LISTED} other kinds"] if len(kinds) > LISTED else []
    lines = [f"golds: {found['distinct']} distinct; {', '.join([*kinds[:LISTED], *rest])}"]
    repeated = [entry for entry in found["most_frequent"] if entry["rows"] > 1]
    often = ", ".join(f"{short(e['gold'])} ({e['rows']} rows, {100 * e['share']:.1f} %)" for e in repeated)
    lines.append(f"most frequent: {often or 'each gold comes once'}")
    if found["dominant"] is not None:
        share = 100 * found["most_frequent"][0]["share"]
        lines.append(f"one gold dominates: {share:.1f} % of the rows have {short(found['dominant'])}")
    for example in found["examples"]:
        lines.append(f"row {example['row']}: gold {short(example['gold'])} ({example['kind']})")
        written = example["demonstration"].splitlines()
        lines += [f"  {line[:SHOWN_LINE]}{'...' * (len(line) > SHOWN_LINE)}" for line in written[:SHOWN_LINES]]
        lines += [f"  ... {len(written) - SHOWN_LINES} more lines"] if len(written) > SHOWN_LINES else []
    return lines


def short(gold: str) -> str:
    text = " ".join(gold.split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."

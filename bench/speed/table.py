"""How `bench speed` looks in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from bench.report.terminal_table import WIDTH, terminal_table
from bench.speed.sides import OURS

MB = 1e6
COLUMNS = ["work", "side", "per CPU s", "per s", "ratio, CPU time", "clock", "matrix", "peak MB"]


def lines(record: Mapping[str, Any]) -> str:
    """Tables of all parts, and below each what its sides do more or less."""
    facts, versions = record["machine"], record["machine"]["versions"] | record["packages"]
    where = facts.get("gpu") or f"{facts['machine']}, {facts['cores']} cores"
    sizes = record["sizes"]
    head = f"model {record['model']}, {sizes['rows']} rows, {sizes['tokens']} new tokens, {sizes['threads']} thread(s)"
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "\n\n".join([f"{head}; {where}\n{wrapped(known)}", *map(part_table, record["parts"])])


def wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def part_table(part: Mapping[str, Any]) -> str:
    """Rates, and how many times as fast bench is: the median over turns, in brackets the least and the most."""
    title = f"{part['part']}: {part['title']} ({part['unit']}s)"
    rows = [
        [case["case"] if name == OURS else "", name, *figures(name, side, part["memory"][name]["peak"])]
        for case in part["cases"]
        for name, side in case["sides"].items()
    ]
    if not rows:
        return "\n".join(map(wrapped, [title, *sentences(part)]))
    return terminal_table(title, COLUMNS, rows, sentences(part))


def figures(name: str, side: Mapping[str, Any], peak: Mapping[str, float]) -> list[str]:
    """The cells of one side; bench's own ratios are blank."""
    rates = [number(side[key]["median"]) for key in ("per_cpu_second", "per_second")]
    ratios = ["", ""]
    if name != OURS:
        ratios = [ratio(side["ratio"]["cpu_seconds"]), f"{side['ratio']['seconds']['median']:.2f}"]
    share, most = side["share_of_matrix_rate"], peak.get("device_peak_bytes", peak["peak_bytes"])
    return [*rates, *ratios, f"{share['median']:.0%}" if share else "", f"{most / MB:,.0f}"]


def ratio(values: Mapping[str, float]) -> str:
    return f"{values['median']:.2f} [{values['least']:.2f}, {values['most']:.2f}]"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def sentences(part: Mapping[str, Any]) -> list[str]:
    """What is missing or failed, what differs, and what each side does more or less."""
    found = [
        f"{name} is not installed ({', '.join(what['packages'])}): {what['install']}"
        for name, what in part["missing"].items()
    ]
    found += [f"{name} failed: {fault}" for name, fault in part["faults"].items()]
    for case in part["cases"]:
        for name, values in case["counts_differ"].items():
            each = ", ".join(f"{side} {value:,.0f}" for side, value in values.items())
            found.append(f"{case['case']}: {name} differ: {each}")
    found += [f"{name}: {note}" for name, note in part["notes"].items() if name not in part["missing"]]
    for name, shares in part["operators"].items():
        found.append(f"time of {name}: " + ", ".join(f"{op} {share:.0%}" for op, share in shares.items()))
    return found

"""The table of `bench methods`: paper, needs, measured cost, evidence and length of every method.

No method is imported: paper and evidence are read in the text of its file.  Needs and costs come from
``methods/costs.json``, which ``benchmarks/method_costs.py`` measures; a method that is not built in has none there.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.foreign import parse_json
from bench.plan import registry
from bench.report.terminal_table import WIDTH, terminal_table
from bench.types import UserError

COSTS = registry.ROOT / "methods" / "costs.json"
PARITY = registry.ROOT / "results" / "published" / "parity"  # in a checkout; an installed package holds no results
SHORT = {"demonstrations": "demo", "rewards": "reward", "reference": "ref", "negatives": "neg"}
HEAD = ["method", "paper", "needs", "cost", "lines", "evidence"]
NARROWEST = 20  # characters of the last column
SENTENCES = [
    "Needs: demonstrations, rewards (a verifier), a reference model, negatives (wrong answers that are trained on).",
    "Cost: FLOPs per token of the loss, as a multiple of SFT's or, for methods whose steps sample, of GRPO's; "
    "+x: preparing the data once, per example, as a multiple of SFT's training on it.",
]


@dataclass(frozen=True)
class Row:
    """One method; what is unknown is empty, None or 0."""

    name: str
    paper: str = ""  # arXiv number
    needs: tuple[str, ...] | None = None  # None: not measured
    ratio: float | None = None
    of: str | None = None  # the method that the ratio is a multiple of
    once: float = 0.0
    evidence: str = ""
    lines: int = 0

    @property
    def cost(self) -> str:
        """Such as "1.33 SFT" or "1.00 SFT +0.5"; "-" for one that does not train or was not measured."""
        if self.ratio is None:
            return "-"
        once = f" +{self.once:.1f}" if self.once else ""
        return f"{self.ratio:.2f} {str(self.of).upper()}{once}"


@cache
def costs() -> Mapping[str, Any]:
    """The record of benchmarks/method_costs.py."""
    record: dict[str, Any] = parse_json(COSTS.read_bytes())
    return record


def constant(tree: ast.Module, name: str) -> str:
    """The text that a module assigns to a name; empty unless it is a plain one."""
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Constant):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node.value.value if isinstance(node.value.value, str) else ""
    return ""


@cache
def compared(folder: Path) -> frozenset[str]:
    """Methods of which a comparison with a referee is stored in a folder (`bench parity`)."""
    return frozenset(parse_json(path.read_bytes())["settings"]["method"] for path in folder.glob("*.json"))


def table_row(name: str) -> Row:
    """What the table says of one method; only its name where the module cannot be read."""
    try:
        text = registry.module_text("methods", name)
        tree = ast.parse(text)
    except (UserError, ImportError, SyntaxError, ValueError):
        return Row(name)
    number = re.search(r"\b\d{4}\.\d{5}\b", ast.get_docstring(tree) or "")
    evidence = constant(tree, "EVIDENCE") or "not stated"
    known = costs()["methods"].get(name) if name in registry.built_in("methods") else None
    return Row(
        name,
        number[0] if number else "",
        None if known is None else tuple(known["needs"]),
        None if known is None else known["ratio"],
        None if known is None else known["of"],
        0.0 if known is None else known["once"],
        f"{evidence}; parity with TRL" if name in compared(PARITY) else evidence,
        len(text.splitlines()),
    )


def cells(row: Row) -> list[str]:
    """The row as texts on one line each."""
    needs = "not measured" if row.needs is None else " ".join(SHORT[need] for need in row.needs) or "-"
    return [row.name, row.paper or "-", needs, row.cost, str(row.lines or "-"), row.evidence or "-"]


def methods_table(rows: Sequence[Row]) -> str:
    """The table for a terminal, with the evidence on as many lines as it needs."""
    body = [cells(row) for row in rows]
    taken = sum(max(map(len, column)) + 2 for column in list(zip(HEAD, *body))[:-1])
    width = max(NARROWEST, WIDTH - 2 - taken)
    body = [[*rest, textwrap.fill(evidence, width)] for *rest, evidence in body]
    return terminal_table("What each needs and costs", HEAD, body, notes(rows))


def notes(rows: Sequence[Row]) -> list[str]:
    """What is under the table: meanings, how it was measured, and which files are the shortest and the longest."""
    known = [row for row in rows if row.lines]
    least, most = (choose(known, key=lambda row: row.lines) for choose in (min, max))
    return [
        *SENTENCES,
        f"One token of GRPO costs {costs()['grpo_in_sft']:.2f} of SFT's. Measured: {costs()['run']} "
        f"({costs()['command']}).",
        f"Lines: from {least.lines} ({least.name}) to {most.lines} ({most.name}), documentation included.",
    ]

"""What `bench methods` and `bench tasks` show: facts read from the modules themselves."""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from bench.foreign import parse_json
from bench.plan import registry
from bench.report.method_table import PARITY, table_row
from bench.seeds import derive_seed
from bench.types import UserError
from tasks._near import Grouped
from tasks.common import example


def method_sheet(name: str) -> dict[str, Any]:
    """What a method's file says of itself, with its stored comparisons with a referee."""
    module = registry.module("methods", name)
    default = module.METHOD()
    fixed = module.FIXED
    row = table_row(name)
    return {
        "name": name,
        "summary": registry.module_summary("methods", name),
        "paper": row.paper,
        "needs": None if row.needs is None else list(row.needs),
        "cost": None if row.ratio is None else {"ratio": row.ratio, "of": row.of, "once": row.once},
        "lines": row.lines,
        "evidence": module.EVIDENCE,
        "equation": module.EQUATION,
        "data_flow": module.DATA_FLOW,
        "documentation": inspect.cleandoc(module.__doc__ or ""),
        "fields": [
            {"name": f.name, "default": getattr(default, f.name), "source": module.SYMBOLS.get(f.name, "")}
            for f in fields(default)
            if f.name not in fixed
        ],
        "fixed": {name: getattr(default, name) for name in fixed},
        "variants": module.VARIANTS,
        "search": module.SEARCH,
        "published": list(module.PUBLISHED),
        "parity": parity_lines(name),
    }


def method_sheets() -> list[dict[str, Any]]:
    """The sheets of all methods.  A method that cannot be used has its summary and an ``error``."""
    sheets = []
    for name in registry.names("methods"):
        try:
            sheets.append(method_sheet(name))
        except UserError as error:
            sheets.append({"name": name, "summary": registry.module_summary("methods", name), "error": str(error)})
    return sheets


def parity_lines(name: str) -> list[str]:
    """One line per stored comparison of this method with a referee implementation (`bench parity`)."""
    lines = []
    for path in sorted(PARITY.glob("*.json")):
        record = parse_json(path.read_bytes())
        if record["settings"]["method"] == name:
            parts = [
                f"{measure} within {value:.1e} (tolerance {record['tolerance'][measure]:.0e})"
                for measure, value in record["max_difference"].items()
            ]
            compared = f"{record['comparison']} against TRL {record['environment']['versions']['trl']}"
            lines.append(f"{compared}, {len(record['steps'])} steps: {', '.join(parts)}: {record['verdict']}")
    return lines


def method_text(sheet: dict[str, Any]) -> str:
    width = max(len(f["name"]) for f in sheet["fields"])
    lines = [sheet["name"], "", sheet["documentation"], "", f"Evidence: {sheet['evidence']}", *facts(sheet)]
    lines += ["", "Equation", *_indent(sheet["equation"]), "", "Data flow", *_indent(sheet["data_flow"]), "", "Fields"]
    lines += [f"  {f['name']:<{width}}  {f['default']!s:<14}  {f['source']}" for f in sheet["fields"]]
    if sheet["fixed"]:
        lines += ["", "Fixed", *(f"  {name:<{width}}  {value}" for name, value in sheet["fixed"].items())]
    if sheet["variants"]:
        lines += ["", f"Variants (use as {sheet['name']}:NAME)"]
        lines += [f"  {n:<18}  " + ", ".join(f"{k}={v}" for k, v in d.items()) for n, d in sheet["variants"].items()]
    for title, entries in (("Published figures", sheet["published"]), ("Parity with a referee", sheet["parity"])):
        lines += ["", title, *(f"  {entry}" for entry in entries or ["none"])]
    return "\n".join(lines)


def facts(sheet: Mapping[str, Any]) -> list[str]:
    """Needs and cost of a method in one line each; nothing where they were not measured."""
    if sheet["needs"] is None:
        return []
    lines = [f"Needs: {', '.join(sheet['needs']) or 'nothing'}"]
    if cost := sheet["cost"]:
        once = f"; once per example {cost['once']:.1f} of SFT's training on it" if cost["once"] else ""
        lines.append(f"Cost: {cost['ratio']:.2f} of {cost['of'].upper()}'s FLOPs per token of the loss{once}")
    return lines


def task_sheet(name: str) -> dict[str, Any]:
    """Levels, templates and one example with its verdict."""
    task = registry.task(name)
    problem = task.generate(random.Random(derive_seed("sheet", name)), task.default_level)
    shown = example(task, problem, task.templates[0], "sheet")
    verdict = task.verify(problem, shown.demonstration.text)
    count = getattr(task, "solutions", None)  # of tasks whose problems have several
    return {
        "name": name,
        "documentation": inspect.cleandoc(registry.module("tasks", name).__doc__ or ""),
        "version": task.version,
        "levels": dict(task.levels),
        "default_level": task.default_level,
        "harder": dict(task.harder),
        "templates": list(task.templates),
        "near_keys": list(task.near_keys(problem)) if isinstance(task, Grouped) else [],
        "example": {
            "prompt": shown.prompt,
            "demonstration": shown.demonstration.text,
            "reward": verdict.reward,
            "chance": task.chance(problem),
            **({} if count is None else {"solutions": count(problem)}),
        },
    }


def task_text(sheet: dict[str, Any]) -> str:
    levels = [
        f"  {n:<10}  {text}{' (default)' if n == sheet['default_level'] else ''}" for n, text in sheet["levels"].items()
    ]
    shown = sheet["example"]
    solutions = f", {shown['solutions']} distinct solutions" if "solutions" in shown else ""
    return "\n".join(
        [
            f"{sheet['name']} (version {sheet['version']})",
            "",
            sheet["documentation"],
            "",
            "Levels",
            *levels,
            "",
            f"Templates: {', '.join(sheet['templates'])}",
            f"Keys of near duplicates: {', '.join(sheet['near_keys']) or 'none'}",
            f"Out of distribution: {', '.join(f'{a} -> {b}' for a, b in sheet['harder'].items())}",
            "",
            f"Example (chance of a random valid answer {100 * shown['chance']:.1f} %{solutions})",
            *_indent(shown["prompt"]),
            *_indent(shown["demonstration"]),
        ]
    )


def _indent(text: str) -> list[str]:
    return ["  " + line for line in text.splitlines()]

"""Defaults and variants of a method, read from its source where that states them plainly: a table needs no torch.

Importing a method loads torch, which takes longer than a table of a thousand runs.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from functools import cache
from typing import Any

from bench.plan import registry


@dataclass(frozen=True)
class Declared:
    """``defaults`` by field, ``variants`` by name: the fields that each changes."""

    defaults: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]


@cache
def declared(name: str) -> Declared:
    """What a method declares; UserError when there is none or when it cannot be used."""
    if registry.source("methods", name) is None:
        file = registry.ROOT / "methods" / f"{registry.built_in('methods')[name]}.py"
        literal = declared_in_source(file.read_text(encoding="utf-8"))
        if literal is not None:
            return literal
    return declared_in_module(name)


def declared_in_module(name: str) -> Declared:
    """From the module itself."""
    module = registry.module("methods", name)
    method = module.METHOD()
    return Declared({f.name: getattr(method, f.name) for f in dataclass_fields(method)}, module.VARIANTS)


def declared_in_source(source: str) -> Declared | None:
    """From a module's text, if METHOD is a class of its own whose defaults, like VARIANTS, are literals; else None."""
    tree = ast.parse(source)
    values: dict[str, ast.expr] = {}
    for line in tree.body:
        if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
            values[line.targets[0].id] = line.value
        elif isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None:
            values[line.target.id] = line.value
    method = values.get("METHOD")
    classes = {line.name: line for line in tree.body if isinstance(line, ast.ClassDef) and not line.bases}
    if not isinstance(method, ast.Name) or method.id not in classes or "VARIANTS" not in values:
        return None
    lines = [line for line in classes[method.id].body if isinstance(line, ast.AnnAssign)]
    try:
        defaults = {line.target.id: ast.literal_eval(line.value) for line in lines}  # type: ignore[union-attr, arg-type]
        return Declared(defaults, ast.literal_eval(values["VARIANTS"]))
    except (ValueError, TypeError, AttributeError):  # an expression, a field without a default
        return None

"""Methods and tasks by name: one file each, found by file name, imported on use."""

from __future__ import annotations

import ast
import difflib
import importlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.types import Task, UserError

ROOT = Path(__file__).parent.parent
NOT_MODULES = {"__init__", "common"}


def nearest(word: str, choices: Iterable[str], what: str) -> UserError:
    """An error that names the unknown thing, the nearest choices and all choices."""
    choices = sorted(choices)
    close = difflib.get_close_matches(word.lower(), choices, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return UserError(f"unknown {what} '{word}': {hint}expected one of {', '.join(choices)}")


@cache
def names(package: str) -> tuple[str, ...]:
    """Registered names of ``methods`` or ``tasks``; a trailing underscore of a file name is not part of the name."""
    files = (ROOT / package).glob("*.py")
    return tuple(sorted(f.stem.rstrip("_") for f in files if f.stem not in NOT_MODULES))


def module(package: str, name: str) -> ModuleType:
    """The module of a method or task; raises UserError with near misses when there is none."""
    if name not in names(package):
        raise nearest(name, names(package), package.rstrip("s"))
    stem = name if (ROOT / package / f"{name}.py").exists() else name + "_"
    return importlib.import_module(f"{package}.{stem}")


def task(name: str) -> Task:
    found: Task = module("tasks", name).TASK
    return found


def summary(package: str, name: str) -> str:
    """First line of a module's docstring, read without importing it."""
    stem = name if (ROOT / package / f"{name}.py").exists() else name + "_"
    doc = ast.get_docstring(ast.parse((ROOT / package / f"{stem}.py").read_text())) or ""
    return doc.partition("\n")[0]


def build(name: str, fields: dict[str, Any]) -> Any:
    """The method with these hyper-parameters."""
    return module("methods", name).METHOD(**fields)

"""Methods and tasks by name: one file each, imported on use.

They are files of ``methods/`` and ``tasks/``, or modules that installed packages name in the entry point groups
``bench.methods`` and ``bench.tasks``.  A fault of such a module concerns only those who use it.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.types import Method, Requests, Task, UserError

ROOT = Path(__file__).parents[2]
NOT_MODULES = {"common", "skills"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # what method expressions such as sft@0.3+uft:r3 can hold
REQUIRED = {"methods": "METHOD", "tasks": "TASK"}
OPTIONAL: dict[str, dict[str, Any]] = {  # constants that a module may leave out, and what then holds
    "methods": {
        "EQUATION": "not stated",
        "EVIDENCE": "not stated",
        "DATA_FLOW": "not stated",
        "PUBLISHED": (),
        "VARIANTS": {},
        "FIXED": (),
        "IDENTITIES": (),
        "SYMBOLS": {},
        "SEARCH": {"lr": (1e-6, 1e-3, "log")},  # a model may have its own range ("search" in its bench.json)
    },
    "tasks": {},
}
OPTIMIZER_FIELDS = {"lr", "warmup", "decay", "weight_decay", "betas", "batch_size", "num_updates"}
SIMPLE = (bool, int, float, str)


@dataclass(frozen=True)
class Source:
    """A module that an installed distribution offers under a name."""

    module: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"'{self.module}' of the package {self.distribution} {self.version}"


def nearest(word: str, choices: Iterable[str], what: str) -> UserError:
    """An error that names the unknown thing, the nearest choices and all choices."""
    choices = sorted(choices)
    close = difflib.get_close_matches(word.lower(), choices, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return UserError(f"unknown {what} '{word}': {hint}expected one of {', '.join(choices)}")


def check_choice(word: str, choices: Collection[str], what: str) -> None:
    """UserError, with the nearest choices, unless the word is one of them."""
    if word not in choices:
        raise nearest(word, choices, what)


# --- what there is -------------------------------------------------------------------------------------------


@cache
def built_in(package: str) -> dict[str, str]:
    """File stems of ``methods`` or ``tasks`` by name; a trailing underscore of a file is not part of the name.

    A file whose name begins with an underscore helps another one and has no name.
    """
    stems = [file.stem for file in (ROOT / package).glob("*.py") if not file.name.startswith("_")]
    return dict(sorted((stem.rstrip("_"), stem) for stem in stems if stem not in NOT_MODULES))


@cache
def installed(package: str) -> dict[str, tuple[Source, ...]]:
    """Modules that installed packages offer, by name; more than one where they disagree about a name."""
    from importlib import metadata

    offers: dict[str, tuple[Source, ...]] = {}
    for entry in metadata.entry_points(group=f"bench.{package}"):
        assert entry.dist is not None
        offers[entry.name] = (*offers.get(entry.name, ()), Source(entry.value, entry.dist.name, entry.dist.version))
    return offers


def names(package: str) -> tuple[str, ...]:
    """All names of ``methods`` or ``tasks``, built in and installed."""
    return tuple(sorted(built_in(package).keys() | installed(package).keys()))


def source(package: str, name: str) -> Source | None:
    """The installed module behind a name, None for a built-in one.

    Raises UserError for an unknown name (with near misses), one that two claim, and one that no command could hold.
    """
    what = package.rstrip("s")
    check_choice(name, names(package), what)
    offered = installed(package).get(name, ())
    claims = [*([f"{package}/{stem}.py of bench"] if (stem := built_in(package).get(name)) else []), *map(str, offered)]
    if len(claims) > 1:
        raise UserError(f"{what} '{name}' is the name of {' and of '.join(claims)}: uninstall or rename all but one")
    if not NAME.fullmatch(name):
        raise UserError(f"{what} '{name}' of {claims[0]}: expected a name of letters, digits, '_' and '-'")
    return offered[0] if offered else None


def distributions(package: str, chosen: Iterable[str]) -> dict[str, dict[str, str]]:
    """Distribution and version behind each of these names that is not built in."""
    sources = {name: source(package, name) for name in sorted(set(chosen))}
    return {n: {"distribution": s.distribution, "version": s.version} for n, s in sources.items() if s is not None}


# --- modules -------------------------------------------------------------------------------------------------


def module(package: str, name: str) -> ModuleType:
    """The module of a method or task; UserError when there is none or when it cannot be used."""
    origin = source(package, name)
    if origin is None:
        return completed(package, importlib.import_module(f"{package}.{built_in(package)[name]}"))
    try:
        offered = completed(package, importlib.import_module(origin.module))
        fault = shortcoming(package, offered)
    except Exception as error:  # an installed module may fail in any way
        fault = f"it fails with {type(error).__name__}: {' '.join(str(error).split())}"
    if fault:
        raise UserError(f"{package.rstrip('s')} '{name}' ({origin}) cannot be used: {fault}")
    return offered


def completed(package: str, module: ModuleType) -> ModuleType:
    """The module with the default of each constant that it leaves out."""
    for constant, default in OPTIONAL[package].items():
        vars(module).setdefault(constant, default)
    return module


def shortcoming(package: str, module: ModuleType) -> str:
    """What an installed module lacks to be a method or a task; empty when nothing is missing."""
    if not hasattr(module, REQUIRED[package]):
        return f"it lacks {REQUIRED[package]}"
    for constant, default in OPTIONAL[package].items():
        if not isinstance(value := getattr(module, constant), type(default)):
            return f"its {constant} is a {type(value).__name__}, expected a {type(default).__name__}"
    if package == "tasks":
        return absent(Task, module.TASK, "TASK")
    method = module.METHOD()
    if not is_dataclass(method):
        return "METHOD() is no dataclass; expected a frozen one"
    defaults = {field.name: getattr(method, field.name) for field in fields(method)}
    if lacking := sorted(OPTIMIZER_FIELDS - defaults.keys()):
        return f"METHOD lacks the fields {', '.join(lacking)}; expected those of Method in bench/types.py"
    for name, value in defaults.items():
        if not all(type(part) in SIMPLE for part in (value if isinstance(value, tuple) else (value,))):
            return f"its field {name} has the default {value!r}; expected a bool, number, word or a tuple of them"
    requests = [request.name for request in fields(Requests)]
    if unknown := [name for name in dir(method) if name.startswith("uses_") and name not in requests]:
        return f"METHOD asks for {', '.join(unknown)}; expected one of {', '.join(requests)}"
    return absent(Method, method, "METHOD")


def absent(protocol: type, thing: Any, what: str) -> str:
    """Which members of a protocol a thing lacks; empty when it has them all."""
    members = [*protocol.__annotations__, *(name for name in vars(protocol) if not name.startswith("_"))]
    lacking = [name for name in members if not hasattr(thing, name)]
    return f"{what} lacks {', '.join(lacking)}; expected the {protocol.__name__} of bench/types.py" if lacking else ""


def find_module(path: str) -> ModuleSpec | None:
    """Where a module is, without importing it or, as importlib.util.find_spec does, the packages above it."""
    top, *rest = path.split(".")
    spec = importlib.util.find_spec(top)
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    return spec


def module_text(package: str, name: str) -> str:
    """A module's source text, read without importing it; empty where it has none.

    UserError, ImportError, SyntaxError or ValueError where there is no such module.
    """
    origin = source(package, name)
    path = f"{package}.{built_in(package)[name]}" if origin is None else origin.module
    spec = find_module(path)
    if spec is None:
        raise UserError(f"there is no module {origin}")
    text = spec.loader.get_source(spec.name) if isinstance(spec.loader, InspectLoader) else None
    return text or ""


def module_summary(package: str, name: str) -> str:
    """First line of a module's docstring, read without importing it, or why there is none to read."""
    try:
        return (ast.get_docstring(ast.parse(module_text(package, name))) or "").partition("\n")[0]
    except (UserError, ImportError, SyntaxError, ValueError) as error:  # ValueError: an empty name, a null byte
        return f"cannot be used: {error}"


def task(name: str) -> Task:
    return module("tasks", name).TASK


def task_version(task: Task, level: str, template: str) -> int:
    """Version of a task's problems and verdicts: the level's or else the template's own where it has one.

    Rows of data files, whose level is none of the task's, always have the task's version.
    """
    levels: dict[str, int] = getattr(task, "level_versions", {})
    templates: dict[str, int] = getattr(task, "template_versions", {})
    return levels.get(level, templates.get(template, task.version)) if level in task.levels else task.version


def build_method(name: str, values: dict[str, Any]) -> Any:
    """The method with these hyper-parameters."""
    return module("methods", name).METHOD(**values)

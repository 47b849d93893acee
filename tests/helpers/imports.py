"""What each file of bench, methods and tasks imports, read from its text: lazy and type-checking imports count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bench", "methods", "tasks")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


def file_of(module: str) -> Path | None:
    """The file of a module or package of ours; None for a name inside a module and for other people's modules."""
    path = ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if module.partition(".")[0] in PACKAGES and file.is_file():
            return file
    return None


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Dotted names that the imports of a file may mean: ``from a import b`` may mean the module a.b or a name of a."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "relative imports are not used here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imports(file: Path) -> frozenset[Path]:
    """The files of ours whose modules a file imports by name."""
    modules = set()
    for name in imported_names(ast.parse(file.read_text())):
        module = file_of(name) or file_of(name.rpartition(".")[0])
        if module is None and name.partition(".")[0] in PACKAGES:
            raise AssertionError(f"{file.relative_to(ROOT)} imports {name}, which does not exist")
        modules |= {module} if module else set()
    return frozenset(modules)


def packages_above(file: Path) -> Iterator[Path]:
    """The ``__init__.py`` files that Python runs before it runs this one."""
    for folder in file.relative_to(ROOT).parents:
        if (init := ROOT / folder / "__init__.py").is_file() and init != file:
            yield init

"""The rooms of the code, in the order of a run's life: every import goes down, and files stay short.

docs/adr says why.  A room may use the rooms before it, never those after it, whether at import, in a function or for
type checking only.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.helpers.imports import FILES, ROOT, file_of, imported_names, imports

ORDER = (
    *("problems", "types", "seeds", "foreign", "stats", "models", "plan", "store", "exported", "methods", "tasks"),
    *("engine", "study", "schedule", "analysis", "audit", "report", "export", "speed", "cli", "__main__"),
)
WITHOUT_TORCH = ("plan", "store", "stats", "study", "schedule", "analysis", "report")
MAX_LINES, MAX_FUNCTION_LINES, MAX_LOOSE_FILES = 300, 50, 7


def room(file: Path) -> str:
    """``bench/plan/spec.py`` is in plan, ``methods/sft.py`` in methods; ``bench/__init__.py`` is in no room."""
    top, *rest = file.relative_to(ROOT).with_suffix("").parts
    return top if top != "bench" else rest[0]


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


ROOMED = [file for file in FILES if room(file) != "__init__"]


@pytest.mark.parametrize("file", ROOMED, ids=name)
def test_imports_go_down(file: Path) -> None:
    here = room(file)
    for other in imports(file):
        there = room(other)
        if there != here:
            assert ORDER.index(there) < ORDER.index(here), f"{name(file)} is in {here} and imports {name(other)}"


def test_no_files_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({file: imports(file) for file in FILES}).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " -> ".join(name(file) for file in error.args[1]))


def test_every_form_of_import_is_read() -> None:
    """A check of the check: what it could overlook, an upward arrow could hide behind."""
    text = (
        "import bench.cli.run\n"
        "if TYPE_CHECKING:\n    from bench.cli import show as other\n"
        "def f():\n    from bench.engine.runner import execute, Run\n"
    )
    assert list(imported_names(ast.parse(text))) == [
        *("bench.cli.run", "bench.cli.show", "bench.engine.runner.execute", "bench.engine.runner.Run"),
    ]
    assert file_of("bench.cli.show") == ROOT / "bench" / "cli" / "show.py"
    assert file_of("bench.engine.runner.Run") is None and file_of("json") is None


def test_few_files_lie_outside_of_rooms() -> None:
    loose = [file.name for file in (ROOT / "bench").glob("*.py")]
    assert len(loose) <= MAX_LOOSE_FILES, loose


def test_the_rooms_that_only_plan_and_read_load_no_torch() -> None:
    modules = [
        name(file).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for file in FILES
        if room(file) in WITHOUT_TORCH
    ]
    assert {f"bench.{wanted}" for wanted in WITHOUT_TORCH} <= set(modules)
    script = (
        "import importlib, sys\n"
        "for module in sys.argv[1:]:\n"
        "    importlib.import_module(module)\n"
        "    assert 'torch' not in sys.modules, f'{module} loads torch'\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *modules], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]


def long_functions(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{name(file)}: {node.name} has {lines} lines"


def test_files_and_functions_are_short() -> None:
    lengths = {name(file): len(file.read_text().splitlines()) for file in FILES}
    long = [f"{file} has {lines} lines" for file, lines in lengths.items() if lines > MAX_LINES]
    assert long + [line for file in FILES for line in long_functions(file)] == []

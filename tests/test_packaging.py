"""An installed package holds every file of the three packages that the repository holds, and nothing else."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
PACKAGES = ("bench", "methods", "tasks")


def dotted(folder: Path) -> str:
    return ".".join(folder.relative_to(ROOT).parts)


def is_included(package: str) -> bool:
    return any(fnmatchcase(package, pattern) for pattern in SETUPTOOLS["packages"]["find"]["include"])


def test_every_folder_of_modules_is_a_package_and_no_other_folder_is() -> None:
    holding = {dotted(file.parent) for file in ROOT.rglob("*.py") if ".venv" not in file.parts}
    wanted = {name for name in holding if name.partition(".")[0] in PACKAGES}
    assert {"bench", "bench.report.html", "tasks._math"} <= wanted
    assert {name for name in holding if is_included(name)} == wanted


@pytest.mark.parametrize("package", PACKAGES)
def test_every_other_file_is_package_data(package: str) -> None:
    files = [
        f for f in (ROOT / package).rglob("*") if f.is_file() and f.suffix != ".py" and "__pycache__" not in f.parts
    ]
    patterns = [
        f"{owner.replace('.', '/')}/{glob}" for owner, globs in SETUPTOOLS["package-data"].items() for glob in globs
    ]
    names = [file.relative_to(ROOT).as_posix() for file in files]
    assert [name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns)] == []

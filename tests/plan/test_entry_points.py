"""Methods of installed packages: the example of CONTRIBUTING.md runs, and broken packages hurt only their users."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from bench.engine import pretrain
from bench.plan import registry
from bench.store.run_folder import read_json
from tests.helpers.commands import COMMAND, ENV, ROOT, call, model_with_defaults
from tests.helpers.runs import SHORT_OPTIONS
from tests.methods import test_contract
from tests.test_imports import HEAVY, LIST_MODULES

SMALL = ("--task", "countdown", "--seeds", "1", "--budget", "10steps", "--test-items", "8", "--val-items", "4")
SMALL += SHORT_OPTIONS
CONSTANTS = 'EQUATION = EVIDENCE = DATA_FLOW = "none"\nPUBLISHED = ()\nVARIANTS, SYMBOLS, SEARCH = {}, {}, {}\n'
BASE = "from methods.base import Base\n"
OTHER = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Other:\n"
OPTIMIZER = "".join(f"    {name}: float = 1.0\n" for name in sorted(registry.OPTIMIZER_FIELDS))
FAULTS = {  # entry point: its module path, the file's text (None: no file) and what the message says
    "unimportable": (
        "broken_kit.unimportable",
        "import no_such_library",
        "ModuleNotFoundError: No module named 'no_such",
    ),
    "fails": ("broken_kit.fails", "1 / 0", "it fails with ZeroDivisionError: division by zero"),
    "torn": ("broken_kit.torn", "def (", "it fails with SyntaxError"),
    "absent": ("broken_kit.absent", None, "No module named 'broken_kit.absent'"),
    "attribute": ("broken_kit.fails:METHOD", None, "No module named 'broken_kit.fails:METHOD'"),
    "bare": (
        "broken_kit.bare",
        BASE + "METHOD = Base",
        "it lacks EQUATION, EVIDENCE, DATA_FLOW, PUBLISHED, VARIANTS, SYMBOLS, SEARCH; expected",
    ),
    "kinds": (
        "broken_kit.kinds",
        BASE + CONSTANTS + "METHOD = Base\nSEARCH = []",
        "its SEARCH is a list, expected a dict",
    ),
    "constant": ("broken_kit.constant", CONSTANTS + "METHOD = 3", "TypeError: 'int' object is not callable"),
    "plain": ("broken_kit.plain", CONSTANTS + "METHOD = object", "no dataclass"),
    "few": (
        "broken_kit.few",
        CONSTANTS + OTHER + "    lr: float = 1.0\nMETHOD = Other",
        "lacks the fields batch_size, be",
    ),
    "mute": (
        "broken_kit.mute",
        CONSTANTS + OTHER + OPTIMIZER + "METHOD = Other",
        "lacks uses_reference, uses_entropies, co",
    ),
    "odd": (
        "broken_kit.odd",
        CONSTANTS + OTHER + OPTIMIZER + "    x: object = None\nMETHOD = Other",
        "field x has the def",
    ),
    "dft": (
        "broken_kit.bare",
        None,
        "is the name of methods/dft.py of bench and of 'broken_kit.bare' of the package broken",
    ),
}


def blocks() -> tuple[str, dict[str, str], str]:
    """Code, entry points and distribution name of the example in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    (project,) = re.findall(r"```toml\n(.*?)```", text, re.S)
    found = tomllib.loads(project)["project"]
    (path,) = found["entry-points"]["bench.methods"].values()
    assert f"`{path.replace('.', '/')}.py`" in text, "the text names another file than its entry point"
    return code, found["entry-points"]["bench.methods"], found["name"]


def distribution(folder: Path, name: str, group: str, entries: dict[str, str]) -> None:
    """What an installer leaves beside a package."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{group}]", *(f"{entry} = {path}" for entry, path in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Folder with the package of CONTRIBUTING.md; what it imports when it is only listed; its method's name."""
    folder = tmp_path_factory.mktemp("example")
    code, entries, distribution_name = blocks()
    ((name, path),) = entries.items()
    file = folder / (path.replace(".", "/") + ".py")
    file.parent.mkdir(parents=True)
    file.write_text(code)
    (file.parent / "__init__.py").write_text("import torch  # a package may be heavy\n")
    distribution(folder, distribution_name, "bench.methods", entries)
    return folder, name


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Folder with a package of one entry point per fault."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "broken_kit").mkdir()
    for path, text, _ in FAULTS.values():
        if text is not None:
            (folder / (path.replace(".", "/") + ".py")).write_text(f'"""Broken on purpose."""\n{text}\n')
    distribution(folder, "broken-kit", "bench.methods", {name: path for name, (path, _, _) in FAULTS.items()})
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_with_defaults(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def installed(monkeypatch):
    """A function that makes folders visible to this process for one test."""

    def show(*folders: Path) -> None:
        for folder in folders:
            monkeypatch.syspath_prepend(str(folder))
        registry.installed.cache_clear()

    yield show
    monkeypatch.undo()
    registry.installed.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in {"broken_kit", "other_kit", "my_methods"}]:
        del sys.modules[name]


def environment(*folders: Path) -> dict[str, str]:
    return {**ENV, "PYTHONPATH": os.pathsep.join(map(str, [ROOT, *folders]))}


# --- the example of CONTRIBUTING.md ---


@pytest.mark.slow
def test_the_documented_method_runs_beside_a_broken_package(example, broken, model, tmp_path):
    """Run as the user does it; the run's process finds the package, too."""
    folder, name = example
    arguments = ("run", "--methods", f"base,{name}", *SMALL, "--device", "cpu")
    results = tmp_path / "runs"
    done = subprocess.run(
        [*COMMAND, *arguments, "--model", str(model), "--results", str(results), "--set", f"{name}.batch_size=4"],
        env=environment(folder, broken),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"(?m)^ base \? +\d", done.stdout)
    assert re.search(rf"(?m)^ {name}\S* +\d+\.\d.*\b40\b", done.stdout), done.stdout  # 10 steps of 4 demonstrations
    where = {"distribution": blocks()[2], "version": "1.0"}
    recorded = {path.name.partition("-")[0]: read_json(path / "env.json") for path in results.iterdir()}
    assert {label: (env["methods"], env["tasks"]) for label, env in recorded.items()} == {
        "base": ({}, {}),
        name: ({name: where}, {}),
    }


def test_listing_imports_no_installed_package(example, broken):
    folder, name = example
    done = subprocess.run(
        [sys.executable, "-c", LIST_MODULES, "methods"],
        env=environment(folder, broken),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    text, _, modules = done.stdout.partition("modules:\n")
    first = blocks()[0].splitlines()[0].strip('"')
    assert re.search(rf"(?m)^{name} +{re.escape(first)}$", text), text
    assert set(modules.split()) & (HEAVY | {"my_methods", "broken_kit"}) == set()


def test_the_documented_method_has_a_sheet(example, installed, capsys):
    folder, name = example
    before = call(capsys, "methods", "--markdown")
    installed(folder)
    assert call(capsys, "methods", "--markdown") == before, "docs/methods.md has the built-in methods only"
    code, out, _ = call(capsys, "methods", name)
    assert code == 0 and blocks()[0].splitlines()[0].strip('"') in out
    sheet = json.loads(call(capsys, "methods", name, "--json")[1])
    assert {f["name"] for f in sheet["fields"]} > registry.OPTIMIZER_FIELDS
    assert all(f["source"] for f in sheet["fields"]) and sheet["variants"] and sheet["search"] and sheet["equation"]


def test_unknown_fields_and_variants_of_the_documented_method(example, installed, model, tmp_path, capsys):
    folder, name = example
    installed(folder)
    arguments = ("run", *SMALL, "--model", model, "--results", tmp_path / "runs", "--dry-run", "--methods")
    for changes, expected in (
        ((name, "--set", f"{name}.lrr=1"), (f"unknown field of {name} 'lrr'", "did you mean lr?")),
        ((name, "--set", f"{name}.lr=fast"), (f"{name}.lr: 'fast'", "expected a number")),
        ((f"{name}:none",), (f"unknown variant of {name} 'none'", "expected one of")),
        ((name[:-1],), (f"unknown method '{name[:-1]}'", name)),
    ):
        code, out, err = call(capsys, *arguments, *changes)
        assert (code, out, err.count("\n")) == (2, "", 1) and all(part in err for part in expected), err


def test_the_documented_file_keeps_the_rules_of_methods(example, installed):
    folder, name = example
    installed(folder)
    found = registry.module("methods", name)
    test_contract.test_imports(Path(found.__file__))
    test_contract.test_sizes_and_inheritance(Path(found.__file__))
    assert list(found.SYMBOLS) == [f.name for f in fields(found.METHOD())]
    default = test_contract.probe(found.METHOD())
    assert all(test_contract.probe(found.METHOD(**changed)) != default for changed in found.VARIANTS.values())


# --- broken packages ---


@pytest.mark.parametrize("name", FAULTS)
def test_using_a_broken_method_is_one_clear_line(broken, installed, capsys, name):
    installed(broken)
    code, out, err = call(capsys, "methods", name)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(f"error: method '{name}'") and "broken-kit 1.0" in err and FAULTS[name][2] in err


def test_broken_methods_are_listed_with_what_is_known_about_them(broken, installed, capsys):
    installed(broken)
    code, out, err = call(capsys, "methods")
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in out.partition("\n\n")[0].splitlines()}
    assert (code, err) == (0, "") and set(FAULTS) < set(listed)
    known = {name for name, text in listed.items() if text.startswith("cannot be used: ")}
    assert known == {"torn", "absent", "attribute", "dft"}
    assert "broken-kit 1.0" in listed["absent"] and "methods/dft.py" in listed["dft"]
    sheets = {sheet["name"]: sheet for sheet in json.loads(call(capsys, "methods", "--json")[1])}
    assert {name for name, sheet in sheets.items() if "error" in sheet} == set(FAULTS)
    assert "no_such_library" in sheets["unimportable"]["error"] and sheets["grpo"]["equation"]
    assert listed["fails"] == "Broken on purpose." and not listed["grpo"].startswith("cannot")


def test_two_packages_with_one_name_and_names_that_no_command_can_hold(installed, tmp_path, capsys):
    distribution(tmp_path / "a", "one-kit", "bench.methods", {"twin": "one_kit", "a+b": "one_kit"})
    distribution(tmp_path / "b", "other-kit", "bench.methods", {"twin": "other_kit"})
    installed(tmp_path / "a", tmp_path / "b")
    code, _, err = call(capsys, "methods", "twin")
    assert code == 2 and "'one_kit' of the package one-kit 1.0" in err and "'other_kit' of the package other-kit" in err
    code, _, err = call(capsys, "methods", "a+b")
    assert code == 2 and "expected a name of letters" in err and "one-kit 1.0" in err


# --- tasks ---


def test_a_task_of_a_package_is_found_and_a_broken_one_named(installed, tmp_path, capsys):
    (tmp_path / "other_kit.py").write_text('"""Countdown again."""\nfrom tasks.countdown import TASK\n')
    (tmp_path / "broken_kit.py").write_text("TASK = object()\n")
    distribution(tmp_path, "other-kit", "bench.tasks", {"again": "other_kit", "empty": "broken_kit"})
    distribution(tmp_path / "late", "late-kit", "bench.tasks", {"logic": "other_kit"})
    installed(tmp_path)
    assert re.search(r"(?m)^again +Countdown again\.$", call(capsys, "tasks")[1])
    assert json.loads(call(capsys, "tasks", "again", "--json")[1])["example"]["reward"] == 1.0
    assert registry.distributions("tasks", ["again", "math"]) == {
        "again": {"distribution": "other-kit", "version": "1.0"}
    }
    assert "TASK lacks name, version" in call(capsys, "tasks", "empty")[2]
    assert [task.name for task in pretrain.own_tasks()] == ["countdown", "logic", "math", "sudoku"]
    installed(tmp_path / "late")
    assert "tasks/logic.py of bench" in call(capsys, "tasks", "logic")[2]

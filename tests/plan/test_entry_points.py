"""Methods of installed packages: docs/adding_a_method.md works as written, broken packages hurt only their users."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench.engine import pretrain
from bench.plan import registry
from bench.store.run_folder import read_json
from bench.types import Requests
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
    "bare": ("broken_kit.bare", BASE, "it lacks METHOD"),
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
        "lacks collect, loss, worst_case; expected the Method",
    ),
    "misspelt": (
        "broken_kit.misspelt",
        OTHER + OPTIMIZER + "    uses_entropy: bool = True\nMETHOD = Other",
        "asks for uses_entropy; expected one of uses_entropies, uses_reference",
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


PAGE = (ROOT / "docs" / "adding_a_method.md").read_text()


def blocks(kind: str) -> list[str]:
    """The code blocks of the page that this word or these words introduce, in order."""
    return re.findall(rf"(?m)^```{kind}\n(.*?)^```$", PAGE, re.S)


def documented_method() -> str:
    """The file that the page's parts make: one empty line before a part of the class, two before any other."""
    first, *others = blocks("python")
    return first + "".join(("\n" if part.startswith(" ") else "\n\n") + part for part in others)


def documented_package() -> tuple[str, str, str]:
    """Distribution, method and module of the page's pyproject.toml."""
    (text,) = blocks("toml")
    project = tomllib.loads(text)["project"]
    ((name, module),) = project["entry-points"]["bench.methods"].items()
    return project["name"], name, module


def distribution(folder: Path, name: str, group: str, entries: dict[str, str]) -> None:
    """What an installer leaves beside a package."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{group}]", *(f"{entry} = {path}" for entry, path in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Folder with the page's package and its test; its method's name."""
    folder = tmp_path_factory.mktemp("example")
    package, name, module = documented_package()
    file = folder / (module.replace(".", "/") + ".py")
    file.parent.mkdir(parents=True)
    file.write_text(documented_method())
    (file.parent / "__init__.py").write_text("import torch  # a package may be heavy\n")
    (folder / f"test_{name}.py").write_text("\n".join(blocks("python test")))
    distribution(folder, package, "bench.methods", {name: module})
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


# --- docs/adding_a_method.md ---


@pytest.mark.slow
def test_the_commands_of_the_page_run_beside_a_broken_package(example, broken, model, tmp_path):
    """As the user types them, with a small model and budget; the run's process finds the package, too."""
    folder, name = example
    results = tmp_path / "runs"
    where = ("--model", model, "--results", results, "--device", "cpu", "--set", f"{name}.batch_size=4")
    options = {"methods": (), "preflight": where, "run": (*where, *SMALL)}
    printed = {}
    for line in "".join(blocks("bash")).splitlines():
        _, command, *arguments = line.split()
        once = [*arguments, *(str(option) for option in options[command] if option not in arguments)]
        done = subprocess.run(
            [*COMMAND, command, *once], env=environment(folder, broken), capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        printed[command] = done.stdout
    assert set(printed) == set(options)
    assert documented_method().splitlines()[0].strip('"') in printed["methods"]
    assert re.search(rf"(?m)^micro-batches {name} .* passed$", printed["preflight"]), printed["preflight"]
    assert re.search(r"(?m)^ base +\d", printed["run"]), "a question mark would mean that no passport vouches for it"
    assert re.search(rf"(?m)^ {name}\S* +\d+\.\d", printed["run"]), printed["run"]
    assert re.search(r"\b160\b", printed["run"]), "10 steps of 4 prompts with 4 rollouts each"
    source = {"distribution": documented_package()[0], "version": "1.0"}
    runs = {path.name.partition("-")[0]: path for path in results.iterdir() if (path / "env.json").exists()}
    recorded = {label: read_json(path / "env.json") for label, path in runs.items()}
    assert {label: (env["methods"], env["tasks"]) for label, env in recorded.items()} == {
        "base": ({}, {}),
        name: ({name: source}, {}),
    }


def test_the_test_of_the_page_passes_and_can_fail(example, tmp_path):
    folder, name = example
    file = folder / f"test_{name}.py"
    for num_demo, code in ((2, 0), (3, 1)):
        (tmp_path / file.name).write_text(file.read_text().replace("num_demo=2", f"num_demo={num_demo}"))
        arguments = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path / file.name)
        done = subprocess.run(arguments, env=environment(folder), capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stdout


def test_the_documented_method_is_short():
    assert len(documented_method().splitlines()) <= 50


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
    first = documented_method().splitlines()[0].strip('"')
    assert re.search(rf"(?m)^{name} +{re.escape(first)}$", text), text
    assert set(modules.split()) & (HEAVY | {"my_methods", "broken_kit"}) == set()


def test_the_documented_method_has_a_sheet(example, installed, capsys):
    folder, name = example
    before = call(capsys, "methods", "--markdown")
    installed(folder)
    assert call(capsys, "methods", "--markdown") == before, "docs/methods.md has the built-in methods only"
    code, out, _ = call(capsys, "methods", name)
    assert code == 0 and documented_method().splitlines()[0].strip('"') in out and "Evidence: not stated" in out
    sheet = json.loads(call(capsys, "methods", name, "--json")[1])
    assert {f["name"] for f in sheet["fields"]} > registry.OPTIMIZER_FIELDS
    assert sheet["variants"] == sheet["fixed"] == {} and sheet["published"] == []
    assert sheet["search"] == {"lr": [1e-6, 1e-3, "log"]}


def test_the_optional_constants_of_the_page(installed, tmp_path, capsys):
    package, name, module = documented_package()
    file = tmp_path / (module.replace(".", "/") + ".py")
    file.parent.mkdir(parents=True)
    file.write_text(documented_method() + "".join(blocks("python constants")))
    distribution(tmp_path, package, "bench.methods", {name: module})
    installed(tmp_path)
    sheet = json.loads(call(capsys, "methods", name, "--json")[1])
    assert sheet["variants"] == {"many": {"group_size": 16}} and set(sheet["search"]) == {"lr", "group_size"}
    table = re.findall(r"(?m)^\| ((?:`[A-Z_]+`(?:, )?)+) \|", PAGE)
    assert set(re.findall(r"[A-Z_]+", " ".join(table))) == set(registry.OPTIONAL["methods"])


def test_a_method_of_the_earlier_form_still_works(installed, tmp_path):
    """With every constant and both properties, which once had to be there."""
    properties = "".join(
        f"    @property\n    def {name}(self) -> bool:\n        return {value}\n"
        for name, value in (("uses_reference", True), ("uses_entropies", False))
    )
    functions = "    def collect(self): ...\n    def loss(self): ...\n    def worst_case(self): ...\n"
    (tmp_path / "other_kit.py").write_text(CONSTANTS + OTHER + OPTIMIZER + properties + functions + "METHOD = Other\n")
    distribution(tmp_path, "other-kit", "bench.methods", {"earlier": "other_kit"})
    installed(tmp_path)
    assert Requests.of(registry.module("methods", "earlier").METHOD()) == Requests(uses_reference=True)


def test_unknown_fields_and_variants_of_the_documented_method(example, installed, model, tmp_path, capsys):
    folder, name = example
    installed(folder)
    arguments = ("run", *SMALL, "--model", model, "--results", tmp_path / "runs", "--dry-run", "--methods")
    for changes, expected in (
        ((name, "--set", f"{name}.lrr=1"), (f"unknown field of {name} 'lrr'", "did you mean lr?")),
        ((name, "--set", f"{name}.lr=fast"), (f"{name}.lr: 'fast'", "expected a number")),
        ((f"{name}:none",), (f"unknown variant 'none' of {name}", "it has no variants")),
        ((name[:-1],), (f"unknown method '{name[:-1]}'", name)),
    ):
        code, out, err = call(capsys, *arguments, *changes)
        assert (code, out, err.count("\n")) == (2, "", 1) and all(part in err for part in expected), err


def test_the_documented_file_keeps_the_rules_of_methods(example, installed):
    folder, name = example
    installed(folder)
    file = Path(registry.module("methods", name).__file__)
    test_contract.test_imports(file)
    test_contract.test_sizes_and_inheritance(file)


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
    assert json.loads(call(capsys, "tasks", "show", "again", "--json")[1])["example"]["reward"] == 1.0
    assert registry.distributions("tasks", ["again", "math"]) == {
        "again": {"distribution": "other-kit", "version": "1.0"}
    }
    assert "TASK lacks name, version" in call(capsys, "tasks", "show", "empty")[2]
    assert [task.name for task in pretrain.own_tasks()] == ["countdown", "logic", "math", "sudoku"]
    installed(tmp_path / "late")
    assert "tasks/logic.py of bench" in call(capsys, "tasks", "show", "logic")[2]

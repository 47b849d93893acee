"""Every option and argument of every command with values that make no sense: one line and exit code 2, or a meaning.

Heavy work is cut off where a command would begin it (``Reached``), so that only the reading of options is tested.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperOption

from bench import cli
from bench.models import importing
from tests.cli.test_help import PROGRAM, commands
from tests.helpers import stored, synthetic
from tests.helpers.runs import files

LONG = "a" * 131_000  # the longest word that a POSIX system hands to a program has 131,071 bytes
VALUES = ("", " ", "0", "-1", "1000000000", "1e999", "nan", "∞", LONG, "../..", "\x1b[31m")
PATHS = {"0", "-1", "1000000000", "1e999", "nan", "∞", "../..", "\x1b[31m"}  # names that a file or folder may have
NATURAL = {"0"}
# What is no mistake, by option or argument: a value here may end well or badly, but never with a traceback.
MEANT: dict[str, set[str]] = {
    **dict.fromkeys(("out", "results", "figures", "folder"), PATHS),
    **dict.fromkeys(("workers", "ood_items", "reworded_items", "other_items", "skill_items"), NATURAL),
    "items": NATURAL,  # of bench report: no completions
    "answer": set(VALUES),  # a completion to be judged
    "project": {"0", "1000000000", "1e999", "nan"},  # a name
    "reach": NATURAL,
    **{key: {"0", "1000000000", "1e999", "nan", "../.."} for key in ("source", "name")},  # of bench models add
    "tasks_dir": {"../.."},
    "item": NATURAL,  # of bench show: the first one
    "suite": {"0", "1000000000", "1e999", "nan"},  # names that lm-eval alone knows
    "scale": NATURAL,
    "seed": {"0", "1000000000"},
}
WORK = (  # where the commands' work begins
    *("bench.cli.running.checked_estimates", "bench.cli.running.pretrain_with_bar", "bench.report.curves.plot_curves"),
    *("bench.audit.preflight.load_stack", "bench.audit.parity.compare_case", "bench.export.lm_eval_run.new_folder"),
    *("bench.report.html.content.make_report", "bench.audit.doctor.examine"),
)


class Reached(SystemExit):
    """A command has accepted its options."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: Any) -> Path:
    """A results folder with three runs to be compared, and beside it one with a run that has all records."""
    results = tmp_path_factory.mktemp("store") / "runs"
    for method in ("base", "sft", "uft"):
        synthetic.write_run(results, method)
    stored.write_run(results.with_name("one"))
    return results


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A deep empty folder to work in; what would train, draw or ask other programs ends at once."""

    def reached(*_: Any, **__: Any) -> None:
        raise Reached(0)

    for name in WORK:
        monkeypatch.setattr(name, reached)
    for kind in importing.FETCHERS:
        monkeypatch.setitem(importing.FETCHERS, kind, reached)
    monkeypatch.setenv("BENCH_MODELS", str(tmp_path / "models"))
    for name in ("bench.audit.trl_referee.check_installed", "bench.export.lm_eval_run.check_installed"):
        monkeypatch.setattr(name, lambda: None)
    here = tmp_path / "deep" / "deeper" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(cli, "app", PROGRAM)  # built once, not for every call
    return here


def good_words(words: tuple[str, ...], store: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Arguments by name and options by name with which a command would work."""
    run = str(next(store.with_name("one").iterdir()))
    train = {"--methods": "sft", "--results": "new"}
    known: dict[str, tuple[dict[str, str], dict[str, str]]] = {
        "run": ({}, train),
        "plan": ({}, train),
        "tune": ({}, train),
        "ablate": ({"method": "uft"}, {"--vary": "demo_coef=0,0.001", "--results": "new"}),
        "path": ({"start": "sft", "end": "uft"}, {"--results": "new"}),
        "leaderboard": ({}, {"--results": str(store)}),
        "plot": ({"out": "curves.svg"}, {"--results": str(store)}),
        "show": ({"runs": run}, {}),
        "diff": ({"a": "sft", "b": "uft"}, {"--results": str(store)}),
        "claim": ({"text": "uft > sft"}, {"--results": str(store)}),
        "report": ({}, {"--results": str(store)}),
        "status": ({"results": str(store)}, {}),
        "doctor": ({}, {"--results": "new"}),
        "parity": ({}, {"--out": "parity"}),
        "pretrain": ({"out": "model"}, {}),
        "eval": ({}, {"--suite": "gsm8k", "--out": "evaluations"}),
        "export": ({"source": run, "out": "exported"}, {}),
        "card": ({"run": run}, {}),
        "models add": ({"source": "org/model"}, {}),
        "tasks show": ({"name": "countdown"}, {"--sample": "1"}),
        "tasks export": ({"name": "countdown", "folder": "rows"}, {"--to": "trl", "--items": "2"}),
        "tasks check": ({"name": "countdown"}, {"--data": "none.jsonl"}),
    }
    return known.get(" ".join(words), ({}, {}))


def ended(capsys: Any, *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command in this process."""
    capsys.readouterr()
    sys.argv = ["bench", *words]
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0), *capsys.readouterr()


def with_value(words: tuple[str, ...], parameter: Any, value: str, store: Path) -> list[str]:
    """A good call in which one option or argument has another value."""
    arguments, options = good_words(words, store)
    if isinstance(parameter, TyperOption):
        options = {**options, parameter.opts[0]: value}
        if parameter.name == "file":
            arguments = {}
    else:
        arguments = {**arguments, parameter.name: value}
    pairs = [word for pair in options.items() for word in pair]
    return [*words, *pairs, "--", *arguments.values()]


def fault(code: int, out: str, err: str, may_succeed: bool) -> str:
    """What is wrong with how a command ended; empty if nothing is."""
    if "Traceback" in err or re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out + err):
        return f"a traceback or a control character: {err[:300]}"
    if code == 2:
        one = out == "" and err.startswith("error: ") and err.count("\n") == 1 and len(err) < 5000
        return "" if one else f"not one line: {(out + err)[:300]}"
    return "" if may_succeed else f"taken silently, exit code {code}"


@pytest.mark.parametrize(("words", "command"), [pytest.param(*c, id=" ".join(c[0])) for c in commands()])
def test_values_that_make_no_sense(
    words: tuple[str, ...], command: Any, store: Path, cut_off: Path, capsys: Any
) -> None:
    before, faults = files(store), {}
    for parameter in command.params:
        if getattr(parameter, "is_flag", False):
            continue
        for value in VALUES:
            meant = MEANT.get(parameter.name, set())
            if parameter.name == "results" and words[0] in ("show", "card", "export"):
                meant = {*PATHS, LONG}  # the run is a directory, so no folder is looked into
            try:
                end = ended(capsys, *with_value(words, parameter, value, store))
            except Exception as error:  # to be told with its value, as one of many
                faults[parameter.name, value[:20]] = f"{type(error).__name__}: {str(error)[:200]}"
                continue
            if found := fault(*end, value in meant):
                faults[parameter.name, value[:20]] = found
    assert faults == {}
    assert files(store) == before


@pytest.mark.parametrize(("words", "command"), [pytest.param(*c, id=" ".join(c[0])) for c in commands()])
def test_good_calls_are_accepted(words: tuple[str, ...], command: Any, store: Path, cut_off: Path, capsys: Any) -> None:
    """Else every value above would be refused for another reason."""
    if words == ("tasks", "check"):
        Path("none.jsonl").write_text('{"nums": [1, 2, 3], "target": 6, "answer": "<answer> 1 + 2 + 3 </answer>"}\n')
    arguments, options = good_words(words, store)
    pairs = [word for pair in options.items() for word in pair]
    code, _, err = ended(capsys, *words, *pairs, "--", *arguments.values())
    assert code == 0 or words == ("claim",) or words == ("diff",), err

"""What reaches a terminal: no control character of a foreign name, no traceback where a character cannot be shown."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.cli.show import diff_lines
from bench.foreign import ascii_json, neutral, one_line
from bench.report.progress import line_printer, live_table
from bench.schedule.states import State
from bench.store.files import write_atomic
from bench.store.job import Job
from bench.store.run_folder import content_size, file_digest, finished_runs, seal_of
from tests.helpers import stored, synthetic
from tests.helpers.commands import ENV, bench, call
from tests.helpers.imports import FILES, ROOT
from tests.helpers.runs import files

EVIL = "\x1b]0;title\x07\x1b[31mred\x9b2J\r\u202egnp.exe"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def evil_store(tmp_path: Path) -> Path:
    """Two sound methods, of which one, like model, level, data and template, has a name that steers a terminal."""
    results = tmp_path / "runs"
    for method in ("sft", "uft"):
        for seed in range(2):
            path = synthetic.write_run(results, method, seed=seed, accuracy=0.3 if method == "sft" else 0.6)
            rename(path, method + EVIL if method == "uft" else method)
    assert finished_runs(results)[1] == []
    return results


def rename(path: Path, method: str) -> None:
    """Give a finished run evil names, and its done marker the new plan's size and digest, and a seal."""
    plan = json.loads((path / "plan.json").read_text())
    plan |= {"method": method, "model": f"tiny{EVIL}", "data": f"rows{EVIL}.jsonl", "level": f"3{EVIL}"}
    file = path / "plan.json"
    file.write_text(json.dumps(plan))
    done = json.loads((path / "done.json").read_text())
    done["sizes"]["plan.json"], done["digests"]["plan.json"] = content_size(file), file_digest(file)
    write_atomic(path / "done.json", {**done, "seal": seal_of(done)})


FORMATS = ("table", "markdown", "csv", "json", "latex", "html")
PRINTING = [
    *(("leaderboard", "--format", name) for name in FORMATS),
    *(("leaderboard", option) for option in ("--pairs", "--variance", "--overview", "--curves")),
    ("leaderboard", "--equal", "flops"),
    ("claim", "uft > sft"),
    ("diff", "sft", f"uft{EVIL}"),
    ("diff", "sft", f"uft{EVIL}", "--json"),
    ("show", "sft-countdown-tiny-s0"),
    ("show", "sft-countdown-tiny-s0", "--json"),
    ("leaderboard", "--task", EVIL),
    ("claim", EVIL),
    ("export", EVIL),
]


@pytest.mark.parametrize("words", PRINTING, ids=lambda words: one_line(" ".join(words)))
def test_foreign_names_steer_no_terminal(evil_store: Path, capsys: Any, words: tuple[str, ...]) -> None:
    _, out, err = call(capsys, *words, "--results", evil_store)
    assert not CONTROL.search(out + err) and "Traceback" not in err
    assert out or err


@pytest.mark.parametrize("kind", ["lm-eval", "archive"])
def test_exports_and_cards_steer_no_terminal(evil_store: Path, tmp_path: Path, capsys: Any, kind: str) -> None:
    run = next(evil_store.glob("uft*"))
    for words in (("export", run, tmp_path / f"out{EVIL}", "--to", kind), ("card", run)):
        _, out, err = call(capsys, *words)
        assert not CONTROL.search(out + err) and "Traceback" not in err


def test_a_damaged_run_with_such_a_name_is_named_in_one_line(evil_store: Path, capsys: Any) -> None:
    evil = evil_store / f"run{EVIL}\nwarning: all is well"
    next(evil_store.glob("sft*-s0-*")).rename(evil)
    (evil / "done.json").write_text("{")
    code, out, err = call(capsys, "leaderboard", "--results", evil_store)
    assert code == 0 and "sft" in out and not CONTROL.search(out + err)
    assert err.count("\n") == 1 and err.startswith("warning: run '") and "corrupted" in err


def test_progress_steers_no_terminal(capsys: Any) -> None:
    plan = stored.plan(method=f"sft{EVIL}", task="countdown")
    state = State(Job(plan, stored.EXECUTION, Path("nowhere"), "tiny", None), "failed", "no message", 1)
    line_printer()([state])
    err = capsys.readouterr().err
    assert "sft" in err and not CONTROL.search(err)
    from io import StringIO

    from rich.console import Console

    shown = StringIO()
    Console(file=shown, force_terminal=False).print(live_table([state]))
    assert "sft" in shown.getvalue() and not CONTROL.search(shown.getvalue())


def test_names_of_packages_steer_no_terminal(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.plan import registry

    offered = {f"x{EVIL}": (registry.Source(f"m{EVIL}", f"pkg{EVIL}", f"1{EVIL}"),)}
    monkeypatch.setattr(registry, "installed", lambda package: offered)
    for words in (("methods",), ("methods", "--json"), ("tasks", "list"), ("tasks", "--json"), ("methods", f"x{EVIL}")):
        _, out, err = call(capsys, *words)
        assert not CONTROL.search(out + err) and "pkg" in out + err


def test_everything_is_printed_by_one_function() -> None:
    """A ``print`` elsewhere, or another writer on the standard streams, would be a way around it."""
    found = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called in ("print", "sys.stdout.write", "sys.stderr.write", "typer.echo"):
                found.append(file.relative_to(ROOT).as_posix())
    assert set(found) == {"bench/foreign.py"}


def test_red_lines_of_a_difference_are_of_this_program() -> None:
    from bench.analysis.fairness import Knob

    lines = diff_lines("a", "b", [Knob(f"lr{EVIL}", "1", "2", "undeclared", "why")], [])
    assert any(red for _, red in lines) and not any(CONTROL.search(line) for line, _ in lines)


def test_text_becomes_neutral() -> None:
    assert neutral("a\tb\x1b[0m\nü — 日本\x85") == "a\\tb\\x1b[0m\nü — 日本\\x85"
    assert one_line("a\nb") == "a\\nb"
    assert json.loads(ascii_json({"a": "\x7f\x9b"})) == {"a": "\x7f\x9b"} and ascii_json("\x7f\x9b").isprintable()


# --- encodings -------------------------------------------------------------------------------------------------------

ENCODINGS = [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "latin-1"}]
ENCODINGS += [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]


@pytest.mark.slow
@pytest.mark.parametrize("change", ENCODINGS, ids=str)
@pytest.mark.parametrize(
    "words", [("leaderboard",), ("leaderboard", "--help"), ("show", "sft-countdown-"), ("rün", "日本")]
)
def test_narrow_terminals_get_a_replaced_character(tmp_path: Path, words: tuple[str, ...], change: Any) -> None:
    stored.write_run(tmp_path / "runs", stored.plan(model="modell-ü日本"))
    results = () if "--help" in words or words[0] == "rün" else ("--results", str(tmp_path / "runs"))
    done = bench(*words, *results, env={**ENV, **change}, errors="replace")
    assert done.returncode == (2 if words[0] == "rün" else 0) and "Traceback" not in done.stderr, done.stderr
    assert done.stdout or done.stderr.startswith("error: ")


def test_a_character_that_cannot_be_encoded_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from io import BytesIO, TextIOWrapper

    from bench import cli

    streams = {name: TextIOWrapper(BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr(sys, "argv", ["bench", "methods", "grpö"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    streams["stderr"].flush()
    assert stop.value.code == 2 and streams["stderr"].buffer.getvalue().startswith(b"error: unknown method 'grp?'")


def test_files_have_an_encoding_whatever_the_terminal_has() -> None:
    """Text is read and written as UTF-8, or as bytes: a locale must not decide how a report is stored."""
    found = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            text = name in ("read_text", "write_text") or (
                name == "open" and any(re.fullmatch(r"[rwax]\+?t?", mode) for mode in modes)
            )
            if text and "encoding" not in [keyword.arg for keyword in node.keywords]:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert found == []


# --- where there is no output --------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = bench("methods", stdout=full)
    assert (done.returncode, done.stderr) == (2, "error: 'standard output': no space left on device\n")


def test_without_posix_the_program_says_so(tmp_path: Path) -> None:
    """Windows has no ``fcntl``: everything is importable there, and the first command names the way out."""
    import subprocess

    code = "import sys; sys.modules['fcntl'] = None; from bench.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENV, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: bench needs a POSIX system") and "WSL" in done.stderr


def test_the_stored_runs_are_not_touched(evil_store: Path, capsys: Any) -> None:
    before = files(evil_store)
    call(capsys, "leaderboard", "--results", evil_store)
    assert files(evil_store) == before

"""Help pages: many options stand in panels, every panel fits the terminal, and the documents' commands exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperOption

from bench import cli
from bench.cli.help import FEW
from bench.cli.options import PANELS
from tests.helpers.commands import bench, call

ROOT = Path(__file__).resolve().parents[2]
PROGRAM: Any = typer.main.get_command(cli.app)
TITLE = re.compile(r"^╭─ (.+?) ─", re.M)


def commands(group: Any = PROGRAM, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *words, name)
        else:
            yield (*words, name), command


@pytest.mark.parametrize(("words", "command"), [pytest.param(*c, id=" ".join(c[0])) for c in commands()])
def test_many_options_stand_in_panels_and_few_do_not(words: tuple[str, ...], command: Any, capsys: Any) -> None:
    options = [p for p in command.params if isinstance(p, TyperOption)]
    text = call(capsys, *words, "--help")[1]
    titles = TITLE.findall(text)
    assert all(name in text for option in options for name in option.opts)
    assert len(set(titles)) == len(titles) and ("Options" in titles or len(options) > FEW)
    assert len(set(titles) - {"Arguments", "Options"}) >= 2 if len(options) > FEW else titles[-1] == "Options"


def test_the_panels_of_a_run_are_in_order_and_hold_every_option(capsys: Any) -> None:
    """The options of `bench run` as they were before they stood in panels."""
    text = call(capsys, "run", "--help")[1]
    assert tuple(TITLE.findall(text)) == PANELS
    options = """methods task model budget level template data columns skip-broken no-skip-broken set train-size
        max-new-tokens micro-batch-tokens device threads results test-items test-samples val-items ood-items
        reworded-items other-items skill-items seeds tuned tuning workers devices per-device keep save-policy
        no-save-policy preflight no-preflight dry-run no-dry-run format json help"""
    assert [name for name in options.split() if f"--{name} " not in text] == []


def test_the_program_lists_its_commands_by_purpose(capsys: Any) -> None:
    text = call(capsys, "--help")[1]
    assert TITLE.findall(text) == ["Options", *cli.COMMANDS]
    listed = re.findall(r"(?m)^│ ([a-z]+) ", text)
    assert listed == [name for names in cli.COMMANDS.values() for name in names]


@pytest.mark.parametrize("width", [80, 100])
def test_help_fits_the_terminal(width: int) -> None:
    for words in (("run",), ("leaderboard",), ("tasks", "show"), ()):
        done = bench(*words, "--help", env={"PATH": "", "PYTHONPATH": str(ROOT), "COLUMNS": str(width)})
        assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= width, done.stderr
        assert "…" not in done.stdout


def written_commands() -> list[str]:
    """Every line of a document's code blocks that begins with bench."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"(?ms)^```\n(.*?)^```$", page.read_text())]
    return [line for block in blocks for line in block.splitlines() if line.startswith("bench ")]


@pytest.mark.parametrize("line", written_commands())
def test_the_documents_name_commands_and_options_that_exist(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command, context = PROGRAM, None
    while hasattr(command, "commands") and (words or command is PROGRAM):  # bench models and the like stand alone too
        word = words.pop(0)
        assert word in command.commands, f"no command {word}"
        command = command.commands[word]
    context = command.make_context("bench", words)
    assert context.command is command

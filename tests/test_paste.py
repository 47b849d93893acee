"""Pages whose blocks are outputs of commands say what the commands print."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import call

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "docs" / "paste.py"
PAGE = """# A page

```console
$ bench leaderboard --results $OUT/nowhere
stale
```

```python
$ bench untouched
```
"""


def paste(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_outputs_are_pasted_checked_and_nothing_else_is_changed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    checked = paste("--check", page)
    assert checked.returncode == 1 and "-stale" in checked.stdout and page.read_text() == PAGE
    assert paste(page).returncode == 0
    line = "error: results folder '$OUT/nowhere' does not exist: run 'bench run' first or give --results\n(exit code 2)"
    assert page.read_text() == PAGE.replace("stale", line)
    assert paste("--check", page).returncode == 0


def test_outputs_with_fences_stay_in_their_block(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ bench methods sft --markdown\n```\nafter\n")
    assert paste(page).returncode == 0
    text = page.read_text()
    fence = text.split("console", 1)[0]
    assert text.endswith(f"\n{fence}\nafter\n") and f"\n{fence}" not in text[: -len(f"\n{fence}\nafter\n")]
    assert paste("--check", page).returncode == 0


def test_only_bench_is_run(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ touch $OUT/file\n```\n")
    refused = paste(page)
    assert refused.returncode != 0 and "only bench is run" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "docs").glob("*.md") if "```console" in p.read_text()))
def test_the_pages_say_what_the_commands_print(name: str) -> None:
    checked = paste("--check", ROOT / "docs" / name)
    assert checked.returncode == 0, checked.stdout


def table_rows(markdown: str, title: str) -> list[dict[str, str]]:
    """The rows of the first markdown table below a title, by column."""
    lines = [line for line in markdown.partition(title)[2].partition("| --- |")[0].splitlines() if line.startswith("|")]
    body = markdown.partition(title)[2].partition("| --- |")[2].partition("\n")[2].partition("\n\n")[0]
    names, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in [lines[-1], *body.splitlines()]]
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_the_table_of_the_readme_is_the_leaderboards(capsys: pytest.CaptureFixture[str]) -> None:
    folder = ROOT / "results" / "published" / "nine"
    printed = call(capsys, "leaderboard", "--results", folder, "--format", "markdown")[1]
    retained = {row["method"]: row["retained of base"] for row in table_rows(printed, "**Elsewhere")}
    board = {row["method"]: row for row in table_rows(printed, "**countdown")}
    rows = table_rows((ROOT / "README.md").read_text(), "## What it prints")
    assert len(rows) == 9 and len(rows[0]) <= 7
    for row in rows:
        expected = {**board[row["method"]], "retained %": retained[row["method"]]}
        assert row == {name: expected[name] for name in row}
    assert board["(chance)"]["accuracy %"] == "8.2" and "scores 8.2 %" in (ROOT / "README.md").read_text()


def test_the_table_of_the_real_model_is_the_leaderboards(capsys: pytest.CaptureFixture[str]) -> None:
    folder, text = ROOT / "results" / "published" / "smollm2", (ROOT / "README.md").read_text()
    printed = call(capsys, "leaderboard", "--results", folder, "--format", "markdown")[1]
    board = {row["method"]: row for row in table_rows(printed, "**countdown")}
    rows = table_rows(text, "## On a real model")
    assert [row["method"] for row in rows] == [name for name in board if name != "(chance)"]
    assert all(row == {name: board[row["method"]][name] for name in row} for row in rows)
    assert board["(chance)"]["accuracy %"] == "8.0" and board["sft"]["greedy %"] == "20.5"
    assert {row["seeds"] for name, row in board.items() if name != "(chance)"} == {"2"}  # as the page says

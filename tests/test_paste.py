"""Pages whose blocks are outputs of commands say what the commands print."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
    found = paste("--check", page)
    assert found.returncode == 1 and "-stale" in found.stdout and page.read_text() == PAGE
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
    found = paste(page)
    assert found.returncode != 0 and "only bench is run" in found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "docs").glob("*.md") if "```console" in p.read_text()))
def test_the_pages_say_what_the_commands_print(name: str) -> None:
    found = paste("--check", ROOT / "docs" / name)
    assert found.returncode == 0, found.stdout

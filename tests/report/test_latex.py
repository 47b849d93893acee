"""The LaTeX table compiles with a real TeX, whatever the names in it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from bench.report.formats import render_board
from bench.report.html.content import Choice, load_choice
from tests.helpers.synthetic import two_tasks, write_run

DOCUMENT = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n%s\n\\end{document}\n"
NAMES = r"\input{/etc/passwd} 100% $x_1^2$ #&~{}^ <>|" + "\"'`- \\end{table*} é «ð» 数学 \u202e\x1b\x00"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_tables_compile(tmp_path):
    two_tasks(tmp_path / "runs", seeds=2)
    for seed in (0, 1):
        write_run(tmp_path / "runs", "sft", seed=seed, data=NAMES, model=NAMES)
        write_run(tmp_path / "runs", "base", seed=seed, data=NAMES, model=NAMES)
    board = load_choice(Choice(tmp_path / "runs")).board
    table = render_board(board, "latex")
    assert len(board.tables) == 3 and r"\input{" not in table
    (tmp_path / "table.tex").write_text(DOCUMENT % table)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 10_000

"""Preflight in a process of its own: what it reports, how it may end, and the device that it sees."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.audit import preflight_process
from bench.audit.preflight_process import cover_apart
from bench.audit.stack import Check
from bench.study.slots import Slot
from bench.types import UserError
from tests.helpers.runs import make_job, write_model

CHECK = {"name": "mask", "passed": False, "measured": 0.5, "tolerance": 0.1, "detail": "", "method": "", "task": "t"}
STEP = {"progress": [0, 13, "packing"]}
SAYS = """
import os, signal, sys
assert sys.stdin.readline().startswith("[{") and os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-7"
print(sys.argv[1], flush=True)
"""


@pytest.mark.parametrize(
    ("lines", "ending", "expected"),
    [
        ([STEP, {"failed": [CHECK]}], "", [Check(**CHECK)]),  # type: ignore[arg-type]
        ([STEP, {"failed": []}], "", []),
        ([STEP], "os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
        ([STEP], "sys.exit(1)", "exit code 1"),
        ([{"mend": "model 'x' is broken"}], "", UserError("model 'x' is broken")),
    ],
)
def test_what_the_process_says_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, lines: list[Any], ending: str, expected: Any
) -> None:
    said = "\n".join(map(json.dumps, lines))
    monkeypatch.setattr(preflight_process, "COMMAND", (sys.executable, "-S", "-c", SAYS + ending, said))
    jobs = [make_job(write_model(tmp_path / "model"), tmp_path / "runs", "sft")]
    capsys.readouterr()
    if isinstance(expected, UserError):
        with pytest.raises(UserError, match=str(expected)):
            cover_apart(jobs, Slot(0, "GPU-7"))
        return
    found = cover_apart(jobs, Slot(0, "GPU-7"))
    err = capsys.readouterr().err
    if isinstance(expected, str):
        assert found == [] and err.startswith(f"warning: preflight ended before its time ({expected}")
    else:
        assert found == expected and err == ""


def test_jobs_that_are_covered_start_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_process, "COMMAND", ("no such program",))
    jobs = [make_job(write_model(tmp_path / "model"), tmp_path / "runs", "base")]  # trains nothing
    assert cover_apart(jobs, Slot(0)) == cover_apart([], Slot(0)) == []

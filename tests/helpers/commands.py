"""The command line as a process and inside this one, and a small model with its defaults: shared by its tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import cli
from bench.engine.runner import execute
from bench.schedule import local
from tests.helpers.runs import SETTINGS, write_model

ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
COMMAND = (sys.executable, "-m", "bench")


def model_with_defaults(path: Path) -> Path:
    """A random model of a few thousand weights whose ``bench.json`` makes runs short."""
    methods = {name: dict(setting.split("=") for setting in SETTINGS[name]) for name in ("sft", "grpo")}
    defaults = {"template": "compact", "max_new_tokens": 24, "train_size": 40, "budget": "10steps", "methods": methods}
    (write_model(path) / "bench.json").write_text(json.dumps(defaults))
    return path


def bench(*arguments: object, **changes: Any) -> subprocess.CompletedProcess[str]:
    """``bench`` as the user starts it."""
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENV, "timeout": 240}
    return subprocess.run([*COMMAND, *map(str, arguments)], text=True, **{**options, **changes})


def runs_here(patch: pytest.MonkeyPatch) -> None:
    """Let commands train in this process: a worker's start costs seconds, and is tested where it matters."""

    def start(order: Any, slot: Any) -> SimpleNamespace:
        execute(order.job, order.keep)
        return SimpleNamespace(poll=lambda: 0, stdin=None)

    patch.setattr(local, "start_worker", start)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command line inside this process (no start-up time)."""
    capsys.readouterr()
    saved, sys.argv = sys.argv, ["bench", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as stop:
            cli.main()
    finally:
        sys.argv = saved
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err

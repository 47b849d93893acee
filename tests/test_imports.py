"""The command line starts fast because it imports the heavy libraries only where a command needs them."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "torch",
    "transformers",
    "tokenizers",
    "pandas",
    "pyarrow",
    "scipy",
    "seaborn",
    "matplotlib",
    "sympy",
    "mpmath",
}
OPTIONAL = {
    *("gguf", "vllm", "trl", "ray", "submitit", "lm_eval", "accelerate", "datasets"),
    *("trackio", "wandb", "tensorboardX", "mlflow"),
}
HELP_SECONDS = 0.5

LIST_MODULES = """
import sys
from bench.cli import main
sys.argv = ["bench", *sys.argv[1:]]
code = 0
try:
    code = main()
except SystemExit as stop:
    code = stop.code
print("\\n".join(["modules:", *sorted({name.partition(".")[0] for name in sys.modules})]))
sys.exit(code)
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("--help", "Usage"),
        ("run --help", "Usage"),
        ("plan --help", "Usage"),
        ("tune --help", "Usage"),
        ("leaderboard --help", "Usage"),
        ("ablate --help", "Usage"),
        ("path --help", "Usage"),
        ("claim --help", "Usage"),
        ("show --help", "Usage"),
        ("diff --help", "Usage"),
        ("parity --help", "Usage"),
        ("preflight --help", "Usage"),
        ("doctor --help", "Usage"),
        ("eval --help", "Usage"),
        ("report --help", "Usage"),
        ("export --help", "Usage"),
        ("card --help", "Usage"),
        ("methods", "sft"),
        ("tasks", "math"),
        ("tasks --help", "Usage"),
        ("tasks show --help", "Usage"),
    ],
)
def test_light_commands_load_no_heavy_library(command: str, expected: str) -> None:
    done = python("-c", LIST_MODULES, *command.split())
    assert done.returncode == 0, done.stderr
    text, _, modules = done.stdout.partition("modules:\n")
    assert expected in text
    assert set(modules.split()) & (HEAVY | OPTIONAL) == set()


def test_types_and_registry_load_no_heavy_library() -> None:
    done = python(
        "-c", "import sys, bench.types, bench.plan.registry; print(*{m.partition('.')[0] for m in sys.modules})"
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & (HEAVY | OPTIONAL) == set()


def test_help_is_fast() -> None:
    """Processor time, which other processes on the machine hardly change; the best of five runs counts."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = python("-m", "bench", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0, done.stderr
        if seconds[-1] < HELP_SECONDS:
            return
    pytest.fail(f"bench --help took {min(seconds):.2f} s at best, more than {HELP_SECONDS} s")

"""The command line: one module per group of commands.  Imports nothing heavy before a command needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from bench.cli.ablate import ablate, path
from bench.cli.audit import parity, preflight, pretrain
from bench.cli.card import card
from bench.cli.claim import claim
from bench.cli.export import export
from bench.cli.leaderboard import leaderboard, plot
from bench.cli.lm_eval import evaluate
from bench.cli.methods import show_methods
from bench.cli.plan import plan
from bench.cli.report import report
from bench.cli.run import run
from bench.cli.show import diff, show
from bench.cli.tasks import show_tasks
from bench.cli.tune import tune
from bench.types import UserError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compare post-training methods for language models under identical budgets on verifiable tasks.",
)
UsageError: Any = typer.BadParameter.__base__  # older releases of typer take it from click, newer ones hold a copy
COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "plan": plan,
    "tune": tune,
    "ablate": ablate,
    "path": path,
    "claim": claim,
    "leaderboard": leaderboard,
    "show": show,
    "diff": diff,
    "preflight": preflight,
    "plot": plot,
    "report": report,
    "methods": show_methods,
    "tasks": show_tasks,
    "eval": evaluate,
    "export": export,
    "card": card,
    "pretrain": pretrain,
    "parity": parity,
}
for name, command in COMMANDS.items():
    app.command(name)(command)


def main() -> None:
    """Entry point: bad input ends with one line and exit code 2."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        print(f"error: '{error.filename}': {str(error.strerror).lower()}", file=sys.stderr)
        code = 2
    except UsageError as error:  # of the options themselves
        command = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
        print(f"error: {' '.join(error.format_message().split()).rstrip('.')}{command}", file=sys.stderr)
        code = 2
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)

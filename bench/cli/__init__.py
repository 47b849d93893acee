"""The command line: one module per group of commands.  Imports nothing heavy before a command needs it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from bench.cli import models, tasks
from bench.cli.ablate import ablate, path
from bench.cli.audit import parity, preflight, pretrain
from bench.cli.card import card
from bench.cli.claim import claim
from bench.cli.export import export
from bench.cli.help import register
from bench.cli.leaderboard import leaderboard, plot
from bench.cli.lm_eval import evaluate
from bench.cli.methods import show_methods
from bench.cli.plan import plan
from bench.cli.report import report
from bench.cli.run import run
from bench.cli.show import diff, show
from bench.cli.tune import tune
from bench.types import UserError

# What a path on the command line can be the cause of: missing, of another kind, closed to us, too long, full.
FILE_FAULTS = {
    *(errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM),
    *(errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOSPC),
}
UsageError: Any = typer.BadParameter.__base__  # older releases of typer take it from click, newer ones hold a copy
COMMANDS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Compare methods": {"run": run, "plan": plan, "tune": tune, "ablate": ablate, "path": path},
    "Look at finished runs": {
        "leaderboard": leaderboard,
        "plot": plot,
        "show": show,
        "diff": diff,
        "claim": claim,
        "report": report,
    },
    "Check the instrument": {"preflight": preflight, "parity": parity},
    "Methods, tasks and models": {
        "methods": show_methods,
        "tasks": tasks.app,
        "models": models.app,
        "pretrain": pretrain,
    },
    "Work with other programs": {"eval": evaluate, "export": export, "card": card},
}


class Program(typer.core.TyperGroup):
    """All commands, in the order of COMMANDS; typer alone lists commands with subcommands first."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for commands in COMMANDS.values() for name in commands]


app = typer.Typer(
    cls=Program,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compare post-training methods for language models under identical budgets on verifiable tasks.",
)
for panel, commands in COMMANDS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            register(app, name, command, panel)


def main() -> None:
    """Entry point: bad input ends with one line and exit code 2."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        code = refuse(str(error))
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        if error.errno not in FILE_FAULTS:
            raise
        code = refuse(f"'{shortened(str(error.filename))}': {str(error.strerror).lower()}")
    except UsageError as error:  # of the options themselves
        command = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
        code = refuse(f"{' '.join(error.format_message().split()).rstrip('.')}{command}")
    sys.exit(code)


def shortened(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:100]}...{name[-20:]}"


def refuse(message: str) -> int:
    """Print what is wrong with the input, without what could steer a terminal; the exit code of bad input."""
    from bench.report.safe_text import neutral

    print(f"error: {neutral(message)}", file=sys.stderr)
    return 2

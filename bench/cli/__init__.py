"""The command line: one module per group of commands.  Imports nothing heavy before a command needs it."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import typer

from bench.cli import models, tasks
from bench.cli.ablate import ablate, path
from bench.cli.audit import parity, preflight, pretrain
from bench.cli.card import card
from bench.cli.claim import claim
from bench.cli.doctor import doctor
from bench.cli.export import export
from bench.cli.help import register
from bench.cli.leaderboard import leaderboard, plot
from bench.cli.lm_eval import evaluate
from bench.cli.methods import show_methods
from bench.cli.plan import plan
from bench.cli.recipes import recipes
from bench.cli.report import report
from bench.cli.run import run
from bench.cli.show import diff, show
from bench.cli.status import status
from bench.cli.tune import tune
from bench.foreign import one_line, replace_unencodable, say
from bench.types import UserError

# What a path on the command line can be the cause of: missing, of another kind, closed to us, too long, full, no file.
FILE_FAULTS = {
    *(errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EEXIST, errno.EINVAL),
    *(errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.ENXIO, errno.ENODEV, errno.EBUSY, errno.ENOTEMPTY, errno.ESTALE),
}
LONGEST_WORD, LONGEST_LINE = 200, 4000  # characters of an error that are shown
UsageError: Any = typer.BadParameter.__base__  # older releases of typer take it from click, newer ones hold a copy
COMMANDS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Compare methods": {"run": run, "plan": plan, "tune": tune, "ablate": ablate, "path": path},
    "Look at runs": {
        "status": status,
        "leaderboard": leaderboard,
        "plot": plot,
        "show": show,
        "diff": diff,
        "claim": claim,
        "report": report,
    },
    "Check the instrument": {"doctor": doctor, "preflight": preflight, "parity": parity},
    "Methods, tasks and models": {
        "methods": show_methods,
        "tasks": tasks.app,
        "models": models.app,
        "recipes": recipes,
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
    replace_unencodable()
    try:
        check_platform()
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if sys.stdout is not None:  # closed by who started this command
            sys.stdout.flush()
    except UserError as error:
        code = refuse(str(error))
    except BrokenPipeError:  # the reader, such as head, has seen enough
        drop_output()
        code = 1
    except OSError as error:
        if error.errno not in FILE_FAULTS:
            raise
        if error.filename is None:  # such as a full disk behind "> file"
            drop_output()
        code = refuse(f"'{error.filename or 'standard output'}': {str(error.strerror).lower()}")
    except UsageError as error:  # of the options themselves
        command = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
        code = refuse(f"{' '.join(error.format_message().split()).rstrip('.')}{command}")
    sys.exit(code)


def drop_output() -> None:
    """Send what is left of standard output nowhere, so that the interpreter does not fail on it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_platform() -> None:
    """UserError on a system without the signals and processes of POSIX."""
    try:
        import fcntl  # noqa: F401 - not used: only such systems have it
    except ImportError:
        raise UserError(
            "bench needs a POSIX system, whose signals and processes runs rely on: on Windows start it under WSL"
        ) from None


def refuse(message: str) -> int:
    """Print what is wrong with the input in one bounded line that steers no terminal; the exit code of bad input."""
    words = re.sub(rf"\S{{{LONGEST_WORD + 1},}}", lambda word: f"{word[0][:100]}...{word[0][-20:]}", one_line(message))
    say("error: " + (words if len(words) <= LONGEST_LINE else f"{words[:LONGEST_LINE]}..."), error=True)
    return 2

"""A run in its own process: reads the job from standard input; exit code 2 for bad input, 1 for a fault."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bench.foreign import say
from bench.types import UserError

if TYPE_CHECKING:
    from bench.store.job import Job

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # disk, quota, limit on a file's size; a failing disk


def exit_with_parent(parent: int) -> None:
    """End this process soon after its parent has died (even by SIGKILL), so that no orphan trains on."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the whole group: end without a traceback in the log
    # Rows and lengths change at every chunk: segments that grow keep a card's memory in one piece.  Before torch loads.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    order = json.load(sys.stdin)
    exit_with_parent(order["parent"])
    from bench.store.job import Job

    return attempt(Job.restore(order["job"]), order["save_policy"], order["command"])


def attempt(job: Job, save_policy: bool, command: Sequence[str]) -> int:
    """Run a job to its end; the exit code.  What the user has to mend is one line on standard error."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    from bench.engine.runner import execute
    from bench.store.run_folder import CorruptRun

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        execute(job, save_policy, command)
    except UserError as error:
        return refuse(str(error))
    except CorruptRun as fault:
        return refuse(f"'{job.path}' is damaged ({fault}): move it away to start anew")
    except (OSError, SafetensorError) as error:
        if (reason := unwritable(error, job.path)) is None:
            raise
        last = "the same command goes on from the last checkpoint"
        return refuse(f"'{job.path}' cannot be written ({reason}): when that is mended, {last}")
    return 0


def refuse(message: str) -> int:
    """Print why a run cannot go on; the exit code, which tells it where even the log cannot be written."""
    with suppress(OSError):
        say(f"error: {message}", error=True)
    return 2


def unwritable(error: Exception, path: Path) -> str | None:
    """Why files of the run at ``path`` cannot be written; None for an error that is about something else."""
    numbered = re.search(r"os error (\d+)", str(error))  # safetensors has the system's number in its text only
    number = error.errno if isinstance(error, OSError) else int(numbered[1]) if numbered else None
    file = str(getattr(error, "filename2", None) or getattr(error, "filename", None) or "")
    if number is None or (number not in FULL and not file.startswith(str(path))):
        return None
    return (f"{file}: " if file else "") + os.strerror(number)


if __name__ == "__main__":
    sys.exit(main())

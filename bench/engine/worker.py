"""A run in its own process: reads the job from standard input; exit code 2 for bad input, 1 for a fault."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time

from bench.foreign import say
from bench.types import UserError


def exit_with_parent(parent: int) -> None:
    """End this process soon after its parent has died (even by SIGKILL), so that no orphan trains on."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the whole group: end without a traceback in the log
    order = json.load(sys.stdin)
    exit_with_parent(order["parent"])
    from transformers.utils import logging

    from bench.engine.runner import execute
    from bench.store.job import Job
    from bench.store.run_folder import CorruptRun

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        execute(Job.restore(order["job"]), order["save_policy"], order["command"])
    except UserError as error:
        say(f"error: {error}", error=True)
        return 2
    except CorruptRun as fault:
        say(f"error: its checkpoint does not fit its records ({fault}): move it away to start anew", error=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A run in its own process: ``python -m bench.engine.worker ORDER``, whatever starts it, on whatever machine.

Standard input stays open as long as the parent lives.  Where several devices share the run, this process starts one for
each.  Exit code 2 for bad input, 75 for what may succeed when it is tried again, 69 if the run is another process's, 1
for a fault.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bench.engine.launch import LOST, MARK, launch
from bench.engine.signals import LETTERS, Preempted, listen
from bench.foreign import say
from bench.types import UserError

if TYPE_CHECKING:
    from bench.store.order import Order

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # disk, quota, limit on a file's size; a failing disk
TRY_AGAIN = os.EX_TEMPFAIL  # 75
ELSEWHERE = os.EX_UNAVAILABLE  # 69
# Libraries on a device that fails, or that another process fills; torch has a class for errors of CUDA itself alone.
NO_DEVICE = re.compile(
    r"CUDA error|CUDA driver initialization failed|No CUDA GPUs are available"
    r"|CUBLAS_STATUS_(NOT_INITIALIZED|ALLOC_FAILED|EXECUTION_FAILED|INTERNAL_ERROR)|CUDNN_STATUS_(ALLOC|EXECUTION)"
)
# Gloo's and NCCL's words for a process that is gone.
NO_PEER = re.compile(
    r"Connection (closed|reset|refused)|Broken pipe|Socket closed|pair closure|remote process exited"
    r"|communicator was aborted"
)
OUR_FAULT = re.compile("device-side assert|no kernel image|invalid (argument|configuration)")  # the next try fails too


def exit_with_parent(handle: int = 0) -> None:
    """End this process when its parent has died (even by SIGKILL), so that no orphan trains on.

    ``handle``: the reading end of a pipe that only the parent writes to.  A process id would not do: programs that
    start others, as those of clusters, may stand in between.  A letter in it stands for a signal that the parent got.
    """
    numbers = {letter[0]: number for number, letter in LETTERS.items()}

    def watch() -> None:
        with suppress(OSError):
            while letters := os.read(handle, 1 << 12):
                for letter in letters:
                    if letter in numbers:
                        os.kill(os.getpid(), numbers[letter])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the whole group: end without a traceback in the log
    # Rows and lengths change at every chunk: segments that grow keep a card's memory in one piece.  Before torch loads.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    listen()
    try:
        exit_with_parent(os.dup(sys.stdin.fileno()))
        return follow(sys.argv[1:])
    except Preempted:
        if MARK in os.environ and os.environ.get("RANK") != "0":
            return TRY_AGAIN  # one says it for all
        return end("ended by SIGTERM: the same command goes on from the last checkpoint", TRY_AGAIN)


def follow(arguments: Sequence[str]) -> int:
    """Carry out the order of a file, and remove all orders of the run when it is done; the exit code."""
    from bench.store.order import Order, clear
    from bench.store.run_folder import CorruptRun, is_done

    if len(arguments) != 1:
        return end("expected the file of one order, as 'bench run' writes it", 2)
    path = Path(arguments[0]).absolute()
    if is_done(path.parent):  # by another one, while this process waited to be started
        return 0
    try:
        order = Order.read(path)
        os.chdir(order.folder)
    except (CorruptRun, LookupError, TypeError, ValueError, OSError) as fault:
        if is_done(path.parent):  # meanwhile, and its orders were removed
            return 0
        return end(f"order '{path}' cannot be followed on {socket.gethostname()}: {fault}", 2)
    count, one_of_several = order.job.execution.devices_per_run, MARK in os.environ
    code = launch(path, count) if count > 1 and not one_of_several else attempt(order)
    if code == 0 and not one_of_several:
        clear(path.parent)
    return code


def attempt(order: Order) -> int:
    """Run a job to its end; the exit code.  What the user has to mend is one line on standard error."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    from bench.engine.out_of_memory import OutOfMemory
    from bench.engine.ranks import leave
    from bench.engine.runner import execute
    from bench.store.lease import Held, LeaseLost
    from bench.store.run_folder import CorruptRun

    job = order.job
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        execute(job, order.keep, order.command, order.lost)
        leave()
    except (Held, LeaseLost) as error:
        return end(str(error), ELSEWHERE)
    except OutOfMemory as error:
        return end(str(error), TRY_AGAIN)
    except UserError as error:
        return end(str(error), 2)
    except CorruptRun as fault:
        return end(f"'{job.path}' is damaged ({fault}): move it away to start anew", 2)
    except (OSError, SafetensorError, MemoryError, RuntimeError) as error:
        if job.execution.devices_per_run > 1 and NO_PEER.search(str(error)):
            return LOST
        if (reason := unwritable(error, job.path)) is not None:
            last = "the same command goes on from the last checkpoint"
            return end(f"'{job.path}' cannot be written ({reason}): when that is mended, {last}", 2)
        if (reason := temporary(error)) is None:
            raise
        say(traceback.format_exc(), error=True)
        return end(reason, TRY_AGAIN)
    return 0


def end(message: str, code: int) -> int:
    """Print why a run cannot go on; the exit code, which tells it where even the log cannot be written."""
    with suppress(OSError):
        say(f"error: {message}", error=True)
    return code


def temporary(error: Exception) -> str | None:
    """Why an error may not come again, elsewhere or later; None if it would."""
    import torch

    from bench.engine.out_of_memory import is_out_of_memory

    first = (str(error).splitlines() or [type(error).__name__])[0]
    if is_out_of_memory(error):
        return f"out of memory ({first})"
    of_device = isinstance(error, torch.AcceleratorError) or NO_DEVICE.search(str(error))
    return f"the device failed ({first})" if of_device and not OUR_FAULT.search(str(error)) else None


def unwritable(error: Exception, path: Path) -> str | None:
    """Why files of the run at ``path`` cannot be written; None for an error that is about something else."""
    numbered = re.search(r"os error (\d+)", str(error))  # safetensors has the system's number in its text only
    number = error.errno if isinstance(error, OSError) else int(numbered[1]) if numbered else None
    file = str(getattr(error, "filename2", None) or getattr(error, "filename", None) or "")
    if number is None or number == errno.ENOMEM or (number not in FULL and not file.startswith(str(path))):
        return None
    return (f"{file}: " if file else "") + os.strerror(number)


if __name__ == "__main__":
    sys.exit(main())

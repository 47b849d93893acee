"""A run in its own process: reads the job from standard input; exit code 2 for bad input, 1 for a fault."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from bench.types import UserError


def exit_with_parent() -> None:
    """End this process soon after its parent has died (even by SIGKILL), so that no orphan trains on."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    exit_with_parent()
    order = json.load(sys.stdin)
    from bench.plan import Job
    from bench.runner import execute
    from bench.spec import RunPlan

    data = Path(order["data_path"]) if order["data_path"] else None
    job = Job(RunPlan.model_validate(order["plan"]), Path(order["path"]), order["model_path"], data)
    try:
        execute(job, order["save_policy"])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

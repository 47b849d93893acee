"""A worker that kills itself with SIGKILL: ``python killer.py MOMENT WHEN CHECKPOINT_SECONDS ORDER``.

WHEN is the number of the call at which the moment strikes, or seconds after the start of training.  Everything else
is the real worker.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from bench.engine import checkpoint, evaluate, runner, worker
from bench.engine.trainer import Stage
from bench.store.run_store import RunStore


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def strike(owner: Any, name: str, when: int, last_act: Any = None) -> None:
    """Replace a function by one that kills at its call number ``when``, before or with a last act of its own."""
    original = getattr(owner, name)
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == when:
            if last_act is not None:
                last_act(*args, **kwargs)
            kill()
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def half_append(store: RunStore, name: str, records: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(r) + "\n" for r in records)
    with (store.path / name).open("a") as file:
        file.write(text[: len(text) // 2])


def half_remove(when: int) -> None:
    """Kill while an existing checkpoint is being removed: its weights are gone, its other files remain."""
    original = checkpoint.shutil.rmtree

    def counted(target: Path, *args: Any, **kwargs: Any) -> None:
        nonlocal when
        if target.name.startswith(checkpoint.PREFIX) and target.exists():
            when -= 1
            if when == 0:
                (target / "policy.safetensors").unlink()
                kill()
        original(target, *args, **kwargs)

    checkpoint.shutil.rmtree = counted  # type: ignore[assignment]


def start_clock(seconds: float) -> None:
    original = runner.Run.resume

    def resume(run: runner.Run, *saved: Any) -> None:
        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        original(run, *saved)

    runner.Run.resume = resume  # type: ignore[method-assign]


def arrange(moment: str, when: float) -> None:
    number = int(when)
    if moment == "writing":
        strike(RunStore, "append", number, half_append)
    elif moment == "checkpointing":
        strike(checkpoint, "write_tensors", number)
    elif moment == "replacing":
        half_remove(number)
    elif moment == "evaluating":
        strike(evaluate, "_complete", number)
    elif moment == "training":
        strike(Stage, "_optimize", number, Stage._optimize)
    elif moment == "border":
        strike(Stage, "__init__", number)
    elif moment == "ending":
        strike(RunStore, "finish", number)
    elif moment == "clock":
        start_clock(when)
    else:
        raise ValueError(moment)


if __name__ == "__main__":
    arrange(sys.argv[1], float(sys.argv[2]))
    os.environ[checkpoint.INTERVAL] = sys.argv[3]
    sys.argv[1:] = sys.argv[4:]
    sys.exit(worker.main())

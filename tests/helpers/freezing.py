"""Owners of a run directory as threads, frozen before a chosen line of the code that writes, and woken later."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from bench.engine import checkpoint
from bench.store import files, lease, run_store
from bench.store.lease import Held, LeaseLost, latest
from bench.store.run_folder import is_done
from bench.store.run_store import RunStore

TRACED = {module.__file__ for module in (checkpoint, files, lease, run_store)} | {__file__}
RECORDS, STEP = 6, 2  # of the tiny run: records of each file, and from one checkpoint to the next
LAYER = torch.nn.Linear(1, 1)


def tiny_run(path: Path, lost: tuple[int, int] | None = None) -> None:
    """All that a run does to its directory, in the order in which ``runner.execute`` does it, without a model."""
    store = RunStore(path)
    with store.own(lost):
        if is_done(path):
            return
        saved = checkpoint.last_good(path, store.check)
        store.write("plan.json", {"plan": 1})
        store.truncate(saved.records if saved else {})
        for number in range(saved.state["number"] if saved else 0, RECORDS):
            for name in ("metrics.jsonl", "evals.jsonl", "items.jsonl"):
                store.append(name, [{"number": number, "name": name}])
            store.write("progress.json", {"share": number / RECORDS})
            if number % STEP == STEP - 1:
                state, best = {"number": number + 1}, number < STEP  # the later ones hand its weights on
                saved = checkpoint.save(path, LAYER, None, None, state, saved, best, store.marks(), store.lease)
        part = store.part("policy")
        part.mkdir()
        (part / "model.safetensors").write_bytes(b"weights")
        store.publish("policy")
        store.replace("verdicts.npz", b"verdicts")
        store.finish({"steps": RECORDS})
        checkpoint.clear(path)


class Owner:
    """A thread that makes the tiny run and freezes before its line event number ``freeze`` (None: never)."""

    def __init__(self, path: Path, freeze: int | None = None, lost: tuple[int, int] | None = None) -> None:
        self.path, self.freeze, self.lost = path, freeze, lost
        self.events: list[tuple[str, int]] = []
        self.still, self.go_on = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._main, daemon=True)  # frozen for ever where a test fails
        self.thread.start()

    def _main(self) -> None:
        sys.settrace(self._trace)
        try:
            tiny_run(self.path, self.lost)
        except BaseException as error:
            self.error = error
        finally:
            sys.settrace(None)
            self.still.set()

    def _trace(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        return self._line if frame.f_code.co_filename in TRACED else None

    def _line(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        if event == "line":
            if len(self.events) == self.freeze:
                self.still.set()
                self.go_on.wait()
            self.events.append((frame.f_code.co_filename, frame.f_lineno))
        return self._line

    def wait_until_still(self) -> None:
        """Until it is frozen, or has ended."""
        assert self.still.wait(60), "an owner does not come to its line"

    def wake(self) -> None:
        """Let it run to its end."""
        self.go_on.set()
        self.thread.join(60)
        assert not self.thread.is_alive()

    @property
    def was_refused(self) -> bool:
        return isinstance(self.error, Held | LeaseLost)


def overtake(path: Path, freeze: int | None = None) -> Owner:
    """Another owner, who takes whoever owns the run now for lost."""
    claim = latest(path)
    return Owner(path, freeze, (claim.token, claim.beat) if claim is not None else None)


def content(path: Path) -> dict[str, bytes]:
    """What a run leaves, by names: all but its leases and the word on its progress."""
    found = {str(file.relative_to(path)): file for file in path.rglob("*") if file.is_file()}
    return {
        name: file.read_bytes()
        for name, file in found.items()
        if not name.startswith(f"{lease.FOLDER}/") and name != "progress.json"
    }

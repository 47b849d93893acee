"""The store of a process that takes part in a run that another one writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.store.run_folder import RunStore


class SilentStore(RunStore):
    """Reads a run directory and leaves it alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def lock(self) -> Iterator[None]:
        yield

    def append(self, name: str, records: list[dict[str, Any]]) -> None:
        pass

    def write(self, name: str, value: Any) -> None:
        pass

    def marks(self) -> dict[str, dict[str, Any]]:
        return {}

    def truncate(self, marks: Mapping[str, Mapping[str, Any]]) -> None:
        pass

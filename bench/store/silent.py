"""The store of a process that takes part in a run that another one writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.store.run_store import RunStore


class SilentStore(RunStore):
    """Reads a run directory and leaves it alone."""

    def __init__(self, path: Path) -> None:
        self.path, self.lease = path, None

    @contextmanager
    def own(self, lost: tuple[int, int] | None = None) -> Iterator[None]:
        yield

    def append(self, name: str, records: list[dict[str, Any]]) -> None:
        pass

    def write(self, name: str, value: Any) -> None:
        pass

    def part(self, name: str) -> Path:
        return self.path / f"part-{name}"

    def publish(self, name: str) -> None:
        pass

    def marks(self) -> dict[str, dict[str, Any]]:
        return {}

    def truncate(self, marks: Mapping[str, Mapping[str, Any]]) -> None:
        pass

"""Files that survive a crash: written whole or not at all, brought to the disk, and measured."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.types import UserError

BLOCK = 1 << 20  # bytes that are read at once


class Fence(Protocol):
    """The right to write, with a number that no one else has: ``bench.store.lease.Lease``."""

    token: int

    def check(self) -> None: ...


def write_atomic(path: Path, value: Any, fence: Fence | None = None) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    replace_bytes(path, json.dumps(value, indent=1, sort_keys=True).encode(), fence)


def replace_bytes(path: Path, content: bytes, fence: Fence | None = None) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part."""
    mark = fence.token if fence else f"{secrets.token_hex(4)}-"  # several processes may write it at once
    part = path.with_name(f"{path.name}.{mark}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a crash may keep the new name and lose the content
        rename(part, path, fence)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def rename(part: Path, path: Path, fence: Fence | None = None) -> None:
    """Give a finished file its name, if ``fence`` is still valid.

    It is checked after ``part`` was made: who takes over later finds ``part`` and removes it first of all, so that this
    rename fails however late it comes.
    """
    if fence is not None:
        fence.check()
    part.replace(path)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some systems do not sync folders
            raise
    finally:
        os.close(handle)


@dataclass
class Written:
    """What a record file holds by now: bytes, and their running SHA-256."""

    size: int = 0
    sha256: Any = field(default_factory=hashlib.sha256)

    def add(self, content: bytes) -> None:
        self.size += len(content)
        self.sha256.update(content)

    def mark(self) -> dict[str, Any]:
        return {"size": self.size, "sha256": self.sha256.hexdigest()}

    @staticmethod
    def of(path: Path, size: int | None = None) -> Written:
        """The first ``size`` bytes of a file, or all; fewer where it is shorter, none without a file."""
        written = Written()
        if not path.exists():
            return written
        with path.open("rb") as file:
            while content := file.read(BLOCK if size is None else min(BLOCK, size - written.size)):
                written.add(content)
        return written


def check_writable(path: Path) -> None:
    """Raise UserError unless files can be made in this folder."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        with probe.open("wb"):
            probe.unlink()
    except OSError as error:
        raise UserError(f"folder '{path}' is not writable: {error.strerror}") from None

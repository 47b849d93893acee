"""Files that survive a crash: written whole or not at all, brought to the disk, measured and locked."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bench.types import UserError

BLOCK = 1 << 20  # bytes that are read at once


def write_atomic(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    replace_bytes(path, json.dumps(value, indent=1, sort_keys=True).encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # else a crash may keep the new name and lose the content
    try:
        part.replace(path)
    except OSError:
        part.unlink()
        raise


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


def lock_file(file: IO[Any], folder: Path) -> None:
    """Lock an open file for this process, BlockingIOError if another one has it.

    UserError where it cannot be locked: two commands would then write into one run unseen.
    """
    import fcntl  # not on Windows, where nothing is run

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:  # each file system has its own number for it
        raise UserError(
            f"folder '{folder}' is on a file system without locks ({error.strerror}; NFS needs lockd, or version 4; "
            "Lustre the mount option flock): give --results on another one"
        ) from None


def check_writable(path: Path, locks: bool = False) -> None:
    """Raise UserError unless files can be made in this folder and, with ``locks``, be locked."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        with probe.open("wb") as file:
            probe.unlink()
            if locks:
                lock_file(file, path)
    except OSError as error:
        raise UserError(f"folder '{path}' is not writable: {error.strerror}") from None

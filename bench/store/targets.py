"""Files and folders that a command is going to write: whether it can, asked before it works for hours."""

from __future__ import annotations

import os
from pathlib import Path

from bench.store.files import replace_bytes
from bench.types import UserError


def check_file(path: Path) -> None:
    """UserError unless a file can be written at this path; changes nothing."""
    if path.is_dir():
        raise UserError(f"'{path}' is a folder: expected a file to write")
    check_place(path)


def check_folder(path: Path) -> None:
    """UserError unless files can be written into a folder at this path, there or not; changes nothing."""
    if path.exists() and not path.is_dir():
        raise UserError(f"'{path}' is a file: expected a folder to write to")
    check_place(path)


def check_place(path: Path) -> None:
    """UserError unless the path, or the nearest folder above it that exists, may be written."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists() or place.is_symlink())
    if there != path and not there.is_dir():
        raise UserError(f"'{path}' cannot be written: '{there}' is a file, expected a folder")
    folder = there if there.is_dir() else there.absolute().parent
    if not os.access(there, os.W_OK) or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"'{path}' cannot be written: no permission for '{there}', or a read-only file system")


def write_file(path: Path, content: str) -> None:
    """Write a text so that a full disk leaves the file that was there; devices and pipes are written to directly."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        path.write_bytes(content.encode(errors="replace"))
    else:
        replace_bytes(path, content.encode(errors="replace"))

"""Rows of problems from files, folders and the Hugging Face hub, with their columns renamed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.plan.cells import plain
from bench.plan.data_files import SUFFIXES, read_file
from bench.types import UserError

IN_FOLDERS = (".parquet", ".jsonl", ".arrow")  # .json describes a data set there; cache-*.arrow are other tools'
EXTRA = "pip install 'posttrain-bench[data]'"


@dataclass(frozen=True)
class Source:
    """Where rows come from: a file, a folder, or ``owner/name``, ``owner/name:config``, each with ``@split`` if wanted.

    ``columns`` holds (name that the task expects, name in the data) pairs; ``skip_broken`` leaves unreadable rows out.
    """

    location: str
    columns: tuple[tuple[str, str], ...] = ()
    skip_broken: bool = False

    @staticmethod
    def restore(record: Mapping[str, Any]) -> Source:
        """From its fields as JSON has them."""
        return Source(record["location"], tuple((a, b) for a, b in record["columns"]), record["skip_broken"])

    @property
    def name(self) -> str:
        """For labels: the file's or folder's own name, or the name on the hub."""
        path, split = self.place
        return f"{path.name if path.exists() else path}{f'@{split}' if split else ''}"

    @property
    def place(self) -> tuple[Path, str]:
        """The location as a path, and the split."""
        if Path(self.location).exists():
            return Path(self.location), ""
        path, _, split = self.location.partition("@")
        return Path(path), split


def parse_columns(text: str | None) -> tuple[tuple[str, str], ...]:
    """``answer=solution,nums=numbers`` to pairs; UserError on any other form."""
    pairs = [tuple(part.strip() for part in item.split("=")) for item in (text or "").split(",") if item.strip()]
    for pair in pairs:
        if len(pair) != 2 or not all(pair):
            raise UserError(f"malformed columns '{text}': expected EXPECTED=COLUMN, for example answer=solution")
    if len({pair[0] for pair in pairs}) < len(pairs):
        raise UserError(f"malformed columns '{text}': one column is named twice")
    return tuple(sorted((pair[0], pair[1]) for pair in pairs))


def read_rows(source: Source | Path | str) -> list[dict[str, Any]]:
    """All rows in order; UserError names what is missing or broken, and the line where there is one."""
    origin = source if isinstance(source, Source) else Source(str(source))
    path, split = origin.place
    if split and path.is_file():
        raise UserError(f"data '{origin.location}': a file has no splits, name a folder or leave '@{split}' out")
    if path.is_dir():
        rows = read_folder(path, split)
    elif path.exists():
        rows = read_file(path)
    elif path.suffix in SUFFIXES or len(path.parts) != 2 or path.is_absolute():
        raise UserError(f"data file '{origin.location}' does not exist")
    else:
        rows = read_hub(str(path), split)
    if not rows:
        raise UserError(f"data file '{origin.location}' has no rows")
    check_columns(rows, origin)
    return rows


def check_columns(rows: Sequence[Mapping[str, Any]], source: Source) -> None:
    """UserError if no row at all has a column that is to be renamed: it is misspelt."""
    for _, column in source.columns:
        if not any(column.split(".")[0] in row for row in rows):
            listed = ", ".join(map(str, rows[0]))
            raise UserError(f"data '{source.location}' has no column '{column}': it has {listed}")


def rename_columns(row: Mapping[str, Any], columns: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The row under the names that tasks expect; dots lead into nested columns.  ValueError names a missing one.

    A renamed column has its new name only, so that no task takes it for what its old name says; nested ones stay.
    """
    moved = {column for _, column in columns}
    renamed = {name: value for name, value in row.items() if name not in moved}
    for expected, column in columns:
        value: Any = row
        for part in column.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise ValueError(f"column '{column}' is missing")
            value = value[part]
        renamed[expected] = value
    return renamed


def read_folder(path: Path, split: str = "") -> list[dict[str, Any]]:
    """Rows of a folder's files and its folders', in order of names: as `datasets` saves them, or as on the hub."""
    if split and (path / split).is_dir():
        path, split = path / split, ""
    files = sorted(
        f for p in ("*", "*/*") for f in path.glob(p) if f.suffix in IN_FOLDERS and not f.name.startswith("cache-")
    )
    files = [f for f in files if not split or f.stem.split("-")[0] == split]
    if not files:
        wanted = f" of split '{split}'" if split else ""
        raise UserError(f"data folder '{path}' has no files{wanted} to read: expected {', '.join(IN_FOLDERS)}")
    return [row for file in files for row in read_file(file)]


def read_hub(name: str, split: str) -> list[dict[str, Any]]:
    """Rows of a data set of the hub (or of its local cache), split "train" unless said otherwise."""
    try:
        import datasets
    except ImportError:
        raise UserError(f"data '{name}' is no file here, and reading it from the hub needs: {EXTRA}") from None
    path, _, config = name.partition(":")
    try:
        return [dict(row) for row in datasets.load_dataset(path, config or None, split=split or "train")]
    except Exception as error:  # whatever the network, the hub or the data set's files bring up: one line says it
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"data '{name}' is no file here and could not be loaded from the hub: {reason}") from None


def data_digest(source: Source) -> str:
    """Identity of the rows by content: of the bytes of a file, else of all rows; renamed columns count."""
    path, _ = source.place
    if path.is_file():
        try:
            contents: Iterable[bytes] = (path.read_bytes(),)
        except OSError as error:
            raise UserError(f"data file '{path}' cannot be read: {error.strerror}") from None
    else:
        contents = (json.dumps(row, sort_keys=True, default=json_value).encode() for row in read_rows(source))
    total = hashlib.blake2b(digest_size=16)
    for part in contents:
        total.update(part)
    if source.columns or source.skip_broken:
        total.update(json.dumps([source.columns, source.skip_broken]).encode())
    return total.hexdigest()


def json_value(value: Any) -> Any:
    """Arrays and scalars of numpy as JSON values."""
    return plain(value) if hasattr(value, "tolist") else str(value)

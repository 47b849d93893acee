"""Rows of one file: parquet, Arrow, JSON lines and CSV, each cell with the type that the file gives it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.foreign import parse_json
from bench.types import UserError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".jsonl", ".json", ".arrow", ".csv")
PANDAS_INDEX = "__index_level_"  # columns in which pandas keeps an index that has no name


def read_file(path: Path) -> list[dict[str, Any]]:
    """Rows of a file in the format of its suffix; UserError names the file and what is wrong with it."""
    readers = {".parquet": read_parquet, ".arrow": read_arrow, ".csv": read_csv}
    if path.suffix not in SUFFIXES:
        raise UserError(f"data file '{path}': expected {', '.join(SUFFIXES)}")
    return readers.get(path.suffix, read_json_lines)(path)


def read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Not by pandas: it turns integers beside a null into floats, and the null into a number.
    try:
        with pq.ParquetFile(path) as file:
            return table_rows(file.read())
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"data file '{path}' is not readable as parquet: {str(error).splitlines()[0]}") from None


def read_arrow(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as file:
            return table_rows(pa.ipc.open_stream(file).read_all())
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"data file '{path}' is not readable as Arrow: {str(error).splitlines()[0]}") from None


def table_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows of a table as Python values; a null is None, whatever the column's type.

    ValueError if two columns have one name.
    """
    import pyarrow as pa

    if len(set(table.column_names)) < len(table.column_names):
        raise ValueError("two columns have one name")
    for place, field in enumerate(table.schema):
        if field.type in (pa.float16(), pa.float32()):
            # By the digits that name it in its own precision: 0.1 and not 0.10000000149011612.
            table = table.set_column(place, field.name, table[place].cast(pa.string()).cast(pa.float64()))
    kept = [name for name in table.column_names if not name.startswith(PANDAS_INDEX)]
    return [dict(row) for row in table.select(kept).to_pylist()]


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"data file '{path}' cannot be read: {error.strerror}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError:
            raise UserError(f"data file '{path}': line {number} is not JSON") from None
        if not isinstance(row, dict):
            raise UserError(f"data file '{path}': line {number} is not a JSON object: expected one object per line")
        rows.append(row)
    return rows


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Rows of a file with a line of column names; every cell is a text, so that 0012 keeps its zeros, or None."""
    rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            names = next(reader, [])
            if len(set(names)) < len(names):
                raise UserError(f"data file '{path}': two columns have one name: {', '.join(names)}")
            for cells in filter(None, reader):
                if len(cells) != len(names):
                    counts = f"{len(cells)} cells, the first line names {len(names)} columns"
                    raise UserError(f"data file '{path}': line {reader.line_num} has {counts}")
                rows.append({name: text if text.strip() else None for name, text in zip(names, cells)})
    except OSError as error:
        raise UserError(f"data file '{path}' cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data file '{path}' is not readable as CSV: {error}") from None
    return rows

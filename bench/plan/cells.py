"""Cells of data rows by type: what is missing, what is a text, what is a whole number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from bench.foreign import parse_json

WHOLE = re.compile(r"[+-]?[0-9]+(?:\.0*)?", re.ASCII)
MAX_LIST = 10_000  # characters of a text that is read as a list
SHOWN = 40  # characters of a cell in a reason


def plain(value: Any) -> Any:
    """Arrays and scalars of numpy as Python values; everything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: null, NaN or a blank text."""
    value = plain(value)
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, (float, Decimal)) and math.isnan(value))


def cell(row: Mapping[str, Any], column: str) -> Any:
    """A cell that has to be there; ValueError if it is missing."""
    if is_missing(row.get(column)):
        raise ValueError(f"column '{column}' is missing")
    return plain(row[column])


def text_cell(row: Mapping[str, Any], column: str) -> str:
    """A cell that has to be a text; ValueError if it is missing or of another type."""
    value = cell(row, column)
    if not isinstance(value, str):
        raise ValueError(f"column '{column}' is not a text")
    return value


def answer_text(value: Any, column: str) -> str:
    """An answer as a text; ValueError if it is missing, not finite, or neither a text, a number nor a truth value.

    Integers and decimal numbers are written out exactly and floats by the fewest digits that name them, both without
    an exponent: 3 is "3", 3.0 is "3.0", 1e22 is "10000000000000000000000.0".
    """
    value = plain(value)
    if is_missing(value):
        raise ValueError(f"column '{column}' is missing")
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, (bool, int)):
        return str(value)
    if not isinstance(value, (float, Decimal)):
        raise ValueError(f"column '{column}' holds a {type(value).__name__}: expected a text or a number")
    if not math.isfinite(value):
        raise ValueError(f"column '{column}' holds {value}, which is not a finite number")
    if isinstance(value, float):
        return repr(value) if "e" not in repr(value) else f"{Decimal(repr(value)):f}"
    return f"{value:f}"


def whole_number(value: Any) -> int:
    """A number of a data file as an integer, also one written as a text or as 3.0; ValueError if it is none."""
    value = plain(value)
    if isinstance(value, str) and WHOLE.fullmatch(value.strip()):
        return int(value.strip().partition(".")[0])
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, (float, Decimal)) and math.isfinite(value) and value == int(value):
        return int(value)
    raise ValueError(f"{str(value)[:SHOWN]!r} is not a whole number")


def list_cell(row: Mapping[str, Any], column: str) -> list[Any]:
    """A cell that holds a list, or a text of one: ``[1, 2]`` as in JSON, or ``[1 2]`` as arrays are printed."""
    value = cell(row, column)
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, str) and len(value) <= MAX_LIST:
        text = value.strip()
        if text.startswith("[") and text.endswith("]"):
            try:
                return list(parse_json(text))
            except ValueError:
                return text[1:-1].split()
    raise ValueError(f"column '{column}' is not a list")

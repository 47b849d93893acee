"""Cells by type: the text of an answer, whole numbers, lists, and what counts as missing."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from bench.plan import cells

MISSING = [None, math.nan, np.nan, np.float32("nan"), Decimal("NaN"), "", "  \n"]


@pytest.mark.parametrize("value", MISSING)
def test_missing_cells(value: Any) -> None:
    assert cells.is_missing(value)
    for read in (cells.cell, cells.text_cell, cells.list_cell):
        with pytest.raises(ValueError, match="column 'a' is missing"):
            read({"a": value}, "a")
    with pytest.raises(ValueError, match="column 'a' is missing"):
        cells.answer_text(value, "a")
    with pytest.raises(ValueError, match="column 'a' is missing"):
        cells.cell({}, "a")


@pytest.mark.parametrize("value", [0, 0.0, False, "0", "nan", [], {}, np.array([1]), np.int64(0), math.inf])
def test_cells_that_are_there(value: Any) -> None:
    assert not cells.is_missing(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (np.int64(3), "3"),
        (2**60 + 1, "1152921504606846977"),
        (-(10**30), "-1000000000000000000000000000000"),
        (3.0, "3.0"),
        (0.1, "0.1"),
        (1e-7, "0.0000001"),
        (1e22, "10000000000000000000000"),
        (-2.5e-8, "-0.000000025"),
        (Decimal("3.00"), "3.00"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.0000001"), "0.0000001"),
        (True, "True"),
        (np.bool_(False), "False"),
        (" 3 ", "3"),
        ("1/2", "1/2"),
    ],
)
def test_the_text_of_an_answer(value: Any, text: str) -> None:
    assert cells.answer_text(value, "a") == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.inf, "not a finite number"),
        ([3], "holds a list: expected a text or a number"),
        (np.array([3]), "holds a list"),
        ({"value": 3}, "holds a dict"),
        (datetime.date(2024, 1, 5), "holds a date"),
        (datetime.datetime(2024, 1, 5), "holds a datetime"),
        (b"3", "holds a bytes"),
    ],
)
def test_what_is_no_answer(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"column 'a' {reason}" if reason.startswith("holds") else reason):
        cells.answer_text(value, "a")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((3, 3), (-3, -3), (np.int64(3), 3), (3.0, 3), (np.float64(3), 3), (Decimal("3.0"), 3)),
        *(("3", 3), (" -3 ", -3), ("3.0", 3), ("003", 3), (2**53 + 1, 2**53 + 1), (str(2**53 + 1), 2**53 + 1)),
    ],
)
def test_whole_numbers(value: Any, number: int) -> None:
    found = cells.whole_number(value)
    assert type(found) is int and found == number


@pytest.mark.parametrize(
    "value", [2.5, "2.5", "two", "", "1e3", "1,000", "²", "٣", None, math.nan, math.inf, True, [3], {}, "9" * 5000]
)
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(ValueError):
        cells.whole_number(value)


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ([1, 2], [1, 2]),
        ((1, 2), [1, 2]),
        (np.array([1, 2]), [1, 2]),
        ("[1, 2]", [1, 2]),
        (" [1, 2.0] ", [1, 2.0]),
        ("[1 2]", ["1", "2"]),
        ("[]", []),
    ],
)
def test_lists(value: Any, items: list[Any]) -> None:
    assert cells.list_cell({"a": value}, "a") == items


@pytest.mark.parametrize("value", ["12", "1, 2", "{}", '{"a": 1}', 3, {"a": 1}, "[" + "1," * 10_000 + "1]"])
def test_what_is_no_list(value: Any) -> None:
    with pytest.raises(ValueError, match="column 'a' is not a list"):
        cells.list_cell({"a": value}, "a")

r"""Gold answers of data rows, and rationales as GSM8K writes them: ``3+4 = <<3+4=7>>7 apples``, then ``#### 7``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bench.plan.cells import answer_text, is_missing
from tasks._math.compare import compare_answers

MARK = "####"
CALCULATION = re.compile(r"<<[^<>\n]*>>")
THOUSANDS = re.compile(r"[+-]?\\?\$?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
NUMBER = re.compile(r"[+-]?[0-9][0-9,.]*")
NO_ANSWERS = {  # as programs write that there is none, or infinity; cases of their own, as NONE may be a word
    *(
        "nan",
        "NaN",
        "NAN",
        "<NA>",
        "NaT",
        "NA",
        "N/A",
        "n/a",
        "#N/A",
        "None",
        "none",
        "null",
        "Null",
        "NULL",
        "nil",
        "Nil",
    ),
    *("NIL", "undefined"),
    *(sign + word for sign in ("", "+", "-") for word in ("inf", "Inf", "INF", "infinity", "Infinity", "INFINITY")),
}


def renamed(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of GSM8K under the column names of MATH; any other row as it is."""
    named = any(not is_missing(row.get(name)) for name in ("problem", "solution"))
    if named or MARK not in str(row.get("answer")):
        return row
    others = {name: value for name, value in row.items() if name not in ("question", "answer")}
    return {**others, "problem": row.get("question"), "solution": row["answer"]}


def mark_place(text: str) -> int:
    """Where the last mark is, -1 if there is none; more than four hashes are a heading."""
    place = text.rfind(MARK)
    return -1 if place > 0 and text[place - 1] == "#" else place


def stated_answer(text: str) -> str | None:
    """What the line of the last mark states, without thousands commas; None without a mark."""
    place = mark_place(text)
    if place < 0:
        return None
    answer = next(iter(text[place + len(MARK) :].splitlines()), "").strip()
    return answer.replace(",", "") if THOUSANDS.fullmatch(answer) else answer


def gold_text(value: Any, column: str) -> str:
    """The gold answer in a cell, of a rationale what it states; ValueError if there is none."""
    text = answer_text(value, column)
    stated = stated_answer(text)
    gold = text if stated is None else stated
    if not any(character.isalnum() for character in gold):  # such as a comma alone
        place = "" if stated is None else f" after '{MARK}'"
        raise ValueError(f"column '{column}' has no answer{place}: no letter and no digit")
    if gold in NO_ANSWERS:
        raise ValueError(f"column '{column}' holds '{gold}': no answer, but how a program writes that there is none")
    return gold


def rationale(text: str, gold: str, column: str) -> str:
    """A solution without the line that states its answer, what follows that, and the marks of calculations.

    A solution whose mark stands before something else than the gold answer is left alone, since that may be a heading;
    ValueError if it is another number.
    """
    stated = stated_answer(text)
    if stated is None:
        return text
    if not compare_answers(gold, stated)[0]:
        if NUMBER.fullmatch(stated):
            raise ValueError(f"column '{column}' ends in '{MARK} {stated[:40]}', the gold answer is {gold[:40]}")
        return text
    return CALCULATION.sub("", text[: mark_place(text)]).rstrip()

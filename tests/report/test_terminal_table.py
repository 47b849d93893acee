"""Tables of text look the same whether they are aligned here or made to fit by rich."""

from __future__ import annotations

import random

import pytest

from bench.report.terminal_table import WIDTH, aligned, fitted, terminal_table

SHAPES = {
    "one column": (["method"], [["sft"], ["a longer name"]]),
    "lines in cells": (["method", "accuracy\n95 %", "ties"], [["sft", "31.2\n[1, 2]", "a"], ["x", "-\n", "ab\n\nc"]]),
    "short rows": (["method", "a", "b"], [["sft", "1.0", "2.0"], ["(chance)", "5.0"]]),
    "no rows": (["method", "a"], []),
    "a word that is folded": (["method", "a"], [["x" * (WIDTH + 30), "1.0\nlow"], ["sft", "2\n3\n4"], ["", "5"]]),
    "a head that is folded": (["method\nlow", *("y" * 17 for _ in range(5))], [["sft+grpo", *"12345"], ["uft", "6"]]),
    "exactly as wide as it may be": (["m", "a"], [["x" * (WIDTH - 2 - 2 - 5), "12345"]]),
}


def random_table(seed: int) -> tuple[list[str], list[list[str]]]:
    rng = random.Random(seed)

    def cell() -> str:
        lines = ["".join(rng.choices("ab [],.%-+", k=rng.randint(0, 9))).strip() for _ in range(rng.randint(1, 3))]
        return "\n".join(lines)

    width = rng.randint(1, 7)
    head = ["method", *(f"h{n}\n{cell()}" for n in range(width)), "ties"]
    return head, [[cell() for _ in range(rng.randint(1, width + 2))] for _ in range(rng.randint(1, 5))]


@pytest.mark.parametrize("case", [*SHAPES, *range(30)])
def test_both_ways_draw_the_same(case):
    head, rows = SHAPES[case] if case in SHAPES else random_table(case)
    found = aligned(head, rows)
    assert found is not None
    assert [line.rstrip() for line in found] == [line.rstrip() for line in fitted(head, rows)]


def test_what_does_not_fit_or_has_wide_characters_is_left_to_rich():
    wide = (["method", "a"], [["x" * WIDTH, "1.0"]])
    assert aligned(["method", "a"], [["x " * WIDTH, "1.0"]]) is None and aligned(["method"], [["\u6c49"]]) is None
    assert aligned(["method", "y" * (WIDTH - 5)], [["sft", "1.0"]]) is None
    text = terminal_table("Title", *wide, ["A sentence."])
    assert max(map(len, text.splitlines())) <= WIDTH and text.count("x") == WIDTH
    assert text.startswith("Title\n\n") and text.endswith("\nA sentence.")

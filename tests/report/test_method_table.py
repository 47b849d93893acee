"""The table of `bench methods`: what is read in a file, and that the stored costs are those of today's settings."""

from __future__ import annotations

import ast
import json

import pytest

from bench.plan import registry
from bench.report import method_table
from bench.report.method_table import Row, cells, constant, methods_table, table_row
from benchmarks import method_costs
from tests.helpers.commands import call

STORED = method_table.costs()["methods"]
HINT = "run `python -m benchmarks.method_costs --methods NAME`"


@pytest.mark.parametrize("name", registry.built_in("methods"))
def test_every_method_was_measured_with_the_settings_it_has_today(name: str) -> None:
    assert name in STORED, HINT
    assert STORED[name]["fields"] == json.loads(json.dumps(method_costs.settings(name))), HINT


def test_no_other_method_is_stored() -> None:
    assert set(STORED) == set(registry.built_in("methods"))


@pytest.mark.parametrize(
    ("name", "ratio"),
    [
        ("sft", 1.0),
        ("dft", 1.0),
        ("eaft", 1.0),
        # A training pass costs three forward passes, a reference one more, whatever the rows.
        ("asft", 4 / 3),
        ("iw_sft", 4 / 3),
        ("curio_sft", 4 / 3),
        ("ift", 4 / 3),
        ("grpo", 1.0),
    ],
)
def test_measured_costs_are_those_of_the_passes_that_a_method_makes(name: str, ratio: float) -> None:
    assert STORED[name]["ratio"] == pytest.approx(ratio, abs=1e-3)
    assert STORED[name]["of"] == ("grpo" if name == "grpo" else "sft") and STORED[name]["once"] == 0


def test_measured_costs_that_only_have_a_sign() -> None:
    assert STORED["masked_sft"]["ratio"] > 1.2, "its rows are longer"
    assert STORED["raft"]["ratio"] > 1.2, "it pays for answers that it does not train on"
    assert STORED["luffy"]["ratio"] < 1, "it has no reference, and a member that is not sampled"
    assert STORED["s3ft"]["once"] > 0 and STORED["sdft"]["once"] > 0
    assert method_table.costs()["grpo_in_sft"] > 1


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("base", []),
        ("sft", ["demonstrations"]),
        ("asft", ["demonstrations", "reference"]),
        ("grpo", ["rewards", "reference", "negatives"]),
        ("raft", ["rewards"]),
        ("dpo", ["rewards", "reference", "negatives"]),
        ("sdft", ["demonstrations", "rewards"]),
        ("luffy", ["demonstrations", "rewards", "negatives"]),
    ],
)
def test_needs_are_what_the_methods_descriptions_say(name: str, needs: list[str]) -> None:
    assert STORED[name]["needs"] == needs


def test_what_a_file_says() -> None:
    row = table_row("dft")
    assert row.paper == "2508.05629" and row.evidence == "paper and authors' code read; parity with TRL"
    text = registry.module_text("methods", "dft")
    assert row.lines == text.count("\n") and row.cost == "1.00 SFT"
    assert table_row("base").paper == "" and table_row("base").cost == "-"


def test_constants_are_read_in_the_text() -> None:
    tree = ast.parse('A: str = "one"\nB = ("two " "three")\nC = 1\nD = A\n')
    assert [constant(tree, name) for name in "ABCDE"] == ["one", "two three", "", "", ""]


def test_cells_and_the_width_of_the_table() -> None:
    rows = [
        Row("short", "2401.00001", ("demonstrations", "reference"), 4 / 3, "sft", 0.0, "paper read", 40),
        Row("a_method_with_a_long_name", "", None, None, None, 0.0, "words " * 30, 300),
        Row("none", "", (), 2.0, "grpo", 0.46, "", 0),
    ]
    assert cells(rows[0]) == ["short", "2401.00001", "demo ref", "1.33 SFT", "40", "paper read"]
    assert cells(rows[1])[1:4] == ["-", "not measured", "-"]
    assert cells(rows[2])[2:] == ["-", "2.00 GRPO +0.5", "-", "-"]
    text = methods_table(rows)
    assert max(map(len, text.splitlines())) <= 100 and "a_method_with_a_long_name" in text
    assert "from 40 (short) to 300 (a_method_with_a_long_name)" in " ".join(text.split())


def test_the_command_prints_list_and_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "methods")
    assert (code, err) == (0, "") and "What each needs and costs" in out
    for name in registry.built_in("methods"):
        assert out.count(f"\n {name} ") == 1
    sheet = json.loads(call(capsys, "methods", "asft", "--json")[1])
    assert sheet["cost"] == {"ratio": 1.333, "of": "sft", "once": 0.0} and sheet["paper"] == "2509.23753"
    assert "Cost: 1.33 of SFT's FLOPs per token of the loss" in call(capsys, "methods", "asft")[1]

"""docs/methods.md is what the methods' files say, and the parity lines are what the stored comparisons say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.plan import registry
from bench.report import catalogue
from bench.report.method_pages import all_pages, markdown_escape, method_page
from tests.helpers.commands import call

DOCUMENT = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_document_is_not_stale() -> None:
    assert DOCUMENT.read_text() == all_pages(), "run `make docs`"


def test_the_command_prints_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "methods", "--markdown") == (0, DOCUMENT.read_text(), "")
    code, text, _ = call(capsys, "methods", "chord", "--markdown")
    assert code == 0 and text in DOCUMENT.read_text() and text.startswith("## chord\n")


def test_all_sheets_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    sheets = json.loads(call(capsys, "methods", "--json")[1])
    assert sheets == [json.loads(json.dumps(catalogue.method_sheet(n))) for n in registry.names("methods")]


@pytest.mark.parametrize("name", registry.names("methods"))
def test_every_fact_of_a_sheet_is_on_its_page(name: str) -> None:
    sheet = catalogue.method_sheet(name)
    text = method_page(sheet)
    for field in sheet["fields"]:
        assert f"| `{field['name']}` | {field['default']} | {markdown_escape(field['source'])} |" in text
    assert all(f"`{name}:{variant}`" in text for variant in sheet["variants"])
    assert sheet["documentation"] in text and sheet["equation"] in text and sheet["data_flow"] in text
    assert all(markdown_escape(entry) in text for entry in [*sheet["published"], *sheet["parity"]])


def test_parity_lines_come_from_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {
        "comparison": "grpo:dapo",
        "settings": {"method": "grpo"},
        "environment": {"versions": {"trl": "1.2.3"}},
        "tolerance": {"loss": 1e-4},
        "max_difference": {"loss": 3.21e-7},
        "steps": [{}] * 5,
        "verdict": "equal",
    }
    (tmp_path / "grpo-dapo.json").write_text(json.dumps(record))
    monkeypatch.setattr(catalogue, "PARITY", tmp_path)
    expected = "grpo:dapo against TRL 1.2.3, 5 steps: loss within 3.2e-07 (tolerance 1e-04): equal"
    assert catalogue.parity_lines("grpo") == [expected] and catalogue.parity_lines("sft") == []
    assert expected in catalogue.method_text(catalogue.method_sheet("grpo"))

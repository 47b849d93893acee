"""`bench tasks show NAME --sample`: problems of every split with demonstration and verdicts."""

from __future__ import annotations

import json

import pytest

from tests.helpers.commands import call


def test_samples_of_a_split(capsys):
    code, out, _ = call(
        capsys, "tasks", "show", "countdown", "--sample", 3, "--split", "ood", "--answer", "1+1", "--json"
    )
    shown = json.loads(out)
    assert code == 0 and [s["id"] for s in shown] == [f"countdown/4/test/{n}" for n in range(3)]
    for entry in shown:
        assert entry["prompt"].startswith("countdown ") and entry["verdict"]["correct"]
        assert not entry["answer_verdict"]["correct"] and "used [1, 1]" in entry["answer_verdict"]["reason"]
    reworded = json.loads(
        call(capsys, "tasks", "show", "countdown", "--sample", 1, "--split", "reworded", "--json")[1]
    )[0]
    assert reworded["id"] == "countdown/3/test/0" and " -> " in reworded["prompt"] and "answer" not in reworded
    text = call(
        capsys, "tasks", "show", "logic", "--sample", 2, "--level", "2", "--template", "chat", "--split", "val"
    )[1]
    assert text.count("demonstration:") == text.count("its verdict: right, reward 1 (correct)") == 2
    assert "logic/2/val/1 (val split)" in text
    right = json.loads(call(capsys, "tasks", "show", "sudoku", "--sample", 1, "--json")[1])[0]["demonstration"]
    text = call(capsys, "tasks", "show", "sudoku", "--sample", 1, "--answer", right)[1]
    assert text.rstrip().endswith(": right, reward 1 (correct)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sample", "2"), "Missing argument 'NAME'"),
        (("countdown", "--level", "4"), "--level is for problems: add --sample"),
        (("countdown", "--sample", "0"), "'--sample'"),
        (("countdown", "--sample", "1", "--split", "oood"), "unknown split 'oood': did you mean ood"),
        (("countdown", "--sample", "1", "--level", "33"), "unknown level of countdown '33': did you mean 3"),
        (("countdown", "--sample", "1", "--level", "6", "--split", "ood"), "has no harder level"),
        (
            ("countdown", "--sample", "1", "--template", "chatt"),
            "unknown template of countdown 'chatt': did you mean chat",
        ),
    ],
)
def test_wrong_samples(capsys, arguments, message):
    code, out, err = call(capsys, "tasks", "show", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err

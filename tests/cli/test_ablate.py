"""`bench ablate` and `bench path` from the command line: runs, reports, reuse, and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import call, model_with_defaults, runs_here
from tests.helpers.runs import NOWHERE_OPTIONS, files

SMALL = (
    "--test-items",
    8,
    "--test-samples",
    2,
    "--val-items",
    4,
    *NOWHERE_OPTIONS,
    "--no-save-policy",
    "--no-preflight",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = model_with_defaults(tmp_path_factory.mktemp("models") / "small")
    defaults = json.loads((path / "bench.json").read_text())
    defaults["methods"]["uft"] = {**defaults["methods"]["grpo"]}
    defaults["methods"]["dft"] = {"batch_size": 4, "lr": 0.02}
    (path / "bench.json").write_text(json.dumps(defaults))
    return path


def ablate(capsys: Any, model: Path, results: Path, *arguments: object) -> tuple[int, str, str]:
    return call(capsys, "ablate", *arguments, "--model", model, "--results", results, *SMALL)


@pytest.mark.slow
def test_an_ablation_runs_reports_and_is_reused(model: Path, tmp_path: Path, capsys: Any) -> None:
    results, out = tmp_path / "runs", tmp_path / "out"
    code, _, err = call(
        *(capsys, "run", "--methods", "uft", "--seeds", 2, "--model", model, "--results", results, *SMALL)
    )
    assert code == 0, err
    vary = ("uft", "--vary", "schedule=none,cosine", "--vary", "demo_coef=0", "--seeds", 2)
    code, text, err = ablate(capsys, model, results, *vary, "--out", out)
    assert code == 0, err
    assert len(list(results.glob("*/done.json"))) == 6, "the runs of the default are those of the earlier command"
    assert "uft countdown seed 0, starting" not in err and "uft[uft.demo_coef=0] countdown seed 1, starting" in err
    assert "schedule=none and grpo with the same settings: identical to the bit (first 3 steps, seed 0)" in text
    assert "schedule=none instead of cosine:" in text and "demo_coef=0 instead of 0.001:" in text
    assert {p.name for p in out.iterdir()} >= {"report.md", "report.json", "schedule.svg", "demo_coef.svg"}
    before = files(results)
    code, text, err = ablate(capsys, model, results, *vary, "--report-only", "--json")
    assert code == 0 and files(results) == before and err == ""
    found = json.loads(text)
    assert [arm["seeds"] for arm in found["arms"]] == [[0, 1]] * 3 and found["identities"] == []
    assert found["arms"] == json.loads((out / "report.json").read_text())["arms"]


def test_a_path_runs_each_arm_and_compares_it_with_the_one_before(
    model: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs_here(monkeypatch)
    code, out, err = call(
        *(capsys, "path", "sft", "dft", "--seeds", 1, "--model", model, "--results", tmp_path / "runs", *SMALL)
    )
    assert code == 0, err
    assert "each token weighted by its probability: underpowered" in out and "all terms together" in out
    assert "One seed: limits cover items only" in out


BAD = [
    (("uft", "--vary", "demo_cof=0"), "unknown field of uft 'demo_cof': did you mean demo_coef"),
    (("uff", "--vary", "demo_coef=0"), "unknown method 'uff'"),
    (("uft",), "nothing to ablate"),
    (("uft", "--vary", "demo_coef=0", "--format", "csv"), "unknown format 'csv'"),
    (("uft", "--vary", "demo_coef=0", "--metric", "gredy"), "unknown metric 'gredy': did you mean greedy"),
    (("uft", "--vary", "demo_coef=0", "--task", "countdown,logic"), "an ablation has one task"),
    (("uft", "--vary", "demo_coef=0", "--report-only"), "no finished run of these arms with the test split"),
    (("uft", "--vary", f"p_high={','.join(str(n / 100) for n in range(70))}"), "71 arms x 3 seeds: 213 runs to train"),
    (("uft", "--vary", "demo_coef=0", "--set", "sft.lr=1"), "setting for 'sft', which is not the method ablated"),
]


@pytest.mark.parametrize(("arguments", "expected"), BAD)
def test_bad_input_is_one_line_and_starts_nothing(
    arguments: tuple[object, ...], expected: str, model: Path, tmp_path: Path, capsys: Any
) -> None:
    code, out, err = ablate(capsys, model, tmp_path / "runs", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert expected in err and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("sft", "utf"), "unknown method 'utf': did you mean uft"),
        (("sft", "raft"), "no path to or from raft"),
        (("sft", "uft", "--set", "sft.lr=1"), "bench path takes no --set"),
    ],
)
def test_bad_paths(arguments: tuple[object, ...], expected: str, tmp_path: Path, capsys: Any) -> None:
    code, out, err = call(capsys, "path", *arguments, "--results", tmp_path / "runs")
    assert (code, out, err.count("\n")) == (2, "", 1) and expected in err


def test_a_dry_run_of_a_large_grid_needs_no_yes(model: Path, tmp_path: Path, capsys: Any) -> None:
    values = ",".join(str(n / 100) for n in range(1, 23))
    code, out, err = ablate(capsys, model, tmp_path / "runs", "uft", "--vary", f"p_high={values}", "--dry-run")
    assert code == 0 and "69 runs to do" in out and not (tmp_path / "runs").exists(), err

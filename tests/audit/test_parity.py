"""Parity with TRL: the comparison, the command, the stored records and, where it is installed, TRL itself."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.audit import parity, trl_referee
from bench.audit.parity import EXCEEDED, VOID, WITHIN, differences, verdict
from bench.audit.parity_cases import CASES, ExactRewards, choose
from bench.engine.policy import Policy
from bench.engine.trainer import Stage
from bench.plan import registry
from bench.plan.budget import Budget, Meter
from bench.types import UserError
from tests.helpers.commands import ROOT, call

STORED = ROOT / "results" / "published" / "parity"
TOLERANCE = {"loss": 1e-5, "grad_norm": 1e-4}
needs_trl = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="the extra trl is not installed")


def steps(*rows: tuple[float, float, float, float]) -> list[dict[str, Any]]:
    """Steps from (our loss, TRL's loss, our gradient norm, TRL's gradient norm)."""
    return [{"loss": {"ours": a, "trl": b}, "grad_norm": {"ours": c, "trl": d}} for a, b, c, d in rows]


# --- comparison ---


def test_the_largest_difference_over_all_steps_counts() -> None:
    found = differences(steps((1.0, 1.5, 2.0, 2.0), (3.0, 2.0, 2.0, 2.25), (1.0, 1.0, 1.0, 1.0)))
    assert found == {"loss": 1.0, "grad_norm": 0.25}


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ((1.0, 1.0 + 0.9e-5, 2.0, 2.0 - 0.9e-4), WITHIN),
        ((1.0, 1.0 + 1.1e-5, 2.0, 2.0), EXCEEDED),
        ((1.0, 1.0, 2.0, 2.0 + 1.1e-4), EXCEEDED),
        ((1.0, math.nan, 2.0, 2.0), EXCEEDED),
        ((1.0, 1.0, 2.0, math.inf), EXCEEDED),
    ],
)
def test_one_differing_step_is_enough(second: tuple[float, float, float, float], expected: str) -> None:
    same = (1.0, 1.0, 2.0, 2.0)
    assert verdict(steps(same, second, same), TOLERANCE) == expected


def test_a_comparison_without_gradient_is_no_success() -> None:
    assert verdict(steps((0.0, 0.0, 0.0, 1e-6)), TOLERANCE) == VOID
    assert verdict(steps((0.0, 0.0, 0.0, 1e-6), (0.0, 0.0, 1.0, 1.0)), TOLERANCE) == WITHIN


def test_names() -> None:
    assert choose(["dft", "sft", "dft"]) == ["dft", "sft"]
    assert choose(["grpo"]) == [name for name in CASES if name.startswith("grpo:")]
    with pytest.raises(UserError, match=r"unknown comparison 'grpo:dapoo': did you mean grpo:dapo"):
        choose(["grpo:dapoo"])
    with pytest.raises(UserError, match="no comparisons given"):
        choose([])


def test_exact_rewards_have_an_exact_mean() -> None:
    task = registry.task("countdown")
    problem = {"numbers": [1, 2, 3], "target": 6, "solution": "1 + 2 + 3"}
    exact = ExactRewards(task)
    wrong, right = "<answer> 1 + 2 - 3 </answer>", "<answer> 1 + 2 + 3 </answer>"
    assert [task.verify(problem, text).reward for text in ("", wrong, right)] == [0.0, 0.1, 1.0]
    assert [exact.verify(problem, text).reward for text in ("", wrong, right)] == [0.0, 0.125, 1.0]
    assert exact.name == "countdown"


# --- the command ---


def test_without_trl_one_line_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    code, out, err = call(capsys, "parity", "--out", tmp_path / "records")
    assert code == 2 and out == ""
    assert re.fullmatch(r"error: bench parity needs the extra trl \(not installed: trl.*\n", err)
    assert "pip install 'posttrain-bench[trl]'" in err
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--methods", "uft"), "unknown comparison 'uft'"),
        (("--methods", ","), "one method in it is empty"),
        (("--model", "tyni"), "model 'tyni' does not exist: did you mean tiny?"),
        (("--steps", "0"), "--steps"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "parity", *arguments)
    assert code == 2 and out == ""
    assert expected in err and err.count("\n") == 1


def referee(rate: float) -> Callable[[trl_referee.Replay], list[dict[str, float]]]:
    """A double of TRL's side: our own updates on the recorded rows, at a multiple of the learning rate."""

    def train(replay: trl_referee.Replay) -> list[dict[str, float]]:
        policy = Policy(replay.model, replay.tokenizer, None)
        policy.meter = Meter(policy.architecture, Budget("steps", 1e9))
        limits = {"max_new_tokens": 64, "temperature": 1.0, "max_grad_norm": replay.max_grad_norm}
        limits |= {"micro_batch_tokens": 300, "sample_rows": 64}
        stage = Stage(policy, replay.method, registry.task("countdown"), [], 0, "double", **limits)  # type: ignore
        return [stage.update(rows, rate * replay.method.lr, 0.0) for rows in replay.steps]

    return train


@pytest.fixture
def doubled(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Put the double in TRL's place."""
    monkeypatch.setattr(trl_referee, "check_installed", lambda: None)
    monkeypatch.setattr(parity, "parity_environment", dict)
    return lambda rate: monkeypatch.setattr(trl_referee, "train", referee(rate))


def test_agreement_ends_with_0_and_leaves_its_records(
    doubled: Callable[[float], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    doubled(1.0)
    arguments = ("parity", "--methods", "dft,grpo:dr_grpo", "--steps", 2, "--out", tmp_path)
    code, out, err = call(capsys, *arguments)
    assert code == 0, out
    assert [line.split(":")[0] for line in err.splitlines() if "steps here" in line] == ["dft", "grpo"]
    _, *lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["dft", "grpo:dr_grpo"] and out.count(WITHIN) == 2
    assert {p.name for p in tmp_path.iterdir()} == {"dft.json", "grpo-dr_grpo.json"}
    record = json.loads((tmp_path / "grpo-dr_grpo.json").read_text())
    assert len(record["steps"]) == 2 and record["command"].endswith("--methods grpo:dr_grpo --steps 2")
    assert record["weights"]["max_change"] > 0 and record["weights"]["max_difference"] < 1e-4
    assert record["settings"]["trl"]["loss_type"] == "dr_grpo" and record["settings"]["trl"]["scale_rewards"] == "group"
    assert record["settings"]["trl"]["max_completion_length"] == record["settings"]["fields"]["max_tokens"] == 64


def test_a_difference_ends_with_1(
    doubled: Callable[[float], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    doubled(2.0)
    code, out, _ = call(capsys, "parity", "--methods", "sft", "--steps", 2, "--out", tmp_path, "--json")
    (record,) = json.loads(out)
    assert code == 1 and record["verdict"] == EXCEEDED
    first, second = record["steps"]
    assert abs(first["loss"]["ours"] - first["loss"]["trl"]) < 1e-5  # the rate shows from the second step on
    assert abs(second["loss"]["ours"] - second["loss"]["trl"]) > 1e-3


# --- stored records ---


def test_every_comparison_is_stored() -> None:
    assert {p.name for p in STORED.glob("*.json")} == {f"{name.replace(':', '-')}.json" for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_stored_figures_follow_from_their_steps(name: str) -> None:
    record = json.loads((STORED / f"{name.replace(':', '-')}.json").read_text())
    assert record["comparison"] == name and len(record["steps"]) == 20
    assert record["max_difference"] == differences(record["steps"])
    assert record["verdict"] == verdict(record["steps"], record["tolerance"]) == WITHIN
    assert record["tolerance"] == CASES[name].tolerance
    assert {field: record["settings"]["fields"][field] for field in CASES[name].fields} == CASES[name].fields
    found = record["max_difference"]
    row = rf"\| `{name}` \|.*\| {found['loss']:.1e} \|.*\| {found['grad_norm']:.1e} \|.*\| "
    row += rf"{record['weights']['max_difference']:.1e} of {record['weights']['max_change']:.1e} \|"
    assert re.search(row, (ROOT / "docs" / "parity.md").read_text()), "docs/parity.md shows other figures"


# --- TRL itself ---


@needs_trl
@pytest.mark.parametrize("name", CASES)
def test_three_steps_agree_with_trl(name: str) -> None:
    record = parity.compare_case(name, "tiny", 3)
    assert record["verdict"] == WITHIN, record["max_difference"]
    assert record["weights"]["max_difference"] < record["weights"]["max_change"]
    if name == "grpo:two-updates":
        assert any(step["clip_share"] > 0 for step in record["steps"])


@needs_trl
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("sft", {"divisor": "micro-batch"}),
        ("dft", {"weight": "geometric"}),
        ("grpo:dapo", {"eps": 1e-2}),
        ("grpo:two-updates", {"entropy_coef": 0.01}),
    ],
)
def test_another_loss_is_noticed(name: str, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, name, replace(CASES[name], fields={**CASES[name].fields, **fields}))
    assert parity.compare_case(name, "tiny", 2)["verdict"] == EXCEEDED

"""Declared identities: replayed to the bit for every method that has one, and records of arms that must be equal."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.audit import identities
from bench.engine.runner import execute
from bench.plan import registry
from bench.store.run_folder import read_lines
from bench.study import designs
from bench.study.ablation import Arm, Subject, arm_jobs, text
from bench.study.jobs import Spec
from tests.helpers.runs import EVALUATION, make_job, write_model

SMALL = {
    "uft": {"batch_size": 4, "group_size": 2, "lr": 0.01, "num_updates": 2, "demo_coef": 0.1, "kl_coef": 0.1},
    "chord": {"batch_size": 4, "group_size": 2, "lr": 0.01, "num_demos": 4},
    "grpo": {"batch_size": 4, "group_size": 2, "lr": 0.01, "num_updates": 2},
}
OTHERS: dict[str, Any] = {"batch_size": 4, "lr": 0.01}
DECLARED = [
    (name, n) for name in registry.names("methods") for n in range(len(registry.module("methods", name).IDENTITIES))
]
SPEC: dict[str, Any] = {"budget": "12steps", "level": "3", "template": "compact", "train_size": 40}
SPEC |= {"max_new_tokens": 24, "evaluation": EVALUATION, "device": "cpu", "micro_batch_tokens": 256}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def subject(name: str) -> Subject:
    return Subject(name, {name: SMALL.get(name, OTHERS)})


def as_declared(name: str, number: int) -> tuple[Arm, str, dict[str, Any]]:
    """An arm with the settings of one identity, and what it must equal."""
    when, _, _ = registry.module("methods", name).IDENTITIES[number]
    arm = subject(name).arm("arm", {key: text(value) for key, value in when.items()})
    reduced, fields = identities.reduction(arm)
    return arm, reduced, dict(fields)


def test_the_identities_that_must_be_there_are_declared() -> None:
    ends = {(name, registry.module("methods", name).IDENTITIES[n][1]) for name, n in DECLARED}
    assert ends >= {("uft", "grpo"), ("chord", "grpo"), ("asft", "dft"), ("asft", "sft"), ("curio_sft", "sft")}
    assert ends >= {("eaft", "sft"), ("sdft", "sft"), ("ift", "sft")}


@pytest.mark.parametrize(("name", "number"), DECLARED)
def test_every_declared_identity_holds_to_the_bit(name: str, number: int, model: Path, tmp_path: Path) -> None:
    arm, other, fields = as_declared(name, number)
    job = make_job(model, tmp_path, "sft", budget="40steps")
    found = identities.replay(arm, job, other, fields)
    assert found.difference == "" and found.how == "first 3 steps, seed 0"


@pytest.mark.parametrize(("name", "field", "value"), [("uft", "kl_coef", 0.2), ("chord", "lr", 0.02)])
def test_a_replay_that_differs_says_where(name: str, field: str, value: float, model: Path, tmp_path: Path) -> None:
    number = next(n for m, n in DECLARED if m == name)
    arm, other, fields = as_declared(name, number)
    job = make_job(model, tmp_path, "sft", budget="40steps")
    found = identities.replay(arm, job, other, {**fields, field: value})
    assert found.difference.startswith("step ") and "differ: step" in found.sentence


def test_a_replay_compares_the_weights_too(model: Path, tmp_path: Path) -> None:
    """Weight decay alone leaves no trace in the first step's record."""
    arm, other, fields = as_declared("asft", 0)
    job = make_job(model, tmp_path, "sft", budget="40steps")
    assert identities.replay(arm, job, other, fields, steps=1).difference == ""
    found = identities.replay(arm, job, other, {**fields, "weight_decay": 0.9}, steps=1)
    assert found.difference.startswith("weights model.")


def test_arms_that_must_be_equal_have_equal_records(model: Path, tmp_path: Path) -> None:
    uft = subject("uft")
    ablation = designs.build_ablation(uft, ["schedule=cosine,none", "demo_coef=0,0.1"], "grid")
    names = {(a.name, b.name) for a, b in identities.twins(ablation.arms)}
    assert names == {("schedule=none, demo_coef=0", "schedule=none")}
    spec = Spec(["uft"], ["countdown"], [0], str(model), results=tmp_path, **SPEC)
    planned = arm_jobs(spec, ablation, [uft])
    for name in next(iter(names)):
        execute(planned[name][0], keep="none")
    (agreement,) = identities.check_identities(ablation, planned, replayed=False)
    assert (
        agreement.sentence == "schedule=none, demo_coef=0 and schedule=none: identical to the bit (records of seed 0)."
    )
    left, right = (planned[name][0].path for name in next(iter(names)))
    assert read_lines(left / "items.jsonl") and identities.first_difference(left, left) == ""
    broken = shutil.copytree(right, tmp_path / "broken")
    lines = (broken / "items.jsonl").read_text().splitlines(keepends=True)
    (broken / "items.jsonl").write_text(
        "".join([*lines[:2], lines[2].replace('"split":"', '"split":"x', 1), *lines[3:]])
    )
    assert identities.first_difference(left, broken) == "items.jsonl, record 3: split is val and xval"
    (broken / "items.jsonl").write_text("".join(lines[:-1]))
    assert identities.first_difference(left, broken) == f"items.jsonl has {len(lines)} and {len(lines) - 1} records"


def test_arms_that_draw_other_examples_are_no_twins() -> None:
    chord = subject("chord")
    settings = {"mu_peak": "0", "mu_valley": "0"}
    plain, more = (chord.arm(n, {**settings, "num_demos": n}) for n in ("4", "8"))
    assert identities.reduction(plain) == identities.reduction(more)
    assert identities.twins([plain, more]) == [] and identities.twins([plain, plain]) == [(plain, plain)]

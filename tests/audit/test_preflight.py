"""Preflight passes on the embedded model, and every identity catches the faults that it is there for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.audit import stack as stacks
from bench.audit.preflight import GENERAL, make_stack, run_checks, trained
from bench.audit.stack import Check, Stack
from bench.engine.policy import Policy
from bench.models import model_path, model_settings
from bench.plan import registry
from bench.study.jobs import Spec
from tests.engine.test_model_dirs import make
from tests.helpers import faults, faults_training
from tests.helpers.faults import ENCODERS, FAULTS, GRPO, SFT, Patch, encoded, rewards_not_centred
from tests.helpers.faults_training import POLICIES, TRAINING_FAULTS

METHODS = trained(None)


@pytest.fixture(scope="module")
def stack() -> Stack:
    return make_stack(Spec((), ("countdown",), device="cpu"), "cpu", model_path("tiny"), METHODS)


@pytest.fixture(scope="module")
def outcome(stack: Stack) -> tuple[list[Check], bool]:
    """All checks of the correct engine, and whether they left the weights as they were."""
    before = {k: v.clone() for k, v in stack.policy.model.state_dict().items()}
    found = list(run_checks(stack, METHODS))
    return found, all(torch.equal(v, before[k]) for k, v in stack.policy.model.state_dict().items())


@pytest.mark.parametrize("name", [*GENERAL, *(f"micro-batches {name}" for name in METHODS)])
def test_the_correct_engine_passes(outcome: tuple[list[Check], bool], name: str) -> None:
    (found,) = [c for c in outcome[0] if c.name == name]
    assert found.passed, found
    assert found.measured is not None and math.isfinite(found.measured) and found.task == "countdown"


def test_weights_are_given_back_and_every_training_method_is_covered(outcome: tuple[list[Check], bool]) -> None:
    assert outcome[1]
    assert {c.method for c in outcome[0]} == {"", *registry.names("methods")} - {"base"}


def test_a_check_names_the_settings_that_break_it_on_purpose(outcome: tuple[list[Check], bool]) -> None:
    details = {c.method: c.detail for c in outcome[0]}
    assert "grpo.aggregation=bnpo breaks it on purpose" in details["grpo"]
    assert "sft.divisor=micro-batch breaks it on purpose" in details["sft"]
    assert "on purpose" not in details["raft"]


@pytest.mark.parametrize(
    ("name", "field", "value"), [("sft", "divisor", "micro-batch"), ("grpo", "aggregation", "bnpo")]
)
def test_the_authors_divisors_are_told_from_invariant_ones(stack: Stack, name: str, field: str, value: str) -> None:
    broken = replace(stack, fields={**stack.fields, name: {**stack.fields[name], field: value}})
    (found,) = run_checks(broken, [name], ())
    assert not found.passed and found.measured is not None and found.measured > 100 * found.tolerance


# --- faults ------------------------------------------------------------------------------------------------------


def passed(stack: Stack, names: set[str]) -> dict[str, bool]:
    methods = [name.partition(" ")[2] for name in names if name.startswith("micro-batches")]
    return {c.name: c.passed for c in run_checks(stack, methods, [name for name in GENERAL if name in names])}


ALL_FAULTS = {**FAULTS, **TRAINING_FAULTS}


@pytest.mark.parametrize("fault", ALL_FAULTS, ids=lambda f: f.__name__)
def test_each_fault_is_caught_by_its_checks(stack: Stack, fault: Callable[[Patch], None], monkeypatch: Patch) -> None:
    failing, passing = ALL_FAULTS[fault]
    fault(monkeypatch)
    assert passed(stack, failing | passing) == {**dict.fromkeys(failing, False), **dict.fromkeys(passing, True)}


@pytest.mark.parametrize("name", ENCODERS)
def test_each_faulty_encoder_is_caught(stack: Stack, name: str, monkeypatch: Patch) -> None:
    change, (failing, passing) = ENCODERS[name]
    encoded(change)(monkeypatch, stack)
    assert passed(stack, failing | passing) == {**dict.fromkeys(failing, False), **dict.fromkeys(passing, True)}


def test_every_identity_has_a_fault_that_it_catches() -> None:
    caught = set.union(*(failing for failing, _ in [*ALL_FAULTS.values(), *(sets for _, sets in ENCODERS.values())]))
    assert {*GENERAL, SFT} <= caught


def test_a_check_that_raises_has_failed_with_its_error(stack: Stack, monkeypatch: Patch) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("no\nmemory left")

    monkeypatch.setattr(Policy, "forward", broken)
    (found,) = run_checks(stack, (), ["packing"])
    assert (found.passed, found.measured) == (False, None)
    assert re.fullmatch(r"RuntimeError: no memory left \(test_preflight\.py, line \d+\)", found.detail)


def test_weights_are_given_back_after_a_fault(stack: Stack, monkeypatch: Patch) -> None:
    before = {k: v.clone() for k, v in stack.policy.model.state_dict().items()}
    rewards_not_centred(monkeypatch)
    assert passed(stack, {"constant reward"}) == {"constant reward": False}
    assert all(torch.equal(v, before[k]) for k, v in stack.policy.model.state_dict().items())


def test_a_fault_does_not_spoil_the_checks_after_it(stack: Stack, monkeypatch: Patch) -> None:
    faults.padding_gives_nan(monkeypatch)  # one update makes every weight not a number
    assert [c.passed for c in run_checks(stack, ["sft", "grpo"], ["hand-computed loss", "sampler"])] == [
        False,
        True,
        False,
        True,
    ]


def test_a_value_that_is_not_finite_fails_whatever_it_is_compared_with() -> None:
    for value in (math.nan, math.inf):
        found = stacks.outcome("x", value, math.inf, "two rows")
        assert (found.passed, found.measured, found.detail) == (False, None, "a value is not finite; two rows")


def test_a_byte_level_tokenizer_and_plain_prompts_pass(tmp_path: Path) -> None:
    path = str(make(tmp_path / "qwen2", "qwen2"))
    other = make_stack(Spec((), ("countdown",), model=path, device="cpu"), "cpu", path, [])
    assert other.template == "plain"
    names = {"round trip", "mask", "prefix", "eos", "sampler", "padding"}
    assert passed(other, names) == dict.fromkeys(names, True)


def test_a_text_that_does_not_survive_is_shown_where_it_parts(stack: Stack, monkeypatch: Patch) -> None:
    encoded(faults.with_a_space)(monkeypatch, stack)
    (found,) = run_checks(stack, (), ["round trip"])
    shown = re.fullmatch(r"'(.*)' instead of '(.*)' at character (\d+)", found.detail)
    assert shown is not None and shown[1] != shown[2] and max(map(len, shown.groups())) <= 50


def test_the_hyper_parameters_are_those_of_a_run(stack: Stack) -> None:
    assert stack.fields["sft"]["lr"] == model_settings(model_path("tiny"))["methods"]["sft"]["lr"]
    assert stack.method("hpt").max_tokens == 64 and (stack.level, stack.template) == ("3", "compact")


# --- bfloat16: the tolerances of CUDA, with its autocast emulated on the CPU -------------------------------------

ROUGH = {
    "packing",
    "reference and old policy",
    "optimizer",
    "padding",
    "prefix",
    "hand-computed loss",
    "sampler",
    SFT,
    GRPO,
    "micro-batches uft",
}


@pytest.mark.parametrize(
    ("name", "failing"),
    [
        pytest.param("", set(), marks=pytest.mark.slow),
        pytest.param("last_part_only", {SFT, GRPO, "micro-batches uft", "hand-computed loss"}, marks=pytest.mark.slow),
        pytest.param("gradients_not_accumulated", {SFT, GRPO, "micro-batches uft"}, marks=pytest.mark.slow),
        pytest.param("mean_of_means", {SFT, GRPO, "hand-computed loss"}, marks=pytest.mark.slow),
        ("left_padding", {"packing", "padding", "hand-computed loss"}),
        ("temperature_ignored", {"sampler"}),
        ("sampled_logprobs_shifted", {"sampler", "prefix"}),
        ("reference_is_the_policy", {POLICIES}),
        ("old_policy_never_scored", {POLICIES}),
        ("never_clipped", {"optimizer"}),
        ("weight_decay_ignored", {"optimizer"}),
    ],
)
def test_tolerances_of_bfloat16(stack: Stack, name: str, failing: set[str], monkeypatch: Patch) -> None:
    monkeypatch.setitem(stacks.TOLERANCES, "cpu", stacks.TOLERANCES["cuda"])
    monkeypatch.setattr(Policy, "_autocast", lambda self: torch.autocast("cpu", torch.bfloat16))
    if name:
        getattr(faults if hasattr(faults, name) else faults_training, name)(monkeypatch)
        assert not any(passed(stack, failing).values())
    else:
        assert all(passed(stack, ROUGH).values())

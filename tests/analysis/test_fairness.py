"""What differs between two arms: every status by its rule, and the marks that rows get from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.fairness import Arm, diff_arms, diff_plans, find_concerns, reasons_apart, undeclared
from bench.analysis.field_origin import same_value
from bench.plan.execution import Execution
from bench.plan.spec import RunPlan
from bench.study.jobs import Spec, plan_jobs
from tests.helpers.commands import call
from tests.report.test_formats import record

ENV = {"python": "3.11", "versions": {"torch": "2.0"}, "stack": {"source": "aaaa"}, "cores": 2, "command": ["bench"]}


def plan(method: str = "uft", settings: tuple[str, ...] = (), **changes: Any) -> RunPlan:
    options: dict[str, Any] = {"model": "tiny", "device": "cpu", "settings": settings, **changes}
    return plan_jobs(Spec([method], ["countdown"], **options))[0].plan


def with_field(given: RunPlan, **fields: Any) -> RunPlan:
    """The plan as other code would have made it: fields changed, label not."""
    stage = given.stages[0].model_copy(update={"fields": {**given.stages[0].fields, **fields}})
    return given.model_copy(update={"stages": (stage, *given.stages[1:])})


def statuses(a: RunPlan, b: RunPlan) -> dict[str, tuple[str, str]]:
    return {k.name: (k.status, k.why) for k in diff_plans(a, b)}


def test_equal_plans_and_other_seeds_do_not_differ() -> None:
    assert diff_plans(plan(), plan()) == [] and diff_plans(plan(), plan().model_copy(update={"seed": 7})) == []


def test_defaults_presets_and_variants_declare() -> None:
    found = statuses(plan("uft"), plan("sft"))
    assert found["lr"] == ("tuned", "preset of model tiny")  # bench.json of tiny lists both as tuned
    assert found["betas"] == ("declared", "default of uft; default of sft")
    assert found["demo_coef"] == ("declared", "only one has it; default of uft")
    assert found["method"] == ("declared", "what is compared")
    variant = statuses(plan("uft"), plan("uft:r3"))
    assert variant["schedule"][0] == "declared" and "variant r3" in variant["schedule"][1]
    assert all(status != "undeclared" for status, _ in {**found, **variant}.values())


def test_an_untuned_side_is_named() -> None:
    found = statuses(plan("sft"), plan("raft"))  # raft has a preset that was not tuned
    assert found["lr"][0] == "tuned" and found["lr"][1].startswith("tuned on one side only")


def test_settings_of_the_user_are_declared_by_the_label() -> None:
    found = statuses(plan("uft"), plan("uft", ("uft.lr=0.5", "uft.betas=0.8,0.9")))
    assert found["lr"][0] == "tuned" and "set by the user, in the label" in found["lr"][1]
    assert found["betas"] == ("declared", "default of uft; set by the user, in the label")


def test_a_value_that_nothing_explains_is_undeclared() -> None:
    odd = with_field(plan("uft"), demo_coef=0.123)
    assert statuses(plan("uft"), odd)["demo_coef"] == (
        "undeclared",
        "default of uft; neither default, variant nor preset of uft",
    )
    assert diff_plans(odd, odd) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_grad_norm", 7.0), ("max_new_tokens", 9), ("budget_limit", 5.0), ("protocol", 99)],
)
def test_knobs_of_no_method_are_undeclared(field: str, value: Any) -> None:
    other = plan().model_copy(update={field: value})
    assert statuses(plan(), other) == {field: ("undeclared", "belongs to no method")}


def test_how_a_run_is_computed_counts_where_the_budget_is_time() -> None:
    here = Execution(device="cpu", threads=1, micro_batch_tokens=7, sample_rows=8)
    timed = plan().model_copy(update={"budget_unit": "seconds", "execution": here})
    other = timed.model_copy(update={"execution": here.model_copy(update={"threads": 2})})
    assert statuses(timed, other) == {"threads": ("undeclared", "belongs to no method")}
    assert timed.comparison != other.comparison


def test_the_evaluation_and_the_environment_count() -> None:
    sizes = plan().evaluation.model_copy(update={"test_items": 7})
    assert list(statuses(plan(), plan().model_copy(update={"evaluation": sizes}))) == ["evaluation.test_items"]
    newer = {**ENV, "versions": {"torch": "2.1"}, "command": ["bench", "run"]}  # the command is no knob
    (knob,) = diff_arms([Arm(plan(), ENV)], [Arm(plan(), newer)])
    assert (knob.name, knob.a, knob.b, knob.status) == ("version of torch", "2.0", "2.1", "undeclared")
    (knob,) = diff_arms([Arm(plan(), ENV)], [Arm(plan(), ENV), Arm(plan(), newer)])
    assert (knob.a, knob.b) == ("2.0", "2.0 and 2.1")


def test_pipelines_compare_by_field() -> None:
    found = {k.name: k for k in diff_plans(plan("sft@0.3+grpo"), plan("sft"))}
    assert found["lr"].a == "0.0032 and 0.0001" and found["lr"].b == "0.0032"
    assert found["share"].status == "declared" and "undeclared" not in {k.status for k in found.values()}


def test_runs_that_may_not_be_compared_are_told_apart() -> None:
    other = plan().model_copy(update={"protocol": 9, "model": "big", "model_digest": "x"})
    assert reasons_apart([Arm(plan())], [Arm(other)]) == ["model tiny and big", "protocol 2 and 9"]
    assert reasons_apart([Arm(plan())], [Arm(plan("sft"))]) == []


def test_same_reads_presets_as_they_are_written() -> None:
    assert (
        same_value("0.9,0.95", [0.9, 0.95])
        and same_value([0.9, 0.95], (0.9, 0.95))
        and same_value("true", True)
        and same_value("2", 2)
    )
    assert (
        not same_value("0.9", [0.9, 0.95])
        and not same_value(True, 1)
        and not same_value("x", 1.0)
        and not same_value(None, "x")
    )


def test_rows_that_differ_from_the_common_value_are_marked() -> None:
    newer = {**ENV, "versions": {"torch": "2.1"}}
    arms = {"uft": [Arm(plan("uft"), ENV)] * 2, "sft": [Arm(plan("sft"), newer)], "grpo": [Arm(plan("grpo"), ENV)]}
    assert undeclared(arms) == {"uft": [], "sft": ["version of torch 2.1"], "grpo": []}
    pair = {"uft": [Arm(plan("uft"), ENV)], "sft": [Arm(plan("sft"), newer)]}  # no common value: both
    assert undeclared(pair) == {"uft": ["version of torch 2.0"], "sft": ["version of torch 2.1"]}
    odd = Arm(with_field(plan("uft"), lr=0.77), ENV)
    assert undeclared({"uft": [odd], "sft": [Arm(plan("sft"), ENV)]}) == {"uft": ["lr 0.77"], "sft": []}
    assert undeclared({"uft": [odd], "uft:r3": [odd]}) == {"uft": [], "uft:r3": []}  # nobody has another value


def write(results: Path, given: RunPlan, env: dict[str, Any] | None = None) -> Path:
    path = results / given.directory
    path.mkdir(parents=True)
    (path / "plan.json").write_text(json.dumps(given.model_dump(mode="json")))
    (path / "env.json").write_text(json.dumps(ENV if env is None else env))
    return path


def test_concerns_of_a_results_folder(tmp_path: Path) -> None:
    uft, sft = plan("uft"), plan("sft")
    paths = {p.method: write(tmp_path, p) for p in (uft, sft)}
    write(tmp_path, sft.model_copy(update={"seed": 1}))  # never finished
    torn = write(tmp_path, uft.model_copy(update={"seed": 2}))
    (torn / "done.json").write_text("{")
    records = [
        record(p.method, 0, [[1]], path=str(paths[p.method]), comparison=p.comparison, protocol=p.protocol)
        for p in (uft, sft)
    ]
    for path in paths.values():
        (path / "done.json").write_text("{}")
    found = find_concerns(records, tmp_path, [(torn, "broken")])
    assert found == {
        (sft.comparison, sft.protocol, "sft"): [("missing", "seed 1 unfinished")],
        (uft.comparison, uft.protocol, "uft"): [("missing", "seed 2 corrupted")],
    }
    assert find_concerns([record("uft", 0, [[1]], path=str(tmp_path / "gone"))], None, []) == {}


def test_diff_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, plan("uft"))
    write(tmp_path, plan("sft"))
    code, out, _ = call(capsys, "diff", "uft", "sft", "--results", tmp_path)
    assert code == 0 and "0 undeclared" in out and "default of uft" in out
    other = write(tmp_path, plan("sft", train_size=39))
    code, out, _ = call(capsys, "diff", "uft", other, "--results", tmp_path, "--json")
    found = json.loads(out)
    assert code == 1 and found["knobs"][0] == {
        **{"name": "train_size", "a": "4000", "b": "39"},
        **{"status": "undeclared", "why": "belongs to no method"},
    }
    code, out, _ = call(capsys, "diff", "uft", "sft", "--results", tmp_path)
    assert code == 0 and "train_size" not in out  # those of one comparison
    hard = write(tmp_path, plan("sft", level="4"))
    code, out, _ = call(capsys, "diff", "uft", hard.name, "--results", tmp_path)
    assert code == 1 and "These runs may not be compared: level 3 and 4" in out and "\x1b" not in out


def test_diff_refuses_what_it_cannot_find(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*arguments: object) -> str:
        code, out, err = call(capsys, "diff", *arguments, "--results", tmp_path)
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    assert "has no runs" in error("uft", "sft")
    for level in ("3", "4"):
        for method in ("uft", "sft"):
            write(tmp_path, plan(method, level=level))
    assert "unknown run 'utf': did you mean uft-countdown-" in error("utf", "sft")
    assert "share 2 comparisons" in error("uft", "sft") and "by name, or --task" in error("uft", "sft")
    assert "unknown task of uft 'logic': expected one of countdown" in error("uft", "sft", "--task", "logic")
    (tmp_path / plan("uft", level="3").directory / "plan.json").write_text("{}")
    assert "is corrupted (plan.json: " in error("uft", "sft")

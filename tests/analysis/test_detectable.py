"""What a planned comparison could detect, and `bench plan`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from bench.analysis.detectable import estimated, outlooks, say_outlook
from bench.engine.runner import execute
from bench.plan.spec import Evaluation
from bench.stats.power import TYPICAL
from bench.study.jobs import Spec, plan_jobs
from tests.helpers.commands import call, model_with_defaults
from tests.helpers.runs import NOWHERE, NOWHERE_OPTIONS
from tests.report.test_formats import record

SIZES = ("--test-items", 50, "--test-samples", 2, "--val-items", 8, "--device", "cpu", *NOWHERE_OPTIONS)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_with_defaults(tmp_path_factory.mktemp("models") / "small")


def planned(results, methods="sft,grpo,uft", seeds=(0, 1, 2), tasks=("countdown",), **sizes):
    spec = Spec(methods.split(","), tasks, seeds, evaluation=Evaluation(**sizes), device="cpu", results=results)
    return outlooks(plan_jobs(spec), results)[0]


def test_more_seeds_items_and_samples_detect_more_and_more_pairs_less(tmp_path):
    usual = planned(tmp_path)
    assert (usual.num_methods, usual.num_pairs, usual.num_seeds, usual.num_items) == (3, 3, 3, 500)
    assert planned(tmp_path, seeds=range(5)).detectable < usual.detectable
    many = planned(tmp_path, seeds=range(10))
    assert planned(tmp_path, seeds=range(10), test_items=2000).detectable < many.detectable
    assert planned(tmp_path, test_samples=16).detectable < usual.detectable
    assert planned(tmp_path, "sft,grpo,uft,dft,chord").detectable > usual.detectable
    assert planned(tmp_path, "base,sft,grpo,uft").num_pairs == 3, "pairs with base are a family of their own"
    assert planned(tmp_path, "base,sft").num_pairs == 1
    both = planned(tmp_path, tasks=("countdown", "logic"))
    assert both.num_pairs == 6 and both.detectable > usual.detectable, "every task is a chance for a false finding"


def test_the_seeds_needed_are_those_that_detect_the_effect(tmp_path):
    needed = planned(tmp_path).seeds_needed
    assert list(needed) == ["2", "5", "10"] and needed["10"] < needed["5"]
    enough = planned(tmp_path, seeds=range(needed["5"])).detectable
    too_few = planned(tmp_path, seeds=range(needed["5"] - 1)).detectable
    assert enough <= 0.05 < too_few


def test_variances_without_runs_are_assumed_and_said_to_be(tmp_path):
    found = planned(tmp_path)
    assert found.variances == TYPICAL and found.origin == "assumed"
    text = " ".join(say_outlook(found))
    assert f"a difference of {100 * found.detectable:.1f} points between two methods" in text and "(assumed)" in text
    assert "Holm's correction over 3 pairs of methods and tasks" in text
    assert "One seed" in " ".join(say_outlook(planned(tmp_path, seeds=(0,))))


def test_variances_come_from_pairs_of_methods_that_share_two_seeds():
    """Known truth: item effects that the methods do not share, and samples drawn anew."""
    rng = np.random.default_rng(0)
    chances = {"sft": rng.uniform(0, 1, 2000), "uft": rng.uniform(0, 1, 2000)}
    runs = [
        record(method, seed, rng.random((2000, 4)) < chance[:, None], item_ids=tuple(f"{i:04}" for i in range(2000)))
        for method, chance in chances.items()
        for seed in (0, 1, 2)
    ]
    found = estimated(runs)
    assert found is not None
    variances, origin = found
    assert origin == "estimated from 1 pair of 2 methods run earlier"
    assert variances.item == pytest.approx(2 / 12, abs=0.01), "the difference of two uniform variables"
    assert variances.decoding == pytest.approx(2 / 6, abs=0.01), "twice the mean of p (1 - p)"
    assert variances.seed < 0.001 and variances.interaction < 0.01
    assert estimated(runs[:3]) is None, "one method"
    assert estimated([r for r in runs if (r.method, r.seed) in {("sft", 0), ("uft", 0), ("uft", 1)}]) is None
    assert estimated([*runs[:3], *(record("base", r.seed, r.correct, item_ids=r.item_ids) for r in runs[3:])]) is None


def test_plan_prints_cost_and_outlook_and_uses_finished_runs(model, tmp_path, capsys):
    arguments = ("plan", "--methods", "base,sft,grpo", "--seeds", 2, "--model", model, "--results", tmp_path, *SIZES)
    code, out, err = call(capsys, *arguments)
    text = " ".join(out.split())
    assert code == 0, err
    assert "6 runs to do" in text and "nothing was started" in text and list(tmp_path.iterdir()) == []
    assert "2 seeds x 50 items x 2 samples can detect" in text and "(assumed)" in text
    plan = json.loads(call(capsys, *arguments, "--json")[1])
    dry = json.loads(call(capsys, "run", *arguments[1:], "--dry-run", "--json")[1])
    assert [r["run"] for r in plan["runs"]] == [r["run"] for r in dry]
    assert plan["outlook"][0]["origin"] == "assumed" and plan["outlook"][0]["num_pairs"] == 1
    spec = Spec(["sft", "grpo"], ["countdown"], (0, 1), str(model), device="cpu", results=tmp_path)
    small = {"val_items": 8, "val_samples": 2, "test_items": 50, "test_samples": 2}
    spec = replace(spec, evaluation=Evaluation(**small, **NOWHERE))
    for job in plan_jobs(spec):
        execute(job, keep="none")
    after = json.loads(call(capsys, *arguments, "--json")[1])
    assert sum(r["finished"] for r in after["runs"]) == 4
    assert after["outlook"][0]["origin"] == "estimated from 1 pair of 2 methods run earlier"
    elsewhere = json.loads(call(capsys, *arguments, "--level", "4", "--json")[1])
    assert elsewhere["outlook"][0]["origin"] == "assumed", "runs of another level say nothing"


def test_bad_input_of_plan_is_named(tmp_path, capsys):
    code, out, err = call(capsys, "plan", "--methods", "sftt", "--results", tmp_path)
    assert code == 2 and out == "" and "unknown method 'sftt': did you mean sft" in err

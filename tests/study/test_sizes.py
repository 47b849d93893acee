"""Sizes follow the level, and batches the budget."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from bench.analysis.fairness import UNDECLARED, diff_plans
from bench.models import TINY
from bench.plan import registry
from bench.plan.budget import Budget, Meter
from bench.plan.spec import Evaluation, RunPlan
from bench.study import batches, sizes
from bench.study.jobs import Spec, plan_jobs
from bench.types import UserError
from tasks.common import split_of

NOWHERE = {"ood_items": 0, "reworded_items": 0, "other_items": 0, "skill_items": 0}
FEW = Evaluation(val_items=4, test_items=4, **NOWHERE)


@pytest.fixture
def few(monkeypatch):
    """A task with a thousand problems, one level; which of them are of a split is known."""
    task = SimpleNamespace(
        name="few", levels=("only",), generate=lambda rng, level: {"n": rng.randrange(1000)}, key=lambda p: str(p["n"])
    )
    monkeypatch.setattr(registry, "task", lambda name: task)
    sizes.repeats.cache_clear()
    sizes.available.cache_clear()
    yield {split: sum(split_of("few", str(n)) == split for n in range(1000)) for split in sizes.SHARES}
    sizes.repeats.cache_clear()
    sizes.available.cache_clear()


def test_a_level_is_asked_for_no_more_than_it_has(few):
    said: list[str] = []
    assert sizes.pool_size("few", "only", "", 5000, said.append) == few["train"]
    assert said == [
        f"level only of few has {few['train']} training problems, not 5000: --train-size {few['train']} is used"
    ]
    assert sizes.pool_size("few", "only", "", 100, said.append) == 100 and len(said) == 1
    usual = sizes.pool_size("few", "only", "", None, said.append)
    assert 0.3 * few["train"] < usual < 0.8 * few["train"], "half, by an estimate"
    assert sizes.available("few", "only", "test", "", 500) == few["test"]


@pytest.mark.parametrize("draws", [50, 200, 1000, 2000])
def test_the_size_of_a_level_is_not_overstated(few, draws):
    assert sizes.at_least("few", "only", draws) <= 1000
    assert sizes.has("few", "only", "train", 10) and not sizes.has("few", "only", "train", few["train"])


def test_countdown_has_9865_training_problems():
    """Counted once by drawing all: the size for which the default pool of 10,000 failed."""
    assert sizes.has("countdown", "3", "train", 4000) and not sizes.has("countdown", "3", "train", 9865)
    assert 0.35 * 9865 < sizes.usual_pool("countdown", "3") < 0.65 * 9865
    assert sizes.usual_pool("math", "3") == sizes.USUAL


# --- --batch auto ---------------------------------------------------------------------------------------------------


def planned(methods, batch, budget="3e11flops", **options):
    told: list[str] = []
    spec = Spec(methods, ["countdown"], (0, 1), budget=budget, batch=batch, evaluation=FEW, tell=told.append, **options)
    return plan_jobs(spec), told


def test_a_step_of_every_method_costs_the_same_share_at_most():
    """By hand for sft: tiny has 4 layers of width 96 and MLPs of 256, 4 heads of 24, and ties its head."""
    plain, scaled = planned(["sft", "uft"], None)[0], planned(["sft", "uft"], "auto")[0]
    config = json.loads((TINY / "config.json").read_text())
    d, mlp, layers, vocab = (config[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"))
    body = layers * (4 * d * d + 3 * d * mlp)
    probe = batches.probes_of(scaled[:1])[scaled[0].model_path, "countdown"]
    longest = max(probe.examples, key=lambda e: len(e.prompt_ids) + len(e.demo_ids))
    n, t = len(longest.prompt_ids) + len(longest.demo_ids), len(longest.demo_ids)
    row = 3 * (2 * body * n + 2 * vocab * d * t + 4 * layers * d * n * n)
    for budget in (3e11, 3e10):
        [sft, *_] = planned(["sft"], "auto", f"{budget}flops")[0]
        size = sft.plan.stages[0].fields["batch_size"]
        assert size == max(1, min(32, int(budget / 50 // row)))
    before, after = plain[2].plan.stages[0].fields, scaled[2].plan.stages[0].fields
    assert {k for k in before if before[k] != after[k]} == {"batch_size"} and 1 <= after["batch_size"] < 16
    assert [job.plan.stages for job in scaled[2:4]] == [scaled[2].plan.stages] * 2, "equal for all seeds"
    assert scaled[2].plan.run_id != plain[2].plan.run_id
    assert {job.plan.comparison for job in (*plain, *scaled)} == {plain[0].plan.comparison}


def test_a_step_on_rewritten_targets_costs_no_more():
    """Of s3ft: a target may be a prefix of half the steps and then as many tokens as a completion may have."""
    [job, *_] = planned(["s3ft"], "auto", "1e11flops")[0]
    probe = batches.probes_of([job])[job.model_path, "countdown"]
    longest = max(probe.examples, key=lambda e: len(e.prompt_ids) + len(e.demo_ids))
    target = longest.step_ends[round(0.5 * len(longest.step_ends)) - 1] + job.plan.max_new_tokens
    assert target > len(longest.demo_ids)
    meter = Meter(probe.architecture, Budget("flops", float("inf")))
    size = job.plan.stages[0].fields["batch_size"]
    meter.charge_train([len(longest.prompt_ids) + target] * size, [target] * size, 0)
    assert 0.9e11 / 50 * size / (size + 1) < meter.ledger.flops <= 1e11 / 50


def test_what_was_scaled_is_said_recorded_and_declared():
    (sft, _, uft, _), told = planned(["sft", "uft"], "auto")
    assert uft.plan.scaled is not None and uft.plan.scaled.before == {"0:uft.batch_size": 16}
    assert any(note.startswith("--batch auto: uft on countdown: uft.batch_size 16 to ") for note in told)
    again = RunPlan.restore(uft.plan.record())
    assert (again.run_id, again.scaled) == (uft.plan.run_id, uft.plan.scaled)
    assert "scaled" not in planned(["uft"], None)[0][0].plan.record()
    (knob,) = [knob for knob in diff_plans(sft.plan, uft.plan) if knob.name == "batch_size"]
    assert knob.status != UNDECLARED and "16 made smaller by --batch auto" in knob.why


def test_sizes_that_go_with_a_batch_shrink_with_it():
    fields = {"batch_size": 16, "num_updates": 4, "num_demos": 8, "group_size": 8}
    stage = planned(["chord"], None)[0][0].plan.stages[0].model_copy(update={"fields": fields})
    assert batches.with_batch(stage, 4).fields == {"batch_size": 4, "num_updates": 4, "num_demos": 2, "group_size": 8}
    assert batches.with_batch(stage, 1).fields == {"batch_size": 1, "num_updates": 1, "num_demos": 1, "group_size": 8}


@pytest.mark.parametrize("budget", ["300s", "20steps"])
def test_a_batch_follows_only_a_budget_that_it_spends(budget):
    with pytest.raises(UserError, match="--batch auto needs a budget in flops, tokens or rollouts"):
        planned(["sft"], "auto", budget)

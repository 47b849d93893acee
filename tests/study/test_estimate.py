"""What is said of a run's time before it starts, against sums by hand and a measurement."""

from __future__ import annotations

import random
from time import time

import pytest

from bench.plan.spec import Evaluation
from bench.store.files import write_atomic
from bench.store.run_folder import LAST
from bench.store.run_store import RunStore
from bench.study import durations, rate_probe
from bench.study.estimate import estimate_runs
from bench.study.jobs import Spec, plan_jobs
from bench.study.probe import probes_of
from bench.study.rates import Rates
from bench.study.slots import Slot

RATES = Rates(train=2e9, score=3e9, update=0.25, token=0.5, row=0.125, length=10.0, load=0.01, verify=0.0, start=7.0)
EVALUATION = Evaluation(val_items=4, test_items=6, val_samples=2, test_samples=2, ood_items=0, reworded_items=0,
                        other_items=0, skill_items=0)  # fmt: skip


def job_of(method, **options):
    return plan_jobs(Spec([method], ["countdown"], train_size=50, evaluation=EVALUATION, **options))[0]


def test_a_step_of_sft_takes_its_flops_and_an_update():
    job = job_of("sft")
    probe = probes_of([job])[job.model_path, "countdown"]
    example = durations.usual(probe)
    n, t = len(example.prompt_ids) + len(example.demo_ids), len(example.demo_ids)
    flops = 32 * 3 * probe.architecture.forward(n, t)
    step = durations.typical_step(job, probe, 0, RATES)
    assert (step.cost, step.flops, step.sample_seconds) == pytest.approx((flops, flops, 0))
    assert step.train_seconds == pytest.approx(flops / 2e9 + 0.25)


def test_a_step_of_grpo_samples_scores_and_trains():
    job = job_of("grpo", settings=["grpo.batch_size=2", "grpo.group_size=4", "grpo.kl_coef=0.1"])
    probe = probes_of([job])[job.model_path, "countdown"]
    n, forward = len(durations.usual(probe).prompt_ids), probe.architecture.forward
    step = durations.typical_step(job, probe, 0, RATES)
    assert step.train_seconds == pytest.approx(8 * forward(n + 10, 10) * (3 / 2e9 + 1 / 3e9) + 0.25)
    # One chunk of 8 rows: its longest row has twice the mean of 10 tokens.
    assert step.sample_seconds == pytest.approx(2 * forward(n, 1) / 3e9 + 0.5 * 20 + 0.125 * 8 * 10)


def test_evaluations_of_a_run():
    """Four validations and the tests of the last and of the best policy; base has one of each."""
    assert durations.judged(job_of("sft")) == [(4, 2)] * 4 + [(6, 2), (6, 2)]
    assert durations.judged(job_of("base")) == [(4, 2), (6, 2)]
    assert durations.completions(job_of("base")) == 12 + 18


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3])
def test_mean_length_of_completions_that_end_at_a_rate(share):
    rng = random.Random(4)
    lengths = [next((n for n in range(1, 64) if rng.random() < share), 64) for _ in range(4000)]
    seen = [min(n, 20) for n in lengths]
    ends = sum(n <= 20 for n in lengths) if share else 0
    assert rate_probe.mean_length(sum(seen), ends, 64) == pytest.approx(sum(lengths) / 4000, rel=0.05)


def test_the_parts_of_an_estimate_make_its_time(tmp_path):
    """The rates are those of conftest.py."""
    for estimate in estimate_runs([job_of("base"), job_of("uft")], tmp_path, LAST, print, [Slot(0), Slot(1)]):
        parts = ("start", "train", "sample", "evaluation")
        assert estimate.seconds == pytest.approx(sum(getattr(estimate, f"{part}_seconds") for part in parts))
        assert estimate.start_seconds >= 5.0 and estimate.evaluation_seconds > 0


def test_a_finished_run_goes_before_a_measurement(tmp_path):
    """Its ledger took 2 s for 4e11 FLOPs, its evaluations 3 s for 30 completions."""
    job = job_of("sft")
    store = RunStore(tmp_path / "earlier")
    write_atomic(store.path / "plan.json", job.plan.record())
    write_atomic(store.path / "env.json", {"execution": job.execution.model_dump()})
    for name in ("metrics.jsonl", "items.jsonl"):
        store.append(name, [{}])
    store.append("evals.jsonl", [{"num_items": 10, "num_samples": 2, "seconds": 3.0}])
    store.finish({"seconds": 2.0, "flops": 4e11})
    past = dict(durations.past_runs([job], tmp_path))
    assert past == {durations.identity(job): durations.Past(5e-12, 0.1)}
    (estimate,) = estimate_runs([job], tmp_path, LAST, print)
    number = 4 * 4 * 3 + 2 * 6 * 3
    assert (estimate.train_seconds, estimate.evaluation_seconds) == pytest.approx(
        (estimate.flops * 5e-12, number * 0.1)
    )


def test_what_a_process_measures(monkeypatch):
    """Every rate is there and positive, and no faster than the machine's matrix products by far."""
    monkeypatch.setattr(rate_probe, "SECONDS", 0.1)
    monkeypatch.setattr("bench.study.probe.SAMPLE", 8)
    found = rate_probe.measure(job_of("uft", max_new_tokens=16, device="cpu"), time())
    assert set(found) == set(vars(RATES)) and all(value >= 0 for value in found.values())
    assert all(found[name] > 0 for name in ("train", "score", "update", "start", "load")) and found["busy"] >= 1
    assert 1 <= found["length"] <= 16 and found["train"] < 1e12

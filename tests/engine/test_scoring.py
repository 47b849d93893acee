"""What a method may ask while it collects: scores against the model's own logits, and a memory that outlives a kill."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.engine import checkpoint
from bench.engine.policy import Policy
from bench.engine.runner import execute
from bench.engine.trainer import Stage
from bench.plan.budget import Budget, Ledger, Meter
from bench.plan.execution import LOGITS_BYTES
from bench.plan.spec import Evaluation
from bench.store.run_folder import read_lines
from bench.types import Preparer, Trajectory
from tests.helpers.engine import TOKENIZER, method, pool, small_model, small_policy, stage
from tests.helpers.runs import NOWHERE, SETTINGS, differences, make_job, outcome, write_model

ROWS = [Trajectory(e.prompt_ids, e.demo_ids[:k], e.demo_ids[k:]) for k, e in enumerate(pool(7))]


FEW = Evaluation(val_items=2, val_samples=1, test_items=2, test_samples=1, **NOWHERE, fractions=(1.0,))


def features(logits: torch.Tensor) -> torch.Tensor:
    return torch.cat([logits[0, :3], logits.mean(0)[:2], logits.new_tensor([len(logits)])])


@pytest.mark.parametrize("how", ["plain", "packed", "chunks"])
def test_scores_are_those_of_the_models_own_logits_and_are_charged(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOGITS_BYTES, "cpu", 4 * len(TOKENIZER) * (7 if how == "chunks" else 10_000))
    policy = Policy(small_model(4, 0.3), TOKENIZER, packing=how == "packed")
    policy.meter = Meter(policy.architecture, Budget.parse("1Tflops"))
    current = stage(policy, method("sft"), pool(4), micro_batch_tokens=150)
    found = current._context(0).score(ROWS, features=features)
    assert policy.packed == (how == "packed") and len(found) == len(ROWS)
    for row, scores in zip(ROWS, found):
        ids, first = torch.tensor([[*row.prompt_ids, *row.demo_ids, *row.completion_ids]]), len(row.prompt_ids) - 1
        with torch.no_grad():
            logits = policy.model(input_ids=ids).logits[0, first:-1]
        logp = logits.log_softmax(-1)
        torch.testing.assert_close(scores.logprobs, logp.gather(1, ids[0, first + 1 :, None])[:, 0], atol=2e-5, rtol=0)
        torch.testing.assert_close(scores.entropies, -(logp.exp() * logp).sum(-1), atol=2e-5, rtol=0)
        assert scores.features is not None
        torch.testing.assert_close(scores.features, features(logits), atol=2e-5, rtol=1e-5)
    ledger = policy.meter.ledger
    sizes = [(len(row), len(row.demo_ids) + len(row.completion_ids)) for row in ROWS]
    assert ledger.scored_tokens == sum(n for n, _ in sizes) and ledger.seconds_score > 0
    assert ledger.flops == sum(policy.architecture.forward(n, t) for n, t in sizes)
    plain = current._context(0).score(ROWS)
    assert all(s.features is None and torch.equal(s.logprobs, f.logprobs) for s, f in zip(plain, found))
    assert current._context(0).score([]) == []


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("q_tuning", {"sample_share": 0.5}),
        ("uds", {"keep": 1}),
        ("discriminative_ft", {}),
        ("lfu", {}),
    ],
)
@pytest.mark.parametrize("budget", ["300Mflops", "5ktokens"])
def test_no_step_costs_more_than_its_worst_case(name: str, fields: dict[str, Any], budget: str) -> None:
    policy = small_policy(budget=budget)
    meter = policy.meter
    assert meter is not None
    current = stage(policy, method(name, **{**fields, "batch_size": 4}), pool(6), max_new_tokens=9)
    if isinstance(current.method, Preparer):  # off the meter's limit, which is that of a few steps
        current.pool = current.method.prepare(current.pool, current._context(1))
        meter.ledger = Ledger()
    for steps in range(50):
        before, bound = meter.spent, current.worst_case(current.examples())
        if current.run_step() is None:
            assert before + bound > meter.limit and steps > 0
            break
        assert 0.5 * bound < meter.spent - before <= bound


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("scoring") / "model")


@pytest.mark.parametrize("name", ["uds", "discriminative_ft"])
def test_a_run_that_was_interrupted_remembers(
    name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queue and averages are what they would have been, and so are the negatives that were drawn once."""
    monkeypatch.setitem(SETTINGS, name, ("batch_size=4", "lr=0.01", *(["alpha=1000"] if name == "uds" else [])))
    monkeypatch.setenv(checkpoint.INTERVAL, "0")
    whole, broken = (make_job(model, tmp_path / part, name, "5steps", evaluation=FEW) for part in ("whole", "broken"))
    memories: list[dict[str, torch.Tensor]] = []
    step = Stage.run_step

    def noted(self: Stage) -> Any:
        record = step(self)
        memories.append(dict(self.memory))
        return record

    def interrupted(self: Stage) -> Any:
        if len(memories) == 2:
            raise KeyboardInterrupt
        return noted(self)

    monkeypatch.setattr(Stage, "run_step", noted)
    execute(whole)
    expected, memories[:] = list(memories), []
    monkeypatch.setattr(Stage, "run_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        execute(broken)
    monkeypatch.setattr(Stage, "run_step", noted)
    execute(broken)
    assert differences(outcome(broken.path), outcome(whole.path)) == []
    assert len(memories) == len(expected)
    for ours, theirs in zip(memories, expected):
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert expected[-1] and expected[0].keys() <= expected[-1].keys()
    if name == "discriminative_ft":
        lines = read_lines(whole.path / "targets.jsonl")
        assert len(lines) == 40 and all(len(line["answers"]) == 2 for line in lines)
        assert all(len(a["logprobs"]) == len(a["token_ids"]) for line in lines for a in line["answers"])


def test_a_seed_decides_what_is_remembered() -> None:
    def memory() -> dict[str, torch.Tensor]:
        policy = small_policy(3, "1Tflops")
        current = stage(policy, method("uds", alpha=1e3), pool(12))
        for _ in range(2):
            current.run_step()
        return current.memory

    random.seed(1)  # nothing reads the global generators
    torch.manual_seed(1)
    first = memory()
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(first.values(), memory().values(), strict=True))

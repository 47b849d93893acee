"""Self-Rewarding PPO: rewards are log ratios of two kept models; where these agree nothing moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.engine import runner
from bench.engine.planned import planned_policy, planned_stage
from bench.plan.budget import Meter
from bench.store.run_folder import read_json, read_lines
from bench.types import Requests, Scores, Trajectory
from methods.grpo import GRPO
from methods.self_rewarding_ppo import SelfRewardingPPO
from tests.helpers.engine import pool
from tests.helpers.runs import EVALUATION, make_job, write_model
from tests.methods.batches import Scripted, example, fixture

EXAMPLES = [example(n, name=str(n)) for n in (1, 3)]
SMALL = SelfRewardingPPO(batch_size=2, group_size=3, num_updates=1, lr=0.01, weight_decay=0.0)


class Table(Scripted):
    """Rollout i has i + 1 tokens; each has log-probability -1 under the initial model, -(i + 1) / 2 under SFT's."""

    def score(self, rows: Sequence[Trajectory], *, features: Any = None, under: str = "policy") -> list[Scores]:
        assert under in ("reference", "initial")
        found = []
        for row in rows:
            n = len(row.completion_ids)
            each = -1.0 if under == "initial" else -0.5 * n
            found.append(Scores(torch.full((n,), each), torch.zeros(n)))
        return found


@pytest.mark.parametrize(("reduce", "rewards"), [("sum", [0.5, 0.0, -1.5, -4.0]), ("mean", [0.5, 0.0, -0.5, -1.0])])
def test_rewards_and_advantages_by_hand(reduce: str, rewards: list[float]) -> None:
    rows = SelfRewardingPPO(reduce=reduce, group_size=4).collect(EXAMPLES, Table())
    r = np.array(rewards)
    expected = (r - r.mean()) / (r.std(ddof=1) + 1e-6)
    assert [row.reward for row in rows] == pytest.approx(rewards * 2)
    assert [row.advantage for row in rows] == pytest.approx([*expected, *expected])
    assert [row.group for row in rows] == [0] * 4 + [1] * 4
    assert [row.correct for row in rows] == [True, False, False, True] * 2, "verdicts are logged, not heard"


def test_the_verifier_is_not_heard() -> None:
    right, wrong = (Table(reward=lambda *_, r=r: r) for r in (1.0, 0.0))
    rows = zip(SMALL.collect(EXAMPLES, right), SMALL.collect(EXAMPLES, wrong), strict=True)
    assert all(a == replace(b, correct=True) for a, b in rows)


@pytest.mark.parametrize("splits", [None, [[0], [1], [2]], [[2, 0], [1]]])
def test_the_loss_is_that_of_grpo_without_entropy_bonus(splits: Any) -> None:
    made = fixture([(0, 2), (0, 4), (0, 1)], [1.5, -0.5, 2.0], old_shift=0.5, ref_shift=0.5)
    ours, theirs = made.gradient(SelfRewardingPPO(), splits), made.gradient(GRPO(entropy_coef=0.0), splits)
    assert all(map(torch.equal, ours, theirs)) and ours[1].any()


def test_what_it_asks_for_and_what_a_step_may_cost() -> None:
    asks = Requests.of(SMALL)
    assert asks == Requests(uses_reference=True, scored_under=("reference", "initial")) and asks.frozen_models == 2
    alone = Requests.of(replace(SMALL, kl_coef=0.0))
    assert not alone.uses_reference and alone.keeps_reference and alone.frozen_models == 2
    rows = SMALL.worst_case(EXAMPLES, 10)
    assert list(rows.score) == [*rows.train, *rows.train] and len(rows.train) == 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def step(model: Path, results: Path, moved: float) -> tuple[dict[str, Any], dict[str, float], float, Any]:
    """One step of a policy that begins this far from the stored model: record, ledger, bound and the weights' move."""
    job = make_job(model, results, "sft", budget="1e15flops")
    policy = planned_policy(job)
    policy.meter = Meter(policy.architecture, job.plan.budget)
    if moved:
        noise = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in policy.model.parameters():
                p.mul_(1 + moved * torch.randn(p.shape, generator=noise))
    stage = planned_stage(job, policy, SMALL, pool(8), "1:self_rewarding_ppo")
    before = [p.detach().clone() for p in policy.model.parameters()]
    bound = stage.worst_case(stage.examples())
    record = stage.run_step()
    assert record is not None
    changed = max(float((p.detach() - q).abs().max()) for p, q in zip(policy.model.parameters(), before))
    return record, policy.meter.ledger.record(), bound, changed


def test_where_the_models_agree_nothing_moves_and_all_is_charged(model: Path, tmp_path: Path) -> None:
    record, ledger, bound, changed = step(model, tmp_path, 0.0)
    assert record["reward"] == record["loss"] == record["grad_norm"] == changed == 0.0
    assert ledger["scored_tokens"] == 3 * ledger["trained_tokens"], "fine-tuned and initial model, and the KL's pass"
    assert 0 < ledger["flops"] <= bound


def test_a_fine_tuned_policy_is_rewarded_by_the_stored_model(model: Path, tmp_path: Path) -> None:
    record, _, _, changed = step(model, tmp_path, 0.1)
    assert record["reward"] != 0.0 and record["grad_norm"] > 0 and changed > 0


def test_it_runs_behind_sft(model: Path, tmp_path: Path) -> None:
    """The whole pipeline: after SFT the models differ, and the second stage is rewarded."""
    small = EVALUATION.model_copy(update={"val_items": 2, "test_items": 2, "fractions": (1.0,)})
    job = make_job(model, tmp_path, "sft+self_rewarding_ppo", budget="4steps", evaluation=small)
    runner.execute(job, keep="none")
    steps = [line for line in read_lines(job.path / "metrics.jsonl") if line["stage"] == "1:self_rewarding_ppo"]
    assert len(steps) == 2 and all(line["reward"] != 0 for line in steps)
    assert read_json(job.path / "done.json")["ledger"]["scored_tokens"] > 0


@pytest.mark.parametrize("wrong", [{"reduce": "last"}, {"scale": "batch"}, {"group_size": 1}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SelfRewardingPPO(**wrong)

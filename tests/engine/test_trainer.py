"""The training loop: gradients, schedules, data order, equal budgets, rescoring."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.engine.step import learning_rate
from bench.types import Batch, Example, Loss, Trajectory
from methods.grpo import GRPO
from tests.helpers.engine import kept_gradients, method, pool, run, small_policy, stage


class Seen:
    """A method that keeps the batches and the gradients of its updates."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.batches = inner, list[Batch]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def loss(self, batch: Batch) -> Loss:
        self.batches.append(batch)
        found: Loss = self.inner.loss(batch)
        return found


def rows_for(name: str, examples: list[Example]) -> list[Trajectory]:
    """A fixed optimizer batch as the method would collect it, with advantages of both signs."""
    rows = []
    for group, e in enumerate(examples):
        for k in range(1 if name == "sft" else 3):
            cut = {"sft": len(e.demo_ids), "grpo": 0, "uft": e.step_ends[group % 2]}[name]
            completion = e.demo_ids[cut : len(e.demo_ids) - 2 * k]
            rows.append(Trajectory(e.prompt_ids, e.demo_ids[:cut], completion, (), (1.0, -0.6, 0.3)[k], group))
    return rows


@pytest.mark.parametrize(
    ("name", "fields"),
    [("sft", {}), ("grpo", {}), ("grpo", {"aggregation": "grpo"}), ("uft", {"demo_coef": 0.5, "entropy_coef": 0.1})],
)
def test_micro_batches_do_not_change_the_gradient(name: str, fields: dict[str, Any]) -> None:
    rows = rows_for(name, pool(6))
    outcomes = []
    for tokens in (1, 100, 100_000):
        policy = small_policy(budget="1Gtokens")
        chosen = Seen(method(name, num_updates=1, **fields))
        current = stage(policy, chosen, pool(6), micro_batch_tokens=tokens, max_grad_norm=math.inf)
        with torch.no_grad():  # a reference that differs, so that the KL has a gradient
            for parameter in current.reference.parameters() if current.reference else ():
                parameter.add_(0.01)
        found, record = kept_gradients(current), current.update(rows, 0.0, 0.3)
        outcomes.append((len(chosen.batches), found[0], record))
    assert outcomes[0][0] == len(rows) > outcomes[1][0] > outcomes[2][0] == 1
    for _, gradient, record in outcomes[:2]:
        assert (gradient - outcomes[2][1]).norm() <= 1e-5 * outcomes[2][1].norm()
        assert record == pytest.approx(outcomes[2][2], rel=1e-4, abs=1e-6)  # logs agree too


def test_the_gradient_is_clipped_and_logged() -> None:
    gradients: list[torch.Tensor] = []
    for limit in (1e-3, math.inf):
        current = stage(small_policy(budget="1Gtokens"), method("sft"), pool(8), max_grad_norm=limit)
        found, record = kept_gradients(current), current.run_step()
        assert record is not None and record["grad_norm"] > 0.1  # before clipping
        assert all(p.grad is None for p in current.policy.model.parameters())  # freed for the sampler
        gradients += found
    clipped, free = gradients
    assert clipped.norm() == pytest.approx(1e-3, rel=1e-3)
    torch.testing.assert_close(clipped / clipped.norm(), free / free.norm(), atol=1e-5, rtol=1e-3)


def test_learning_rates_by_hand() -> None:
    def rates(warmup: float, decay: str, *shares: float) -> list[float]:
        chosen = replace(GRPO(), lr=2.0, warmup=warmup, decay=decay)
        return [learning_rate(chosen, share) for share in shares]

    assert rates(0.0, "constant", 0.0, 0.5, 1.0) == [2.0, 2.0, 2.0]
    assert rates(0.2, "constant", 0.0, 0.05, 0.1, 0.2, 0.9) == pytest.approx([0.02, 0.5, 1.0, 2.0, 2.0])
    assert rates(0.0, "linear", 0.0, 0.25, 1.0) == pytest.approx([2.0, 1.5, 0.0])
    assert rates(0.2, "linear", 0.1, 0.2, 0.6, 1.0) == pytest.approx([1.0, 2.0, 1.0, 0.0])
    assert rates(0.0, "cosine", 0.0, 1 / 3, 0.5, 1.0) == pytest.approx([2.0, 1.5, 1.0, 0.0])
    assert rates(0.5, "cosine", 0.25, 0.5, 0.75, 1.0) == pytest.approx([1.0, 2.0, 1.0, 0.0])
    assert rates(1.0, "cosine", 0.5, 1.0) == pytest.approx([1.0, 2.0])
    policy = small_policy(budget="5ktokens")
    current = stage(policy, method("sft", lr=1e-4, decay="linear", warmup=0.0), pool(20))
    records = run(current)
    assert [r["learning_rate"] for r in records] == pytest.approx([1e-4 * (1 - r["progress"]) for r in records])
    assert current.optimizer.param_groups[0]["lr"] == records[-1]["learning_rate"]


@pytest.mark.parametrize("budget", [pytest.param("9e9flops", marks=pytest.mark.slow), "18ktokens"])
def test_methods_spend_one_budget_to_less_than_a_step(budget: str) -> None:
    spent, worst = {}, {}
    for name in ("sft", "grpo", "uft"):
        small = {"batch_size": 1, "group_size": 2, "num_updates": 1} if name != "sft" else {"batch_size": 6}
        policy = small_policy(budget=budget)
        assert policy.meter is not None
        current = stage(policy, method(name, **small), pool(40), max_new_tokens=12)
        costs = []
        while True:
            before = policy.meter.spent
            if current.run_step() is None:
                break
            costs.append(policy.meter.spent - before)
        assert len(costs) >= 60
        spent[name], worst[name] = policy.meter.spent, current.worst_case(current.examples())
        assert 0.97 * policy.meter.limit <= spent[name] <= policy.meter.limit
        assert policy.meter.limit - spent[name] < worst[name]
    assert max(spent.values()) - min(spent.values()) < max(worst.values())


# --- several updates per step --------------------------------------------------------------------------------------


def test_four_updates_use_the_probabilities_before_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = small_policy(budget="1Gtokens")
    assert policy.meter is not None
    chosen = Seen(method("grpo", batch_size=8, group_size=3, num_updates=4, kl_coef=0.0, lr=1e-2))
    current = stage(policy, chosen, pool(20), max_new_tokens=10, micro_batch_tokens=10_000)
    charged: dict[str, list[tuple[int, int]]] = {"charge_score": [], "charge_train": []}
    for name, rows in charged.items():
        original = getattr(policy.meter, name)

        def charge(lengths: Any, targets: Any, padding: int, original: Any = original, rows: Any = rows) -> None:
            rows.extend(zip(lengths, targets))
            original(lengths, targets, padding)

        monkeypatch.setattr(policy.meter, name, charge)
    assert current.run_step() is not None
    ledger = policy.meter.ledger
    assert ledger.steps == len(chosen.batches) == 4
    assert [batch.num_trajectories for batch in chosen.batches] == [6, 6, 6, 6]
    assert len(charged["charge_train"]) == 24  # every row once, and one rescoring pass over the same rows
    assert sorted(charged["charge_score"]) == sorted(charged["charge_train"])
    assert ledger.scored_tokens == ledger.trained_tokens == sum(n for n, _ in charged["charge_train"])
    for number, batch in enumerate(chosen.batches):
        mask = batch.policy
        gap = (batch.logprobs.detach() - batch.old_logprobs)[mask].abs().max()
        assert gap < 1e-4 if number == 0 else gap > 1e-3  # the first update is on-policy, the later ones are not
        assert torch.equal(batch.ref_logprobs, batch.old_logprobs)


def test_updates_never_outnumber_the_groups() -> None:
    policy = small_policy(budget="1Gtokens")
    assert policy.meter is not None
    stage(policy, method("grpo", batch_size=2, num_updates=4), pool(5), max_new_tokens=4).run_step()
    assert policy.meter.ledger.steps == 2

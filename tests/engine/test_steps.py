"""What a step is made of: data order, samples, demonstrations, and whether they move the weights."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.engine.policy import Policy
from bench.engine.step import Exploration, describe
from bench.engine.step_context import StepContext
from bench.types import Trajectory, UserError, Verdict
from tests.helpers.engine import TASK, method, pool, run, small_model, small_policy, stage


class Constant:
    """The Countdown task with one reward for everything."""

    name = TASK.name

    def verify(self, problem: Any, text: str) -> Verdict:
        return Verdict(False, 0.1, "constant")


def weights(policy: Policy) -> list[Tensor]:
    return [p.detach().clone() for p in policy.model.parameters()]


def test_every_epoch_visits_the_pool_once_in_a_new_order() -> None:
    examples = pool(10)
    orders = {}
    for seed in (0, 1):
        current = stage(small_policy(), method("sft", batch_size=4), examples, seed)
        visited = []
        for current.step in range(5):
            visited += [e.id for e in current.examples()]
        for epoch in (visited[:10], visited[10:]):
            assert Counter(epoch) == Counter(e.id for e in examples)
        assert visited[:10] != visited[10:]
        orders[seed] = visited
        current.step = 2  # as after a resume: the order depends on the step alone
        assert [e.id for e in current.examples()] == visited[8:12]
    assert orders[0] != orders[1]
    other = stage(small_policy(), method("uft", batch_size=4), examples, 0)
    assert [e.id for e in other.examples()] == orders[0][:4]  # methods with one seed see the same data


def test_the_same_seed_gives_the_same_weights() -> None:
    found = []
    for seed in (0, 0, 1):
        policy = small_policy(budget="2ktokens")
        run(stage(policy, method("uft"), pool(10), seed, max_new_tokens=8))
        found.append(weights(policy))
    assert all(torch.equal(a, b) for a, b in zip(found[0], found[1]))
    assert not all(torch.equal(a, b) for a, b in zip(found[0], found[2]))


def test_demonstrations_are_counted_once_per_example() -> None:
    policy = small_policy(budget="1Gtokens")
    assert policy.meter is not None
    examples = pool(6)
    current = stage(policy, method("uft", batch_size=3, schedule="staged", num_updates=1), examples, max_new_tokens=4)
    for _ in range(4):
        current.run_step()
    ledger = policy.meter.ledger
    shown = 2 * sum(e.step_ends[-1] for e in examples)  # all steps at first, at a progress that stays near 0
    assert (ledger.demonstrations, ledger.distinct_demonstrations, ledger.demonstration_tokens) == (12, 6, shown)
    assert ledger.rollouts == ledger.verifier_calls == 4 * 3 * 4


def test_a_demonstration_beside_rollouts_of_its_group_is_counted() -> None:
    policy = small_policy(budget="1Gtokens")
    assert policy.meter is not None
    examples = pool(2)
    both = method("sft", batch_size=2)

    def collect(chosen: Any, ctx: Any) -> list[Trajectory]:
        pairs = [((e.demo_ids, ()), ((), (5,))) for e in chosen]
        return [Trajectory(chosen[g].prompt_ids, *parts, group=g) for g, pair in enumerate(pairs) for parts in pair]

    object.__setattr__(both, "collect", collect)
    stage(policy, both, examples).run_step()
    assert policy.meter.ledger.demonstrations == 2
    assert policy.meter.ledger.demonstration_tokens == sum(len(e.demo_ids) for e in examples)


# --- signal ---


@pytest.mark.parametrize(("entropy", "moves"), [(0.0, False), (0.1, True)])
def test_equal_rewards_move_nothing(entropy: float, moves: bool) -> None:
    policy = small_policy(budget="1Gtokens")
    before = weights(policy)
    chosen = method("grpo", num_updates=1, kl_coef=0.0, entropy_coef=entropy, weight_decay=0.0)
    current = stage(policy, chosen, pool(10), max_new_tokens=8)
    current.task = Constant()  # type: ignore[assignment]
    for record in (current.run_step(), current.run_step()):
        assert record is not None and record["share_equal_reward"] == 1.0
        assert record["reward"] == pytest.approx(0.1)
    assert any(not torch.equal(a, b) for a, b in zip(before, weights(policy))) == moves


def test_a_step_without_trajectories_costs_its_samples_and_moves_nothing() -> None:
    policy = small_policy(budget="1Gtokens")
    assert policy.meter is not None
    before = weights(policy)
    current = stage(policy, method("raft", weight_decay=0.1), pool(10), max_new_tokens=8)
    current.task = Constant()  # type: ignore[assignment]
    record = current.run_step()
    assert record is not None and record["num_trajectories"] == 0 and "loss" not in record
    ledger = policy.meter.ledger
    assert (ledger.steps, ledger.trained_tokens, ledger.rollouts, ledger.verifier_calls) == (0, 0, 8, 8)
    assert ledger.flops > 0 and ledger.generated_tokens > 0
    assert current.step == 1  # the next step sees the next examples
    assert all(torch.equal(a, b) for a, b in zip(before, weights(policy)))


def test_a_budget_in_steps_ends_without_trajectories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.engine.step.MAX_IDLE", 5)
    current = stage(small_policy(budget="3steps"), method("raft", batch_size=1), pool(10), max_new_tokens=2)
    current.task = Constant()  # type: ignore[assignment]
    with pytest.raises(UserError, match="5 steps in a row found nothing to train on"):
        run(current, 20)
    assert current.step == 5
    other = stage(small_policy(budget="900rollouts"), method("raft", batch_size=1), pool(10), max_new_tokens=2)
    other.task = Constant()  # type: ignore[assignment]
    assert len(run(other, 12)) == 12  # any other budget runs out


def test_supervised_training_learns_its_demonstrations() -> None:
    policy = small_policy(budget="12ktokens")
    records = run(stage(policy, method("sft", lr=5e-3, batch_size=4, decay="constant", warmup=0.0), pool(4)))
    assert records[0]["demo_nll"] > 4 and records[-1]["demo_nll"] < 0.5


def test_a_context_never_repeats_its_draws() -> None:
    policy = small_policy(budget="1Gtokens")
    examples, prefixes = pool(2), [(), ()]

    def context() -> StepContext:
        return StepContext(policy, TASK, 0.0, None, 5, 8, 1.0, 64)  # type: ignore[arg-type]

    ctx = context()
    first, second = ([[c.token_ids for c in g] for g in ctx.sample(examples, prefixes, 3)] for _ in range(2))
    assert first != second
    assert first == [[c.token_ids for c in g] for g in context().sample(examples, prefixes, 3)]


def test_completions_are_verified_with_their_prefix() -> None:
    policy = small_policy(budget="1Gtokens")
    e = pool(1)[0]
    ctx = StepContext(policy, TASK, 0.0, None, 5, 3, 1.0, 64)  # type: ignore[arg-type]
    whole = ctx.sample([e], [e.demo_ids[:-1]], 2)[0]  # the policy only adds a few tokens after the answer
    assert all(c.text.startswith(e.demonstration.text) and c.verdict.correct for c in whole)
    for c in whole:
        assert c.finish_reason == ("stop" if c.token_ids[-1] == 2 else "length") and len(c.token_ids) <= 3


def test_divergence_is_reported() -> None:
    policy = small_policy(budget="1Gtokens")
    with torch.no_grad():
        policy.model.lm_head.weight[5] = math.nan
    with pytest.raises(UserError, match="not finite at step 0"):
        stage(policy, method("sft"), pool(8)).run_step()


def test_describe_by_hand() -> None:
    rows = [
        Trajectory((1,), (2, 3), (4,), reward=1.0, correct=True, group=0),
        Trajectory((1,), (2, 3), (4, 5, 6), reward=0.0, group=0),
        Trajectory((1,), (), (4, 5), reward=0.1, group=1),
        Trajectory((1,), (), (4, 5), reward=0.1, group=1),
        Trajectory((1,), (2, 3, 4), group=2),
    ]
    assert describe(rows) == pytest.approx(
        {
            "num_trajectories": 5,
            "mean_targets": 15 / 5,
            "demo_share": 7 / 15,
            "reward": 1.2 / 4,
            "correct": 1 / 4,
            "mean_completion": 8 / 4,
            "share_equal_reward": 1 / 2,
            "share_solved": 1 / 2,
        }
    )
    assert small_model().training is False


def test_exploration_counts_prompts_once_for_good() -> None:
    found, examples = Exploration(), pool(3)
    rows = [Trajectory((1,), (), (4,), group=0), Trajectory((1,), (), (4,), group=1, correct=True)]
    assert found.update([Trajectory((1,), (2,), group=0)], examples) == {}  # no rollouts yet
    assert found.update(rows, examples) == {"explored": 1 / 2}
    assert found.update([Trajectory((1,), (), (4,), group=1)], examples) == {"explored": 1 / 2}  # solved before
    assert found.update([Trajectory((1,), (), (4,), group=2)], examples) == {"explored": 1 / 3}

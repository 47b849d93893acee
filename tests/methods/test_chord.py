"""Golden properties of CHORD: both limits, the schedule of mu and its adaptation, and the two sets of examples."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.types import Requests, Rows, Verdict
from methods.chord import CHORD, VARIANTS, WEIGHTS, mixture
from methods.grpo import GRPO
from methods.sft import SFT
from tests.helpers.engine import TASK, pool, small_policy, stage
from tests.helpers.engine import method as small_method
from tests.methods.batches import Scripted, example, fixture, relative_error

PLAIN_GRPO = GRPO(kl_coef=0.0, entropy_coef=0.0)
ADVANTAGES = [1.5, -0.5, 0.0, 0.0, 2.0]
LENGTHS = [(0, 2), (0, 4), (5, 0), (2, 0), (0, 3)]
SPLITS = [None, [[0], [1], [2], [3], [4]], [[4, 2], [0, 3, 1]]]


class Rewarded:
    """Countdown with one reward for every completion."""

    def __init__(self, reward: float) -> None:
        self.reward = reward

    def __getattr__(self, name: str) -> Any:
        return getattr(TASK, name)

    def verify(self, problem: Any, text: str) -> Verdict:
        return Verdict(self.reward == 1.0, self.reward, "fixed")


def constant(mu: float, **fields: Any) -> CHORD:
    return CHORD(mu_peak=mu, mu_valley=mu, **fields)


# --- limits and mixture ---


@pytest.mark.parametrize("splits", SPLITS)
@pytest.mark.parametrize("divisor", ["step", "micro-batch"])
def test_mu_zero_is_grpo_and_mu_one_is_sft(splits: Any, divisor: str) -> None:
    made = fixture(LENGTHS, ADVANTAGES, old_shift=0.3)
    grpo = replace(PLAIN_GRPO, aggregation="dapo" if divisor == "step" else "bnpo")
    for mu, expected in ((0.0, grpo), (1.0, SFT(divisor=divisor))):
        loss, gradient = made.gradient(constant(mu, divisor=divisor), splits)
        expected_loss, expected_gradient = made.gradient(expected, splits)
        assert torch.equal(loss, expected_loss) and torch.equal(gradient, expected_gradient)


def test_shared_fields_and_trajectories_are_those_of_grpo() -> None:
    examples = [example(n, name=str(n)) for n in (1, 3, 5)]
    ctx = Scripted()
    rows = constant(0.0, group_size=4, batch_size=2, num_demos=1).collect(examples, ctx)
    assert rows == PLAIN_GRPO.collect(examples[:2], Scripted()) and ctx.calls[0][0] == examples[:2]


@pytest.mark.parametrize("weight", WEIGHTS)
def test_loss_and_gradient_are_affine_in_mu(weight: str) -> None:
    made = fixture(LENGTHS, ADVANTAGES, old_shift=0.3)
    (loss_0, gradient_0), (loss_1, gradient_1) = (made.gradient(constant(mu, weight=weight)) for mu in (0.0, 1.0))
    for mu in (0.05, 0.3, 0.9):
        loss, gradient = made.gradient(constant(mu, weight=weight))
        assert loss.item() == pytest.approx((loss_0 + mu * (loss_1 - loss_0)).item(), rel=1e-12)
        assert relative_error(gradient, gradient_0 + mu * (gradient_1 - gradient_0)) < 1e-9


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("splits", SPLITS[1:])
def test_micro_batches_matter_only_to_the_authors_divisor(weight: str, splits: Any) -> None:
    made = fixture(LENGTHS, ADVANTAGES, old_shift=0.3)
    for divisor, same in (("step", True), ("micro-batch", False)):
        method = CHORD(weight=weight, divisor=divisor)
        error = relative_error(made.gradient(method, splits)[1], made.gradient(method)[1])
        assert (error < 1e-12) if same else (error > 1e-3)


def test_neither_part_reaches_the_others_tokens() -> None:
    made = fixture([(3, 2), (4, 3)], [1.0, -1.0], old_shift=0.3)
    reinforced, imitated = (made.gradient(constant(mu))[1] for mu in (0.0, 1.0))
    assert not reinforced[~made.policy].any() and not imitated[~made.demo].any()


# --- schedule ---


def test_mu_of_the_paper_at_500_steps() -> None:
    table = {0: 0.9, 50: 0.77552, 100: 0.475, 150: 0.17448, 200: 0.05, 350: 0.05, 500: 0.05}
    assert {step: CHORD().mu(step / 500) for step in table} == pytest.approx(table, abs=1e-5)


def test_warmup_is_linear_and_shifts_the_decay() -> None:
    assert [mixture(t, 0.8, 0.2, 0.2, 0.4) for t in (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0)] == pytest.approx(
        [0.0, 0.2, 0.4, 0.8, 0.5, 0.2, 0.2], abs=1e-12
    )
    assert mixture(0.0, 0.8, 0.2, 0.0, 0.0) == 0.2


@pytest.mark.parametrize(
    ("variant", "table"),
    [
        ("decay-30", {0: 0.9, 15: 0.475, 30: 0.05, 500: 0.05}),
        ("decay-50", {0: 0.9, 25: 0.475, 50: 0.05, 500: 0.05}),
        ("authors-schedule", {0: 0.0, 100: 0.25, 200: 0.5, 300: 0.42971, 400: 0.26, 500: 0.09029}),
    ],
)
def test_other_schedules_at_500_steps(variant: str, table: dict[int, float]) -> None:
    method = CHORD(**VARIANTS[variant])
    assert {step: method.mu(step / 500) for step in table} == pytest.approx(table, abs=1e-5)


@pytest.mark.parametrize(("variant", "tau"), [("mu-adaptive", 0.5), ("mu-adaptive-0.7", 0.7)])
def test_adaptive_mu_is_what_the_mean_reward_lacks(variant: str, tau: float) -> None:
    made, method = fixture(LENGTHS, ADVANTAGES), CHORD(**VARIANTS[variant])
    for made.progress in (0.0, 0.7):
        for made.reward in (0.0, 0.2, 0.499, 0.6, 1.0):
            expected = made.gradient(constant(max(0.0, tau - made.reward)))
            found = made.gradient(method)
            assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-12)
            assert relative_error(found[1], expected[1]) < 1e-12
    made.reward = 0.9
    assert all(map(torch.equal, made.gradient(method), made.gradient(PLAIN_GRPO)))


def test_variants_with_constant_mu() -> None:
    for name, mu in (
        ("phi", 0.1),
        ("phi-attached", 0.1),
        ("mu-0.02", 0.02),
        ("mu-0.1", 0.1),
        ("mu-0.5", 0.5),
        ("is", 0.1),
    ):
        assert {CHORD(**VARIANTS[name]).mu(t / 10) for t in range(11)} == {mu}


def test_the_loss_follows_the_progress() -> None:
    made = fixture(LENGTHS, ADVANTAGES)
    for made.progress, mu in ((0.0, 0.9), (0.2, 0.475), (0.7, 0.05)):
        assert relative_error(made.gradient(CHORD())[1], made.gradient(constant(mu))[1]) < 1e-9


# --- examples ---


def test_prompts_are_sampled_and_the_other_examples_read() -> None:
    examples = [example(n, name=str(n)) for n in (1, 3, 5, 2, 4)]
    method, ctx = CHORD(batch_size=2, num_demos=3, group_size=3), Scripted(rng=random.Random(0))
    rows = method.collect(examples, ctx)
    assert ctx.calls == [(examples[:2], [(), ()], 3)]
    assert [row.group for row in rows] == [0, 0, 0, 1, 1, 1, 2, 3, 4]  # a group is a place in the list
    assert all(row.completion_ids and not row.demo_ids for row in rows[:6])
    assert [(r.prompt_ids, r.demo_ids, r.completion_ids) for r in rows[6:]] == [
        (e.prompt_ids, e.demo_ids, ()) for e in examples[2:]
    ]
    assert sum(row.advantage for row in rows[:3]) == pytest.approx(0, abs=1e-9)


def test_no_demonstration_is_read_while_mu_is_zero() -> None:
    examples = [example(n, name=str(n)) for n in (1, 3, 5)]
    method = CHORD(batch_size=2, num_demos=1, mu_warmup=0.1, mu_valley=0.0)
    counts = [sum(bool(r.demo_ids) for r in method.collect(examples, Scripted(t))) for t in (0.0, 0.05, 0.3, 0.5, 1.0)]
    assert counts == [0, 1, 1, 0, 0]


def test_adaptive_demonstrations_are_read_whatever_the_reward() -> None:
    examples = [example(n, name=str(n)) for n in (1, 3, 5)]
    method = CHORD(batch_size=2, num_demos=1, tau=0.5, mu_peak=0.0, mu_valley=0.0)
    for reward in (0.0, 1.0):
        rows = method.collect(examples, Scripted(0.5, reward=lambda *_, reward=reward: reward))
        assert [row.demo_ids for row in rows if row.demo_ids] == [examples[2].demo_ids]


@pytest.mark.parametrize("weight", ["none", "entropy"])
def test_an_adaptive_step_of_the_engine(weight: str) -> None:
    """The loss gets the step's mean reward, and the demonstrations are charged even where their weight is 0."""
    for reward, share in ((0.1, 0.4), (1.0, 0.0)):
        policy = small_policy(budget="1Gtokens")
        assert policy.meter is not None
        fixed = Rewarded(reward)
        method = small_method("chord", num_demos=2, tau=0.5, weight=weight)
        current = stage(policy, method, pool(10), max_new_tokens=8)
        current.task = fixed
        record = current.run_step()
        assert record is not None and record["reward"] == pytest.approx(reward)
        assert policy.meter.ledger.demonstrations == 2
        assert (record["grad_norm"] > 0) == (share > 0)  # equal rewards: the demonstrations alone move the weights
        if weight == "none":
            assert record["loss"] == pytest.approx(share * record["demo_nll"], rel=1e-5)


def test_worst_case_holds_both_parts() -> None:
    one, two = example(3), example(1, prompt_tokens=6)
    rows = CHORD(batch_size=1, num_demos=1, group_size=2).worst_case([one, two], 10)
    assert rows == Rows([4], [(4, 10)] * 2, [(14, 10)] * 2 + [(6 + 5, 5)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": "dft"},
        {"divisor": "all"},
        {"mu_peak": 1.5},
        {"mu_decay": -0.1},
        {"tau": 1.5},
        {"entropy_share": -0.1},
        {"detach": False},
        {"num_demos": 0},
        {"demo_share": 1.0},
        {"num_updates": 2},
    ],
)
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CHORD(**wrong)


def test_needs_no_reference_and_entropies_only_as_weights() -> None:
    for name, overrides in VARIANTS.items():
        method = CHORD(**overrides)
        wanted = Requests(name.startswith("entropy"), num_demos=method.num_demos, demo_share=method.demo_share)
        assert Requests.of(method) == wanted

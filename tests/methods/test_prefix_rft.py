"""Golden properties of Prefix-RFT: advantages, kept tokens, schedule, groups; identity 7: test_identities_rl.py."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
import torch

from bench.types import Batch, Example, Loss, Requests, Rows
from methods.prefix_rft import VARIANTS, PrefixRFT, advantages, selected
from tests.helpers.engine import method as small_method
from tests.helpers.engine import pool, small_policy, stage
from tests.methods.batches import Fixture, Scripted, example, fixture, relative_error

LENGTHS = [(10, 2), (0, 4), (4, 3), (1, 1)]
SPLITS: list[Any] = [None, [[0], [1], [2], [3]], [[3, 1], [2, 0]]]


def mixed(old_shift: float = 0.0) -> Fixture:
    """Rollout tokens with advantages of both signs; the prefix tokens of a row have advantages of their own."""
    made = fixture(LENGTHS, [1.5, -0.5, 2.0, -1.0], old_shift=old_shift)
    own = torch.tensor([[0.75], [0.0], [-0.25], [0.5]], dtype=torch.float64)
    made.advantages = torch.where(made.demo, own, made.advantages)
    return made


def entropies(made: Fixture) -> torch.Tensor:
    p = made.logits.detach().softmax(-1)
    return -(p * p.log()).sum(-1)


def by_hand(made: Fixture, share_dropped: float = 0.8) -> torch.Tensor:
    """The prefix tokens of each row with the highest entropies."""
    kept = torch.zeros_like(made.demo)
    for i, (num, _) in enumerate(LENGTHS):
        order = sorted(range(num), key=lambda t: -entropies(made)[i, t].item())
        kept[i, order[: num - int(share_dropped * num)]] = True
    return kept


# --- advantages ---


def test_the_three_advantages_of_the_reference_group() -> None:
    plain, hybrid = [1.0, 0, 0, 0, 0, 0, 0], [1.0]
    every, prefix = advantages(plain, hybrid, "paper")
    assert every == pytest.approx([0.75, *[-0.25] * 6, 0.75]) and prefix == pytest.approx([0.75])
    every, prefix = advantages(plain, hybrid, "code")
    assert every == pytest.approx([6 / 7, *[-1 / 7] * 6, 1.0]) and prefix == pytest.approx([6 / 7])
    every, prefix = advantages(plain, hybrid, "code-v2")
    assert every == pytest.approx([6 / 7, *[-1 / 7] * 6, 0.0]) and prefix == pytest.approx([-1 / 7])


def test_only_the_papers_advantages_sum_to_zero() -> None:
    plain, hybrid = [1.0, 0.1, 0, 0.1, 0, 0, 1], [1.0]
    sums = {}
    for kind in ("paper", "code", "code-v2"):
        every, _ = advantages(plain, hybrid, kind)
        sums[kind] = sum(every)
        if kind != "paper":
            assert sum(every[:7]) == pytest.approx(0, abs=1e-12)
    assert sums == pytest.approx({"paper": 0.0, "code": 1.0, "code-v2": 0.0}, abs=1e-12)


def test_a_hybrid_as_good_as_the_others_shows_the_raw_reward_of_the_code() -> None:
    every, prefix = advantages([0.5] * 7, [0.5], "code")
    assert prefix == [0.0] and every == [0.0] * 7 + [0.5]
    assert advantages([0.5] * 7, [0.5], "paper") == ([0.0] * 8, [0.0])
    assert advantages([0.5] * 7, [1.0], "code-v2")[1] == [-0.5]


# --- kept prefix tokens ---


@pytest.mark.parametrize(("share", "counts"), [(0.2, {10: 2, 4: 1, 1: 1, 5: 1, 15: 3}), (0.5, {10: 5, 3: 2, 1: 1})])
def test_how_many_prefix_tokens_are_kept(share: float, counts: dict[int, int]) -> None:
    for num, expected in counts.items():
        values = torch.rand(1, 20, generator=torch.Generator().manual_seed(num))
        mask = torch.arange(20).unsqueeze(0) < num
        chosen = selected(values, mask, share)
        assert int(chosen.sum()) == expected
        lowest = selected(values, mask, share, lowest=True)
        assert int(lowest.sum()) == expected and not (chosen & ~mask).any() and not (lowest & ~mask).any()
        if num > 1:
            assert values[chosen].min() > values[mask & ~chosen].max()
            assert values[lowest].max() < values[mask & ~lowest].min()
    every = torch.ones(2, 3, dtype=torch.bool)
    assert selected(torch.zeros(2, 3), every, 1.0).all() and not selected(torch.zeros(2, 3), every, 0.0).any()


def test_the_pool_of_a_micro_batch_keeps_another_number() -> None:
    made = mixed()
    assert PrefixRFT().kept(made.batch()).sum(1).tolist() == [2, 0, 1, 1]
    pooled = PrefixRFT(pool="micro-batch")
    assert int(pooled.kept(made.batch()).sum()) == 15 - 12
    for row in range(4):  # one row at a time the pools are the same
        assert torch.equal(pooled.kept(made.batch([row])), PrefixRFT().kept(made.batch([row])))


# --- loss ---


def test_first_gradient_is_minus_advantage_times_score_on_rollouts_and_kept_tokens() -> None:
    made = mixed()
    _, gradient = made.gradient(PrefixRFT(max_tokens=8))
    trained = made.policy | by_hand(made)
    expected = -(made.advantages * trained).unsqueeze(-1) * made.scores / (4 * 8)
    assert relative_error(gradient, expected) < 1e-9
    assert not gradient[~trained].any() and gradient[by_hand(made)].any()


def test_later_updates_are_clipped_on_both_parts() -> None:
    made = mixed(old_shift=0.3)
    assert made.old is not None
    _, gradient = made.gradient(PrefixRFT(max_tokens=8, keep_share=1.0))
    ratio = (made.logprobs.detach() - made.old).exp()
    clipped = torch.where(made.advantages > 0, ratio > 1.2, ratio < 0.8)
    trained = (made.policy | made.demo) & ~clipped
    expected = -(made.advantages * ratio * trained).unsqueeze(-1) * made.scores / (4 * 8)
    assert (clipped & made.demo).any() and (clipped & made.policy).any()
    assert relative_error(gradient, expected) < 1e-9


def test_the_choice_of_tokens_has_no_gradient_of_its_own() -> None:
    made = mixed()
    made.advantages = torch.zeros_like(made.advantages)
    loss, gradient = made.gradient(PrefixRFT())
    assert loss.item() == 0 and not gradient.any()


@pytest.mark.parametrize("splits", SPLITS[1:])
def test_micro_batches_matter_only_to_the_authors_pool(splits: Any) -> None:
    made = mixed(old_shift=0.3)
    assert relative_error(made.gradient(PrefixRFT(), splits)[1], made.gradient(PrefixRFT())[1]) < 1e-12
    pooled = PrefixRFT(pool="micro-batch")
    assert relative_error(made.gradient(pooled, splits)[1], made.gradient(pooled)[1]) > 1e-3


def test_a_frozen_prefix_gets_nothing_and_the_likelihood_replaces_its_advantage() -> None:
    made = mixed()
    _, frozen = made.gradient(PrefixRFT(**VARIANTS["frozen-prefix"]))
    assert not frozen[made.demo].any() and frozen[made.policy].any()
    _, likely = made.gradient(PrefixRFT(**VARIANTS["nll"]))
    expected = frozen - 0.001 * (made.demo.unsqueeze(-1) * made.scores) / 15
    assert relative_error(likely, expected) < 1e-9


# --- schedule and prefixes ---


def test_low_of_the_paper_at_500_steps() -> None:
    table = {0: 0.95, 125: 0.81820, 250: 0.5, 375: 0.18180, 500: 0.05}
    assert {step: PrefixRFT().low(step / 500) for step in table} == pytest.approx(table, abs=1e-5)
    assert fmean((PrefixRFT().low(t / 500) + 0.95) / 2 for t in range(1, 501)) == pytest.approx(0.7245, abs=1e-4)
    assert (PrefixRFT().low(1.0) + 0.95) / 2 == 0.5


def test_prefixes_follow_the_schedule_and_never_hold_everything() -> None:
    rng = random.Random(0)
    long = replace(example(40), step_ends=())
    size = len(long.demo_ids)
    for progress, low, mean in ((0.0, 0.95, 0.95), (0.5, 0.5, 0.725), (1.0, 0.05, 0.5)):
        shares = [len(PrefixRFT().prefix(long, progress, rng)) / size for _ in range(4000)]
        assert low - 1 / size <= min(shares) <= max(shares) <= 0.95
        assert fmean(shares) == pytest.approx(mean, abs=0.015)
    uniform = [len(PrefixRFT(**VARIANTS["uniform"]).prefix(long, 0.0, rng)) / size for _ in range(4000)]
    assert fmean(uniform) == pytest.approx(0.5, abs=0.015)


@pytest.mark.parametrize("size", range(1, 25))
def test_prefix_lengths_at_the_ends(size: int) -> None:
    one = replace(example(), demo_ids=tuple(range(size)))
    for method in (PrefixRFT(), PrefixRFT(low_start=1.0, high=1.0), PrefixRFT(low_start=0.0, low_end=0.0, high=0.0)):
        drawn = method.prefix(one, 0.0, random.Random(0))
        assert drawn == one.demo_ids[: len(drawn)]
        assert min(1, size - 1) <= len(drawn) <= size - 1


# --- groups ---


def test_a_group_has_plain_rollouts_and_one_hybrid() -> None:
    examples = [example(n, name=str(n)) for n in (5, 12, 3)]
    ctx = Scripted(progress=0.5, rng=random.Random(1))
    rows = PrefixRFT().collect(examples, ctx)
    (asked, none, plain), (again, prefixes, single) = ctx.calls
    assert asked == again == examples and none == [()] * 3 and (plain, single) == (7, 1)
    for i, one in enumerate(examples):
        group = rows[8 * i : 8 * i + 8]
        assert {row.group for row in group} == {i} and {row.prompt_ids for row in group} == {one.prompt_ids}
        assert [row.demo_ids for row in group] == [()] * 7 + [prefixes[i]]
        assert sum(row.advantage for row in group) == pytest.approx(0, abs=1e-9)
        assert group[-1].demo_advantage == group[-1].advantage != 0
        assert {row.demo_advantage for row in group[:-1]} == {0.0}
        mean = fmean(row.reward for row in group)
        assert [row.advantage for row in group] == pytest.approx([row.reward - mean for row in group])


def test_several_hybrids_have_a_prefix_each() -> None:
    ctx = Scripted(progress=1.0, rng=random.Random(2))
    rows = PrefixRFT(num_hybrids=3, group_size=5).collect([example(12, name="a"), example(30, name="b")], ctx)
    assert [bool(row.demo_ids) for row in rows] == [False, False, True, True, True] * 2
    assert len({row.demo_ids for row in rows}) == 7
    assert [group_size for *_, group_size in ctx.calls] == [2, 1]


def test_worst_case_is_nearly_the_whole_demonstration() -> None:
    one = example(3)  # 4 + 10 tokens
    rows = PrefixRFT(group_size=3).worst_case([one], 10)
    assert rows == Rows([4, 13], [(4, 10)] * 2 + [(13, 10)], [(14, 10)] * 2 + [(23, 19)])
    assert PrefixRFT(**VARIANTS["no-prefix"]).worst_case([one], 10).prefill == [4]


@pytest.mark.parametrize(
    "wrong",
    [
        {"advantage": "v3"},
        {"select": "random-20"},
        {"pool": "step"},
        {"pool": "micro-batch", "select": "random"},
        {"demo_quantity": 1.5},
        {"num_hybrids": 8},
        {"num_hybrids": -1},
        {"keep_share": 1.2},
        {"max_tokens": 0},
    ],
)
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PrefixRFT(**wrong)


def test_entropies_are_asked_for_where_they_count() -> None:
    assert Requests.of(PrefixRFT()) == Requests(uses_entropies=True)
    without = {"no-prefix", "frozen-prefix", "nll", "all-prefix-tokens", "random-20", "authors-random-20", "dr-po"}
    for name, overrides in VARIANTS.items():
        assert PrefixRFT(**overrides).uses_entropies == (name not in without), name


# --- with the engine ---


class Seen:
    """Prefix-RFT that keeps its batches."""

    def __init__(self, inner: PrefixRFT) -> None:
        self.inner, self.batches = inner, list[Batch]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def loss(self, batch: Batch) -> Loss:
        self.batches.append(batch)
        return self.inner.loss(batch)


def test_a_step_of_the_engine() -> None:
    policy = small_policy(budget="1Gtokens")
    assert policy.meter is not None
    examples: list[Example] = pool(8)
    chosen = Seen(
        small_method("prefix_rft", batch_size=4, num_updates=2, lr=1e-2, demo_coef=1.0)
    )  # moves without success too
    record = stage(policy, chosen, examples, max_new_tokens=10, micro_batch_tokens=10_000).run_step()
    ledger = policy.meter.ledger
    assert record is not None and ledger.rollouts == 16 and ledger.demonstrations == 4
    first, second = chosen.batches
    assert (first.num_trajectories, second.num_trajectories) == (8, 8)
    shown = first.num_demo + second.num_demo
    assert ledger.demonstration_tokens == shown
    assert ledger.generated_tokens == first.num_policy + second.num_policy == ledger.loss_tokens - shown
    for batch, same in ((first, True), (second, False)):
        gap = (batch.logprobs.detach() - batch.old_logprobs)[batch.demo].abs().max()
        assert gap < 1e-4 if same else gap > 1e-3  # the prefix's old probabilities are the sampling policy's own
        assert batch.entropies[batch.demo].min() > 0
        kept = chosen.inner.kept(batch).sum(1)
        assert kept.tolist() == [n - int(0.8 * n) for n in batch.demo.sum(1).tolist()]

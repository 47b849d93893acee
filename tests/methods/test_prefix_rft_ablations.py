"""Ablations of Prefix-RFT: which prefix tokens train, how many prompts have a demonstration, and without the prefix."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.types import Trajectory
from methods.grpo import GRPO
from methods.prefix_rft import VARIANTS, PrefixRFT, drawn, selected
from tests.helpers.engine import method as small_method
from tests.helpers.engine import pool, small_policy, stage
from tests.methods.batches import Fixture, Scripted, by_index, example, fixture, relative_error

LENGTHS = [(10, 2), (0, 4), (4, 3), (1, 1), (15, 2)]
NAMES = [example(1 + i % 7, prompt_tokens=3 + i % 3, name=f"e{i}") for i in range(200)]


def variant(name: str, **fields: Any) -> PrefixRFT:
    return PrefixRFT(**{"max_tokens": 8, **VARIANTS[name], **fields})


def mixed() -> Fixture:
    made = fixture(LENGTHS, [1.5, -0.5, 2.0, -1.0, 0.5])
    made.advantages = torch.where(made.demo, 0.75, made.advantages)
    return made


def policy_gradient(made: Fixture, mask: torch.Tensor) -> torch.Tensor:
    return -(made.advantages * mask).unsqueeze(-1) * made.scores / (len(LENGTHS) * 8)


# --- which prefix tokens ---


@pytest.mark.parametrize("share", [0.0, 0.008, 0.2, 0.5, 0.8, 0.992, 1.0])
def test_as_many_random_tokens_are_drawn_as_high_ones_are_taken(share: float) -> None:
    for size in (1, 2, 4, 5, 10, 15, 100, 125):
        weights = drawn(size, share, random.Random(size))
        highest = selected(torch.rand(1, size), torch.ones(1, size, dtype=torch.bool), share)
        assert len(weights) == size and set(weights) <= {0.0, 1.0}
        assert sum(weights) == int(highest.sum())


def test_random_tokens_are_drawn_anew_and_evenly() -> None:
    rng = random.Random(3)
    counts = Counter(place for _ in range(5000) for place, weight in enumerate(drawn(10, 0.2, rng)) if weight)
    assert sorted(counts) == list(range(10)) and all(900 < count < 1100 for count in counts.values())


def test_random_weights_come_with_the_trajectories() -> None:
    method, examples = variant("random-20"), NAMES[:20]
    rows = method.collect(examples, Scripted(1.0, random.Random(0)))
    assert [replace(row, demo_weights=()) for row in rows] == PrefixRFT().collect(
        examples, Scripted(1.0, random.Random(0))
    ), "the prefixes are those of the default"
    for row in rows:
        assert sum(row.demo_weights) == len(row.demo_ids) - int(0.8 * len(row.demo_ids) + 1e-9)
    assert rows == method.collect(examples, Scripted(1.0, random.Random(0)))
    assert rows != method.collect(examples, Scripted(1.0, random.Random(1)))


@pytest.mark.parametrize("splits", [None, [[0], [1], [2], [3], [4]], [[4, 1], [2, 0, 3]]])
def test_random_tokens_alone_are_trained(splits: Any) -> None:
    made = mixed()
    made.weights = (torch.rand(made.demo.shape, generator=torch.Generator().manual_seed(1)) < 0.3).double()
    kept = made.demo & (made.weights > 0)
    assert kept.any() and (made.demo & ~kept).any()
    _, gradient = made.gradient(variant("random-20"), splits)
    assert relative_error(gradient, policy_gradient(made, made.policy | kept)) < 1e-9


def test_the_random_mask_of_the_code_drops_hardly_anything() -> None:
    for size, dropped in ((100, 0), (125, 1), (1000, 8)):
        for seed in range(3):
            weights = drawn(size, variant("authors-random-20").keep_share, random.Random(seed))
            assert weights.count(0.0) == dropped


def test_the_lowest_of_the_code_silences_the_rollouts() -> None:
    made = mixed()
    p = made.logits.detach().softmax(-1)
    entropies = -(p * p.log()).sum(-1)
    places = sorted((tuple(place) for place in made.demo.nonzero().tolist()), key=lambda place: entropies[place].item())
    kept = torch.zeros_like(made.demo)
    for place in places[: 30 - 24]:
        kept[place] = True
    _, gradient = made.gradient(variant("authors-bottom-20"))
    assert relative_error(gradient, policy_gradient(made, kept)) < 1e-9
    _, ours = made.gradient(variant("bottom-20"))
    assert ours[made.policy].any() and not gradient[made.policy].any()


@pytest.mark.parametrize(("name", "counts"), [("top-50", [5, 0, 2, 1, 8]), ("top-80", [8, 0, 4, 1, 12])])
def test_larger_shares(name: str, counts: list[int]) -> None:
    assert variant(name).kept(mixed().batch()).sum(1).tolist() == counts


# --- how many prompts have a demonstration ---


def test_prompts_with_a_demonstration_are_chosen_once_and_nested() -> None:
    found = {}
    for name in ("demos-10", "demos-1"):
        ids = [f"id {i}" for i in range(20_000)]
        found[name] = {i for i in ids if variant(name).hybrids(replace(NAMES[0], id=i))}
        assert len(found[name]) == pytest.approx(20_000 * variant(name).demo_quantity, rel=0.2)
    assert found["demos-1"] < found["demos-10"]
    assert all(PrefixRFT().hybrids(one) == 1 for one in NAMES)


@pytest.mark.parametrize("kind", ["paper", "code", "code-v2"])
def test_the_other_groups_have_plain_rollouts_alone(kind: str) -> None:
    method = PrefixRFT(demo_quantity=0.4, advantage=kind)
    rewards = {one.id: 1 + i / 8 for i, one in enumerate(NAMES)}
    ctx = Scripted(1.0, random.Random(0), lambda e, p, i: rewards[e.id] if p else by_index(e, p, i))
    rows = method.collect(NAMES, ctx)
    given_prefixes = iter(next(prefixes for _, prefixes, size in ctx.calls if size == 1))
    plain = GRPO(group_size=8, scale="none").collect(NAMES, Scripted())
    shown = [bool(method.hybrids(one)) for one in NAMES]
    assert 50 < sum(shown) < 110
    for i, given in enumerate(shown):
        group = rows[8 * i : 8 * i + 8]
        assert {row.group for row in group} == {i} and {row.prompt_ids for row in group} == {NAMES[i].prompt_ids}
        assert [bool(row.demo_ids) for row in group] == [False] * 7 + [given]
        if given:
            assert group[-1].demo_ids == next(given_prefixes) and group[-1].reward == rewards[NAMES[i].id]
        else:
            assert group == plain[8 * i : 8 * i + 8]
    asked = Counter((one.id, size) for examples, _, size in ctx.calls for one in examples)
    expected = Counter({(one.id, size) for one, given in zip(NAMES, shown) for size in ((7, 1) if given else (8,))})
    assert asked == expected, "every prompt is prefilled once, and once more with its prefix"


def test_no_demonstrations_at_all_is_no_prefix() -> None:
    bare = variant("no-prefix")
    method = PrefixRFT(max_tokens=8, demo_quantity=0.0)
    assert method.collect(NAMES, Scripted()) == bare.collect(NAMES, Scripted())
    assert method.worst_case(NAMES, 10) == bare.worst_case(NAMES, 10)


@pytest.mark.parametrize("quantity", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("in_row", [True, False])
def test_worst_case_has_a_row_for_every_row(quantity: float, in_row: bool) -> None:
    method = PrefixRFT(demo_quantity=quantity, prefix_in_row=in_row, group_size=3, num_hybrids=2)
    bound = method.worst_case(NAMES, 10)
    ctx = Scripted(0.0, random.Random(0))  # the first rollouts of a script have one, two and three tokens
    rows = method.collect(NAMES, ctx)
    assert len(bound.train) == len(bound.decode) == len(rows) == 3 * len(NAMES)
    contexts = [len(e.prompt_ids) + len(p) for es, ps, _ in ctx.calls for e, p in zip(es, ps, strict=True)]
    assert len(bound.prefill) == len(contexts)
    assert all(most >= length for most, length in zip(sorted(bound.prefill), sorted(contexts), strict=True))
    lengths = sorted((len(row.prompt_ids) + len(row.demo_ids) + 10 for row in rows), reverse=True)
    most = sorted((length for length, _ in bound.train), reverse=True)
    assert all(a >= b for a, b in zip(most, lengths, strict=True))
    if not in_row:
        assert most == lengths


# --- without the prefix in the row ---


def test_without_prefix_the_continuation_answers_the_prompt_alone() -> None:
    examples = NAMES[:20]
    rows = variant("dr-po").collect(examples, Scripted(0.5, random.Random(4)))
    whole = PrefixRFT().collect(examples, Scripted(0.5, random.Random(4)))
    assert rows == [replace(row, demo_ids=()) for row in whole] and any(row.demo_ids for row in whole)
    made = fixture([(0, size) for _, size in LENGTHS], [1.5, -0.5, 2.0, -1.0, 0.5])
    _, gradient = made.gradient(variant("dr-po"))
    assert relative_error(gradient, policy_gradient(made, made.policy)) < 1e-9


def step(**fields: Any) -> tuple[list[Trajectory], Any]:
    """Rows and ledger of one step of the engine."""
    policy = small_policy(budget="1Gtokens")
    assert policy.meter is not None
    current = stage(policy, small_method("prefix_rft", batch_size=4, **fields), pool(12), max_new_tokens=10)
    seen: list[Trajectory] = []
    update = current.update
    current.update = lambda rows, *rest: seen.extend(rows) or update(rows, *rest)  # type: ignore[method-assign,func-returns-value]
    assert current.run_step() is not None
    return seen, policy.meter.ledger


def test_what_the_ablations_cost_in_the_engine() -> None:
    rows, ledger = step()
    _, bare = step(prefix_in_row=False)
    assert (ledger.rollouts, bare.rollouts) == (16, 16)
    shown = sum(len(row.demo_ids) for row in rows)
    assert ledger.loss_tokens == ledger.generated_tokens + shown and bare.loss_tokens == bare.generated_tokens
    assert (ledger.demonstrations, bare.demonstrations) == (4, 4)
    assert bare.prefilled_tokens == ledger.prefilled_tokens, "the prefix is read by the sampler all the same"
    rows, few = step(demo_quantity=0.5)
    assert few.rollouts == 16 and few.demonstrations == sum(bool(row.demo_ids) for row in rows) < 4
    assert few.prefilled_tokens < ledger.prefilled_tokens
    rows, _ = step(select="random", demo_coef=1.0)
    assert all(len(row.demo_weights) == len(row.demo_ids) for row in rows) and any(row.demo_weights for row in rows)

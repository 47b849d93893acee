"""GRAPE: the likeliest right answer of each prompt becomes its demonstration, and one candidate is SFT."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.types import Example, Requests, Rows, Trajectory
from methods.grape import GRAPE
from methods.sft import SFT
from tests.helpers.engine import pool, small_policy, stage
from tests.methods.batches import Scripted, collect, example, fixture, scripted_scores

METHOD = GRAPE()
EXAMPLES = [example(n, name=f"e{n}") for n in (2, 3, 4, 6)]


def means(example_: Example, targets: list[tuple[int, ...]], whole: bool = False) -> list[float]:
    """Mean (or summed) log-probability of each target of a prompt."""
    rows = [Trajectory(prompt_ids=example_.prompt_ids, demo_ids=ids) for ids in targets]
    logprobs = [scripted_scores(row).logprobs.double() for row in rows]
    return [float(values.sum() if whole else values.mean()) for values in logprobs]


@pytest.mark.parametrize("whole", [False, True])
def test_the_likeliest_right_answer_is_chosen(whole: bool) -> None:
    """Own answers are 2000, 2001, ...; the second one is right, alone and after half of the steps."""
    method = GRAPE(num_samples=3, normalise="none" if whole else "length")
    ctx = Scripted(reward=lambda e, prefix, i: float(i == 1))
    made = method.prepare(EXAMPLES, ctx)
    assert [e.id for e in made] == [e.id for e in EXAMPLES], "same size, every prompt once, same order"
    sources = set()
    for before, after in zip(EXAMPLES, made):
        half = before.demo_ids[: before.step_ends[round(len(before.step_ends) / 2) - 1]]
        candidates = [before.demo_ids, (2000, 2001), (*half, 2000, 2001)]
        fits = means(before, candidates, whole)
        assert after.demo_ids == candidates[fits.index(max(fits))]
        source, gold = [("gold", None), ("own", 0), ("continued", len(half))][candidates.index(after.demo_ids)]
        assert (after.source, after.gold_tokens) == (source, gold)
        sources.add(source)
    assert (len(sources) > 1 or whole) and [size for _, _, size in ctx.calls] == [3, 3]


def test_without_a_right_answer_the_demonstration_stays_and_nothing_is_scored() -> None:
    class Unscored(Scripted):
        def score(self, rows: Any, **_: Any) -> Any:
            assert not rows
            return []

    assert METHOD.prepare(EXAMPLES, Unscored(reward=lambda e, prefix, i: 0.1)) == EXAMPLES


def test_one_candidate_is_sft() -> None:
    method, ctx = GRAPE(num_samples=0), Scripted()
    assert method.prepare(EXAMPLES, ctx) == EXAMPLES and not ctx.calls
    assert method.prepare_worst_case(EXAMPLES, 9) == Rows([], [])
    assert collect(method, EXAMPLES) == collect(SFT(), EXAMPLES)
    assert method.worst_case(EXAMPLES, 9) == SFT().worst_case(EXAMPLES, 9)
    made = fixture([(3, 0), (5, 0)])
    assert all(map(torch.equal, made.gradient(method), made.gradient(SFT())))
    assert Requests.of(METHOD) == Requests()


def test_worst_case_of_preparing_covers_every_candidate() -> None:
    first = EXAMPLES[:1]  # prompt of 4 tokens, steps of 2 and 3 tokens, demonstration of 8
    own, continued = [(13, 9)] * 2, [(15, 11)] * 2
    expected = Rows([4, 6], [(4, 9)] * 2 + [(6, 9)] * 2, score=(*own, *continued, (12, 8)))
    assert GRAPE(num_samples=2).prepare_worst_case(first, 9) == expected


def test_preparing_on_a_model_keeps_within_its_bound_and_chooses_by_its_own_scores() -> None:
    policy, problems = small_policy(3, "1Tflops"), pool(6)
    method = GRAPE(prefix_shares=(0.0, 0.9), num_samples=2)
    current = stage(policy, method, problems, max_new_tokens=12)
    bound = current.meter.worst_case(method.prepare_worst_case(problems, 12), 0, 0)
    current.prepare()
    assert 0 < current.meter.spent <= bound
    gold = {e.id: e for e in problems}
    for e in current.pool:
        rows = [Trajectory(e.prompt_ids, ids) for ids in (e.demo_ids, gold[e.id].demo_ids)]
        scores = policy.score(rows, policy.model, 4096)
        assert scores[id(rows[0])].mean() >= scores[id(rows[1])].mean() - 1e-5


@pytest.mark.parametrize("wrong", [{"normalise": "tokens"}, {"num_samples": -1}, {"prefix_shares": (1.0,)}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(METHOD, **wrong)

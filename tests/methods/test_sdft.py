"""SDFT: what the model is shown, which rewrite becomes the target, and that without rewrites it is SFT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from bench.types import Rows, Verdict
from methods.sdft import SDFT, VARIANTS, shown
from methods.sft import SFT
from tests.helpers.engine import TASK, TOKENIZER, pool, small_policy, stage
from tests.methods.batches import Scripted, collect, example, fixture

TINY = {"hidden_size": 16, "intermediate_size": 24, "head_dim": 8}
EXAMPLES = [example(n, name=f"e{n}") for n in (2, 3, 4)]


def judge(*right: str) -> Scripted:
    """A context in which rewrites of these examples are right; rewrite i has the tokens 2000, ..., 2000 + i."""
    return Scripted(reward=lambda e, prefix, i: float(e.id in right))


def test_the_model_reads_the_demonstration_before_the_prompt() -> None:
    ctx = judge()
    SDFT().prepare(EXAMPLES, ctx)
    [(asked, prefixes, group_size)] = ctx.calls
    assert [e.id for e in asked] == ["e2", "e3", "e4"] and prefixes == [()] * 3 and group_size == 1
    first = asked[0].prompt_ids  # steps of 2 and 3 tokens and an ending of 2, without EOS; then the prompt of 4
    assert first == (1, 2, 3, 4, 5, 6, 7, 1000, 1001, 1002, 1003)
    assert ctx.greedy == [True]


def test_accepted_rewrites_replace_the_demonstrations_and_only_those() -> None:
    made = SDFT().prepare(EXAMPLES, judge("e3"))
    assert [e.id for e in made] == ["e2", "e3", "e4"] and [e.source for e in made] == ["gold", "rewrite", "gold"]
    assert made[0] is EXAMPLES[0] and made[2] is EXAMPLES[2]
    assert made[1].demo_ids == (2000,) and made[1].prompt_ids == EXAMPLES[1].prompt_ids
    assert [e.id for e in SDFT(keep_gold=False).prepare(EXAMPLES, judge("e3"))] == ["e3"]
    row = collect(SDFT(), made)[1]
    assert (row.prompt_ids, row.demo_ids, row.completion_ids) == (EXAMPLES[1].prompt_ids, (2000,), ())


def test_the_first_accepted_of_several_rewrites_is_taken() -> None:
    ctx = Scripted(reward=lambda e, prefix, i: float(i >= 2))
    made = SDFT(**VARIANTS["samples-4"]).prepare(EXAMPLES, ctx)
    assert {e.demo_ids for e in made} == {(2000, 2001, 2002)} and ctx.greedy == [False]


@pytest.mark.parametrize(("method", "right"), [(SDFT(), ()), (SDFT(num_samples=0), ("e2", "e3", "e4"))])
def test_without_an_accepted_rewrite_it_is_sft(method: SDFT, right: tuple[str, ...]) -> None:
    ctx = judge(*right)
    assert method.prepare(EXAMPLES, ctx) == EXAMPLES
    assert collect(method, EXAMPLES) == collect(SFT(), EXAMPLES) and bool(ctx.calls) == bool(method.num_samples)
    made = fixture([(5, 0), (2, 0), (3, 0)])
    for splits in (None, [[1], [2, 0]]):
        (loss, gradient), (expected, sft) = made.gradient(method, splits), made.gradient(SFT(), splits)
        assert loss == expected and gradient.equal(sft)


def test_worst_cases() -> None:
    [first] = EXAMPLES[:1]  # a prompt of 4 tokens, and 7 of the demonstration
    assert SDFT().prepare_worst_case([first], 9) == Rows([11], [(11, 9)])
    assert SDFT(num_samples=2, greedy=False).prepare_worst_case([first], 9) == Rows([11], [(11, 9)] * 2)
    assert SDFT(num_samples=0).prepare_worst_case([first], 9) == Rows()
    assert SDFT().worst_case([first], 9) == SFT().worst_case([first], 9)


class EveryOther:
    """Countdown with a judge that accepts whatever is said of problems with an even target, and remembers it."""

    def __init__(self) -> None:
        self.accepted: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(TASK, name)

    def verify(self, problem: Mapping[str, Any], text: str) -> Verdict:
        right = problem["target"] % 2 == 0
        if right:
            self.accepted.append(text)
        return Verdict(right, float(right), "")


def test_the_engine_samples_judges_and_charges_the_rewrites() -> None:
    policy, problems, judge = small_policy(budget="1e18flops", **TINY), pool(8), EveryOther()
    method = SDFT(greedy=False, num_samples=2)
    current = stage(policy, method, problems, max_new_tokens=48)
    current.task = judge  # type: ignore[assignment]
    current.prepare()
    assert policy.meter is not None and [e.id for e in current.pool] == [e.id for e in problems]
    ledger, bound = policy.meter.ledger, policy.meter.worst_case(method.prepare_worst_case(problems, 48), 0, 0)
    assert 0 < ledger.flops <= bound and ledger.rollouts == ledger.verifier_calls == 16
    assert ledger.prefilled_tokens == sum(len(shown(e).prompt_ids) for e in problems)
    rewritten = [e for e in current.pool if e.source == "rewrite"]
    assert 0 < len(rewritten) < len({e.id for e in problems if e.problem["target"] % 2 == 0}), "some never end"
    assert all(e.demo_ids[-1] == TOKENIZER.eos_token_id and e.problem["target"] % 2 == 0 for e in rewritten)
    assert {policy.decode([e.demo_ids])[0] for e in rewritten} <= set(judge.accepted)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_samples": -1}, "num_samples: -1 is below 0"),
        ({"num_samples": 2}, "num_samples: 2 greedy rewrites are all the same"),
        ({"num_samples": 0, "keep_gold": False}, "num_samples: 0 leaves nothing"),
        ({"divisor": "tokens"}, "divisor"),
    ],
)
def test_impossible_fields_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SDFT(), **wrong)

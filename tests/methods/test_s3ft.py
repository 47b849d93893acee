"""Golden properties of S3FT: the three-way choice, built once, and SFT on what it chose."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import chisquare

import bench
from bench.engine.encoding import encode
from bench.engine.policy import Policy
from bench.plan.budget import Budget, Meter
from bench.types import Completion, Example, Rows, Trajectory, Verdict
from methods.s3ft import S3FT, VARIANTS, accepted, judged
from tasks import common
from tests.helpers.engine import TASK, TOKENIZER, stage
from tests.methods.batches import Scripted, example

EXAMPLES = [example(n, name=f"e{n}") for n in (2, 3, 4, 6)]


def judge(own: str, paraphrase: str):
    """A context in which the named examples' own answers, or their paraphrases, are right."""
    return Scripted(reward=lambda e, prefix, i: float(e.id in (paraphrase if prefix else own).split()))


def test_each_prompt_gets_the_first_target_that_holds() -> None:  # property 4.1
    ctx = judge("e2", "e2 e4")
    made = S3FT().prepare(EXAMPLES, ctx)
    assert [e.id for e in made] == [e.id for e in EXAMPLES], "same size, every prompt once, same order"
    assert [e.source for e in made] == ["self", "gold", "paraphrase", "gold"]
    assert made[0].demo_ids == (2000,)
    half = EXAMPLES[2].demo_ids[: EXAMPLES[2].step_ends[1]]  # two of four steps, then the continuation
    assert made[2].demo_ids == (*half, 2000)
    assert (made[1], made[3]) == (EXAMPLES[1], EXAMPLES[3]), "gold targets are the examples themselves"
    assert [[e.id for e in asked] for asked, _, _ in ctx.calls] == [["e2", "e3", "e4", "e6"], ["e3", "e4", "e6"]]
    assert ctx.greedy == [True, True]


def test_a_judge_that_accepts_everything() -> None:  # property 4.2; refusing everything is SFT: test_identities_rl.py
    everything = "e2 e3 e4 e6"
    assert {e.source for e in S3FT().prepare(EXAMPLES, judge(everything, ""))} == {"self"}


@pytest.mark.parametrize(
    ("variant", "sources"),
    [
        ("sdft", ["gold", "gold", "paraphrase", "gold"]),
        ("self-only", ["self"]),
        ("self-or-gold", ["self", "gold", "gold", "gold"]),
        ("gold", ["gold"] * 4),
        ("sampled", ["self", "gold", "paraphrase", "gold"]),
        ("samples-4", ["self", "gold", "paraphrase", "gold"]),
    ],
)
def test_variants_are_other_choices(variant: str, sources: list[str]) -> None:
    ctx = judge("e2", "e4")
    assert [e.source for e in S3FT(**VARIANTS[variant]).prepare(EXAMPLES, ctx)] == sources
    assert all(greedy == (variant not in {"sampled", "samples-4"}) for greedy in ctx.greedy)


def test_only_right_answers_that_end_by_themselves_become_targets() -> None:
    right, wrong = Verdict(True, 1.0, ""), Verdict(False, 0.1, "")
    answer = Completion((5, 0), (0.0, 0.0), "", "stop", right)
    assert accepted(answer)
    assert not accepted(replace(answer, finish_reason="length")) and not accepted(replace(answer, verdict=wrong))


def test_the_first_accepted_sample_is_the_target() -> None:
    """Sample i of a problem has the i + 1 tokens 2000, 2001, ..., so its target tells which one was taken."""
    first_right = {"e2": 0, "e3": 2, "e4": 3, "e6": 9}
    ctx = Scripted(reward=lambda e, prefix, i: float(i >= first_right[e.id] and not prefix))
    made = S3FT(**VARIANTS["samples-4"]).prepare(EXAMPLES, ctx)
    assert [e.source for e in made] == ["self", "self", "self", "gold"]
    assert [e.demo_ids for e in made[:3]] == [tuple(range(2000, 2001 + i)) for i in (0, 2, 3)]
    assert [group_size for _, _, group_size in ctx.calls] == [4, 4]


def test_a_judge_that_always_errs_takes_the_opposite() -> None:
    made = S3FT(judge_noise=1.0).prepare(EXAMPLES, judge("e2", "e4"))
    assert [e.source for e in made] == ["paraphrase", "self", "self", "self"]


@pytest.mark.parametrize("name", ["judge-noise-0.1", "judge-noise-0.3"])
@pytest.mark.parametrize("right", [True, False])
def test_verdicts_are_flipped_with_the_stated_probability(name: str, right: bool) -> None:
    noise, draws, rng = VARIANTS[name]["judge_noise"], 100_000, random.Random(7)
    answer = Completion((5, 0), (0.0, 0.0), "", "stop", Verdict(right, float(right), ""))
    flipped = sum(judged(answer, noise, rng) != right for _ in range(draws))
    assert chisquare([flipped, draws - flipped], [noise * draws, (1 - noise) * draws]).pvalue > 1e-3
    assert not any(judged(replace(answer, finish_reason="length"), noise, rng) for _ in range(1000))
    assert not any(judged(answer, 0.0, rng) != right for _ in range(1000))


def test_worst_case_of_preparing_covers_every_try() -> None:
    first = EXAMPLES[:1]  # prompt of 4 tokens, steps of 2 and 3 tokens: a paraphrase continues the first
    assert S3FT().prepare_worst_case(first, 9) == Rows([4, 6], [(4, 9), (6, 9)], [])
    assert S3FT(choices="gold").prepare_worst_case(first, 9) == Rows([], [], [])
    two = S3FT(num_samples=2, greedy=False)
    assert two.prepare_worst_case(first, 9) == Rows([4, 6], [(4, 9), (4, 9), (6, 9), (6, 9)], [])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"choices": "self+golden"}, "choices: 'golden' is not one of self, paraphrase, gold"),
        ({"judge_noise": 1.5}, r"judge_noise: 1.5 is not in \[0, 1\]"),
        ({"num_samples": 0, "greedy": False}, "num_samples: 0 is below 1"),
        ({"num_samples": 4}, "num_samples: 4 greedy answers are all the same, set greedy=false"),
    ],
)
def test_impossible_fields_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        S3FT(**wrong)


# --- the embedded model, which solves some of the problems ---


@pytest.fixture(scope="module")
def policy() -> Policy:
    from transformers import AutoModelForCausalLM

    path = Path(bench.__file__).parent / "models" / "tiny"
    return Policy(AutoModelForCausalLM.from_pretrained(path).eval(), TOKENIZER)


@pytest.fixture(scope="module")
def problems() -> list[Example]:
    return [encode(TOKENIZER, e, "compact") for e in common.load_examples(TASK, "train", 24, "3", "compact")]


def prepared(policy: Policy, problems: list[Example], seed: int = 0, **fields: Any) -> list[Example]:
    """The training examples that a stage with this seed starts from; its charge is within the bound."""
    policy.meter = Meter(policy.architecture, Budget.parse("1e18flops"))
    method = S3FT(**fields)
    current = stage(policy, method, problems, seed, max_new_tokens=64)
    current.prepare()
    bound = policy.meter.worst_case(method.prepare_worst_case(problems, 64), 0, 0)
    assert 0 < policy.meter.ledger.flops <= bound
    return list(current.pool)


@pytest.mark.parametrize("name", ["sdft", "self-or-gold", "sampled", "samples-4"])
def test_each_prompt_once_and_every_target_passes_the_judge(  # properties 4.1 and 4.3
    policy: Policy, problems: list[Example], name: str
) -> None:
    made = prepared(policy, problems, **VARIANTS[name])
    assert [(e.id, e.prompt_ids) for e in made] == [(e.id, e.prompt_ids) for e in problems]
    assert {e.source for e in made} > {"gold"}
    for target in made:
        assert target.demo_ids[-1] == TOKENIZER.eos_token_id
        assert TASK.verify(target.problem, policy.decode([target.demo_ids])[0]).correct


def test_a_noisy_judge_lets_wrong_targets_in(policy: Policy, problems: list[Example]) -> None:
    made = prepared(policy, problems, **VARIANTS["judge-noise-0.3"])
    verdicts = {TASK.verify(e.problem, policy.decode([e.demo_ids])[0]).correct for e in made if e.source != "gold"}
    assert verdicts == {True, False}


def test_more_samples_find_more_own_answers(policy: Policy, problems: list[Example]) -> None:
    own = [
        sum(e.source == "self" for e in prepared(policy, problems, **VARIANTS[name]))
        for name in ("sampled", "samples-4", "samples-8")
    ]
    assert own[0] < own[1] <= own[2]


def test_greedy_targets_are_likelier_than_gold_ones(policy: Policy, problems: list[Example]) -> None:  # property 4.4
    """On the mean over the problems whose target is the model's own greedy answer; no theorem for single ones."""
    gold = {e.id: e for e in problems}
    own = prepared(policy, problems, choices="self")
    assert len(own) >= 5
    theirs = [Trajectory(e.prompt_ids, e.demo_ids) for e in own]
    golden = [Trajectory(e.prompt_ids, gold[e.id].demo_ids) for e in own]
    scores = {key: float(value.sum()) for key, value in policy.score(theirs + golden, policy.model, 4096).items()}
    assert sum(scores[id(row)] for row in theirs) > sum(scores[id(row)] for row in golden)


def test_built_twice_the_data_are_the_same_bytes(policy: Policy, problems: list[Example]) -> None:  # property 4.5
    fields = {"greedy": False, "num_samples": 2, "judge_noise": 0.1}
    once, again, other = (
        json.dumps([asdict(e) for e in prepared(policy, problems, seed, **fields)]).encode() for seed in (1, 1, 2)
    )
    assert once == again and once != other

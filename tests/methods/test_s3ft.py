"""Golden properties of S3FT: the three-way choice, built once, and SFT on what it chose."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench.types import Completion, Rows, Verdict
from methods.s3ft import S3FT, VARIANTS, accepted
from methods.sft import SFT
from tests.methods.batches import Scripted, example, fixture

EXAMPLES = [example(n, name=f"e{n}") for n in (2, 3, 4, 6)]


def judge(own: str, paraphrase: str):
    """A context in which the named examples' own answers, or their paraphrases, are right."""
    return Scripted(reward=lambda e, prefix, i: float(e.id in (paraphrase if prefix else own).split()))


def test_each_prompt_gets_the_first_target_that_holds() -> None:
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


def test_a_judge_that_accepts_all_or_nothing() -> None:
    everything = "e2 e3 e4 e6"
    assert {e.source for e in S3FT().prepare(EXAMPLES, judge(everything, ""))} == {"self"}
    assert S3FT().prepare(EXAMPLES, judge("", "")) == EXAMPLES, "judge always no: exactly SFT's data"


def test_sft_on_the_chosen_targets() -> None:
    made = fixture([(3, 0), (5, 0), (1, 0)])
    (ours, gradient), (theirs, expected) = made.gradient(S3FT()), made.gradient(SFT())
    assert ours == theirs and torch.equal(gradient, expected)
    assert S3FT().collect(EXAMPLES, Scripted()) == SFT().collect(EXAMPLES, Scripted())


@pytest.mark.parametrize(
    ("variant", "sources"),
    [
        ("sdft", ["gold", "gold", "paraphrase", "gold"]),
        ("self-only", ["self"]),
        ("self-or-gold", ["self", "gold", "gold", "gold"]),
        ("gold", ["gold"] * 4),
        ("sampled", ["self", "gold", "paraphrase", "gold"]),
    ],
)
def test_variants_are_other_choices(variant: str, sources: list[str]) -> None:
    ctx = judge("e2", "e4")
    assert [e.source for e in S3FT(**VARIANTS[variant]).prepare(EXAMPLES, ctx)] == sources
    assert all(greedy == (variant != "sampled") for greedy in ctx.greedy)


def test_only_right_answers_that_end_by_themselves_become_targets() -> None:
    right, wrong = Verdict(True, 1.0, ""), Verdict(False, 0.1, "")
    answer = Completion((5, 0), (0.0, 0.0), "", "stop", right)
    assert accepted(answer)
    assert not accepted(replace(answer, finish_reason="length")) and not accepted(replace(answer, verdict=wrong))


def test_worst_case_of_preparing_covers_every_try() -> None:
    first = EXAMPLES[:1]  # prompt of 4 tokens, steps of 2 and 3 tokens: a paraphrase continues the first
    assert S3FT().prepare_worst_case(first, 9) == Rows([4, 6], [(4, 9), (6, 9)], [])
    assert S3FT(choices="gold").prepare_worst_case(first, 9) == Rows([], [], [])


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="choices"):
        S3FT(choices="self+golden")

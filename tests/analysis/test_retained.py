"""Retained shares: claims about them, their grammar, and what cannot be judged."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.analysis.claim_grammar import parse_claim
from bench.analysis.claims import answer_claim
from bench.analysis.runs import Judged, RunRecord
from bench.stats.intervals import paired_difference
from bench.stats.power import REFUTED, SUPPORTED, UNDERPOWERED
from bench.types import UserError
from tests.helpers.commands import call
from tests.report.test_formats import record

ROOT = Path(__file__).resolve().parents[2]
NINE = ROOT / "results" / "published" / "nine"
ITEMS = 200


def judged(method: str, seed: int, split: str, accuracy: float) -> Judged:
    """Items of shared difficulty, four samples of each."""
    difficulty = np.random.default_rng([*split.encode()]).normal(0, 0.1, ITEMS)
    rng = np.random.default_rng([seed, *method.encode(), *split.encode()])
    right = rng.random((ITEMS, 4)) < np.clip(accuracy + difficulty, 0, 1)[:, None]
    return Judged(tuple(f"o{n:04}" for n in range(ITEMS)), right)


def store(seeds: int = 3, base: float = 0.4, **kept: float) -> list[RunRecord]:
    """Runs that keep these shares of base's accuracy on two other tasks and one skill."""
    splits = ("other:logic", "other:math", "skill:copying")
    return [
        record(m, s, [[1, 0], [0, 0]], elsewhere={split: judged(m, s, split, base * share) for split in splits})
        for m, share in {"base": 1.0, **kept}.items()
        for s in range(seeds)
    ]


def verdict(text: str, records: list[RunRecord]) -> str:
    return answer_claim(parse_claim(text), records).verdict


def test_the_grammar() -> None:
    found = parse_claim(" uft  retains more than sft on  other tasks by 5 points after countdown level 3")
    assert (found.first, found.relation, found.second, found.retained) == ("uft", ">", "sft", "other tasks")
    assert (found.by, found.task, found.level, found.least) == (0.05, "countdown", "3", None)
    less = parse_claim("sft retains less than uft on logic")
    assert (less.first, less.second, less.retained) == ("uft", "sft", "logic")
    least = parse_claim("uft[uft.demo_coef=0] retains at least 92.5 % on skills")
    assert (least.first, least.second, least.least, least.retained) == ("uft[uft.demo_coef=0]", "base", 0.925, "skills")
    assert parse_claim("uft retains at least 90% on skills").least == 0.9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("uft retains more than uft on logic", "compares uft with itself"),
        ("uft retains more than sft", "expected A retains more than B on WHAT"),
        ("uft retains at least 90 on logic", "expected A retains more than B on WHAT"),
        ("uft retains at least 9.0.0 % on logic", "'9.0.0' is not a number of %"),
        ("uft retains at least 0 % on logic", "expected a share above 0 %"),
        ("uft retains at least 90 % on logic by 2 points", "no 'by N points' beside it"),
        ("uft retains more than sft on logic metric greedy", "expected A retains more than B on WHAT"),
        ("uft retains more than sft on logic after a after b", "'after' is given twice"),
    ],
)
def test_malformed(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as error:
        parse_claim(text)
    assert "\n" not in str(error.value)


def test_shares_are_compared_and_held_against_a_number() -> None:
    records = store(uft=1.0, sft=0.5)
    assert verdict("uft retains more than sft on other tasks", records) == SUPPORTED
    assert verdict("sft retains less than uft on other tasks", records) == SUPPORTED
    assert verdict("sft retains more than uft on other tasks", records) == REFUTED
    assert verdict("uft retains more than sft on skills by 20 points", records) == SUPPORTED
    assert verdict("uft retains more than sft on logic by 90 points", records) == REFUTED
    assert verdict("uft retains at least 80 % on other tasks", records) == SUPPORTED
    assert verdict("sft retains at least 80 % on other tasks", records) == REFUTED
    assert verdict("uft retains at least 100 % on copying", records) == UNDERPOWERED
    assert verdict("base retains more than sft on other tasks", records) == SUPPORTED
    assert verdict("uft retains more than sft on other tasks", store(seeds=1, uft=1.0, sft=0.5)) == UNDERPOWERED


def test_on_one_task_the_test_is_that_of_the_accuracies() -> None:
    """Two shares of one figure differ where the accuracies do: the same p-value, whatever base's is."""
    records = store(uft=1.0, sft=0.9)
    found = answer_claim(parse_claim("uft retains more than sft on logic"), records).difference
    after = {m: [r.elsewhere["other:logic"].correct.mean(1) for r in records if r.method == m] for m in ("uft", "sft")}
    plain = paired_difference(np.stack(after["uft"]), np.stack(after["sft"]))
    base = np.mean([r.elsewhere["other:logic"].correct.mean() for r in records if r.method == "base"])
    assert found is not None and found.p_value == pytest.approx(plain.p_value)
    assert found.mean == pytest.approx(plain.mean / base)


def test_near_duplicates_of_another_task_count_together() -> None:
    """Every item three times, labelled by what it repeats, gives the limits of the items alone."""

    def repeated(j: Judged, labelled: bool) -> Judged:
        ids = tuple(f"{item}-{n}" for item in j.item_ids for n in range(3))
        labels = tuple(item for item in j.item_ids for _ in range(3))
        return replace(j, item_ids=ids, correct=j.correct.repeat(3, axis=0), clusters=labels if labelled else None)

    def limits(text: str, records: list[RunRecord]) -> tuple[float, float, float]:
        found = answer_claim(parse_claim(text), records).difference
        assert found is not None
        return found.low, found.high, found.p_value

    alone = store(uft=1.0, sft=0.9)
    for text in ("uft retains more than sft on other tasks", "sft retains at least 80 % on logic"):
        known = limits(text, alone)
        for labelled in (True, False):  # by the runs of one method alone, as where the others are older
            records = [
                replace(r, elsewhere={s: repeated(j, labelled and r.method == "sft") for s, j in r.elsewhere.items()})
                for r in alone
            ]
            assert (limits(text, records) == pytest.approx(known, abs=1e-7)) == labelled


def test_a_base_near_0_decides_nothing_and_one_of_0_is_an_error() -> None:
    records = [
        replace(r, elsewhere={"other:logic": Judged(j.item_ids, rare if r.method == "base" else j.correct)})
        for r in store(uft=1.0, sft=0.5)
        for j, rare in [(r.elsewhere["other:logic"], np.eye(ITEMS, 4, dtype=bool) & (np.arange(4) == 0))]
    ]
    for text in ("uft retains at least 90 % on logic", "uft retains more than sft on logic"):
        found = answer_claim(parse_claim(text), records)
        assert found.verdict == UNDERPOWERED and "too near 0: nothing bounds a share" in found.sentence
        assert found.difference is not None and math.isinf(found.difference.high)
    never = [
        replace(r, elsewhere={"other:logic": Judged(j.item_ids, j.correct & (r.method != "base"))})
        for r in records
        for j in [r.elsewhere["other:logic"]]
    ]
    with pytest.raises(UserError, match="base is never right on logic, there is nothing to retain"):
        answer_claim(parse_claim("uft retains at least 90 % on logic"), never)


@pytest.mark.parametrize(
    ("text", "without", "expected"),
    [
        ("uft retains more than sft on logik", "", "unknown task or skill .* 'logik': did you mean logic"),
        ("uft retains more than sft on other tasks", "base", "no base run in this comparison"),
        ("uft retains more than stf on logic", "", "unknown method of these runs 'stf'"),
    ],
)
def test_what_cannot_be_judged(text: str, without: str, expected: str) -> None:
    records = [r for r in store(uft=1.0, sft=0.5) if r.method != without]
    with pytest.raises(UserError, match=expected):
        answer_claim(parse_claim(text), records)
    bare = [replace(r, elsewhere={}) for r in records if r.method != "stf"]
    with pytest.raises(UserError):
        answer_claim(parse_claim("uft retains more than sft on other tasks"), bare)


def test_the_command_on_the_published_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "claim", "uft retains more than sft on other tasks", "--results", NINE)
    assert (code, err) == (0, "") and out.startswith("supported: uft retains more than sft on other tasks. uft - sft, ")
    assert "accuracy on logic, math and sudoku; shares of base, after countdown" in out
    code, out, err = call(capsys, "claim", "sft retains at least 90 % on logic", "--results", NINE, "--json")
    answer = json.loads(out)
    assert code == 1 and answer["verdict"] == REFUTED and answer["claim"]["retained"] == "logic"
    assert answer["difference"]["mean"] == 0 < answer["difference"]["high"] < 0.9


def test_a_side_that_was_not_measured_decides_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """After the seconds that dft took, sft had not yet been validated once."""
    text = "sft > dft at equal seconds"
    code, out, _ = call(capsys, "claim", text, "--results", NINE)
    assert code == 2 and out.startswith(f"underpowered: {text}. ")
    assert "Not decided: sft not measured at" in out and "the first validation had spent more" in out
    code, out, _ = call(capsys, "claim", text, "--results", NINE, "--json")
    assert json.loads(out)["difference"] is None and "not measured" in json.loads(out)["not_decided"]

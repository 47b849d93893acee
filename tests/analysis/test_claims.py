"""Claims: their grammar, answers by hand, what cannot be compared, files of claims, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis import claim_files
from bench.analysis.board import leaderboard
from bench.analysis.claim_grammar import parse_claim
from bench.analysis.claims import answer_claim
from bench.analysis.runs import RunRecord
from bench.stats.intervals import paired_difference
from bench.stats.power import REFUTED, SUPPORTED, UNDERPOWERED
from bench.types import UserError
from tests.analysis.test_effects import drawn
from tests.helpers.commands import call

ROOT = Path(__file__).resolve().parents[2]


def store(num_items: int = 400, seeds: int = 3, **accuracies: float) -> list[RunRecord]:
    levels = accuracies or {"dft": 0.6, "sft": 0.5, "uft": 0.501}
    return [drawn(m, s, a, num_items) for m, a in levels.items() for s in range(seeds)]


def verdict(text: str, records: list[RunRecord]) -> str:
    return answer_claim(parse_claim(text), records).verdict


# --- grammar -------------------------------------------------------------------------------------------------------


def test_every_clause_in_any_order() -> None:
    found = parse_claim(" dft >  sft metric greedy split ood by 2.5 points at equal FLOPS on countdown level 3to4")
    assert (found.first, found.relation, found.second) == ("dft", ">", "sft")
    assert (found.task, found.level, found.equal, found.by) == ("countdown", "3to4", "flops", 0.025)
    assert (found.split, found.metric, found.corrected) == ("ood", "greedy", False)
    assert parse_claim("a<b on x") == replace(parse_claim("b > a on x"), text="a<b on x")
    named = parse_claim("uft[uft.demo_coef=0] = sft@0.3+grpo corrected".replace(" corrected", ""))
    assert (named.first, named.relation, named.second) == ("uft[uft.demo_coef=0]", "=", "sft@0.3+grpo")
    assert parse_claim("a > b corrected").corrected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected A > B"),
        ("uft sft", "expected A > B"),
        ("uft > sft > dft", "expected A > B"),
        ("uft > sft really", "expected A > B"),
        ("uft > uft", "compares uft with itself"),
        ("uft > sft at equal flips", "unknown currency 'flips': did you mean flops"),
        ("uft > sft metric gredy", "did you mean greedy"),
        ("uft > sft metric pass@0", "unknown metric 'pass@0'"),
        ("uft > sft by 200 points", "between 0 and 100"),
        ("uft > sft by 1.2.3 points", "not a number"),
        ("uft > sft on a on b", "'task' is given twice"),
        ("uft = sft corrected", "'corrected' is for"),
    ],
)
def test_malformed_claims(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected.replace("[", r"\[")) as error:
        parse_claim(text)
    assert "\n" not in str(error.value)


# --- answers -------------------------------------------------------------------------------------------------------


def test_greater_smaller_and_by_points() -> None:
    records = store(num_items=4000)
    assert verdict("dft > sft", records) == verdict("sft < dft", records) == SUPPORTED
    assert verdict("sft > dft", records) == REFUTED
    assert verdict("dft > sft by 5 points", records) == SUPPORTED
    assert verdict("dft > sft by 10 points", records) == UNDERPOWERED
    assert verdict("dft > sft by 20 points", records) == REFUTED
    found = answer_claim(parse_claim("dft > sft"), records)
    border = 100 * found.difference.mean  # the interval, not the mean, must be beyond the border
    assert verdict(f"dft > sft by {border - 0.1:.2f} points", records) == UNDERPOWERED
    assert verdict(f"dft > sft by {border + 0.1:.2f} points", records) == UNDERPOWERED
    a, b = (np.stack([r.correct.mean(1) for r in records if r.method == m]) for m in ("dft", "sft"))
    assert found.difference == paired_difference(a, b) and found.passport == "passed"


def test_equivalence_within_points() -> None:
    records = store(num_items=8000, seeds=5)
    assert verdict("sft = uft", records) == SUPPORTED, "within the 2 points that are taken without a clause"
    assert verdict("sft = uft by 0.1 points", records) == UNDERPOWERED
    assert verdict("dft = uft by 5 points", records) == REFUTED
    assert verdict("dft = uft by 15 points", records) == SUPPORTED, "a significant difference may still be small"
    few = answer_claim(parse_claim("sft = uft"), store(num_items=60))
    assert few.verdict == UNDERPOWERED and "to show equal methods within 2 points with power 0.8: " in few.more


def test_other_metrics() -> None:
    records = [
        replace(r, greedy=np.full(400, r.method == "sft")) if r.method != "uft" else r for r in store(num_items=400)
    ]
    assert answer_claim(parse_claim("dft > sft metric greedy"), records).difference.mean == -1
    assert answer_claim(parse_claim("dft > sft metric pass@4"), records).difference.mean == pytest.approx(
        np.mean([r.correct.any(1).mean() for r in records if r.method == "dft"])
        - np.mean([r.correct.any(1).mean() for r in records if r.method == "sft"])
    )
    with pytest.raises(UserError, match="these runs have 4 samples per item, expected at least 8"):
        answer_claim(parse_claim("dft > sft metric pass@8"), records)


def test_corrected_takes_the_p_value_of_the_table() -> None:
    records = store(num_items=300, a=0.5, b=0.55, c=0.5, d=0.51, e=0.52)
    plain, found = (answer_claim(parse_claim(f"b > a{more}"), records) for more in ("", " corrected"))
    pair = next(p for p in leaderboard(records).tables[0].pairs if {p.first, p.second} == {"a", "b"})
    assert found.difference.p_value == pair.adjusted > plain.difference.p_value
    assert found.difference.mean == plain.difference.mean


def test_one_seed_supports_nothing() -> None:
    found = answer_claim(parse_claim("dft > sft"), store(num_items=4000, seeds=1))
    assert found.verdict == UNDERPOWERED and found.difference.over == "items only"
    assert "One seed of dft and sft: the variation between seeds is unknown" in found.sentence


def test_one_seed_of_one_side_supports_nothing() -> None:
    """The published case: with one seed of grpo the order of sft and grpo was said to be supported."""
    records = claim_files.claim_records(ROOT / "results" / "published" / "nine", "test")
    few = [r for r in records if r.method != "grpo" or r.seed == 0]
    for text in ("sft > grpo", "grpo < sft", "grpo > sft", "sft = grpo by 30 points", "sft > grpo at equal tokens"):
        found = answer_claim(parse_claim(text), few)
        assert found.verdict == UNDERPOWERED and found.sentence.endswith(
            " One seed of grpo: the variation between seeds is unknown, so nothing can be claimed of the methods."
        )
        assert (found.difference.num_seeds, found.difference.over) == (1, "items only")
    assert answer_claim(parse_claim("sft > grpo corrected"), few).verdict == UNDERPOWERED
    assert verdict("sft > base", [r for r in few if r.method != "base" or r.seed == 2]) == SUPPORTED


def test_planning_figures_with_unequal_sides() -> None:
    records = [r for r in store(seeds=5, sft=0.5, uft=0.52) if r.method != "sft" or r.seed > 1]
    found = answer_claim(parse_claim("uft > sft"), records)
    again = answer_claim(parse_claim("uft > sft"), [r for r in records if r.seed > 1])
    assert found.difference.num_seeds == 3 and found.seeds_needed == again.seeds_needed is not None
    assert "For planning: to find an effect of 2, 5 or 10 points with power 0.8: " in found.sentence
    beyond = answer_claim(parse_claim("uft > sft by 3 points"), records)
    assert "to find an effect of 2, 5 or 10 points beyond these 3 with power" in beyond.sentence


@pytest.mark.parametrize(
    ("text", "change", "expected"),
    [
        ("dft > sfd", {}, "unknown method of these runs 'sfd': did you mean sft"),
        ("dft > sft on logik", {}, "unknown task of these runs 'logik'"),
        ("dft > sft on countdown level 9", {}, "unknown level of these runs '9'"),
        ("dft > sft at equal tokens split ood", {}, "reads the validations: leave 'split'"),
        ("dft > sft", {"model": "qwen", "comparison": "other"}, "their model differs, tiny and qwen"),
        ("dft > sft", {"protocol": 2}, "their protocol differs, 1 and 2"),
        ("dft > sft", {"comparison": "other"}, "their settings of evaluation or machine differs"),
    ],
)
def test_what_cannot_be_compared(text: str, change: dict[str, Any], expected: str) -> None:
    records = [replace(r, **change) if r.method == "sft" else r for r in store()]
    with pytest.raises(UserError, match=expected):
        answer_claim(parse_claim(text), records)


def test_several_comparisons_are_named() -> None:
    records = [*store(), *(replace(r, task="logic", comparison="feed") for r in store())]
    with pytest.raises(UserError, match=r"fits 2 comparisons, whose task differs \(countdown, logic\): say 'on TASK'"):
        answer_claim(parse_claim("dft > sft"), records)
    assert verdict("dft > sft on logic", records) == SUPPORTED
    budgets = [*store(), *(replace(r, budget_limit=1e12, comparison="feed") for r in store())]
    with pytest.raises(UserError, match=r"budget limit differs.*choose with --comparison.*cafe0123456789, feed"):
        answer_claim(parse_claim("dft > sft"), budgets)


# --- files and the command -----------------------------------------------------------------------------------------


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder whose runs are synthetic records."""
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr("bench.analysis.records.load_results", lambda folder, split: (store(num_items=4000), []))
    return tmp_path / "runs"


def test_exit_codes_and_json(loaded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "claim", "dft > sft at equal flops", "--results", loaded)[0] == 0
    code, out, _ = call(capsys, "claim", "sft > dft", "--results", loaded)
    assert code == 1 and out.startswith("refuted: sft > dft. sft - dft: -") and "3 seeds x 4000 items" in out
    code, out, _ = call(capsys, "claim", "dft > sft by 10 points", "--results", loaded, "--json")
    assert code == 2 and json.loads(out)["verdict"] == UNDERPOWERED and json.loads(out)["passport"] == "passed"


def test_bad_input_is_one_line(loaded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases: dict[tuple[Any, ...], str] = {
        (): "either a claim or --file",
        ("a > b", "--file", "x.yaml"): "either a claim or --file",
        ("a > b", "--results", "/none/such"): "does not exist",
        ("dft > sft", "--results", loaded, "--comparison", "beef"): "unknown comparison of these runs 'beef'",
        ("--file", tmp_path / "none.yaml"): "cannot be read",
    }
    for arguments, expected in cases.items():
        code, out, err = call(capsys, "claim", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1) and expected in err


def test_an_empty_store_and_an_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run in"):
        claim_files.claim_records(tmp_path, "test")


def write(path: Path, *entries: Any) -> Path:
    (path / "claims.yaml").write_text(json.dumps(list(entries)))  # JSON is YAML
    return path / "claims.yaml"


GOOD = {"claim": "dft > sft", "where": "README.md: DFT is ahead.", "expect": "supported"}


def test_a_file_holds_if_every_claim_is_as_stated(loaded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {**GOOD, "claim": "sft > dft on countdown", "expect": "refuted", "results": "runs"}
    file = write(loaded.parent, GOOD, other)
    code, out, err = call(capsys, "claim", "--file", file, "--results", loaded)
    assert (code, err) == (0, "") and "2 of 2 claims are as stated" in out
    file = write(loaded.parent, GOOD, {**other, "expect": "supported"})
    code, out, err = call(capsys, "claim", "--file", file, "--results", loaded)
    assert code == 1 and "1 of 2" in out and "refuted (!)" in out
    assert err.startswith("README.md: DFT is ahead.: stated as supported, but refuted: sft > dft on countdown.")
    code, out, _ = call(capsys, "claim", "--file", file, "--results", loaded, "--json")
    assert code == 1 and [row["holds"] for row in json.loads(out)] == [True, False]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("claim: a", "expected a list"),
        ("[]", "expected a list"),
        ("- a", "entry 1: expected claim, where and expect"),
        (json.dumps([GOOD, {**GOOD, "expects": "supported"}]), "key of claims file .* entry 2 'expects'"),
        (json.dumps([{k: v for k, v in GOOD.items() if k != "where"}]), "entry 1: 'where' is missing"),
        (json.dumps([{**GOOD, "expect": "support"}]), "'support': did you mean supported"),
        (json.dumps([{**GOOD, "claim": "dft"}]), "entry 1: malformed claim 'dft'"),
        (json.dumps([{**GOOD, "claim": "dft > xx"}]), r"entry 1 \(dft > xx\): unknown method"),
    ],
)
def test_malformed_files(content: str, expected: str, loaded: Path) -> None:
    (loaded.parent / "claims.yaml").write_text(content)
    with pytest.raises(UserError, match=expected) as error:
        claim_files.evaluate_file(loaded.parent / "claims.yaml", loaded)
    assert "\n" not in str(error.value)


def test_the_sentences_of_the_documents_hold_on_the_published_runs() -> None:
    entries = claim_files.read_claims(ROOT / "claims.yaml", ROOT / "results" / "published")
    for entry in entries:
        file, _, sentence = entry.where.partition(": ")
        text = " ".join((ROOT / file).read_text().replace("`", "").split())
        assert sentence in text, entry.where
    absent = sorted({str(entry.results.relative_to(ROOT)) for entry in entries if not entry.results.is_dir()})
    if absent:
        pytest.skip(f"not published yet: {', '.join(absent)}")
    found = claim_files.evaluate_file(ROOT / "claims.yaml", ROOT / "results" / "published")
    assert [a.sentence for e, a in found if a.verdict != e.expect] == []

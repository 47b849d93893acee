"""Contrasts of ablations by hand, their corrected limits and sentences, and seeds for effects of a stated size."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from bench.analysis.effects import contrasts, estimate_effects, holm_levels
from bench.analysis.runs import RunRecord
from bench.audit.identities import Agreement
from bench.report.ablation_report import FORMATS, ablation_markdown, findings
from bench.report.effect_plots import write_report
from bench.stats.intervals import holm, paired_difference, spread_of_mean
from bench.stats.power import REFUTED, SUPPORTED, UNDERPOWERED, seeds_to_find
from bench.stats.seed_test import p_value
from bench.study import designs, method_paths
from bench.study.ablation import Ablation, Subject
from bench.types import UserError
from tests.report.test_formats import record

UFT = Subject("uft", {})
GRID = designs.build_ablation(UFT, ["demo_coef=0,0.001", "kl_coef=0,0.001"], "grid")
NAMES = ["default", "demo_coef=0", "kl_coef=0", "demo_coef=0, kl_coef=0"]


def drawn(arm: str, seed: int, accuracy: float, num_items: int = 400, **changes: Any) -> RunRecord:
    """Items of shared difficulty, with noise of arm and seed."""
    rng = np.random.default_rng([seed, *arm.encode()])
    difficulty = np.random.default_rng(7).normal(0, 0.1, num_items)
    bits = rng.random((num_items, 4)) < (np.clip(accuracy + difficulty, 0, 1))[:, None]
    return record(arm, seed, bits, **changes)


def runs(levels: dict[str, float], seeds: int = 3, **changes: Any) -> dict[str, list[RunRecord]]:
    return {arm: [drawn(arm, s, accuracy, **changes) for s in range(seeds)] for arm, accuracy in levels.items()}


def means(records: dict[str, list[RunRecord]]) -> dict[str, float]:
    return {arm: float(np.mean([r.correct.mean() for r in found])) for arm, found in records.items()}


def test_effects_of_a_grid_by_hand() -> None:
    records = runs(dict(zip(NAMES, (0.6, 0.5, 0.55, 0.3))))
    found = {e.contrast.factor: e for e in estimate_effects(contrasts(GRID), records)}
    d, demo, kl, both = (means(records)[name] for name in NAMES)
    assert found["demo_coef"].difference.mean == pytest.approx((demo + both) / 2 - (d + kl) / 2)
    assert found["kl_coef"].difference.mean == pytest.approx((kl + both) / 2 - (d + demo) / 2)
    assert found["demo_coef x kl_coef"].difference.mean == pytest.approx(both - demo - kl + d)
    assert found["demo_coef"].verdict == SUPPORTED and found["demo_coef x kl_coef"].verdict == SUPPORTED


def test_one_at_a_time_is_the_paired_difference_with_the_default() -> None:
    one = designs.build_ablation(UFT, ["demo_coef=0", "kl_coef=0"], "one-at-a-time")
    records = runs({"default": 0.5, "demo_coef=0": 0.5, "kl_coef=0": 0.7})
    found = estimate_effects(contrasts(one), records)
    by_hand = [
        paired_difference(*(np.stack([r.correct.mean(1) for r in records[a]]) for a in (arm, "default")))
        for arm in ("demo_coef=0", "kl_coef=0")
    ]
    assert [e.difference for e in found] == by_hand
    assert [e.adjusted for e in found] == holm([t.p_value for t in by_hand])
    assert [e.verdict for e in found][1] == REFUTED, "the default's KL does harm here"


def test_holms_limits_exclude_zero_exactly_where_it_rejects() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = list(rng.random(5) ** 4)
        adjusted, levels = holm(p), holm_levels(p)
        assert [1 - level >= value for level, value in zip(levels, p)] == [a <= 0.05 for a in adjusted]
    assert holm_levels([0.01, 0.02]) == [1 - 0.05 / 2, 1 - 0.05]
    assert holm_levels([0.03, 0.02, 0.9]) == [1 - 0.05 / 3] * 3, "after the first that stands none is rejected"


def test_only_seeds_that_all_arms_have_count() -> None:
    one = designs.build_ablation(UFT, ["demo_coef=0"], "one-at-a-time")
    records = runs({"default": 0.5, "demo_coef=0": 0.6})
    records["demo_coef=0"] = records["demo_coef=0"][1:]
    (effect,) = estimate_effects(contrasts(one), records)
    assert effect.seeds == (1, 2) and effect.difference.num_seeds == 2
    records["demo_coef=0"] = [drawn("demo_coef=0", 9, 0.6)]
    assert estimate_effects(contrasts(one), records) == []
    assert "not estimated, its arms have no seed in common" in " ".join(findings(one, records).sentences)


def test_runs_of_another_model_or_protocol_are_refused() -> None:
    one = designs.build_ablation(UFT, ["demo_coef=0"], "one-at-a-time")
    for change, expected in (
        ({"model": "qwen"}, "model differs: qwen, tiny"),
        ({"protocol": 2}, "protocol differs: 1, 2"),
    ):
        records = runs({"default": 0.5}) | runs({"demo_coef=0": 0.6}, **change)
        with pytest.raises(UserError, match=expected):
            estimate_effects(contrasts(one), records)


# --- verdicts and sentences ----------------------------------------------------------------------------------------


def said(levels: dict[str, float], ablation: Ablation, **changes: Any) -> list[str]:
    return list(findings(ablation, runs(levels, **changes)).sentences)


def test_sentences_follow_the_tests() -> None:
    one = designs.build_ablation(UFT, ["demo_coef=0"], "one-at-a-time")
    (helps,) = said({"default": 0.6, "demo_coef=0": 0.4}, one)
    assert helps.startswith("demo_coef=0 instead of 0.001: supported, demo_coef=0.001 helps (difference -")
    (harms,) = said({"default": 0.4, "demo_coef=0": 0.6}, one)
    assert ": refuted, 0 is better (difference +" in harms
    (same,) = said({"default": 0.5, "demo_coef=0": 0.5}, one, seeds=5, num_items=8000)
    assert "refuted, a difference of 2 points or more is ruled out" in same
    (open_,) = said({"default": 0.5, "demo_coef=0": 0.53}, one, num_items=60)
    assert (
        "underpowered, not shown to matter; " in open_
        and "to find an effect of 2, 5 or 10 points with power 0.8: " in open_
    )


def test_one_seed_decides_nothing() -> None:
    one = designs.build_ablation(UFT, ["demo_coef=0"], "one-at-a-time")
    found = findings(one, runs({"default": 0.6, "demo_coef=0": 0.2}, seeds=1))
    assert [e.verdict for e in found.effects] == [UNDERPOWERED] and found.effects[0].difference.over == "items only"
    assert "one seed says nothing of other seeds" in found.sentences[0]
    assert found.sentences[-1].startswith("One seed: limits cover items only")


def test_two_seeds_are_not_corrected_and_decide_nothing() -> None:
    one = designs.build_ablation(UFT, ["demo_coef=0", "kl_coef=0"], "one-at-a-time")
    records = runs({"default": 0.6, "demo_coef=0": 0.2, "kl_coef=0": 0.4})
    three = {e.contrast.factor: e for e in estimate_effects(contrasts(one), records)}
    records["demo_coef=0"] = records["demo_coef=0"][:2]
    two = {e.contrast.factor: e for e in estimate_effects(contrasts(one), records)}
    assert [e.verdict for e in three.values()] == [SUPPORTED, SUPPORTED]
    effect = two["demo_coef"]
    assert (effect.verdict, effect.adjusted) == (UNDERPOWERED, 1.0)
    assert effect.seeds_needed is not None and all(num is None or num >= 3 for num in effect.seeds_needed.values())
    assert (effect.low, effect.high) == (effect.difference.low, effect.difference.high)
    assert two["kl_coef"].adjusted == two["kl_coef"].difference.p_value, "alone in its family"
    assert three["kl_coef"].adjusted >= two["kl_coef"].adjusted
    assert "too few seeds for a corrected test" in findings(one, records).sentences[0]


def test_sides_that_never_differ_have_no_interval() -> None:
    one = designs.build_ablation(UFT, ["demo_coef=0"], "one-at-a-time")
    found = findings(one, runs({"default": -1.0, "demo_coef=0": -1.0}))
    assert found.effects[0].verdict == UNDERPOWERED and "same score on every item" in found.sentences[0]
    assert "interval" not in found.sentences[0].replace("to estimate an interval from", "")


def test_planning_figures_are_for_stated_effects() -> None:
    """Scores that are moved by any number have the same figures: the observed effect plays no part."""
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 0.03, (3, 1)) + rng.normal(0, 0.3, (3, 200))
    needed = seeds_to_find(scores)
    assert needed is not None and list(needed) == ["2", "5", "10"] and needed["10"] < needed["5"]
    assert needed == seeds_to_find(scores + 0.25) == seeds_to_find(-scores)


def test_seeds_to_find_by_brute_force() -> None:
    """The number found has power .8 and one seed fewer has not, by simulation of the same mix of variances."""
    rng = np.random.default_rng(0)

    def layout(num_seeds: int, effect: float) -> np.ndarray:
        seed = rng.normal(0, 0.03, (num_seeds, 1))
        return effect + seed + rng.normal(0, 0.3, (num_seeds, 200)) + rng.normal(0, 0.05, (1, 200))

    def seeds(scores: np.ndarray, effect: float, alpha: float = 0.05) -> int | None:
        [(points, number)] = (seeds_to_find(scores, alpha, effects=[effect]) or {}).items()
        assert float(points) == pytest.approx(100 * effect)
        return number

    needed = [seeds(layout(40, 0.0), 0.05) for _ in range(20)]
    middle = sorted(n for n in needed if n is not None)[10]

    def power(num_seeds: int) -> float:
        drawn = np.stack([layout(num_seeds, 0.05) for _ in range(1000)])
        return float(np.mean(p_value(drawn.mean(axis=(1, 2)), spread_of_mean(drawn)) <= 0.05))

    assert power(middle + 1) > 0.77 and power(middle - 2) < 0.83
    strict = seeds(shown := layout(40, 0.0), 0.05, alpha=0.001)
    assert strict is not None and strict > (seeds(shown, 0.05) or 0)
    assert seeds_to_find(layout(1, 0.0)) is None
    assert seeds(layout(3, 0.0), 0.001) is None, "the items alone vary more than that"


# --- reports -------------------------------------------------------------------------------------------------------


def test_costs_are_those_of_the_two_sides() -> None:
    one = designs.build_ablation(UFT, ["demo_coef=0"], "one-at-a-time")
    records = runs({"default": 0.5, "demo_coef=0": 0.5})
    for r in records["demo_coef=0"]:
        r.ledger["tokens"] = 2 * 1234567.0
    (effect,) = estimate_effects(contrasts(one), records)
    assert effect.costs["tokens"] == (1234567.0, 2469134.0)
    assert "+100 %" in FORMATS["table"](findings(one, records))


def test_a_report_in_every_format(tmp_path: Any) -> None:
    records = runs(dict(zip(NAMES, (0.6, 0.5, 0.55, 0.3))))
    agreement = Agreement("a", "b", "records of seed 0", "items.jsonl, record 3: id is 1 and 2")
    found = findings(GRID, records, [agreement])
    assert "a and b: differ: items.jsonl, record 3: id is 1 and 2 (records of seed 0)." in ablation_markdown(found)
    loaded = json.loads(FORMATS["json"](found))
    assert [arm["name"] for arm in loaded["arms"]] == [arm.name for arm in GRID.arms]
    assert [e["contrast"]["kind"] for e in loaded["effects"]] == ["component", "component", "interaction"]
    assert all(len(line) <= 100 for line in FORMATS["table"](found).splitlines())
    written = write_report(found, records, tmp_path / "out")
    assert [p.name for p in written] == ["report.md", "report.json", "effects.svg", "demo_coef.svg", "kl_coef.svg"]
    before = {p: p.read_bytes() for p in written}
    assert before == {p: p.read_bytes() for p in write_report(found, records, tmp_path / "out")}, "the same bytes again"
    assert "![effects.svg](effects.svg)" in (tmp_path / "out" / "report.md").read_text()


def test_missing_arms_are_named() -> None:
    records = runs({"default": 0.5, "demo_coef=0": 0.4})
    found = findings(GRID, {**records, "kl_coef=0": []})
    assert found.sentences[-1] == "No finished run: " + ", ".join(found.missing) + "."
    assert set(found.missing) == {"kl_coef=0", "demo_coef=0, kl_coef=0"} and found.effects == ()


def test_a_path_compares_neighbours_and_its_ends() -> None:
    path, _ = method_paths.build_path("grpo", "uft", {})
    records = runs({arm.name: 0.3 + 0.1 * n for n, arm in enumerate(path.arms)})
    found = findings(path, records)
    pairs = [(e.contrast.minus, e.contrast.plus) for e in found.effects]
    names = [arm.name for arm in path.arms]
    assert pairs == [*(((a,), (b,)) for a, b in pairwise(names)), ((names[0],), (names[-1],))]
    assert ": supported, it raises accuracy" in found.sentences[0]

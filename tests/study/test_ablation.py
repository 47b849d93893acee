"""Arms of ablations: designs, labels that keep run ids, reuse of finished runs, and paths between methods."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench.audit import identities
from bench.models import model_path, model_settings
from bench.plan import registry
from bench.study import designs, method_paths
from bench.study.ablation import Ablation, Subject, arm_jobs, check_size, text
from bench.study.jobs import Spec, plan_jobs
from bench.types import UserError

TINY = model_settings(model_path("tiny"))["methods"]
UFT = Subject("uft", TINY)


def made(*vary: str, design: str = "one-at-a-time", subject: Subject = UFT, suite: str | None = None) -> Ablation:
    return designs.build_ablation(subject, vary, design, suite)


def labels(ablation: Ablation) -> list[str]:
    return [arm.method for arm in ablation.arms]


# --- designs -------------------------------------------------------------------------------------------------------


def test_one_at_a_time_is_the_default_and_each_other_value() -> None:
    found = made("demo_coef=0,0.001,0.01", "schedule=cosine,staged,uniform")
    assert labels(found) == [
        *("uft", "uft[uft.demo_coef=0]", "uft[uft.demo_coef=0.01]"),
        *("uft[uft.schedule=staged]", "uft[uft.schedule=uniform]"),
    ]
    assert found.reference == "default" and found.arms[1].name == "demo_coef=0"
    assert found.arms[1].stage.fields == {**UFT.defaults, "demo_coef": 0.0}


def test_grid_is_every_combination_with_the_default_first() -> None:
    found = made("demo_coef=0,0.001", "schedule=staged,cosine", design="grid")
    assert sorted(labels(found)) == [
        *("uft", "uft[uft.demo_coef=0,uft.schedule=staged]", "uft[uft.demo_coef=0]", "uft[uft.schedule=staged]"),
    ]
    assert labels(found)[0] == "uft" and [f.baseline for f in found.factors] == ["0.001", "cosine"]
    without = made("demo_coef=0,0.1", design="grid")
    assert without.reference == "demo_coef=0" and labels(without) == ["uft[uft.demo_coef=0]", "uft[uft.demo_coef=0.1]"]


def test_leave_one_out_switches_off_what_the_variants_do_or_the_values_given() -> None:
    found = made(design="leave-one-out")
    off = {arm.name for arm in found.arms[1:]}
    assert {"demo_coef=0", "kl_coef=0", "entropy_coef=0", "scale=none", "shared_hint=false"} == off
    chosen = made("demo_coef=0,0.01", "kl_coef=0", design="leave-one-out")
    assert labels(chosen) == [
        *("uft[uft.demo_coef=0.01]", "uft[uft.demo_coef=0]", "uft[uft.demo_coef=0.01,uft.kl_coef=0]"),
    ]


def test_half_fraction_is_balanced_and_says_what_is_aliased() -> None:
    found = made("demo_coef=0", "kl_coef=0", "entropy_coef=0", design="fractional")
    assert len(found.arms) == 4 and labels(found)[0] == "uft"
    for factor in found.factors:
        assert sum(arm.levels[factor.name] == factor.baseline for arm in found.arms) == 2
        for other in found.factors:
            both = [arm for arm in found.arms if arm.levels[other.name] != other.baseline]
            changed = [arm for arm in both if arm.levels[factor.name] != factor.baseline]
            assert len(changed) == (2 if other is factor else 1), "every pair of levels occurs equally often"
    assert "resolution 3" in found.notes[0] and "demo_coef = kl_coef x entropy_coef" in found.notes[0]


def test_the_suite_of_a_paper_is_its_variants() -> None:
    found = made(suite="paper")
    variants = registry.module("methods", "uft").VARIANTS
    assert labels(found) == ["uft", *(f"uft:{v}" for v in variants if v != "on-policy")]
    assert "uft:on-policy has the same settings as default here" in found.notes[0], "tiny has one update per step"


@pytest.mark.parametrize(
    ("vary", "options", "expected"),
    [
        (("demo_cof=0",), {}, "unknown field of uft 'demo_cof': did you mean demo_coef"),
        (("demo_coef",), {}, "malformed --vary 'demo_coef'"),
        (("demo_coef=0", "demo_coef=1"), {}, "given twice"),
        (("demo_coef=x",), {}, "expected a number"),
        (("schedule=weekly",), {}, "'weekly' is not one of"),
        (("demo_coef=0.001",), {}, "nothing is left to compare"),
        ((), {}, "nothing to ablate"),
        (("demo_coef=0",), {"design": "grud"}, "unknown design 'grud': did you mean grid"),
        (("demo_coef=0", "kl_coef=0"), {"design": "fractional"}, "at least three factors"),
        (("demo_coef=0,0.1,1", "kl_coef=0", "lr=1"), {"design": "fractional"}, "two values of demo_coef, got 3"),
        (("demo_coef=0,1,2",), {"design": "leave-one-out"}, "not more values"),
        (("demo_coef=0.001",), {"design": "leave-one-out"}, "demo_coef=0.001 anyway"),
        (("demo_coef=0",), {"suite": "paper"}, "--suite brings its own arms"),
        ((), {"suite": "papers"}, "did you mean paper"),
    ],
)
def test_what_cannot_be_ablated(vary: tuple[str, ...], options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected.replace("(", r"\(")) as error:
        made(*vary, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("method", "chosen", "expected"),
    [
        ("uff", (), "did you mean"),
        ("sft+grpo", (), "expected one method"),
        ("uft", ("sft.lr=1",), "setting for 'sft'"),
        ("r3", ("r3.demo_coef=1",), "is fixed"),
    ],
)
def test_what_no_ablation_starts_from(method: str, chosen: tuple[str, ...], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        Subject(method, TINY, chosen)


# --- labels and runs -----------------------------------------------------------------------------------------------


def test_values_have_one_spelling() -> None:
    assert [text(v) for v in (0.0, 1e-3, True, (0.9, 0.95), "cosine", 4, 1 / 3)] == [
        *("0", "0.001", "true", "0.9,0.95", "cosine", "4", repr(1 / 3)),
    ]
    assert labels(made("demo_coef=0.00,1e-2")) == ["uft", "uft[uft.demo_coef=0]", "uft[uft.demo_coef=0.01]"]
    assert labels(made("betas=0.9,0.95;0.9,0.999")) == ["uft", "uft[uft.betas=0.9,0.95]"]
    assert labels(made("demo_coef=0", subject=Subject("uft", TINY, ["uft.lr=1e-4"])))[0] == "uft", "the preset's rate"


def test_an_arm_with_the_defaults_is_the_method_itself(tmp_path: Path) -> None:
    spec = Spec(["uft"], ["countdown"], seeds=[0, 1], results=tmp_path, device="cpu")
    planned = arm_jobs(spec, made("demo_coef=0,0.001"), [UFT])
    assert [j.plan.run_id for j in planned["default"]] == [j.plan.run_id for j in plan_jobs(spec)]
    set_ = Spec(["uft"], ["countdown"], [0, 1], results=tmp_path, device="cpu", settings=["uft.demo_coef=0"])
    assert [j.plan for j in planned["demo_coef=0"]] == [j.plan for j in plan_jobs(set_)]


def test_finished_runs_of_a_variant_are_reused(tmp_path: Path) -> None:
    """uft:stage and schedule=staged are the same settings under two labels."""
    variant = plan_jobs(Spec(["uft:stage"], ["countdown"], [0, 1], results=tmp_path, device="cpu"))
    variant[0].path.mkdir(parents=True)
    (variant[0].path / "done.json").write_text("{}")
    spec = Spec(["uft"], ["countdown"], [0, 1], results=tmp_path, device="cpu")
    first, second = arm_jobs(spec, made("schedule=staged"), [UFT])["schedule=staged"]
    assert first.plan == variant[0].plan and first.done
    assert second.plan.method == "uft[uft.schedule=staged]" and not second.done


def test_many_runs_need_yes(tmp_path: Path) -> None:
    grid = made("demo_coef=0,0.001,0.01,0.1,1", "p_high=0.5,0.6,0.7,0.8,0.95", design="grid")
    spec = Spec(["uft"], ["countdown"], [0, 1, 2], results=tmp_path, device="cpu")
    planned = arm_jobs(spec, grid, [UFT])
    with pytest.raises(UserError, match="25 arms x 3 seeds: 75 runs to train are more than 64"):
        check_size(planned, yes=False)
    check_size(planned, yes=True)
    for job in planned["default"] * 4 + [j for arm in list(planned)[:4] for j in planned[arm]]:
        job.path.mkdir(parents=True, exist_ok=True)
        (job.path / "done.json").write_text("{}")
    check_size(planned, yes=False)  # 63 are left


# --- paths ---------------------------------------------------------------------------------------------------------


def points() -> list[tuple[method_paths.Waypoint, method_paths.Waypoint]]:
    return [pair for path in method_paths.PATHS.values() for pair in pairwise(path)]


@pytest.mark.parametrize("presets", [TINY, {}], ids=["tiny", "no presets"])
def test_neighbours_on_a_path_differ_in_one_declared_term(presets: dict[str, Any]) -> None:
    for before, after in points():
        a, b = (method_paths.reached(p, Subject(p.method, presets), presets) for p in (before, after))
        assert after.term and after.fields
        both = a.stage.fields.keys() & b.stage.fields.keys()
        assert {k for k in both if a.stage.fields[k] != b.stage.fields[k]} <= set(after.fields), after.term
        if after.undone:  # the next method without its term is the method before
            undone = {**after.settings, **after.undone}
            plain = Subject(after.method, presets).arm("", {k: text(v) for k, v in undone.items()})
            assert identities.reduction(plain) == identities.reduction(a), after.term


@pytest.mark.parametrize(("start", "end"), [*method_paths.PATHS, ("sft", "chord"), ("asft", "grpo"), ("uft", "sft")])
def test_a_path_ends_at_the_methods_it_names(start: str, end: str) -> None:
    found, _ = method_paths.build_path(start, end, TINY)
    assert (found.arms[0].method, found.arms[-1].method) == (start, end)
    assert found.arms[0].stage.fields == Subject(start, TINY).defaults
    assert found.arms[-1].stage.fields == Subject(end, TINY).defaults
    assert all(arm.term for arm in found.arms[1:]) and len({arm.method for arm in found.arms}) == len(found.arms)


def test_paths_can_be_walked_back_and_joined() -> None:
    there, back = (method_paths.build_path(*pair, TINY)[0] for pair in (("sft", "uft"), ("uft", "sft")))
    assert labels(back) == labels(there)[::-1]
    assert back.arms[1].term == "undone: KL to the reference model"
    joined = labels(method_paths.build_path("sft", "grpo", TINY)[0])
    assert joined == labels(there) + labels(method_paths.build_path("uft", "grpo", TINY)[0])[1:]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("sft", "utf", "unknown method 'utf': did you mean uft"),
        ("sft", "raft", "no path to or from raft: there are paths between any two of asft, chord"),
        ("sft", "sft", "sft twice"),
    ],
)
def test_unknown_paths(start: str, end: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        method_paths.build_path(start, end, TINY)

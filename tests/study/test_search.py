"""Search spaces: what is declared, what the user may change, and where a method is tried."""

from __future__ import annotations

import math

import pytest

from bench.plan import registry
from bench.study import search_space
from bench.study.search_space import Axis, draw_points, method_space, parse_search
from bench.types import UserError

LR = Axis(low=1e-5, high=1e-1, scale="log")


def test_points_of_a_log_range_cover_it_evenly_and_are_the_same_for_every_method():
    points = [p["uft.lr"] for p in draw_points({"uft.lr": LR}, 8)]
    shares = sorted((math.log10(v) + 5) / 4 for v in points)
    assert [int(8 * share) for share in shares] == list(range(8)), "one point in each eighth"
    assert [p["sft.lr"] for p in draw_points({"sft.lr": LR}, 8)] == points
    assert [p["uft.lr"] for p in draw_points({"uft.lr": LR}, 4)] == points[:4], "more trials go on from fewer"
    assert all(value == float(f"{value:.3g}") for value in points)


def test_linear_and_whole_ranges_and_choices():
    assert [Axis(low=2.0, high=4.0).value(share) for share in (0.0, 0.5)] == [2.0, 3.0]
    whole = draw_points({"grpo.group_size": Axis(low=2.0, high=10.0, whole=True)}, 6)
    assert all(isinstance(p["grpo.group_size"], int) for p in whole)
    chosen = draw_points({"uft.demo_coef": Axis(choices=(0.0, 0.001, 0.01))}, 3)
    assert sorted(p["uft.demo_coef"] for p in chosen) == [0.0, 0.001, 0.01], "different points until none is left"
    both = draw_points({"uft.lr": LR, "uft.demo_coef": Axis(choices=(0.0, 0.01))}, 8)
    assert {p["uft.demo_coef"] for p in both} == {0.0, 0.01} and len({p["uft.lr"] for p in both}) == 8


def test_more_trials_than_points_are_refused():
    with pytest.raises(UserError, match=r"4 trials are more than the 3 points of uft\.demo_coef"):
        draw_points({"uft.demo_coef": Axis(choices=(0.0, 0.001, 0.01))}, 4)


def test_the_user_s_spaces():
    found = parse_search(
        ["lr=1e-5..1e-3:log", "uft.demo_coef=0,0.001", "sft.warmup=0.1..0.5", "uft.schedule=cosine,staged"]
    )
    assert found["lr"] == Axis(low=1e-5, high=1e-3, scale="log")
    assert found["uft.demo_coef"] == Axis(choices=(0, 0.001))
    assert found["sft.warmup"] == Axis(low=0.1, high=0.5, scale="linear")
    assert found["uft.schedule"] == Axis(choices=("cosine", "staged"))


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("lr", "malformed search space 'lr'"),
        ("=1..2", "malformed search space"),
        ("a.b.c=1..2", "malformed search space"),
        ("ufft.lr=1e-5..1e-3", "unknown method 'ufft': did you mean uft"),
        ("lr=1e-3..1e-5:log", "search space of lr: .* is not valid: expected a list"),
        ("lr=0..1:log", "above 0 on a log scale"),
        ("lr=x..1", "is not valid"),
        ("lr=0..1:lgo", "unknown scale of lr 'lgo': did you mean log"),
        ("lr=1,1", "different values"),
        ("lr=,", "is not valid"),
    ],
)
def test_malformed_spaces_are_named(item, said):
    with pytest.raises(UserError, match=said):
        parse_search([item])


def test_what_is_searched():
    plain = method_space("uft", {}, {}, {})
    assert list(plain) == ["uft.lr"] and plain["uft.lr"].scale == "log"
    assert method_space("uft", {}, {"lr": [1e-4, 1e-2, "log"]}, {})["uft.lr"].low == 1e-4, "a model's own range"
    given = parse_search(["lr=1e-3..1e-2:log", "uft.demo_coef=0,0.1", "uft.group_size=2..8"])
    found = method_space("uft", {}, {"lr": [1e-4, 1e-2, "log"]}, given)
    assert found["uft.lr"].low == 1e-3 and found["uft.demo_coef"].choices == (0, 0.1)
    assert found["uft.group_size"].whole
    assert list(method_space("sft@0.3+grpo", {}, {}, {})) == ["sft.lr", "grpo.lr"]
    assert method_space("sft@0.3+grpo", {"sft": {"lr": "1"}}, {}, {}).keys() == {"grpo.lr"}, (
        "the user's setting is fixed"
    )
    assert method_space("base", {}, {}, given) == {}


def test_a_variant_s_own_fields_are_not_searched():
    name, variant = next(
        (method, variant)
        for method in registry.built_in("methods")
        for variant, changed in registry.module("methods", method).VARIANTS.items()
        if "demo_coef" in changed
    )
    given = {f"{name}.demo_coef": Axis(choices=(0.0, 0.1))}
    assert f"{name}.demo_coef" in method_space(name, {}, {}, given)
    assert f"{name}.demo_coef" not in method_space(f"{name}:{variant}", {}, {}, given)


def test_a_space_that_is_no_space_names_the_field():
    with pytest.raises(UserError, match=r"search space of m\.lr: 3 is not valid"):
        search_space.axis("m.lr", 3)

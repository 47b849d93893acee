"""`bench recipes` and ``--recipe``: options by name, presets of methods, and one line for what nothing reads."""

from __future__ import annotations

import json
import sys

import pytest

from bench import cli
from bench.analysis.field_origin import DECLARED, field_reason, run_presets
from bench.plan.recipes import load_recipe, recipe_names
from bench.plan.spec import parse_method
from bench.study.jobs import Spec, plan_jobs

MINE = """
description = "for a test"
[options]
methods = "sft,uft"
seeds = 2
budget = "5steps"
train_size = 20
test_items = 4
val_items = 4
ood_items = 0
reworded_items = 0
other_items = 0
skill_items = 0
[methods.sft]
source = "nowhere"
lr = 0.25
batch_size = 2
[methods.uft]
batch_size = 2
"""


def call(capsys, *words):
    sys.argv = ["bench", *map(str, words)]
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0), *capsys.readouterr()


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.toml").write_text(MINE)
    return str(tmp_path / "mine.toml")


def dry(capsys, tmp_path, *words):
    code, out, _ = call(capsys, "run", *words, "--results", tmp_path / "runs", "--dry-run", "--json")
    assert code == 0
    return [run["run"] for run in json.loads(out)]


def test_a_recipe_is_its_options_and_the_command_line_wins(mine, tmp_path, capsys):
    off = [word for name in ("ood", "reworded", "other", "skill") for word in (f"--{name}-items", "0")]
    spelled = ["--methods", "sft,uft", "--seeds", "2", "--budget", "5steps", "--train-size", "20", *off]
    spelled += ["--test-items", "4", "--val-items", "4"]
    presets = ["--set", "sft.lr=0.25", "--set", "sft.batch_size=2", "--set", "uft.batch_size=2"]
    by_recipe, by_options = dry(capsys, tmp_path, "--recipe", mine), dry(capsys, tmp_path, *spelled, *presets)
    assert [name.rpartition("-s")[0] for name in by_recipe] == ["sft-countdown-tiny"] * 2 + ["uft-countdown-tiny"] * 2
    assert len(by_options) == 4 and set(by_recipe).isdisjoint(by_options), "settings of --set stand in the label"
    assert dry(capsys, tmp_path, "--recipe", mine, "--seeds", "1", "--methods", "sft") == by_recipe[:1]
    assert dry(capsys, tmp_path, "--recipe", mine, "--budget", "6steps", "--seeds", "2")[0] not in by_recipe
    (run,) = plan_jobs(Spec(["sft"], ["countdown"], recipe=mine, budget="5steps", train_size=20))
    assert (run.plan.method, run.plan.stages[0].fields["lr"], run.plan.stages[0].fields["batch_size"]) == (
        "sft",
        0.25,
        2,
    )
    presets_then = run_presets(run.plan, {"command": ["bench", "run", "--recipe", mine]})
    reason = field_reason(run.plan, 0, "lr", presets_then)
    assert reason.status == DECLARED and reason.why.startswith("preset of recipe")


def test_recipes_are_listed_and_shown(capsys):
    listed = call(capsys, "recipes")[1]
    assert {"smollm2-cpu", "smollm2-small", "qwen-0.5b-countdown", "qwen-1.5b-math"} == set(recipe_names())
    assert all(f"\n{name} " in f"\n{listed}" for name in recipe_names())
    shown = call(capsys, "recipes", "smollm2-cpu")[1]
    assert "--budget 6e13flops --train-size 4000 --max-new-tokens 128" in shown and "lr 0.0001, batch_size 8" in shown
    assert json.loads(call(capsys, "recipes", "smollm2-cpu", "--json")[1])["methods"]["grpo"]["num_updates"] == 1


@pytest.mark.parametrize("name", ["smollm2-cpu", "smollm2-small", "qwen-0.5b-countdown", "qwen-1.5b-math"])
def test_shipped_recipes_can_be_planned_and_name_their_sources(name):
    recipe = load_recipe(name)
    for method in recipe.options["methods"].split(","):
        _, stages = parse_method(method, recipe.methods, {})
        for stage in stages:
            preset = recipe.methods.get(stage.name, {})
            assert {k: stage.fields[k] for k in preset} == {
                k: tuple(v) if isinstance(v, list) else v for k, v in preset.items()
            }
    assert recipe.source and all(recipe.sources[method] for method in recipe.methods)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[option]\n", "unknown part of recipe"),
        ("[options]\nbudgt = '3s'\n", "did you mean budget?"),
        ("[options]\nbudget = 3\n", "budget = 3 is not valid: expected a text"),
        ("[options]\ntest_items = 0\n", "test_items = 0 is not valid: expected a whole number from 1 on"),
        ("[options]\nseeds = true\n", "seeds = True is not valid"),
        ("[methods.stf]\nlr = 1\n", "did you mean sft"),
        ("[methods.sft]\nlearning_rate = 1\n", "unknown field of sft 'learning_rate'"),
        ("methods = 3\n", "methods is no table"),
        ("[options\n", "cannot be read"),
    ],
)
def test_a_broken_recipe_is_one_line(tmp_path, capsys, text, expected):
    (tmp_path / "bad.toml").write_text(text)
    words = ("--recipe", tmp_path / "bad.toml", "--methods", "sft", "--results", tmp_path / "runs", "--dry-run")
    code, out, err = call(capsys, "run", *words)
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1 and expected in err


def test_unknown_recipes(capsys):
    assert "did you mean smollm2-cpu or smollm2-small?" in call(capsys, "recipes", "smolm2-cpu")[2]
    assert "No such file" in call(capsys, "recipes", "none.toml")[2]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("lr = 0.25", "lr = -1", "sft.lr: '-1.0' is not valid: expected a number from 0 on"),
        ("lr = 0.25", "lrr = 1", "unknown field of sft 'lrr'"),
        ("batch_size = 2", 'batch_size = "two"', "sft.batch_size: 'two' is not valid"),
        ('"sft,uft"', '"sft,utf"', "unknown method 'utf'"),
        ('"5steps"', '"5stepps"', "5stepps"),
        ("seeds = 2", 'seeds = "1,x"', "malformed seeds '1,x'"),
        ("seeds = 2", 'task = "cuntdown"', "unknown task 'cuntdown'"),
        ("seeds = 2", 'task = "countdown"\nlevel = "99"', "unknown level of countdown '99'"),
        ("seeds = 2", 'batch = "small"', "unknown batch 'small'"),
    ],
)
def test_the_values_of_a_recipe_file_are_checked_when_it_is_shown(tmp_path, capsys, old, new, expected):
    file = tmp_path / "bad.toml"
    file.write_text(MINE.replace(old, new, 1))
    code, out, err = call(capsys, "recipes", file)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: recipe '{file}': ") and expected in err


def test_a_good_recipe_file_is_shown(mine, capsys):
    code, out, err = call(capsys, "recipes", mine)
    assert (code, err) == (0, "") and "lr 0.25" in out

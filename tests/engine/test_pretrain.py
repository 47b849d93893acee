"""Pretraining: the same weights to the bit, stopped or not; no problem of another split; a tokenizer without loss."""

from __future__ import annotations

import itertools
import random
import string
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
import torch
from transformers import AutoTokenizer

from bench.engine import checkpoint, pretrain
from bench.engine.policy import load_model
from bench.engine.pretrain import Corpus, Phase, Recipe
from bench.engine.tokenizer import build_tokenizer
from bench.plan import registry
from bench.types import UserError
from tasks import common
from tests.helpers.engine import TOKENIZER, WORDS

TASKS = registry.names("tasks")
PHASES = (
    Phase(20_000, 2.5e-3, facts=0.2),
    Phase(10_000, 2e-3, correct={"countdown": 0.6, "logic": 0.5}, weights={"countdown": 3, "logic": 1, "math": 1}),
)
RECIPE = Recipe(hidden=32, layers=1, heads=1, ffn=64, phases=PHASES)
SLOW_LEVELS = {"6x6-hard", "9x9-hard", "9x9-search"}  # a problem takes a tenth of a second


@pytest.fixture
def small(monkeypatch):
    """A corpus of few problems, small steps and frequent checkpoints: a second for a whole pretraining."""
    monkeypatch.setattr(pretrain, "Corpus", partial(Corpus, size=40))
    monkeypatch.setattr(pretrain, "BATCH", 32)
    monkeypatch.setattr(pretrain, "SAVE_STEPS", 4)


def train(out, recipe=RECIPE, stop_after=0):
    """The reports of one call of pretrain, which is interrupted after that step (0: never)."""
    reports = []

    def report(state):
        reports.append(state)
        if stop_after and state["step"] >= stop_after:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        pretrain.pretrain(recipe, out, report)
    return reports


def result(out):
    return {p.name: p.read_bytes() for p in out.iterdir()}


def test_the_same_recipe_gives_the_same_bytes(small, tmp_path):
    torch.manual_seed(1)
    train(tmp_path / "a")
    torch.manual_seed(2)
    reports = train(tmp_path / "b")
    assert result(tmp_path / "a") == result(tmp_path / "b")
    assert {"model.safetensors", "config.json", "tokenizer.json", "recipe.json"} <= result(tmp_path / "a").keys()
    assert not list(tmp_path.glob("*/*checkpoint*"))
    train(tmp_path / "c", replace(RECIPE, seed=1))
    assert result(tmp_path / "a")["model.safetensors"] != result(tmp_path / "c")["model.safetensors"]
    assert {r["stage"] for r in reports} == {1, 2} and reports[-1]["tokens"] >= PHASES[1].tokens
    assert reports[-1]["loss"] < reports[0]["loss"] - 0.05  # still within the warm-up


def test_a_stopped_pretraining_goes_on_exactly(small, tmp_path):
    """Stopped between checkpoints of both stages and exactly at the last step of the first."""
    whole = train(tmp_path / "whole")
    border = sum(r["stage"] == 1 for r in whole)
    assert border > 6 and border + 5 < len(whole)
    for name, stops in {"often": (6, border + 5), "border": (border,), "no checkpoint": (2,)}.items():
        reports = {}
        for stop in (*stops, 0):
            part = train(tmp_path / name, stop_after=stop)
            assert not stop or part[-1]["step"] == stop
            assert part[0]["step"] == 1 + max((s for s in range(4, 1 + max(reports, default=0), 4)), default=0)
            reports.update({r["step"]: r for r in part})
        assert list(reports.values()) == whole, name
        assert result(tmp_path / name) == result(tmp_path / "whole"), name


def test_a_checkpoint_of_another_recipe_is_refused(small, tmp_path):
    train(tmp_path, stop_after=5)
    with pytest.raises(UserError, match="checkpoint of another recipe"):
        train(tmp_path, replace(RECIPE, phases=(*PHASES, PHASES[1])))
    assert checkpoint.last_good(tmp_path) is not None


def test_the_result_loads_as_a_model(small, tmp_path):
    train(tmp_path)
    model, tokenizer = load_model(str(tmp_path))
    assert model.config.vocab_size == len(tokenizer) == len(TOKENIZER)
    assert tokenizer.eos_token_id in Corpus(RECIPE, TOKENIZER.encode, 1, 2, 1).document(2, 0)
    assert model.config.eos_token_id == tokenizer.eos_token_id == 2


# --- splits ---


def keys(name, split, level, count):
    task = registry.task(name)
    return {task.key(p) for p in itertools.islice(common.problems(task, split, level), count)}


@pytest.mark.parametrize("many", [240, pytest.param(1200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", TASKS)
def test_no_evaluated_problem_is_ever_trained_on(name, many):
    """By content, at every level of the default recipe and of the benchmark."""
    levels = sorted({registry.task(name).default_level, *(lv for t, lv, _ in Recipe().levels if t == name)})
    counts = {"pretrain": many, "train": many, "val": many // 6, "test": many // 6}
    found = {s: set().union(*(keys(name, s, level, n) for level in levels)) for s, n in counts.items()}
    assert all(len(found[split]) >= count for split, count in counts.items())
    for one, two in itertools.combinations(found, 2):
        assert not found[one] & found[two], f"{one} and {two} share problems"


def test_pretraining_draws_from_its_own_split_only(monkeypatch):
    asked = set()
    problems = common.problems
    monkeypatch.setattr(pretrain, "problems", lambda *args: (asked.add(args[1]), problems(*args))[1])
    corpus = Corpus(Recipe(), TOKENIZER.encode, 1, 2, size=20)
    assert asked == {"pretrain"} and {task for task, _ in corpus.pools} == set(TASKS)
    for (name, _), pool in corpus.pools.items():
        assert len(pool) == 20
        assert {common.split_of(name, registry.task(name).key(p)) for p in pool} == {"pretrain"}
    prompts = {registry.task(name).prompt(p, "compact") for (name, _), pool in corpus.pools.items() for p in pool}
    assert {corpus.text(stage, i)[0] for stage in (1, 2) for i in range(200)} <= prompts | {""}


# --- the tokenizer ---


def round_trip(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.unk_token_id not in ids, text
    assert tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False) == text
    return ids


@pytest.mark.parametrize("name", TASKS)
def test_every_text_of_a_task_survives_the_tokenizer(name):
    task = registry.task(name)
    rng = random.Random(0)
    for level in task.levels:
        for problem in itertools.islice(common.problems(task, "train", level), 5 if level in SLOW_LEVELS else 30):
            for template in set(task.templates) - {"chat"}:
                round_trip(TOKENIZER, task.prompt(problem, template))
                demonstration = task.demonstrate(problem, template)
                round_trip(TOKENIZER, demonstration.text)
                for step in (*demonstration.steps, demonstration.ending):
                    round_trip(TOKENIZER, step)
            round_trip(TOKENIZER, task.practice(rng, problem))


def test_all_printable_ascii_survives_the_tokenizer(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    printable = string.digits + string.ascii_letters + string.punctuation + " "
    for tokenizer in (TOKENIZER, AutoTokenizer.from_pretrained(tmp_path)):
        for character in printable + "\n":
            assert len(round_trip(tokenizer, character)) == 1
        for text in (printable, "  two  spaces \n\n and ends ", "n't . , 's <answer>1+2</answer> <unk", "".join(WORDS)):
            round_trip(tokenizer, text)
        assert tokenizer("a").input_ids == [tokenizer.bos_token_id, *round_trip(tokenizer, "a")]
        assert tokenizer("é", add_special_tokens=False).input_ids == [tokenizer.unk_token_id]


def test_each_word_is_one_token():
    assert len(WORDS) > 0
    assert all(len(round_trip(TOKENIZER, word)) == 1 for word in WORDS)
    assert len(build_tokenizer(["abc", "abc"])) == len(build_tokenizer(["abc"])) == len(build_tokenizer([])) + 1

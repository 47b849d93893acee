"""The best validation: its weights are kept, tested at the end, and never take the place of the last ones."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from bench.analysis.board import leaderboard, rows_as_dicts
from bench.analysis.records import load_run
from bench.analysis.runs import Judged
from bench.engine import checkpoint, evaluate
from bench.engine.best_checkpoint import better
from bench.engine.runner import execute
from bench.report.formats import render_board
from bench.store.run_folder import read_json, read_lines
from tests.helpers.commands import call
from tests.helpers.runs import make_job, write_model
from tests.report.test_formats import record


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


def test_only_a_strictly_better_validation_replaces_the_best():
    first = better(None, 0.0, 0.25, 4)
    assert first == {"fraction": 0.25, "step": 4, "accuracy": 0.0}
    assert better(first, 0.0, 0.5, 6) is None
    assert better(first, 0.1, 0.5, 6) == {"fraction": 0.5, "step": 6, "accuracy": 0.1}


def run_with(job, accuracies, monkeypatch):
    """Execute a run whose validations are said to have these accuracies; the weights at every evaluation by name."""
    seen, given, original = [], iter(accuracies), evaluate.evaluate_split

    def judge(policy, task, examples, split, settings):
        weights = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
        seen.append((split, weights))
        found, items = original(policy, task, examples, split, settings)
        return (found | {"accuracy": next(given)} if split == "val" else found), items

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "evaluate_split", judge)
        execute(job)
    return seen


def same(left, right):
    return all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("method", ["uft", "sft@0.5+grpo"])
def test_the_best_weights_are_tested_and_the_last_ones_stay(model, tmp_path, monkeypatch, method):
    job = make_job(model, tmp_path, method)
    seen = run_with(job, (0.1, 0.3, 0.2), monkeypatch)
    assert [split for split, _ in seen] == ["val", "val", "val", "test", "test"]
    weights = [w for _, w in seen]
    assert same(weights[4], weights[1]) and same(weights[3], weights[2]) and not same(weights[1], weights[2])
    saved = load_file(job.path / "policy" / "model.safetensors")
    assert same(saved, {n: w for n, w in weights[2].items() if n in saved}) and saved
    evals = read_lines(job.path / "evals.jsonl")
    assert [(e["split"], e["fraction"]) for e in evals[-2:]] == [("test", 1.0), ("selected", 0.5)]
    assert (evals[-1]["step"], evals[-1]["spent"]) == (evals[1]["step"], evals[1]["spent"])
    assert read_json(job.path / "done.json")["selection"] == {"fraction": 0.5, "step": 6, "accuracy": 0.3}
    items = [i for i in read_lines(job.path / "items.jsonl") if i["split"] in ("test", "selected")]
    assert [i["id"] for i in items[:8]] == [i["id"] for i in items[8:]]
    assert {(i["split"], i["fraction"], i["step"]) for i in items[8:]} == {("selected", 0.5, 6)}
    loaded = load_run(job.path, "selected")
    assert loaded.item_ids == load_run(job.path).item_ids and loaded.selected_fraction == 0.5


def test_the_selected_policy_draws_what_the_last_would_have_drawn(model, tmp_path, monkeypatch):
    """Same seed and limits as the test: with the weights of the last policy the same completions come out."""
    job = make_job(model, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "load_weights", lambda policy, path: None)  # the last weights stay
        run_with(job, (0.3, 0.2, 0.1), monkeypatch)
    items = read_lines(job.path / "items.jsonl")
    of = {s: [(i["greedy"], i["samples"]) for i in items if i["split"] == s] for s in ("test", "selected")}
    assert of["test"] == of["selected"] != []


def test_where_the_last_is_the_best_it_is_not_tested_twice(model, tmp_path, monkeypatch):
    job = make_job(model, tmp_path)
    seen = run_with(job, (0.1, 0.1, 0.2), monkeypatch)
    assert [split for split, _ in seen] == ["val", "val", "val", "test"]
    assert "selected" not in {e["split"] for e in read_lines(job.path / "evals.jsonl")}
    chosen, last = load_run(job.path, "selected"), load_run(job.path)
    assert (chosen.split, chosen.item_ids, chosen.correct.tolist()) == (
        "selected",
        last.item_ids,
        last.correct.tolist(),
    )
    assert chosen.selected_fraction == last.selected_fraction == 1.0
    assert last.elsewhere["selected"].correct.tolist() == last.correct.tolist()


def test_checkpoints_hand_the_best_weights_on(tmp_path):
    layer = torch.nn.Linear(2, 1)
    expected = saved = None
    for step in range(6):
        with torch.no_grad():
            layer.weight.fill_(step)
        saved = checkpoint.save(tmp_path, layer, None, None, {"step": step}, saved, selected=step in (1, 4))
        expected = step if step in (1, 4) else expected
        kept = saved.path / checkpoint.KEPT
        assert kept.exists() == (expected is not None)
        assert expected is None or load_file(kept)["weight"].tolist() == [[expected] * 2]
        assert load_file(kept.with_name("policy.safetensors"))["weight"].tolist() == [[step] * 2]


def test_without_second_names_the_best_weights_are_copied(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(checkpoint.os, "link", refuse)
    layer = torch.nn.Linear(2, 1)
    saved = None
    for step in range(3):
        saved = checkpoint.save(tmp_path, layer, None, None, {"step": step}, saved, selected=step == 0)
    assert checkpoint.last_good(tmp_path) == saved and saved.state == {"step": 2}
    assert (saved.path / checkpoint.KEPT).exists()


# --- tables ---


def chosen(method, seed, right, fraction, **changes):
    """A run on four items whose last policy solves the first, and whose selected one the first ``right``."""
    ids = tuple(f"i{n:04}" for n in range(4))
    correct = [[n < right] * 2 for n in range(4)]
    judged = Judged(ids, record("x", 0, correct).correct)
    rows = [[n < 1] * 2 for n in range(4)]
    return record(method, seed, rows, elsewhere={"selected": judged}, selected_fraction=fraction, **changes)


def test_rows_have_the_selected_policies_beside_the_last(capsys):
    base = chosen("base", 0, 1, 1.0)
    runs = [
        base,
        chosen("uft", 0, 3, 0.5),
        chosen("uft", 1, 1, 1.0),
        chosen("sft", 0, 1, 1.0),
        chosen("sft", 1, 1, 1.0),
    ]
    board = leaderboard([*runs, record("old", 0, [[1, 0]] * 4)])
    rows = {row["method"]: row for row in rows_as_dicts(board)}
    assert (rows["uft"]["accuracy"], rows["uft"]["selected_accuracy"]) == (0.25, 0.5)
    assert rows["uft"]["selected_low"] <= 0.5 <= rows["uft"]["selected_high"]
    assert rows["uft"]["selected_fractions"] == "0.5 1" and rows["base"]["selected_fractions"] == "1"
    assert [rows["old"][f"selected_{name}"] for name in ("accuracy", "low", "high", "fractions")] == [None] * 4
    limits = f"[{100 * rows['uft']['selected_low']:.1f}, {100 * rows['uft']['selected_high']:.1f}]"
    expected = f"Policy of the best validation: uft 50.0 {limits} (last policy 25.0; after 50, 100 % of the budget)"
    assert f"{expected}; of the other methods always the last one." in board.tables[0].sentences
    assert "Policy of the best validation: uft 50.0" in render_board(board, "table")
    same = leaderboard([base, *runs[3:]]).tables[0].sentences
    assert "Policy of the best validation: of every run the last one." in same
    assert "validation" not in " ".join(leaderboard([record("old", 0, [[1, 0]] * 4)]).tables[0].sentences)


def test_the_split_has_a_table_of_its_own(model, tmp_path, monkeypatch, capsys):
    earlier, last = (make_job(model, tmp_path, "sft", seeds=[seed]) for seed in (0, 1))
    run_with(earlier, (0.1, 0.3, 0.2), monkeypatch)
    run_with(last, (0.1, 0.2, 0.3), monkeypatch)
    code, out, err = call(capsys, "leaderboard", "--results", tmp_path, "--split", "selected", "--json")
    row = json.loads(out)[0]
    assert (code, err, row["split"], row["num_seeds"], row["num_items"]) == (0, "", "selected", 2, 8)
    assert row["accuracy"] == row["selected_accuracy"] and row["selected_fractions"] == "0.5 1"
    main = json.loads(call(capsys, "leaderboard", "--results", tmp_path, "--json")[1])[0]
    assert main["selected_accuracy"] == row["accuracy"]
    text = " ".join(call(capsys, "leaderboard", "--results", tmp_path, "--split", "selected")[1].split())
    assert "test split (policies of the best validation) of 8 items" in text
    code, out, err = call(capsys, "leaderboard", "--results", tmp_path, "--split", "select")
    assert (code, out) == (2, "") and "did you mean selected" in err

"""Splits elsewhere: what runs record, and tables worked out by hand."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.analysis.board import leaderboard, rows_as_dicts
from bench.analysis.records import load_run
from bench.analysis.runs import Judged, RunRecord
from bench.engine import runner
from bench.engine.runner import Run, execute
from bench.plan.data import Source
from bench.plan.spec import Evaluation, RunPlan, stable_hash
from bench.report.formats import render_board
from bench.store.files import write_atomic
from bench.store.run_folder import file_digest, read_json, read_lines
from bench.store.run_store import RunStore
from tasks import common
from tests.helpers.commands import bench, call, model_with_defaults
from tests.helpers.engine import TASK
from tests.helpers.runs import EVALUATION, SIZES, make_job, write_model
from tests.report.test_formats import record

FULL = Evaluation(**SIZES, ood_items=6, reworded_items=5, other_items=3, skill_items=4, fractions=(1.0,))
ORDER = ["val", "test", "ood", "reworded", "other:logic", "other:math", "other:sudoku"]
ORDER += ["skill:arithmetic", "skill:copying"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


def judged(*right: int) -> Judged:
    """Items with four samples each, the given number of them right."""
    rows = np.array([[n < count for n in range(4)] for count in right])
    return Judged(tuple(f"o{n}" for n in range(len(right))), rows)


def run_record(method: str, seed: int, elsewhere: dict[str, Judged], **changes: Any) -> RunRecord:
    return record(method, seed, [[1, 0], [0, 0]], elsewhere=elsewhere, ood_level="hard", **changes)


# --- what a run records ---


def test_a_run_is_judged_elsewhere_off_the_clock(model, tmp_path):
    job = make_job(model, tmp_path, "sft", evaluation=FULL)
    execute(job)
    evals, items = read_lines(job.path / "evals.jsonl"), read_lines(job.path / "items.jsonl")
    assert [e["split"] for e in evals] == ORDER
    assert [sum(i["split"] == s for i in items) for s in ORDER] == [8, 8, 6, 5, 3, 3, 3, 4, 4]
    assert len({json.dumps(e["spent"]) for e in evals}) == 1, "nothing was charged after training"
    of = {s: [i["id"] for i in items if i["split"] == s] for s in ORDER}
    assert of["ood"] == [f"countdown/4/test/{n}" for n in range(6)] and of["reworded"] == of["test"][:5]
    assert of["other:sudoku"] == [f"sudoku/4x4/test/{n}" for n in range(3)]
    assert all(len(i["samples"]) == 2 for i in items)
    loaded = load_run(job.path)
    assert list(loaded.elsewhere) == [*ORDER[2:], "selected"] and loaded.ood_level == "4"
    assert loaded.elsewhere["other:math"].correct.shape == (3, 2)
    assert load_run(job.path, "ood").item_ids == tuple(of["ood"]) and not load_run(job.path, "ood").elsewhere


def test_the_policy_sees_harder_and_reworded_prompts(model, tmp_path):
    splits = {s.name: s for s in Run(*started(model, tmp_path)).elsewhere}
    text = [common.reworded(TASK, common.load_examples(TASK, "test", 1, "3", "compact"), "compact")[0].prompt]
    assert [splits["reworded"].examples[0].prompt] == text and " -> " in text[0]
    assert {len(e.problem["numbers"]) for e in splits["ood"].examples} == {4}
    assert splits["other:logic"].task.name == "logic"
    assert all(e.prompt_ids and e.demo_ids for s in splits.values() for e in s.examples)


def started(model, tmp_path):
    job = make_job(model, tmp_path, "sft", evaluation=FULL)
    return job, RunStore(job.path)


def test_longest_demonstrations_fit_and_what_the_context_cannot_hold_is_left_out(model, tmp_path, capsys):
    run = Run(*started(model, tmp_path / "a"))
    sudoku = next(s for s in run.elsewhere if s.name == "other:sudoku")
    longest = max(len(e.demo_ids) for e in sudoku.examples)
    assert runner.splits.evaluation_settings(run.plan, sudoku).max_new_tokens == longest > run.plan.max_new_tokens
    assert capsys.readouterr().out == ""
    limits = {s.name: runner.splits.evaluation_settings(run.plan, s).max_new_tokens for s in run.elsewhere}
    need = {s.name: max(len(e.prompt_ids) for e in s.examples) + limits[s.name] for s in run.elsewhere}
    widest = max(need, key=lambda name: need[name])
    narrow = write_model(tmp_path / "narrow", context=need[widest] - 1)
    names = [s.name for s in Run(*started(narrow, tmp_path / "b")).elsewhere]
    assert names == [name for name in ORDER[2:] if need[name] < need[widest]] and len(names) >= 4
    assert f"{widest} is left out: it may need {need[widest]} tokens" in capsys.readouterr().out


def test_a_run_killed_between_evaluations_repeats_no_record(model, tmp_path, monkeypatch):
    whole = make_job(model, tmp_path / "whole", "sft", evaluation=FULL)
    execute(whole)
    job, original = make_job(model, tmp_path / "killed", "sft", evaluation=FULL), Run.evaluate

    def evaluate(self, split, fraction):
        found = original(self, split, fraction)
        if split.name == "reworded":
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "evaluate", evaluate)
        execute(job)
    assert [e["split"] for e in read_lines(job.path / "evals.jsonl")] == ORDER[:4]
    execute(job)
    assert [e["split"] for e in read_lines(job.path / "evals.jsonl")] == ORDER
    assert read_lines(job.path / "items.jsonl") == read_lines(whole.path / "items.jsonl")


def test_sizes_are_part_of_the_comparison_and_zero_leaves_no_trace(model, tmp_path):
    full, off = (make_job(model, tmp_path, "sft", evaluation=e).plan for e in (FULL, EVALUATION))
    assert (full.ood_level, [o.task for o in full.others]) == ("4", ["logic", "math", "sudoku"])
    assert (off.ood_level, off.others, off.skills) == ("", (), ())
    fewer = make_job(model, tmp_path, "sft", evaluation=FULL.model_copy(update={"other_items": 2})).plan
    assert len({full.comparison, fewer.comparison, off.comparison}) == 3
    hardest = make_job(model, tmp_path, "sft", evaluation=FULL, level="6").plan
    assert (hardest.ood_level, hardest.evaluation.ood_items) == ("", 0)
    old = off.model_dump(mode="json")  # as plans were before there were such splits
    later = ("scaled", "chat_digest", "lora", "optimizer")
    for name in ("ood_level", "others", "skills", "tuned", "split_by", "execution", *later):
        del old[name]
    for name in ("ood_items", "reworded_items", "other_items", "skill_items"):
        del old["evaluation"][name]
    found = RunPlan.restore(old)
    assert stable_hash(old) == off.run_id, "ids of runs from before"
    assert (found.run_id, found.evaluation, found.others) == (off.run_id, off.evaluation, ())


def test_rows_of_a_file_have_no_harder_level(model, tmp_path):
    drawn = [e.problem for s in ("train", "val", "test") for e in common.load_examples(TASK, s, 30, "3", "compact")]
    answers = [f"<answer>{p['solution']}</answer>" for p in drawn]
    rows = [{"nums": p["numbers"], "target": p["target"], "answer": a} for p, a in zip(drawn, answers)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = make_job(model, tmp_path, "base", evaluation=FULL, level=None, data=Source(str(tmp_path / "rows.jsonl")))
    execute(job, keep="none")
    evals = read_lines(job.path / "evals.jsonl")
    assert [e["split"] for e in evals] == [s for s in ORDER if s != "ood"]
    items = read_lines(job.path / "items.jsonl")
    ids = {s: [i["id"] for i in items if i["split"] == s] for s in ("test", "reworded")}
    assert ids["reworded"] == ids["test"][:5]


# --- tables ---


def means(shares):
    return {name: interval.mean for name, interval in shares.items()}


def retained_of_sft(board):
    return next(r for r in board.tables[0].rows if r.method == "sft").elsewhere.retained.mean


def test_retained_by_hand():
    """Base: logic 2/8 and 4/8 by seed, math 0; the method: logic 1/8 with either seed, math 8/8."""
    zero = judged(0, 0)
    base = [run_record("base", s, {"other:logic": judged(2 * s, 2), "other:math": zero}) for s in (0, 1)]
    trained = {"ood": judged(4, 0), "reworded": judged(0, 0), "other:logic": judged(1, 0), "other:math": judged(4, 4)}
    board = leaderboard([*base, *(run_record("sft", s, trained) for s in (0, 1))])
    rows = {row.method: row.elsewhere for row in board.tables[0].rows}
    # after: 1/8; base of the same seeds: (2/8 + 4/8) / 2 = 3/8.  Base is never right on math: no share.
    assert means(rows["sft"].kept) == {"logic": pytest.approx(1 / 3)}
    assert rows["sft"].retained.mean == pytest.approx(1 / 3)
    assert (rows["base"].retained.mean, rows["base"].retained.over) == (1.0, "sampling and items") and rows[
        "base"
    ].ood is None
    assert (rows["sft"].ood.mean, rows["sft"].reworded.mean, rows["sft"].others["math"].mean) == (0.5, 0.0, 1.0)
    paired = leaderboard([*base, run_record("sft", 0, trained)])  # base is one model: all its runs count, 1/8 of 3/8
    assert retained_of_sft(paired) == pytest.approx(1 / 3)
    alone = leaderboard([base[1], run_record("sft", 5, trained)])  # another seed: the base runs that there are
    assert retained_of_sft(alone) == pytest.approx(1 / 4)
    more = {**trained, "other:sudoku": judged(3, 3)}
    easy = run_record("base", 0, {"other:logic": judged(1, 1), "other:sudoku": judged(2, 2)})
    above = leaderboard([easy, run_record("sft", 0, more)])
    shares = next(r for r in above.tables[0].rows if r.method == "sft").elsewhere
    assert means(shares.kept) == {"logic": 0.5, "sudoku": 1.5} and shares.retained.mean == 1.0  # not clipped
    unpaired = leaderboard([run_record("sft", 0, trained)]).tables[0].rows[0].elsewhere
    assert unpaired.retained is None and unpaired.others["logic"].mean == 1 / 8


@pytest.fixture()
def two_tasks():
    """Two methods on two tasks; one old run without the splits."""
    found = []
    for task, other in (("countdown", "logic"), ("logic", "countdown")):
        for method, right in (("base", 2), ("sft", 1)):
            splits = {"ood": judged(right, 2), "reworded": judged(right, 0), f"other:{other}": judged(right, right)}
            found.append(run_record(method, 0, splits, task=task, comparison=f"{task}-x"))
    return [*found, run_record("old", 0, {}, task="countdown", comparison="countdown-x")]


def test_fields_of_csv_and_json(two_tasks):
    rows = {(r["task"], r["method"]): r for r in rows_as_dicts(leaderboard(two_tasks))}
    sft, old = rows["countdown", "sft"], rows["countdown", "old"]
    assert (sft["ood"], sft["reworded"], sft["retained"], sft["retained_logic"]) == (3 / 8, 1 / 8, 0.5, 0.5)
    assert sft["retained_logic_low"] == sft["retained_low"] <= 0.5 <= sft["retained_high"] == sft["retained_logic_high"]
    assert sft["ood_low"] <= sft["ood"] <= sft["ood_high"] and sft["other_logic"] == 0.25
    assert (old["ood"], old["reworded"], old["retained"]) == (None, None, None)
    lines = {
        (r["task"], r["method"]): r for r in csv.DictReader(io.StringIO(render_board(leaderboard(two_tasks), "csv")))
    }
    assert (lines["countdown", "sft"]["retained"], lines["countdown", "old"]["retained"]) == ("0.5", "")


def test_tables_under_each_task_and_one_over_all(two_tasks):
    text = render_board(leaderboard(two_tasks), "table")
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("Elsewhere: trained on") == 2 and text.count("All tasks, model tiny") == 1
    assert text.index("All tasks") > text.rindex("Elsewhere") and "distribution: level hard" in text
    assert re.search(r"(?m)^ sft +25\.0 +37\.5 +12\.5 +25\.0 +50\.0$", text)
    assert re.search(r"(?m)^ old +25\.0 +- +- +- +-$", text)
    assert re.search(r"(?m)^ base +25\.0 / 50\.0 / 100\.0 +25\.0 / 50\.0 / 100\.0$", text)
    assert re.search(r"(?m)^ old +25\.0 / - / - +-$", text)
    markdown = render_board(leaderboard(two_tasks), "markdown")
    assert re.search(
        r"(?m)^\| sft \| 25\.0 \[[^|]+ \| 37\.5 \[[^|]+ \| 12\.5 \[[^|]+ \| 25\.0 \[[^|]+ \| 50\.0 [^|]+ \|$",
        markdown,
    )
    assert "| sft | 25.0 / 37.5 / 50.0 | 25.0 / 37.5 / 50.0 |" in markdown
    latex = render_board(leaderboard(two_tasks), "latex")
    assert latex.count(r"\begin{table*}") == latex.count(r"\end{table*}") == 6
    assert latex.count("{") - latex.count(r"\{") == latex.count("}") - latex.count(r"\}")
    assert r"sft & 25.0 / 37.5 / 50.0 & 25.0 / 37.5 / 50.0 \\" in latex and not re.search(r"(?<!\\)%", latex)


def test_every_column_fits_a_terminal():
    """Three other tasks and the widest figures: no name or figure is cut, none is left out."""
    tasks = ("countdown", "logic", "math", "sudoku")
    runs = []
    for task in tasks:
        splits = {f"other:{other}": judged(4, 4, 4, 0) for other in tasks if other != task}
        splits |= {"ood": judged(4, 4, 4, 0), "reworded": judged(4, 4, 4, 4)}
        for method in ("base", "chord:no-phi@0.25+prefix_rft"):
            runs.append(run_record(method, 0, splits, task=task, comparison=task))
    text = render_board(leaderboard(runs), "table")
    assert "…" not in text and max(map(len, text.splitlines())) <= 100
    figures = r"25\.0 +75\.0 +100\.0 +75\.0 +75\.0 +75\.0 +100\.0"
    assert (
        len(re.findall(rf"(?m)^ base +{figures}$", text)) == len(re.findall(rf"(?m)^ chord:\S+ +{figures}$", text)) == 4
    )
    assert re.search(rf"(?m)^ base{' +25.0 / 75.0 / 100.0' * 4}$", text)
    fifth = [replace(r, level="other", comparison="fifth") for r in runs if r.task == "math"]
    text = render_board(leaderboard([*runs, *fifth]), "table")
    assert text.count("All tasks") == 2 and "…" not in text and "math other fift" in text


def test_nothing_is_added_without_such_splits(two_tasks):
    bare = [replace(r, elsewhere={}) for r in two_tasks if r.task == "countdown"]
    for format in ("table", "markdown", "latex"):
        text = render_board(leaderboard(bare), format)
        assert "Elsewhere" not in text and "All tasks" not in text
    other_split = [replace(r, split="ood", elsewhere={}) for r in two_tasks]
    assert "All tasks" not in render_board(leaderboard(other_split), "table")


# --- the command line ---


@pytest.mark.slow
def test_two_tasks_end_with_one_table(tmp_path, capsys):
    model, results = model_with_defaults(tmp_path / "small"), tmp_path / "runs"
    sizes = ("--test-items", 8, "--val-items", 4, "--test-samples", 2, "--ood-items", 4, "--reworded-items", 4)
    arguments = ("run", "--methods", "base,sft", "--task", "countdown,logic", "--seeds", 1, "--model", model)
    done = bench(*arguments, *sizes, "--other-items", 3, "--results", results, "--no-preflight")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Elsewhere: trained on") == 2
    last = done.stdout[done.stdout.index("All tasks, model small") :]
    assert re.search(r"(?m)^ base +[0-9.]+ / [0-9.]+ / (100\.0|-) +[0-9.]+ / [0-9.]+ / (100\.0|-)$", last)
    assert call(capsys, "leaderboard", "--results", results)[1] == done.stdout
    for split, items in (("ood", 4), ("reworded", 4), ("other:math", 3)):
        code, out, err = call(capsys, "leaderboard", "--results", results, "--split", split, "--json")
        rows = json.loads(out)
        assert (code, err) == (0, "") and {(r["split"], r["num_items"]) for r in rows} == {(split, items)}
        assert {(r["task"], r["method"]) for r in rows} == {
            (t, m) for t in ("countdown", "logic") for m in ("base", "sft")
        }
    code, out, err = call(capsys, "leaderboard", "--results", results, "--split", "other:logic", "--json")
    assert (code, err, {r["task"] for r in json.loads(out)}) == (0, "", {"countdown"})
    title = call(capsys, "leaderboard", "--results", results, "--split", "ood")[1]
    assert "ood split (level 4) of 4 items" in " ".join(title.split()) and "All tasks" not in title
    code, out, err = call(capsys, "leaderboard", "--results", results, "--split", "odd")
    assert (code, out) == (2, "") and "unknown split 'odd': did you mean ood" in err


def test_plans_from_before_still_load(model, tmp_path, capsys):
    job = make_job(model, tmp_path, "base")
    execute(job, keep="none")
    plan, done = read_json(job.path / "plan.json"), read_json(job.path / "done.json")
    for name in ("ood_level", "others", "skills", "tuned", "split_by"):
        del plan[name]
    for name in ("ood_items", "reworded_items", "other_items", "skill_items"):
        del plan["evaluation"][name]
    write_atomic(job.path / "plan.json", plan)
    done["digests"]["plan.json"] = file_digest(job.path / "plan.json")
    del done["sizes"], done["digests"]["verdicts.npz"], done["digests"]["env.json"], done["selection"], done["seal"]
    write_atomic(job.path / "done.json", done)
    loaded = load_run(job.path)
    assert loaded.run_id == job.plan.run_id and not loaded.elsewhere and loaded.ood_level == ""
    assert call(capsys, "leaderboard", "--results", tmp_path, "--split", "ood") == (
        0,
        "no finished runs to compare\n",
        "",
    )

"""`bench show`: what it says of a run and of an item, hostile completions, two runs side by side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench.analysis.records import load_run
from bench.engine.runner import execute
from bench.foreign import neutral
from bench.report.safe_text import beside, folded, quoted, wrapped, wrapped_row
from bench.stats.intervals import crossed_interval
from bench.store.files import write_atomic
from bench.store.run_folder import content_size, file_digest, read_json, read_lines, seal_of
from tests.helpers.commands import call
from tests.helpers.runs import make_job, write_model

HOSTILE = (
    "\x1b[31mred\x1b[0m\r\x07\x00\n\u202eevil\u2028 </pre><script> \x9b2J" + "A" * 300 + "\nsample 9: RIGHT, correct"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SFT and base on one comparison, and SFT with another budget."""
    folder = tmp_path_factory.mktemp("show")
    model = write_model(folder / "model")
    results = folder / "runs"
    for method, budget in (("sft", "8steps"), ("base", "8steps"), ("sft", "4steps")):
        execute(make_job(model, results, method, budget), keep="none", command=("x", "run", "--task", "countdown"))
    return results


def name(store: Path, method: str = "sft", limit: float = 8) -> Path:
    plans = {path.parent: read_json(path) for path in store.glob("*/plan.json")}
    return next(p for p, plan in plans.items() if plan["method"].startswith(method) and plan["budget_limit"] == limit)


def poisoned(store: Path, tmp_path: Path) -> Path:
    """A copy of a run whose first test completion is hostile, its digests made to fit."""
    path = tmp_path / "runs" / name(store).name
    shutil.copytree(name(store), path)
    lines = read_lines(path / "items.jsonl")
    first = next(line for line in lines if line["split"] == "test")
    first["greedy"] |= {"text": HOSTILE, "reason": "used \x1b[2J"}
    (path / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    seal(path, "items.jsonl")
    return path


def seal(run: Path, name: str) -> None:
    """Make the done marker fit a changed file."""
    done = read_json(run / "done.json")
    done["digests"][name], done["sizes"][name] = file_digest(run / name), content_size(run / name)
    write_atomic(run / "done.json", {**done, "seal": seal_of(done)})


def test_neutral_text() -> None:
    assert neutral("a\x1b[0m\u202e\u200b\r\t\nb\udc80 漢é") == "a\\x1b[0m\\u202e\\u200b\\r\\t\nb\\udc80 漢é"
    assert wrapped("abcdef\ngh", 4) == ["abcd", "ef", "gh"] and wrapped("", 4) == [] and wrapped("a\n", 4) == ["a", ""]
    assert wrapped("漢字漢", 4) == ["漢字", "漢"]  # two cells each
    assert quoted("ab\n\x07", 10) == ["| ab", "| \\x07"]
    assert folded("one two three", 8) == ["one two", "three"] and folded("x" * 9, 4) == ["xxxx", "xxxx", "x"]
    assert beside([["a", "b"], ["漢"]], [3, 3]) == ["a    漢", "b"]
    assert wrapped_row(["a", ""], [2, 2]) == ["a   -"]


def test_a_run(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = name(store)
    code, out, err = call(capsys, "show", run.name[:-3], "--results", store)
    assert (code, err) == (0, "")
    assert run.name in out and "finished" in out and "none: its stack was not checked" in out
    assert "batch_size=4" in out and "bench run --task countdown" in out and "items only" in out
    found = json.loads(call(capsys, "show", run, "--json")[1])
    interval = crossed_interval(load_run(run).correct.mean(axis=1)[None])
    test = found["splits"]["test"]
    assert (test["accuracy"], test["accuracy_low"], test["accuracy_high"]) == pytest.approx(
        (interval.mean, interval.low, interval.high)
    )
    assert found["ledger"] == read_json(run / "done.json")["ledger"] and found["plan"]["method"].startswith("sft")
    assert [v["fraction"] for v in found["validations"]] == [0.25, 0.5, 1.0]


def test_an_item(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = name(store)
    line = [item for item in read_lines(run / "items.jsonl") if item["split"] == "test"][3]
    code, out, err = call(capsys, "show", run, "--item", 3)
    assert (code, err) == (0, "") and f"Item {line['id']}, number 3 of the test split" in out
    assert "Gold completion" in out and "<answer>" in out and "sample 2:" in out and "sample 3:" not in out
    assert call(capsys, "show", run, "--item", line["id"])[1] == out
    found = json.loads(call(capsys, "show", run, "--item", 3, "--json")[1])
    assert found["runs"][0]["samples"] == line["samples"] and found["prompt"].startswith("countdown ")
    val = json.loads(call(capsys, "show", run, "--item", 0, "--split", "val", "--json")[1])
    assert val["id"] == "countdown/3/val/0" and val["prompt"] != found["prompt"]
    last = next(i for i in read_lines(run / "items.jsonl") if i["split"] == "val" and i["fraction"] == 1.0)
    assert val["runs"][0]["greedy"] == last["greedy"]  # of the last validation


def test_side_by_side(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = name(store), name(store, "base")
    code, out, err = call(capsys, "show", a, b, "--item", 0)
    assert (code, err) == (0, "") and out.count("greedy:") == 2
    head = next(line for line in out.splitlines() if "seed 0" in line)
    assert "sft" in head[:49] and head[51:].startswith("base, seed 0") and max(map(len, out.splitlines())) <= 100
    both = call(capsys, "show", a, b)[1]
    assert a.name[:20] in both and b.name[:20] in both
    code, _, err = call(capsys, "show", a, name(store, "sft", 4))
    assert code == 0 and "may not be compared: budget limit 8.0 and 4.0" in err


def test_hostile_completions_are_neutral(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = poisoned(store, tmp_path)
    for arguments in ((run,), (run, name(store))):
        code, out, _ = call(capsys, "show", *arguments, "--item", 0)
        assert code == 0 and all(c.isprintable() or c == "\n" for c in out)
        for shown in ("\\x1b[31mred", "\\u202eevil", "</pre><script>", "used \\x1b[2J"):
            assert shown in out
        assert max(map(len, out.splitlines())) <= 100
        forged = [line for line in out.splitlines() if "sample 9" in line]
        assert forged and all(line.startswith("| ") for line in forged)
    assert json.loads(call(capsys, "show", run, "--item", 0, "--json")[1])["runs"][0]["greedy"]["text"] == HOSTILE


def test_a_changed_task_is_said(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = poisoned(store, tmp_path)
    write_atomic(run / "plan.json", {**read_json(run / "plan.json"), "task_version": 99})
    seal(run, "plan.json")
    out = " ".join(call(capsys, "show", run, "--item", 1)[1].split())
    assert "cannot be shown: task countdown is now version" in out and "judged by version 99" in out
    assert "greedy:" in out and "| countdown" not in out


def test_unfinished_runs_are_shown_as_such(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "half"
    shutil.copytree(name(store), run)
    (run / "done.json").unlink()
    out = call(capsys, "show", run)[1]
    assert "unfinished" in out and "[" not in next(line for line in out.splitlines() if line.startswith("  test"))


def test_what_cannot_be_shown(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*arguments: object) -> str:
        code, out, err = call(capsys, "show", *arguments, "--results", store)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        return err

    assert "run 'sft' is ambiguous" in error("sft")
    assert "unknown run 'bsae': did you mean base" in error("bsae")
    assert "one run or two, got 3" in error("a", "b", "c")
    assert "expected a number from 0 to 7 or an id such as countdown/3/test/0" in error(name(store), "--item", "8")
    assert "unknown split of this run 'ood': expected one of selected, test, val" in error(
        name(store), "--item", "0", "--split", "ood"
    )
    assert "has no runs" in call(capsys, "show", "sft", "--results", tmp_path)[2]
    assert "does not exist" in call(capsys, "show", "sft", "--results", tmp_path / "none")[2]
    run = poisoned(store, tmp_path)
    (run / "items.jsonl").write_text("x")
    code, _, err = call(capsys, "show", run)
    assert code == 2 and "is corrupted" in err


def test_leaderboard_by_currency_from_real_runs(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "leaderboard", "--results", store, "--equal", "steps", "--json")
    rows = [r for r in json.loads(out) if r["budget_limit"] == 8]
    assert (code, err) == (0, "") and {r["state"] for r in rows} == {"measured", "not limited"}
    evals = [e for e in read_lines(name(store) / "evals.jsonl") if e["split"] == "val"]
    assert next(r["score"] for r in rows if r["state"] == "measured") == pytest.approx(evals[-1]["accuracy"])
    code, out, _ = call(capsys, "leaderboard", "--results", store, "--curves", "--json")
    assert code == 0 and sorted(len(r["points"]) for r in json.loads(out)) == [3, 4]  # base stands beside one
    text = call(capsys, "leaderboard", "--results", store)[1]
    assert f"--item 0 --results {store}" in text.splitlines()[-1] and "Behind the table: bench show" in text


def test_leaderboard_refuses(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*arguments: object) -> str:
        code, out, err = call(capsys, "leaderboard", "--results", store, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        return err

    assert "unknown currency 'flop': did you mean flops?" in error("--equal", "flop")
    assert "unknown currency 'all'" in error("--equal", "all", "--curves")
    assert "unknown metric 'gredy': did you mean greedy?" in error("--metric", "gredy")
    assert "expected at least 64" in error("--metric", "pass@64")
    assert "unknown task 'countdwn': did you mean countdown?" in error("--task", "logic,countdwn")
    assert "leave --split out" in error("--equal", "flops", "--split", "test")
    assert "together with --curves" in error("--reach", "50")

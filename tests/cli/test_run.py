"""The command line on small runs: tables, formats, reuse, plans, pipelines, failures, Ctrl-C and terminals."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import threading
import time

import pytest

from bench.plan import registry
from bench.plan.spec import parse_method
from bench.store.lease import Watch
from bench.store.run_folder import read_json, read_lines
from bench.types import UserError
from tests.helpers.commands import COMMAND, ENV, bench, call, model_with_defaults
from tests.helpers.runs import SHORT_OPTIONS, files

SMALL = ("--task", "countdown", "--test-items", 20, "--val-items", 10, "--test-samples", 2, "--device", "cpu")
SMALL += SHORT_OPTIONS
RERUN_SECONDS = 5.0  # of CPU time: the clock would measure what else the machine does


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_with_defaults(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def small(model, tmp_path_factory):
    """Arguments, results folder and finished process of a small run of two methods and two seeds."""
    results = tmp_path_factory.mktemp("small") / "runs"
    budget = ("--budget", "2e8flops")
    arguments = ("run", "--methods", "base,sft", "--seeds", 2, "--model", model, *budget, "--results", results, *SMALL)
    return arguments, results, bench(*arguments)


# --- a run ---


def test_a_run_prints_its_table_and_its_progress_apart(small):
    _, results, done = small
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ base \?  +\d", done.stdout, re.M) and re.search(r"^ sft \?  +\d", done.stdout, re.M)
    title = " ".join(done.stdout.split())
    assert "model small, template compact" in title and "budget 200.0M FLOPs" in title
    _, warning, *lines = done.stderr.splitlines()  # the first one is a note on long demonstrations
    assert warning.startswith("warning: one step may cost a large part") and "sft" in warning
    assert all(re.match(r"(base|sft) countdown seed [01], \w+", line) for line in lines), done.stderr
    assert len(lines) == len(set(lines)) and sum(", done" in line for line in lines) == 4
    spent = read_json(next(results.glob("sft-*-s0-*")) / "done.json")["ledger"]["flops"] / 2e8
    assert 0.5 < spent < 1
    assert f"sft countdown seed 0, done, budget {100 * spent:.0f} %" in done.stderr
    assert "base countdown seed 0, done, budget 0 %" in done.stderr
    assert [log.read_text() for log in results.glob("*/log.txt")] == [""] * 4


def test_the_same_command_trains_nothing_and_prints_the_same(small):
    arguments, results, first = small
    before = files(results)
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = bench(*arguments)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert again.stderr == "all 4 runs finished earlier and are reused\n"
    assert end.ru_utime - start.ru_utime + end.ru_stime - start.ru_stime < RERUN_SECONDS
    assert files(results) == before


def test_another_spelling_of_the_paths_finds_the_same_runs(small, model, capsys):
    relative = [os.path.relpath(a) if a in (model, small[1]) else a for a in small[0]]
    assert call(capsys, *relative)[:2] == (0, small[2].stdout)
    assert len(list(small[1].iterdir())) == 4


@pytest.mark.parametrize(
    ("format", "pattern"),
    [
        ("table", r"(?m)^ sft \?  +\d"),
        ("markdown", r"(?m)^\| sft \? +\|"),
        ("latex", r"(?s)\\begin\{tabular\}.*\\\\.*\\end\{tabular\}"),
        ("csv", r"(?m)^task,.*accuracy"),
        ("json", r'"method": "sft"'),
    ],
)
def test_leaderboard_formats(small, capsys, format, pattern):
    code, out, err = call(capsys, "leaderboard", "--results", small[1], "--format", format)
    assert (code, err) == (0, "")
    assert re.search(pattern, out), out
    if format == "table":
        assert out == small[2].stdout
    if format == "csv":
        assert [row["method"] for row in csv.DictReader(io.StringIO(out))] == ["base", "sft"]


def test_json_rows(small, capsys):
    code, out, _ = call(capsys, *small[0], "--json")
    rows = {row["method"]: row for row in json.loads(out)}
    assert code == 0 and rows.keys() == {"base", "sft"}
    assert call(capsys, "leaderboard", "--results", small[1], "--json")[1] == out
    row = rows["sft"]
    expected = {"task": "countdown", "model": "small", "split": "test", "num_seeds": 2, "num_items": 20, "limit": 2e8}
    assert {key: row[key] for key in expected} == expected
    assert 0 <= row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"] <= 1
    assert 1e8 < row["spent_flops"] < 2e8 and rows["base"]["spent_flops"] == 0
    validation = json.loads(call(capsys, "leaderboard", "--results", small[1], "--json", "--split", "val")[1])
    assert {(r["split"], r["num_items"]) for r in validation} == {("val", 10)}
    assert json.loads(call(capsys, "leaderboard", "--results", small[1], "--json", "--task", "logic")[1]) == []


def test_a_corrupted_run_is_named_and_everything_else_listed(small, tmp_path, capsys):
    arguments, results, _ = small
    copy = tmp_path / "runs"
    shutil.copytree(results, copy)
    broken = next(copy.glob("sft-*-s1-*"))
    with (broken / "items.jsonl").open("r+b") as file:
        file.write(b"#")
    assert call(capsys, "leaderboard", "--results", copy, "--json")[2] == ""  # made from verdicts.npz, which is whole
    before = files(copy)
    code, out, err = call(capsys, "leaderboard", "--results", copy, "--json", "--verify")
    assert code == 0 and err.count("\n") == 1 and f"{broken}' is corrupted" in err and "items.jsonl was changed" in err
    assert {row["method"]: row["num_seeds"] for row in json.loads(out)} == {"base": 2, "sft": 1}
    assert files(copy) == before
    with (broken / "items.jsonl").open("ab") as file:
        file.write(b"#")
    before = files(copy)
    code, out, err = call(capsys, "leaderboard", "--results", copy, "--json")
    assert code == 0 and err.count("\n") == 1 and str(broken) in err and "items.jsonl" in err
    assert {row["method"]: row["num_seeds"] for row in json.loads(out)} == {"base": 2, "sft": 1}
    code, out, err = call(capsys, *(copy if a == results else a for a in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1) and str(broken) in err and "move it away" in err
    assert files(copy) == before


# --- what there is, and what it would cost ---


def test_lists_name_everything_registered(capsys):
    for package in ("methods", "tasks"):
        code, out, _ = call(capsys, package)
        listed = out.partition("\n\n")[0].splitlines()
        assert code == 0 and [line.split()[0] for line in listed] == list(registry.names(package))
        entries = json.loads(call(capsys, package, "--json")[1])
        assert [e["name"] for e in entries] == list(registry.names(package)) and all(e["summary"] for e in entries)


def test_method_sheet(capsys):
    sheet = json.loads(call(capsys, "methods", "uft", "--json")[1])
    assert {f["name"] for f in sheet["fields"]} > {"lr", "demo_coef"} and "r3" in sheet["variants"]
    text = call(capsys, "methods", "uft")[1]
    assert sheet["equation"].count("log pi") and all(line in text for line in sheet["equation"].splitlines())
    assert all(re.search(rf"(?m)^  {f['name']} +{re.escape(str(f['default']))[:5]}", text) for f in sheet["fields"][:4])
    assert all(re.search(rf"(?m)^  {name} ", text) for name in sheet["variants"])
    shown = (sheet["data_flow"], sheet["documentation"], sheet["evidence"], *sheet["published"])
    assert all(line.strip() in text for part in shown for line in part.splitlines())


@pytest.mark.parametrize("name", registry.names("tasks"))
def test_task_sheet(capsys, name):
    sheet = json.loads(call(capsys, "tasks", "show", name, "--json")[1])
    assert sheet["example"]["reward"] == 1.0 and 0 <= sheet["example"]["chance"] < 1
    text = call(capsys, "tasks", "show", name)[1]
    assert all(re.search(rf"(?m)^  {level} ", text) for level in sheet["levels"]) and "(default)" in text


def test_a_dry_run_starts_nothing(model, tmp_path, capsys):
    results = tmp_path / "runs"
    arguments = ("run", "--methods", "base,sft@0.3+grpo", "--seeds", "0,4", "--model", model, "--results", results)
    code, out, err = call(capsys, *arguments, *SMALL, "--dry-run")
    assert code == 0 and out.count("sft@0.3+grpo-countdown-small") == 2
    note, warning = err.splitlines()
    assert re.fullmatch(r"note: demonstrations of countdown have up to \d+ tokens and completions at most 24: .*", note)
    assert warning.startswith("warning: one step may cost a large part")
    assert all(word in out for word in ("FLOPs", "time", "disk", "4 runs to do", "nothing was started"))
    plans = json.loads(call(capsys, *arguments, *SMALL, "--dry-run", "--json")[1])
    assert [re.search(r"-s(\d)-", p["run"])[1] for p in plans] == ["0", "4"] * 2
    assert [p["flops"] > 0 and p["seconds"] > 0 for p in plans] == [False, False, True, True]
    assert all(p["disk_bytes"] > 1e4 and not p["finished"] for p in plans)
    assert not results.exists()


def test_steps_that_are_large_parts_of_the_budget_are_announced(tmp_path, capsys):
    arguments = ("run", "--methods", "uft,sft", "--seeds", "1", "--results", tmp_path / "runs", "--dry-run")
    code, _, err = call(capsys, *arguments, "--budget", "3e11flops")
    share = re.fullmatch(r"warning: one step may cost .* unspent: uft (\d+) %; a larger one helps\n", err)
    assert code == 0 and share and 15 < int(share[1]) < 30
    assert call(capsys, *arguments)[2] == "", "the default budget is fine"


def test_the_embedded_model_brings_all_defaults(tmp_path, capsys):
    code, out, err = call(capsys, "run", "--methods", "sft", "--results", tmp_path / "runs", "--dry-run", "--json")
    assert (code, err, len(json.loads(out))) == (0, "", 3)


# --- pipelines ---


@pytest.mark.parametrize(
    ("text", "names", "shares"),
    [
        ("sft", ["sft"], [1]),
        ("uft:r3", ["uft"], [1]),
        ("sft+grpo", ["sft", "grpo"], [0.5, 0.5]),
        ("sft@0.3+grpo", ["sft", "grpo"], [0.3, 0.7]),
        ("sft@0.3+grpo@0.7", ["sft", "grpo"], [0.3, 0.7]),
        ("sft@.2 + grpo + uft:r3", ["sft", "grpo", "uft"], [0.2, 0.4, 0.4]),
        ("sft@0.1+sft@0.2+grpo@0.7", ["sft", "sft", "grpo"], [0.1, 0.2, 0.7]),
    ],
)
def test_pipelines_split_the_budget(text, names, shares):
    label, stages = parse_method(text, {}, {})
    assert label == text and [s.name for s in stages] == names
    assert [s.share for s in stages] == pytest.approx(shares)


@pytest.mark.parametrize(
    "text", ["sft@0.3", "sft@0.3+grpo@0.6", "sft@0.7+grpo@0.7", "sft@0+grpo", "sft@1+grpo", "sft@1+grpo@0", "sft@1.5"]
)
def test_shares_that_do_not_sum_to_one_are_refused(text):
    with pytest.raises(UserError, match=r"positive and sum to 1"):
        parse_method(text, {}, {})


def test_settings_and_variants_of_a_pipeline_reach_their_stages():
    label, (sft, uft) = parse_method(
        "sft+uft:r3", {"uft": {"lr": 0.5, "demo_coef": 9.0}}, {"sft": {"lr": "0.25", "betas": "0.5,0.6"}}
    )
    assert label == "sft+uft:r3[sft.betas=0.5,0.6,sft.lr=0.25]"
    assert (sft.fields["lr"], sft.fields["betas"]) == (0.25, (0.5, 0.6))
    assert (uft.fields["lr"], uft.fields["demo_coef"], uft.fields["schedule"]) == (0.5, 0.0, "uniform")


@pytest.mark.slow
def test_a_run_checks_its_stack_first(model, tmp_path, capsys):
    """Rows carry no mark then; settings of the user are checked as they are, and only once."""
    small = (option for option in SMALL if option != "--no-preflight")
    arguments = ("run", "--methods", "sft", "--seeds", 1, "--model", model, "--results", tmp_path / "runs", *small)
    arguments = (*arguments, "--set", "sft.lr=0.5", "--json")
    for _ in range(2):
        done = bench(*arguments)
        assert done.returncode == 0, done.stderr
        assert [row["passport"] for row in json.loads(done.stdout)] == ["passed"]
    (passport,) = (tmp_path / "runs" / "passports").glob("*.json")
    assert "micro-batches sft" in passport.read_text()


# --- failures, Ctrl-C, terminals ---


@pytest.mark.exhaustive
def test_one_failed_run_does_not_stop_the_others(model, tmp_path, capsys):
    """A run that was damaged fails; the others finish, and the same command completes it later."""
    results = tmp_path / "runs"
    arguments = ("run", "--methods", "base,sft", "--seeds", 1, "--model", model, "--results", results, *SMALL, "--json")
    name = next(p["run"] for p in json.loads(call(capsys, *arguments, "--dry-run")[1]) if p["run"].startswith("sft"))
    (results / name / "checkpoint-1").mkdir(parents=True)
    (results / name / "checkpoint-1" / "state.json").write_text("{")
    done = bench(*arguments)
    shutil.rmtree(results / name)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert [row["method"] for row in json.loads(done.stdout)] == ["base"]
    assert f"error: run {name}: '{results / name}' is damaged" in done.stderr
    assert "1 of 2 runs failed" in done.stderr and "same command again" in done.stderr.splitlines()[-1]
    master, slave = pty.openpty()
    shown: list[bytes] = []
    reader = threading.Thread(target=read_terminal, args=(master, shown))
    reader.start()
    done = bench(*arguments, stderr=slave)
    os.close(slave)
    reader.join()
    assert done.returncode == 0 and [row["method"] for row in json.loads(done.stdout)] == ["base", "sft"]
    terminal = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(shown).decode())
    assert re.search(r"base countdown seed 0 +reused +0 %", terminal) and "val accuracy" in terminal
    assert re.search(r"sft countdown seed 0 +done +100 %", terminal)


def read_terminal(master: int, shown: list[bytes]) -> None:
    while True:
        try:
            shown.append(os.read(master, 65536))
        except OSError:  # the other end is closed
            return


@pytest.mark.slow
def test_ctrl_c_ends_quickly_and_the_same_command_resumes(model, tmp_path):
    results = tmp_path / "runs"
    arguments = ("run", "--methods", "sft", "--seeds", 1, "--model", model, "--results", results, *SMALL)
    arguments = (*arguments, "--budget", "800steps")
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENV,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )
    deadline = time.monotonic() + 60
    while not list(results.glob("*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    start = time.perf_counter()
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: the workers get it too
    out, err = process.communicate(timeout=30)
    assert time.perf_counter() - start < 5
    assert (process.returncode, out) == (130, "")
    assert "same command" in err.splitlines()[-1] and "Traceback" not in err
    run = next(results.iterdir())
    assert not (run / "done.json").exists() and "Traceback" not in (run / "log.txt").read_text()
    assert Watch(run).is_free()  # no worker is left
    assert bench(*arguments).returncode == 0
    assert [line["step"] for line in read_lines(run / "metrics.jsonl")] == list(range(1, 801))

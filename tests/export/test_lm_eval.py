"""`bench eval`: the command it starts, what it keeps and prints, its errors, and lm-eval where it is installed."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.export import lm_eval_run
from bench.export.lm_eval_run import Evaluation, arguments, new_folder, score_entries, scores_table
from bench.export.task_files import export_task, plan
from bench.models import TINY, model_path
from bench.types import UserError
from tests.helpers.commands import bench, call

needs_lm_eval = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="the extra eval is not installed"
)
COUNT = 40
RESULTS = {
    "results": {
        "gsm8k": {
            "alias": "gsm8k",
            "exact_match,strict-match": 0.25,
            "exact_match_stderr,strict-match": 0.125,
            "exact_match,flexible-extract": 0.5,
            "exact_match_stderr,flexible-extract": 0.0625,
        },
        "mmlu": {"alias": "mmlu", "sample_len": 7, "acc,none": 1.0, "acc_stderr,none": "N/A", "note,none": "text"},
    },
    "n-samples": {"gsm8k": {"original": 1319, "effective": 16}},
}


def install(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program in the place of lm-eval; it gets the folder for its results as its argument."""

    def command(asked: Evaluation, path: str, folder: Path) -> list[str]:
        return [sys.executable, "-c", script, str(folder)]

    monkeypatch.setattr(lm_eval_run, "check_installed", lambda: None)
    monkeypatch.setattr(lm_eval_run, "arguments", command)


# --- with a program in the place of lm-eval ---


def test_results_are_kept_as_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = json.dumps(RESULTS, indent=3) + "\n \n"
    script = (
        "import sys, pathlib, os; print('at work'); folder = pathlib.Path(sys.argv[1]) / 'model'; folder.mkdir();"
        f"(folder / 'results_1.json').write_text({text!r});"
        "(folder / 'offline').write_text(os.environ['HF_DATASETS_OFFLINE'])"
    )
    install(monkeypatch, script)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, out, err = call(capsys, "eval", "--suite", "gsm8k,mmlu", "--out", tmp_path, "--device", "cpu")
    [folder] = tmp_path.iterdir()
    stored = folder / "model" / "results_1.json"
    assert code == 0 and f"its log is {folder / 'log.txt'}" in err
    assert stored.read_text() == text and (folder / "model" / "offline").read_text() == "1"
    assert out.splitlines() == [*scores_table(score_entries(RESULTS)).splitlines(), str(stored)]
    assert (folder / "log.txt").read_text() == "at work\n" and folder.name.startswith("tiny-")
    assert json.loads((folder / "command.json").read_text())["suite"] == ["gsm8k", "mmlu"]
    code, out, _ = call(capsys, "eval", "--suite", "gsm8k,mmlu", "--out", tmp_path, "--json")
    assert code == 0 and json.loads(out)["scores"] == score_entries(RESULTS) and len(list(tmp_path.iterdir())) == 2


def test_scores_and_table() -> None:
    found = score_entries(RESULTS)
    assert [tuple(entry.values()) for entry in found] == [
        ("gsm8k", "exact_match (strict-match)", 0.25, 0.125, 16),
        ("gsm8k", "exact_match (flexible-extract)", 0.5, 0.0625, 16),
        ("mmlu", "acc", 1.0, None, None),
    ]
    lines = scores_table(found).splitlines()
    assert lines[0].split() == ["task", "metric", "value", "stderr", "n"]
    assert lines[1].split() == ["gsm8k", "exact_match", "(strict-match)", "0.2500", "0.1250", "16"]
    assert lines[3].split() == ["mmlu", "acc", "1.0000", "-", "-"]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (
            "import sys; print(*range(9), sep='\\n'); print('ValueError: no such task', file=sys.stderr); sys.exit(3)",
            ("lm-eval ended with exit code 3", "\n5\n6\n7\n8\nValueError: no such task\n"),
        ),
        (
            "import sys, pathlib; pathlib.Path(sys.argv[1], 'results_1.json').write_text('{}'); sys.exit(4)",
            ("lm-eval ended with exit code 4",),
        ),
        ("print('nothing to do')", ("lm-eval wrote no results", "\nnothing to do\n")),
        (
            "import sys, pathlib; pathlib.Path(sys.argv[1], 'results_1.json').write_text('{')",
            ("lm-eval's results cannot be read", "results_1.json"),
        ),
    ],
)
def test_a_failing_lm_eval(
    tmp_path: Path,
    script: str,
    told: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(monkeypatch, script)
    code, out, err = call(capsys, "eval", "--suite", "none", "--out", tmp_path)
    assert (code, out) == (1, "") and [part for part in told if part not in err] == []
    [folder] = tmp_path.iterdir()
    assert err.count("error: ") == 1 and (folder / "log.txt").exists() and str(folder) in err


# --- the command ---


def test_the_command_has_the_precision_of_the_device(tmp_path: Path) -> None:
    asked = Evaluation("tiny", ("a", "b"), tmp_path, limit=5)
    found = arguments(asked, str(TINY), tmp_path)
    assert found[:6] == [sys.executable, "-m", "lm_eval", "run", "--model", "hf"]
    assert found[7:9] == [f"pretrained={TINY.resolve()}", "dtype=float32"]
    pairs = dict(itertools.pairwise(found))
    assert (pairs["--tasks"], pairs["--limit"], pairs["--include_path"]) == ("a,b", "5", str(tmp_path))
    assert "--apply_chat_template" not in found
    found = arguments(Evaluation("org/model", ("a",), chat=True, device="cuda"), "org/model", tmp_path)
    assert found[7:9] == ["pretrained=org/model", "dtype=bfloat16"] and found[-1] == "--apply_chat_template"
    assert "--limit" not in found and "--include_path" not in found


def test_a_path_that_lm_eval_would_misread(tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    with pytest.raises(UserError, match="lm-eval cannot take , in a path"):
        arguments(Evaluation("x", ("a",)), str(tmp_path / "a,b"), tmp_path)


def test_folders_are_named_after_runs_and_never_shared(tmp_path: Path) -> None:
    policy = tmp_path / "run-7" / "policy"
    policy.mkdir(parents=True)
    names = [new_folder(tmp_path, str(policy)).name for _ in range(3)]
    assert len(set(names)) == 3 and all(name.startswith("run-7-2") for name in names)
    assert new_folder(tmp_path, "org/model").name.startswith("org--model-2")


# --- refusals ---


def chat_tasks(folder: Path) -> str:
    chosen = plan("countdown", "lm-eval", None, "chat", None, 1, "tiny")
    export_task(chosen, "lm-eval", folder)
    return str(folder)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--suite", "mmlu", "--model", "tyni"), "did you mean tiny?"),
        (("--suite", ","), "one task in it is empty"),
        (("--suite", "mmlu", "--device", "gpu"), "did you mean cpu?"),
        (("--suite", "mmlu", "--limit", "0"), "'--limit'"),
        ((), "Missing option '--suite'"),
        (("--suite", "mmlu", "--tasks-dir", "/none"), "tasks folder '/none' does not exist"),
        (("--suite", "bench_countdown_3", "--tasks-dir", "CHAT"), "exported with the template chat: add --chat"),
        (("--suite", "mmlu", "--tasks-dir", "BROKEN"), "is not what 'bench tasks export' writes"),
        (
            ("--suite", "mmlu", "--tasks-dir", "CHAT"),
            "needs the extra eval (not installed: lm_eval, accelerate): pip install 'posttrain-bench[eval]'",
        ),
    ],
)
def test_refusals(
    tmp_path: Path,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    missing: Callable[[str], Any] = lambda name: None  # noqa: E731
    monkeypatch.setattr(lm_eval_run.importlib.util, "find_spec", missing)
    (tmp_path / "BROKEN").mkdir()
    (tmp_path / "BROKEN" / "x.export.json").write_text("{")
    given = [str(tmp_path / "BROKEN") if word == "BROKEN" else word for word in words]
    given = [chat_tasks(tmp_path / "CHAT") if word == "CHAT" else word for word in given]
    code, out, err = call(capsys, "eval", *given, "--out", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err
    assert not (tmp_path / "out").exists()


# --- lm-eval itself ---


def greedy(chosen: Any) -> dict[str, tuple[str, bool, float]]:
    """Text, correctness and reward of our own greedy evaluation, by item."""
    import torch

    from bench.engine.evaluate import Settings, evaluate_split
    from bench.engine.policy import Policy, load_model

    torch.set_num_threads(1)
    policy = Policy(*load_model(model_path("tiny")))
    examples = [policy.encode(e, chosen.template) for e in chosen.examples("test")]
    settings = Settings(1, chosen.max_new_tokens, temperature=1.0, sample_rows=256, seed=0)
    _, records = evaluate_split(policy, chosen.task, examples, "test", settings)
    return {r["id"]: (r["greedy"]["text"], r["greedy"]["correct"], r["greedy"]["reward"]) for r in records}


@needs_lm_eval
@pytest.mark.slow
def test_exported_items_get_the_same_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    chosen = plan("countdown", "lm-eval", None, None, None, COUNT, "tiny")
    export_task(chosen, "lm-eval", tmp_path / "tasks")
    order = ("eval", "--suite", chosen.name, "--tasks-dir", tmp_path / "tasks", "--out", tmp_path / "out", "--json")
    code, out, err = call(capsys, *order, "--device", "cpu")
    assert code == 0, err
    found = json.loads(out)
    [samples] = Path(found["results"]).parent.glob("samples_*.jsonl")
    theirs = {}
    for sample in map(json.loads, samples.read_text().splitlines()):
        theirs[sample["doc"]["id"]] = (sample["resps"][0][0], sample["acc"] == 1, sample["reward"])
    ours = greedy(chosen)
    assert theirs == ours and len(ours) == COUNT
    right = sum(correct for _, correct, _ in ours.values())
    assert 0 < right < COUNT
    [accuracy] = [entry for entry in found["scores"] if entry["metric"] == "acc"]
    assert accuracy["value"] == pytest.approx(right / COUNT) and accuracy["n"] == COUNT


@needs_lm_eval
@pytest.mark.slow
def test_an_unknown_task_of_lm_eval(tmp_path: Path) -> None:
    done = bench("eval", "--suite", "no_such_task", "--out", tmp_path)
    [folder] = tmp_path.iterdir()
    assert (done.returncode, done.stdout) == (1, "")
    assert "lm-eval ended with exit code" in done.stderr and "no_such_task" in done.stderr
    assert str(folder / "log.txt") in done.stderr and "no_such_task" in (folder / "log.txt").read_text()

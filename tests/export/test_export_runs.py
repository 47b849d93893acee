"""`bench export`: which runs it takes, what lm-eval's files hold, the numbers that trackers get, and its errors."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.export import KINDS, common
from bench.export.lm_eval_results import task_name
from bench.export.points import final_scores, run_points, run_settings
from bench.store.run_store import RunStore
from bench.store.stored_run import load_stored
from tests.helpers.commands import call
from tests.helpers.runs import files
from tests.helpers.stored import SIZES, plan, spent, write_run

TASKS = {
    "test": "bench_countdown_3",
    "val": "bench_countdown_3_val",
    "ood": "bench_countdown_4",
    "reworded": "bench_countdown_3_reworded",
    "other:logic": "bench_logic_3",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "results")


def exported(capsys: pytest.CaptureFixture[str], run: Path, out: Path) -> tuple[Path, dict[str, Any]]:
    """The folder and the results file of one run, exported for lm-eval."""
    code, _, err = call(capsys, "export", run, out, "--to", "lm-eval")
    assert (code, err) == (0, "")
    [path] = (out / run.name).glob("results_*.json")
    return path.parent, json.loads(path.read_text())


def samples(folder: Path, task: str) -> list[dict[str, Any]]:
    [path] = folder.glob(f"samples_{task}_2*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- lm-eval's files ---


def test_names_of_splits() -> None:
    assert {split: task_name(plan(), split) for split in TASKS} == TASKS
    assert task_name(plan(), "skill:arithmetic") == "bench_countdown_3_skill_arithmetic"


def test_means_and_standard_errors_are_those_of_the_items(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, found = exported(capsys, run, tmp_path / "out")
    assert set(found["results"]) == set(TASKS.values()) == set(found["versions"]) == set(found["configs"])
    assert {n: v["effective"] for n, v in found["n-samples"].items()} == {TASKS[s]: n for s, n in SIZES.items()}
    test = found["results"]["bench_countdown_3"]  # six items: greedy right at 0, 2, 4; one of two samples at 0 and 3
    assert test["acc,none"] == pytest.approx(0.5) and test["acc_sampled,none"] == pytest.approx(1 / 6)
    assert test["acc_stderr,none"] == pytest.approx(np.std([1, 0] * 3, ddof=1) / 6**0.5)
    assert test["acc_sampled_stderr,none"] == pytest.approx(np.std([0.5, 0, 0] * 2, ddof=1) / 6**0.5)
    assert test["pass@2,none"] == pytest.approx(2 / 6) and test["reward,none"] == pytest.approx(0.55)
    assert test["sample_len"] == 6 and test["alias"] == test["name"] == "bench_countdown_3"
    assert found["bench"]["run_id"] == plan().run_id and found["config"]["random_seed"] == 7


def test_samples_hold_the_problem_and_the_completion(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = exported(capsys, run, tmp_path / "out")
    rows = samples(folder, "bench_countdown_3")
    assert [row["doc_id"] for row in rows] == list(range(6)) and [row["acc"] for row in rows] == [1, 0, 1, 0, 1, 0]
    first = rows[0]
    assert first["doc"]["prompt"] == first["arguments"]["gen_args_0"]["arg_0"] != ""
    assert first["doc"]["demonstration"] == first["target"] and first["resps"] == [["<answer>1</answer>"]]
    other = samples(folder, "bench_countdown_3_reworded")[0]
    assert other["doc"]["id"] == first["doc"]["id"] and other["doc"]["prompt"] != first["doc"]["prompt"]
    assert samples(folder, "bench_logic_3")[0]["doc"]["task"] == "logic"


def test_problems_of_a_data_file_or_of_another_version_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, changes in enumerate(({"data": "rows.jsonl", "data_digest": "1"}, {"task_version": 999})):
        run = write_run(tmp_path / str(number), plan(**changes))
        folder, _ = exported(capsys, run, tmp_path / "out")
        row = samples(folder, "bench_countdown_3")[0]
        assert list(row["doc"]) == ["id"] and row["arguments"]["gen_args_0"]["arg_0"] == "" and row["acc"] == 1


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="the extra eval is not installed")
def test_lm_eval_prints_its_table_of_them(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lm_eval import utils

    folder, found = exported(capsys, run, tmp_path / "out")
    lines = [line for line in utils.make_table(found).splitlines() if "acc " in line]
    assert sum("|0.5000|" in line.replace(" ", "") for line in lines) >= 2
    names = [str(path) for path in folder.iterdir()]
    assert len(utils.get_results_filenames(names)) == 1
    tasks = {utils.get_file_task_name(Path(name).name) for name in utils.get_sample_results_filenames(names)}
    assert tasks == set(TASKS.values())
    for row in samples(folder, "bench_countdown_3"):
        assert row["prompt_hash"] == utils.hash_string(row["doc"]["prompt"])
        assert row["doc_hash"] == utils.hash_string(json.dumps(row["doc"], indent=2, ensure_ascii=False))


# --- once, whole, never in a run ---


def test_the_same_export_again_changes_nothing(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(capsys, run, tmp_path / "out")
    before, source = files(tmp_path / "out"), files(run)
    code, out, _ = call(capsys, "export", run, tmp_path / "out")
    assert code == 0 and f"{run.name}: exported earlier" in out
    assert files(tmp_path / "out") == before and files(run) == source


def test_a_run_that_was_made_again_replaces_its_export(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = exported(capsys, run, tmp_path / "out")
    RunStore(run).append("metrics.jsonl", [{"stage": "0:sft", "step": 5, "loss": 0.0, "spent": spent(5)}])
    (run / "done.json").unlink()
    RunStore(run).finish(spent(5))
    again, found = exported(capsys, run, tmp_path / "out")
    assert again == folder and found["bench"]["ledger"]["steps"] == 5
    assert len(list(folder.glob("results_*.json"))) == 1 and not list((tmp_path / "out").glob(".*"))


def test_a_folder_of_runs_leaves_corrupted_ones_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    good, bad, odd = (write_run(results, plan(seed=seed)) for seed in (1, 2, 3))
    (bad / "evals.jsonl").write_text("")
    (odd / "items.jsonl").write_text("")
    (odd / "done.json").unlink()
    RunStore(odd).finish(spent(4))  # digests fit, but the items are gone
    code, out, err = call(capsys, "export", results, tmp_path / "out")
    assert code == 0 and [p.name for p in (tmp_path / "out").iterdir()] == [good.name]
    assert f"warning: run '{bad}' is corrupted" in err and f"warning: run '{odd}' is corrupted" in err
    assert "expected" in err.splitlines()[1] and good.name in out
    code, _, err = call(capsys, "export", odd, tmp_path / "more")
    assert code == 2 and "has no run that can be read" in err and not (tmp_path / "more" / odd.name).exists()


def test_runs_by_name_and_by_id(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, word in enumerate((run.name, plan().run_id)):
        code, _, err = call(capsys, "export", word, tmp_path / str(number), "--results", run.parent)
        assert (code, err) == (0, "") and (tmp_path / str(number) / run.name).is_dir()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("RUN", "OUT", "--to", "lm_eval"), "unknown receiver of an export 'lm_eval': did you mean lm-eval?"),
        (("RUN", "OUT", "--to", "wanbd"), "did you mean wandb?"),
        (("sft-countdwn-tiny-s7", "OUT", "--results", "RESULTS"), "did you mean sft-countdown-tiny-s7-"),
        (("none", "OUT", "--results", "EMPTY"), "has no runs: run 'bench run' first, or give a directory or --results"),
        (("EMPTY", "OUT"), "has no finished run"),
        (("OPEN", "OUT"), "is not finished: give its 'bench run' again"),
        (("", "OUT", "--results", "RESULTS"), "SOURCE is empty"),
        (("RUN", "FILE"), "is a file: expected a folder to write to"),
        (("RUN", "FILE/below"), "is a file, expected a folder"),
        (("RUN", "RUN/inside"), "lies in a run"),
        (("RUN", "TAKEN"), "exists and is no lm-eval export of this run"),
        (("RUN", "OUT", "--project", "../up"), "project '../up' is not valid"),
        ((), "Missing argument"),
    ],
)
def test_refusals(
    run: Path, tmp_path: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("")
    (tmp_path / "TAKEN" / run.name).mkdir(parents=True)
    (tmp_path / "TAKEN" / run.name / "mine.txt").write_text("mine")
    unfinished = write_run(tmp_path / "open")
    (unfinished / "done.json").unlink()
    known = {"RUN": run, "OPEN": unfinished, "RESULTS": run.parent}
    places = {name: tmp_path / name for name in ("OUT", "EMPTY", "FILE", "TAKEN")} | known
    given = [
        str(places[w.partition("/")[0]] / w.partition("/")[2]) if w.partition("/")[0] in places else w for w in words
    ]
    before = files(tmp_path)
    code, out, err = call(capsys, "export", *given)
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err, err
    assert files(tmp_path) == before and not (tmp_path / "OUT").exists()


@pytest.mark.parametrize("kind", sorted(set(KINDS) & {"trackio", "wandb", "tensorboard", "mlflow"}))
def test_a_tracker_that_is_not_installed(
    kind: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(common.importlib.util, "find_spec", lambda name: None)
    code, out, err = call(capsys, "export", run, tmp_path / "out", "--to", kind)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"--to {kind} needs" in err and "pip install 'posttrain-bench[trackers]'" in err
    assert not (tmp_path / "out").exists()


# --- the numbers that trackers get ---


def test_points_are_in_the_order_of_what_was_spent(run: Path) -> None:
    found = run_points(load_stored(run))
    assert [p.step for p in found] == [1, 2, 2, 3, 4, *[4] * 5]
    assert [p.seconds for p in found[:3]] == [0.5, 1.0, 1.0]
    assert found[1].values["train/loss"] == 0.5 and found[1].values["train/stage"] == 0
    assert found[2].values["eval/val/accuracy"] == 0.25 and found[2].values["eval/val/pass_at_2"] == 0.5
    assert all(p.values["spent/flops"] == 1e5 * p.step and p.values["spent/steps"] == p.step for p in found)
    names = {name for p in found for name in p.values}
    assert "eval/other-logic/greedy" in names and "train/step" not in names and "train/spent" not in names


def test_scores_and_settings(run: Path) -> None:
    stored = load_stored(run)
    assert (
        final_scores(stored)["final/test/accuracy"] == pytest.approx(1 / 6)
        and final_scores(stored)["total/flops"] == 4e5
    )
    found = run_settings(stored)
    assert found["stage0.lr"] == 0.001 and found["stage0.betas"] == "[0.9, 0.95]" and found["seed"] == 7
    assert found["evaluation.test_items"] == 6 and found["env.versions.torch"] == "2.13.0"
    assert not [name for name, value in found.items() if isinstance(value, dict | list | tuple)]

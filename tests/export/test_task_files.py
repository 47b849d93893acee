"""Exported files hold the task's items, and their modules give the task's own verdicts."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from bench.export.task_files import export_task, plan
from bench.exported import problem_of, text_of
from bench.plan import registry
from bench.plan.data import read_rows
from bench.types import UserError
from tasks import common
from tasks.countdown import TASK
from tests.helpers.commands import call

TASKS = [("countdown", "3"), ("logic", None), ("sudoku", None), ("math", "1"), ("math", "level-2")]
SMALL = 6


def write(folder: Path, to: str, name: str = "countdown", level: str | None = None, **options: Any) -> Any:
    """The export and its folder's files by name."""
    template = options.get("template", "plain" if level == "level-2" else None)
    chosen = plan(name, to, level, template, options.get("split"), options.get("count", SMALL), "tiny")
    files = export_task(chosen, to, folder)
    assert sorted(files) == sorted(p for p in folder.rglob("*") if p.is_file())
    return chosen


def module(path: Path) -> ModuleType:
    """A module by its file, as lm-eval loads it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def answers(chosen: Any, split: str) -> list[tuple[Any, str, Any]]:
    """(Example, completion, the task's verdict) of right, foreign, cut and empty completions."""
    examples = chosen.examples(split)
    gold = [e.demonstration.text for e in examples]
    found = []
    for number, e in enumerate(examples):
        for text in (gold[number], gold[number - 1], gold[number][:-9], "", "<answer>nonsense</answer>"):
            found.append((e, text, chosen.task.verify(e.problem, text)))
    assert {v.correct for *_, v in found} == {True, False} and len({v.reward for *_, v in found}) > 2
    return found


# --- formats ---


@pytest.mark.parametrize(("name", "level"), TASKS)
def test_lm_eval_items_and_verdicts(
    tmp_path: Path, name: str, level: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = write(tmp_path, "lm-eval", name, level)
    settings = yaml.safe_load((tmp_path / f"{chosen.name}.yaml").read_text().replace("!function ", ""))
    assert settings["task"] == chosen.name and settings["doc_to_text"] == "prompt"
    assert settings["generation_kwargs"] == {"until": [], "max_gen_toks": 64, "do_sample": False}
    assert settings["process_results"] == f"{chosen.name}.process_results"
    exported = module(tmp_path / f"{chosen.name}.py")
    library = SimpleNamespace(Dataset=SimpleNamespace(from_list=lambda rows: rows))
    monkeypatch.setitem(sys.modules, "datasets", library)
    documents = {row["id"]: row for row in exported.load(version=2, pretrained="x")[settings["test_split"]]}
    assert [row["prompt"] for row in documents.values()] == [e.prompt for e in chosen.examples("test")]
    metrics = {metric["metric"] for metric in settings["metric_list"]}
    for example, text, verdict in answers(chosen, "test"):
        found = exported.process_results(documents[example.id], [text])
        assert found == {"acc": float(verdict.correct), "reward": verdict.reward} and found.keys() == metrics


@pytest.mark.parametrize("template", ["compact", "chat"])
def test_trl_rewards(tmp_path: Path, template: str) -> None:
    chosen = write(tmp_path, "trl", template=template)
    rows = {row["id"]: row for row in read_rows(tmp_path / f"{chosen.name}.jsonl")}
    cases = answers(chosen, "train")
    problems = [rows[example.id]["problem"] for example, *_ in cases]
    completions: list[Any] = [text for _, text, _ in cases]
    example = cases[0][0]
    shown = {"prompt": example.prompt, "completion": example.demonstration.text}
    if template == "chat":
        completions = [[{"role": "assistant", "content": text}] for text in completions]
        roles = {"prompt": "user", "completion": "assistant"}
        shown = {name: [{"role": roles[name], "content": text}] for name, text in shown.items()}  # type: ignore[misc]
    assert {name: rows[example.id][name] for name in shown} == shown
    exported = module(tmp_path / f"{chosen.name}.py")
    columns = {"prompts": [""] * len(cases), "completion_ids": [[0]] * len(cases), "id": [""] * len(cases)}
    rewards = exported.reward(completions=completions, problem=problems, **columns)
    assert rewards == [verdict.reward for *_, verdict in cases]
    right = exported.accuracy(completions=completions, problem=problems, **columns)
    assert right == [float(verdict.correct) for *_, verdict in cases]
    with pytest.raises(ValueError, match="zip"):
        exported.reward(completions=completions, problem=problems[1:])


def test_the_text_of_a_conversation_is_that_of_its_turns() -> None:
    assert (
        text_of([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]) == "ab" == text_of("ab")
    )


def test_verl_scores(tmp_path: Path) -> None:
    chosen = write(tmp_path, "verl", "logic", "3")
    assert chosen.template == "chat"
    exported = module(tmp_path / f"{chosen.name}.py")
    rows = {row["extra_info"]["id"]: row for row in read_rows(tmp_path / "test.parquet")}
    for example, text, verdict in answers(chosen, "test"):
        row = rows[example.id]
        assert [dict(turn) for turn in row["prompt"]] == [{"role": "user", "content": example.prompt}]
        truth = row["reward_model"]["ground_truth"]
        found = exported.compute_score(row["data_source"], text, truth, extra_info=row["extra_info"])
        assert found == {"score": verdict.reward, "acc": verdict.correct}


@pytest.mark.parametrize("to", ["datasets", "parquet"])
@pytest.mark.parametrize(("name", "level"), TASKS)
def test_folders_are_read_again(tmp_path: Path, to: str, name: str, level: str | None) -> None:
    chosen = write(tmp_path, to, name, level)
    for split in ("train", "val", "test"):
        rows, examples = read_rows(f"{tmp_path}@{split}"), chosen.examples(split)
        assert [row["prompt"] for row in rows] == [e.prompt for e in examples]
        assert [row["demonstration"] for row in rows] == [e.demonstration.text for e in examples]
        assert [problem_of(chosen.task, row) for row in rows] == [json.loads(json.dumps(e.problem)) for e in examples]
    found = common.from_file(chosen.task, tmp_path, chosen.template)
    for split, read in found.items():  # by content, so each comes back in its split
        expected = {e.prompt: e.demonstration for e in chosen.examples(split)}
        assert {e.prompt: e.demonstration for e in read} == expected


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="the extra data is not installed")
def test_the_library_datasets_reads_both(tmp_path: Path) -> None:
    import datasets

    chosen = write(tmp_path / "saved", "datasets")
    write(tmp_path / "files", "parquet")
    saved = datasets.load_from_disk(str(tmp_path / "saved"))
    assert set(saved) == {"train", "val", "test"}
    assert saved["val"]["prompt"][:] == [e.prompt for e in chosen.examples("val")]
    files = {split: str(tmp_path / "files" / f"{split}.parquet") for split in saved}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert {split: list(loaded[split]) for split in saved} == {split: list(saved[split]) for split in saved}


# --- rows that do not belong ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "sudoku"}, "exported from the task sudoku, version 2, expected countdown, version 2"),
        ({"task_version": 7}, "exported from the task countdown, version 7"),
        ({"demonstration": "<answer>1</answer>"}, "column 'demonstration' is wrong: used"),
        ({"problem": "[1]"}, "column 'problem' is not a JSON object"),
        ({"problem": "{"}, "Expecting property name"),
    ],
)
def test_foreign_and_broken_rows(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path / "out", "parquet", count=2)
    rows = [
        {**row, **(change if number else {})} for number, row in enumerate(read_rows(tmp_path / "out" / "test.parquet"))
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"row 1 \(counted from 0\): " + message.replace("(", r"\(")):
        common.from_file(TASK, tmp_path / "rows.jsonl", "compact")


def test_a_module_refuses_another_version_of_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = write(tmp_path, "trl", count=1)
    [row] = read_rows(tmp_path / f"{chosen.name}.jsonl")
    exported = module(tmp_path / f"{chosen.name}.py")
    assert exported.reward([row["completion"]], [row["problem"]]) == [1.0]
    monkeypatch.setattr(type(registry.task("countdown")), "version", 3)
    with pytest.raises(
        UserError, match=r"from version 2 of the task countdown, version 3 is installed: export it again"
    ):
        exported.reward([row["completion"]], [row["problem"]])


# --- command ---


def test_the_command_lists_its_files_and_spares_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order = ("tasks", "export", "countdown", tmp_path / "out", "--to", "lm-eval", "--items", 2)
    code, out, err = call(capsys, *order, "--level", "3to4", "--json")
    found = json.loads(out)
    assert (code, err, found["name"]) == (0, "", "bench_countdown_3to4")
    assert sorted(found["files"]) == sorted(map(str, (tmp_path / "out").iterdir()))
    made = json.loads((tmp_path / "out" / "bench_countdown_3to4.export.json").read_text())
    expected = {"format": "lm-eval", "template": "compact", "splits": ["test"], "items": 2, "max_new_tokens": 64}
    assert {name: made[name] for name in expected} == expected
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    code, out, err = call(capsys, *order)
    assert (code, out) == (2, "") and "is not empty: give another one, or --force" in err
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    code, out, _ = call(capsys, *order, "--force")
    assert code == 0 and len(out.splitlines()) == 4 and len(list((tmp_path / "out").iterdir())) == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("countdown", "OUT"), "Missing option '--to'"),
        (("countdown", "--to", "trl"), "Missing argument 'DIR'"),
        (("countdwn", "OUT", "--to", "trl"), "did you mean countdown?"),
        (("countdown", "OUT", "--to", "lmeval"), "unknown format to export to 'lmeval': did you mean lm-eval?"),
        (("countdown", "OUT", "--to", "trl", "--split", "tets"), "unknown split 'tets': did you mean test?"),
        (("countdown", "OUT", "--to", "trl", "--level", "9"), "unknown level of countdown '9'"),
        (("countdown", "OUT", "--to", "trl", "--template", "chta"), "did you mean chat?"),
        (("countdown", "OUT", "--to", "trl", "--model", "tyni"), "did you mean tiny?"),
        (("countdown", "OUT", "--to", "trl", "--items", "0"), "'--items'"),
        (("countdown", "FILE", "--to", "trl", "--items", "1"), "is a file: expected a folder to write to"),
        (("countdown", "FILE/x", "--to", "trl", "--items", "1"), "is a file, expected a folder"),
    ],
)
def test_wrong_words(tmp_path: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "FILE").write_text("kept")
    given = [word.replace("OUT", str(tmp_path / "OUT")).replace("FILE", str(tmp_path / "FILE")) for word in words]
    code, out, err = call(capsys, "tasks", "export", *given)
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"] and (tmp_path / "FILE").read_text() == "kept"

"""An archive of a results folder is a results folder: same tables, every digest checked, nothing overwritten."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from bench.analysis.records import load_results, load_run
from bench.engine.runner import execute
from bench.export import archive
from bench.store import passport
from bench.store.run_folder import (
    CorruptRun,
    check_records,
    content_size,
    file_digest,
    finished_runs,
    read_json,
    read_lines,
)
from tests.helpers.commands import call
from tests.helpers.runs import files, make_job, write_model

PASSPORT = {"passed": True, "methods": [], "checks": [{"name": "x", "task": "countdown", "method": "", "passed": True}]}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Two finished runs with models and logs, one that is not finished, and a passport; never written to."""
    folder = tmp_path_factory.mktemp("runs")
    model, results = write_model(folder / "model"), folder / "results"
    for method in ("base", "sft"):
        job = make_job(model, results, method)
        execute(job)
        (job.path / "log.txt").write_text("printed")
    (results / "open").mkdir()
    (results / "open" / "metrics.jsonl").write_text("{}\n")
    key = read_json(job.path / "env.json")["stack_key"]
    passport.save_passport(results, {**PASSPORT, "key": key})
    return results


def archived(capsys, source: Path, out: Path) -> tuple[int, str, str]:
    return call(capsys, "export", source, out, "--to", "archive")


def test_an_archive_gives_the_same_tables(results, tmp_path, capsys):
    code, out, err = archived(capsys, results, tmp_path / "a")
    assert (code, err) == (0, "") and f"{tmp_path / 'a'}: 2 runs written, 1 passports" in out
    assert {p.name for p in (tmp_path / "a").iterdir()} == {p.name for p in finished_runs(results)[0]} | {"passports"}
    run = next(p for p in finished_runs(tmp_path / "a")[0] if p.name.startswith("sft"))
    records = {"metrics.jsonl.gz", "evals.jsonl.gz", "items.jsonl.gz"}
    assert {p.name for p in run.iterdir()} == records | {"plan.json", "env.json", "verdicts.npz", "done.json"}
    for arguments in ((), ("--split", "val"), ("--split", "selected"), ("--verify",)):
        tables = []
        for folder in (results, tmp_path / "a"):
            code, out, err = call(capsys, "leaderboard", "--results", folder, *arguments)
            tables.append((code, out.replace(str(folder), "RUNS"), err))
        assert tables[0] == tables[1] and (tables[0][0], tables[0][2]) == (0, "") and "accuracy" in tables[0][1]
    original = results / run.name
    for name in ("metrics.jsonl", "evals.jsonl", "items.jsonl"):
        assert read_lines(run / name) == read_lines(original / name) != []
        assert (file_digest(run / name), content_size(run / name)) == (
            file_digest(original / name),
            content_size(original / name),
        )
    assert passport.read_passport(tmp_path / "a", read_json(run / "env.json")["stack_key"]) is not None
    assert load_run(run).passport == load_run(original).passport != "none"


def test_the_same_runs_give_the_same_bytes_and_are_left_alone(results, tmp_path, capsys):
    archived(capsys, results, tmp_path / "a")
    before = files(tmp_path / "a")
    for path in results.rglob("*.jsonl"):
        os.utime(path, (0, 0))
    archived(capsys, results, tmp_path / "b")
    assert {k: v[1] for k, v in files(tmp_path / "b").items()} == {k: v[1] for k, v in before.items()}
    assert "0 runs written, 2 were there already" in archived(capsys, results, tmp_path / "a")[1]
    runs = {name: found for name, found in files(tmp_path / "a").items() if not name.startswith("passports")}
    assert runs == {name: found for name, found in before.items() if not name.startswith("passports")}
    assert archived(capsys, tmp_path / "a", tmp_path / "c")[0] == 0  # of an archive
    assert {k: v[1] for k, v in files(tmp_path / "c").items()} == {k: v[1] for k, v in before.items()}


def test_headers_hold_neither_time_nor_system():
    """RFC 1952: bytes 4 to 7 are the time, byte 9 the system, 255 where it is not said."""
    packed = archive.compressed(b"content")
    assert packed[4:8] == bytes(4) and packed[9] == 255 and gzip.decompress(packed) == b"content"


def test_a_killed_copy_is_no_run(results, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(archive.Path, "rename", lambda self, target: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        archive.copy_run(finished_runs(results)[0][0], tmp_path / "a" / "run")
    assert [p.name for p in (tmp_path / "a").iterdir()] == [".part-run"] and finished_runs(tmp_path / "a") == ([], [])
    monkeypatch.undo()
    archive.copy_run(finished_runs(results)[0][0], tmp_path / "a" / "run")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["run"]


def rewrite(path: Path, change) -> None:
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


DAMAGES = {
    "half a file": lambda p: os.truncate(p, p.stat().st_size // 2),
    "an empty file": lambda p: os.truncate(p, 0),
    "two bytes": lambda p: os.truncate(p, 2),
    "no gzip": lambda p: p.write_bytes(b"x" * 100),
    "other content of the same size": lambda p: rewrite(p, lambda text: text.replace(b"true", b"null")),
    "more content": lambda p: rewrite(p, lambda text: text + b"{}\n"),
    "no file": lambda p: p.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_archives_are_named_and_not_overwritten(results, tmp_path, capsys, damage):
    archived(capsys, results, tmp_path / "a")
    broken = next((tmp_path / "a").glob("sft*"))
    DAMAGES[damage](broken / "items.jsonl.gz")
    before = files(tmp_path / "a")
    with pytest.raises(CorruptRun, match=r"items\.jsonl"):
        check_records(broken)
    good, bad = load_results(tmp_path / "a", verify=True)
    assert len(good) == 1 and [path for path, _ in bad] == [broken]
    code, out, err = archived(capsys, results, tmp_path / "a")
    assert (code, out, err.count("\n")) == (2, "", 1) and f"'{broken}' is not the archive of" in err
    assert files(tmp_path / "a") == before
    code, out, err = archived(capsys, tmp_path / "a", tmp_path / "b")
    assert code == 0 and err.count("\n") == 1 and str(broken) in err and "1 runs written" in out


def test_bad_input_is_one_line(results, tmp_path, capsys):
    cases = {
        ("export", results, "--to", "archive"): "an archive needs a folder",
        ("export", results, results, "--to", "archive"): "holds the runs themselves",
        ("export", tmp_path, tmp_path / "a", "--to", "archive"): "has no finished run",
        ("export", results, tmp_path / "a", "--to", "archives"): "did you mean archive",
    }
    for arguments, words in cases.items():
        code, out, err = call(capsys, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1) and words in err
    other = tmp_path / "a" / finished_runs(results)[0][0].name
    other.mkdir(parents=True)
    (other / "done.json").write_text(json.dumps({"ledger": {}, "digests": {}}))
    assert "is not the archive of" in archived(capsys, results, tmp_path / "a")[2]

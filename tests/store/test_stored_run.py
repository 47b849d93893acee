"""The look-up of runs: what a user may call a run, by every command that takes one, and what is said otherwise."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.store.stored_run import find_run, find_runs, locate, locate_sides
from bench.types import UserError
from tests.helpers.commands import call
from tests.helpers.stored import plan, write_run

COMMANDS = ("show", "diff", "card", "export")
SPELLINGS = ("directory", "name", "beginning", "digest")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two seeds of one plan."""
    for seed in (7, 8):
        write_run(tmp_path / "runs", plan(seed=seed))
    return tmp_path / "runs"


def spelled(results: Path, spelling: str) -> str:
    made = plan(seed=7)
    beginning = made.directory.removesuffix(made.run_id[2:])
    words = {"directory": results / made.directory, "name": made.directory, "beginning": beginning}
    return str({**words, "digest": made.run_id}[spelling])


def arguments(command: str, run: str, tmp_path: Path) -> tuple[object, ...]:
    return {"diff": (run, run), "export": (run, tmp_path / "out")}.get(command, (run,))


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_every_spelling(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, spelling: str
) -> None:
    run = spelled(results, spelling)
    assert locate(run, results) == results / plan(seed=7).directory
    code, out, err = call(capsys, command, *arguments(command, run, tmp_path), "--results", results)
    assert (code, err) == (0, "")
    assert (f"{run} and {run} do not differ." if command == "diff" else plan(seed=7).directory) in out


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("sft-countdwn", "unknown run 'sft-countdwn': did you mean sft-countdown-tiny-s7-"),
        ("DIGEST", "': did you mean sft-countdown-tiny-s7-"),
        ("sft-countdown", "run 'sft-countdown' is ambiguous in 'RESULTS': expected one of sft-countdown-tiny-s7-"),
        ("RESULTS", "'RESULTS' is not a run but a folder: expected a run, one of sft-countdown-tiny-s7-"),
        ("BROKEN", "run 'BROKEN' is corrupted (plan.json"),
        ("", " is empty: give it a value"),
        ("FILE", "'FILE' is a file: expected a run"),
        ("no\x1b[31mne", "unknown run 'no\\x1b[31mne'"),
        ("x" * 5000, "file name too long"),
    ],
)
def test_every_command_says_the_same_of_a_run_that_is_none(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, run: str, message: str
) -> None:
    if run == "RESULTS" and command == "export":
        pytest.skip("it exports folders, too")
    broken = tmp_path / "elsewhere" / "broken"
    shutil.copytree(results / plan(seed=7).directory, broken)
    (broken / "plan.json").write_text("{")
    wrong = plan(seed=7).run_id
    places = {"RESULTS": str(results), "BROKEN": str(broken), "DIGEST": wrong[:-2] + wrong[:-3:-1]}
    places["FILE"] = str(results / plan(seed=7).directory / "plan.json")
    given = places.get(run, run)
    code, out, err = call(capsys, command, *arguments(command, given, tmp_path), "--results", results)
    for word, path in places.items():
        message = message.replace(word, path)
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err, err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_the_same_without_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "empty").mkdir()
    for folder, fault in (("empty", "has no runs"), ("none", "does not exist")):
        words = (*arguments(command, "sft", tmp_path), "--results", tmp_path / folder)
        code, out, err = call(capsys, command, *words)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: results folder '{tmp_path / folder}' {fault}: run 'bench run' first, or give")


def test_a_run_that_cannot_be_read_stops_the_comparison_of_methods_alone(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = results / plan(seed=7).directory
    shutil.copytree(run, results / "broken")
    (results / "broken" / "plan.json").write_text("{")
    code, out, err = call(capsys, "diff", run.name, run.name, "--results", results)
    assert (code, err) == (0, "") and "do not differ" in out
    code, out, err = call(capsys, "diff", "sft", run.name, "--results", results)
    assert (code, out, err.count("\n")) == (2, "", 1) and "broken' is corrupted (plan.json" in err


def test_what_is_handed_on_must_be_finished(results: Path) -> None:
    run = locate(spelled(results, "name"), results)
    (run / "done.json").unlink()
    for find in (find_run, find_runs):
        with pytest.raises(UserError, match="is not finished: give its 'bench run' again, it resumes where it stopped"):
            find(run.name, results)
    assert locate(run.name, results) == run  # `bench show` shows it as unfinished
    assert [other.plan.seed for other in find_runs(str(results), results)] == [8]


def test_a_name_means_the_run_also_where_a_folder_is_called_so(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plan(seed=7).directory
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate(name, results) == results / name
    monkeypatch.chdir(results / name)
    assert locate(".", results) == results / name


def test_a_whole_name_wins_over_longer_ones(results: Path) -> None:
    name = plan(seed=7).directory
    shutil.copytree(results / name, results / f"{name}-copy")
    assert locate(name, results) == results / name
    with pytest.raises(UserError, match="is ambiguous"):
        locate(name[:-1], results)


def test_sides_of_a_comparison_are_methods_or_runs(results: Path) -> None:
    write_run(results, plan(seed=7, level="4"))
    write_run(results, plan(seed=7, method="uft"))
    left, right = locate_sides("sft", "uft", results, None)
    assert [path.name for path in left] == [plan(seed=seed).directory for seed in (7, 8)]
    assert [path.name for path in right] == [plan(seed=7, method="uft").directory]
    other = plan(seed=7, level="4").run_id
    assert locate_sides(other, "uft", results, None)[0] == [results / plan(seed=7, level="4").directory]

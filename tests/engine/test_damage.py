"""Interrupted runs with any file damaged: they end as if nothing had happened, or stop before anything is changed."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from bench.engine import checkpoint, worker
from bench.engine.runner import Run, execute
from bench.schedule.executor import run_all
from bench.schedule.local import Local
from bench.schedule.states import State, refresh
from bench.seeds import derive_seed
from bench.store.files import write_atomic
from bench.store.job import Job
from bench.store.order import order_for
from bench.store.run_folder import CorruptRun, read_json, seal_of
from bench.study.slots import Slot
from bench.types import UserError
from tests.helpers.runs import differences, files, make_job, outcome, write_model

METHODS = ("sft", "grpo", "uft", "relift", "s3ft", "sft@0.5+grpo")
STEPS = "6steps"
FLIPS = 4  # changed bytes per file
WRITTEN_ANEW = ("plan.json", "env.json", "progress.json")  # in whose place a folder is seen when they are written


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def interrupted(model: Path, results: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A run with a checkpoint after every step that ended after the log of one more."""
    job = make_job(model, results, method, STEPS)
    lines: list[int] = []
    log = Run.log

    def count(run: Run, *args: Any) -> None:
        log(run, *args)
        lines.append(run.meter.ledger.steps)
        if lines[-1] >= 4 and len(checkpoint._folders(job.path)) == 2:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Run, "log", count)
        patch.setenv(checkpoint.INTERVAL, "-1")
        execute(job)
    return job


def left(path: Path) -> dict[str, Any]:
    """What a run leaves, and the stacks that it says it was made on."""
    return outcome(path) | {"stacks": read_json(path / "env.json")["earlier_stack_keys"]}


Damage = Callable[[Path], object]


def flip(place: int) -> Damage:
    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[place % len(content)] ^= 1 << place % 8
        path.write_bytes(content)

    return change


def double_a_line(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines]))


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_leases_by_a_file(run: Path) -> None:
    shutil.rmtree(run / "lease")
    (run / "lease").write_text("")


def contents(run: Path) -> dict[str, bytes]:
    """All files but the leases, one more of which each attempt leaves."""
    return {name: content for name, (_, content) in files(run).items() if not name.startswith("lease/")}


def damages(folder: Path) -> Iterator[tuple[str, str, Damage]]:
    """Every file of a run directory with every damage: file, name of the damage, what it does."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.parent.name != "lease"):
        name, size = str(path.relative_to(folder)), path.stat().st_size
        yield name, "deleted", Path.unlink
        yield name, "emptied", lambda p: os.truncate(p, 0)
        yield name, "a folder", replace_by_a_folder
        yield name, "a line more", lambda p: p.write_bytes(p.read_bytes() + b'{"step": 1}\n')
        yield name, "garbage at the end", lambda p: p.write_bytes(p.read_bytes() + b"\xff{")
        yield name, "a line twice", double_a_line
        for number in range(FLIPS):
            place = derive_seed("damage", name, number) % max(size, 1)
            yield name, f"byte {place} changed", flip(place)
            yield name, f"cut at {place}", lambda p, n=place: os.truncate(p, n)
    for folder_name in [p.name for p in folder.iterdir() if p.is_dir() and p.name != "lease"]:
        yield folder_name, "deleted", shutil.rmtree


def resume(job: Job, damaged: Path) -> str:
    """The fault with which the resumed run stops; empty if it runs to its end."""
    try:
        execute(replace(job, path=damaged))
    except (CorruptRun, UserError) as fault:
        return str(fault)
    except OSError as error:
        return worker.unwritable(error, damaged) or pytest.fail(f"not told from a fault of the program: {error!r}")
    return ""


def try_damages(model: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch, every: int) -> list[str]:
    """Damage an interrupted run in every ``every``-th way and resume it; the faults with which it stopped."""
    whole = make_job(model, tmp_path / "whole", method, STEPS)
    execute(whole)
    expected = left(whole.path)
    job = interrupted(model, tmp_path / "stopped", method, monkeypatch)
    faults = []
    for name, damage, act in list(damages(job.path))[::every]:
        copied = tmp_path / "damaged" / job.path.name
        shutil.copytree(job.path, copied)
        act(copied / name)
        before = contents(copied)
        fault = resume(job, copied)
        if fault and (copied / name).is_dir() and name in WRITTEN_ANEW:
            (copied / name).rmdir()
            assert resume(job, copied) == "" and differences(left(copied), expected) == [], (name, damage)
        elif fault:
            assert contents(copied) == before, (name, damage, fault)
            assert "\n" not in fault and not replace(job, path=copied).done
            faults.append(f"{name}, {damage}: {fault}")
        else:
            assert differences(left(copied), expected) == [], (name, damage)
        shutil.rmtree(copied)
    return faults


@pytest.mark.parametrize("method", [pytest.param(m, marks=() if m == "s3ft" else pytest.mark.slow) for m in METHODS])
def test_a_sample_of_damages_is_never_sealed(model, tmp_path, monkeypatch, method):
    faults = try_damages(model, tmp_path, method, monkeypatch, every=11 if method == "s3ft" else 29)
    assert faults, "some damages cannot be mended"


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", METHODS)
def test_no_damage_is_ever_sealed(model, tmp_path, monkeypatch, method):
    faults = try_damages(model, tmp_path, method, monkeypatch, every=1)
    print(*faults, sep="\n")
    assert faults, "some damages cannot be mended"
    # One damaged checkpoint is passed over, unless the weights that both share are damaged.
    assert not [f for f in faults if f.startswith("checkpoint-") and checkpoint.KEPT not in f.partition(",")[0]]


# --- what stops a run, in the words of the command ---


def both(name: str, act: Damage) -> Callable[[Path], None]:
    """The damage to this file of every checkpoint."""

    def change(run: Path) -> None:
        for folder in run.glob("checkpoint-*"):
            act(folder / name)

    return change


def of_another_version(path: Path) -> None:
    write_atomic(path, {"ledger": {}, "sizes": {"metrics.jsonl": 0}})


def without_a_field(path: Path) -> None:
    content = read_json(path)
    del content["state"]["ledger"]
    write_atomic(path, {**content, "seal": seal_of(content)})


STOPS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no optimizer": (both(checkpoint.OPTIMIZER, Path.unlink), "optimizer.safetensors is missing"),
    "half an optimizer": (
        both(checkpoint.OPTIMIZER, lambda p: os.truncate(p, 99)),
        "optimizer.safetensors was changed",
    ),
    "a changed weight": (both(checkpoint.POLICY, flip(3000)), "policy.safetensors was changed"),
    "no state": (both("state.json", Path.unlink), "state.json: "),
    "a changed state": (both("state.json", lambda p: p.write_text(p.read_text().replace('"step": ', '"step": 1'))), ""),
    "half a state": (both("state.json", lambda p: os.truncate(p, 99)), "state.json: "),
    "a state from before": (both("state.json", of_another_version), "written by another version of bench"),
    "another state": (both("state.json", without_a_field), "written by another version of bench (KeyError 'ledger')"),
    "a changed record": (lambda run: flip(30)(run / "metrics.jsonl"), "metrics.jsonl was changed after the checkpoint"),
    "a record less": (lambda run: os.truncate(run / "metrics.jsonl", 30), "metrics.jsonl has 30 bytes"),
    "no targets": (lambda run: (run / "targets.jsonl").unlink(), "targets.jsonl has 0 bytes"),
    "a folder for a record": (lambda run: replace_by_a_folder(run / "evals.jsonl"), "evals.jsonl"),
    "a file for the leases": (replace_leases_by_a_file, "lease: File exists"),
    "a folder for the plan": (lambda run: replace_by_a_folder(run / "plan.json"), "plan.json: Is a directory"),
}


@pytest.fixture(scope="module")
def stopped(model, tmp_path_factory) -> Job:
    with pytest.MonkeyPatch.context() as patch:
        return interrupted(model, tmp_path_factory.mktemp("stopped"), "s3ft", patch)


def copy_of(job: Job, folder: Path) -> Job:
    shutil.copytree(job.path, folder / job.path.name)
    return replace(job, path=folder / job.path.name)


@pytest.mark.parametrize("name", STOPS)
def test_what_stops_a_run_is_one_line_with_exit_code_2(stopped, tmp_path, capfd, name):
    job = copy_of(stopped, tmp_path)
    damage, expected = STOPS[name]
    damage(job.path)
    before = {k: v for k, v in files(job.path).items() if not k.startswith("lease/")}
    assert worker.attempt(order_for(job, "last", ())) == 2
    line = capfd.readouterr().err
    assert line.startswith(f"error: '{job.path}' ") and line.count("\n") == 1 and expected in line
    if name != "another state":  # its digests fit, so that the run goes on as far as that
        assert {k: v for k, v in files(job.path).items() if not k.startswith("lease/")} == before


@pytest.mark.slow
def test_the_command_hears_of_it(stopped, tmp_path):
    job = copy_of(stopped, tmp_path)
    (job.path / "log.txt").write_text("earlier, without a line's end")
    flip(30)(job.path / "metrics.jsonl")
    (state,) = run_all([job], Local([Slot(0)]), "last", lambda states: None)
    assert (state.status, state.exit_code) == ("failed", 2)
    assert state.message.startswith(f"'{job.path}' is damaged (checkpoint-") and "move it away" in state.message


STRAY = ("metrics.jsonl~", ".nfs0001", "#plan.json#", "checkpoint-x", "checkpoint-3~", "state.json", "plan.json.part")


def test_stray_files_stop_nothing_and_stay(model, tmp_path, monkeypatch):
    whole = make_job(model, tmp_path / "whole", "sft", STEPS)
    execute(whole)
    job = interrupted(model, tmp_path / "stopped", "sft", monkeypatch)
    saved = checkpoint.last_good(job.path)
    assert saved is not None
    for name in STRAY:
        (job.path / name).write_text("?")
        (saved.path / name).write_text("?") if name != "state.json" else None
    shutil.copytree(saved.path, job.path / "checkpoint-99~")
    (job.path / "part-checkpoint-").mkdir()
    (job.path / "part-checkpoint-" / "policy.safetensors").write_text("half")
    execute(job)
    assert differences(left(job.path), left(whole.path)) == []
    assert {p.name for p in job.path.iterdir()} - {p.name for p in whole.path.iterdir()} == {
        *(set(STRAY) - {"plan.json.part"}),
        "checkpoint-99~",
    }


def test_a_file_beside_a_checkpoint_s_own_is_not_read(model, tmp_path, monkeypatch):
    """A reference model that the checkpoint never had."""
    job = interrupted(model, tmp_path, "sft", monkeypatch)
    saved = checkpoint.last_good(job.path)
    assert saved is not None and checkpoint.REFERENCE not in saved.files
    (saved.path / checkpoint.REFERENCE).write_text("?")
    execute(job)
    assert job.done


def test_a_checkpoint_that_is_damaged_before_the_last_test_is_seen(model, tmp_path, monkeypatch):
    """The selected weights are read from it at the end of the run that wrote it."""
    job = make_job(model, tmp_path, "sft", STEPS)
    test = Run.test

    def damage(run: Run) -> None:
        assert run.saved is not None and run.selection is not None
        run.selection["fraction"] = 0.5
        flip(3000)(run.saved.path / checkpoint.KEPT)
        test(run)

    monkeypatch.setattr(Run, "test", damage)
    with pytest.raises(CorruptRun, match=rf"{checkpoint.KEPT} was changed"):
        execute(job)
    assert not job.done


# --- the disk refuses ---


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system refuses to make files of this process larger than that, in bytes."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("size", [600, 6_000, 24_000, 120_000])
def test_a_disk_that_takes_no_more_costs_nothing_that_was_saved(model, stopped, tmp_path, monkeypatch, capfd, size):
    """The limit refuses, the smaller the earlier: the plan, a record, the policy or the optimizer of a checkpoint."""
    whole = make_job(model, tmp_path / "whole", "s3ft", STEPS)
    execute(whole)
    job = copy_of(stopped, tmp_path)
    before = checkpoint.last_good(job.path)
    assert before is not None
    monkeypatch.setenv(checkpoint.INTERVAL, "-1")
    with largest_file(size):
        assert worker.attempt(order_for(job, "last", ())) == 2
    line = capfd.readouterr().err
    assert line.count("\n") == 1 and "cannot be written" in line and os.strerror(errno.EFBIG) in line
    after = checkpoint.last_good(job.path)
    assert after is not None and after.state["ledger"]["steps"] >= before.state["ledger"]["steps"]
    execute(job)
    assert differences(left(job.path), left(whole.path)) == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "x"), "No space left on device"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "No space left on device"),
        (PermissionError(errno.EACCES, "x", "/runs/a/plan.json"), "/runs/a/plan.json: Permission denied"),
        (PermissionError(errno.EACCES, "x", "/model/config.json"), None),
        (SafetensorError("invalid header"), None),
        (ConnectionError("no network"), None),
    ],
)
def test_only_faults_of_writing_the_run_are_told_as_such(error, reason):
    assert worker.unwritable(error, Path("/runs/a")) == reason


@pytest.mark.parametrize("text", ["x", "nan", "1 s"])
def test_an_interval_that_is_no_number_is_bad_input(monkeypatch, text):
    monkeypatch.setenv(checkpoint.INTERVAL, text)
    with pytest.raises(UserError, match=rf"BENCH_CHECKPOINT_SECONDS='{text}': expected a number"):
        checkpoint.interval()
    monkeypatch.setenv(checkpoint.INTERVAL, "")
    assert checkpoint.interval() == checkpoint.SECONDS


def test_progress_that_cannot_be_read_is_passed_over(model, tmp_path):
    """It is left of an earlier process until the new one writes its own."""
    state = State(make_job(model, tmp_path))
    state.job.path.mkdir(parents=True)
    for content in (b"\xff", b"[1]", b"{", json.dumps({"share": 0.5}).encode()):
        (state.job.path / "progress.json").write_bytes(content)
        refresh(state)
    assert state.progress == {"share": 0.5} and state.first_share == 0.5

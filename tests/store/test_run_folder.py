"""One run directory: records that survive a kill, the done marker that proves them, the lock, and broken ones."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.analysis.records import load_all, load_results
from bench.plan.spec import Evaluation, RunPlan
from bench.store.files import check_writable, write_atomic
from bench.store.run_folder import RECORDS, CorruptRun, check_records, finished_runs, is_done, read_json, read_lines
from bench.store.run_store import RunStore
from bench.types import UserError
from tests.helpers.runs import files

ROWS = [{"step": 1, "text": "a\nb é"}, {"step": 2, "loss": 0.1 + 0.2}, {"step": 3, "loss": float("nan")}]


def finished_run(path: Path, name: str = "run") -> Path:
    store = RunStore(path / name)
    write_atomic(store.path / "plan.json", {"seed": 0})
    for record in RECORDS:
        store.append(record, [{"of": record}])
    store.finish({"flops": 1.5})
    return store.path


# --- records ---


def test_append_and_read(tmp_path):
    store = RunStore(tmp_path / "deep" / "run")
    store.append("metrics.jsonl", ROWS[:2])
    store.append("metrics.jsonl", [])
    store.append("metrics.jsonl", ROWS[2:])
    assert repr(read_lines(store.path / "metrics.jsonl")) == repr(ROWS)
    assert (store.path / "metrics.jsonl").read_bytes().count(b"\n") == 3
    assert read_lines(store.path / "items.jsonl") == []


@pytest.mark.parametrize("kept", [0, 1, 10, -1])
def test_a_torn_last_line_is_left_out(tmp_path, kept):
    store = RunStore(tmp_path)
    store.append("metrics.jsonl", ROWS[:2])
    line = json.dumps(ROWS[1]).encode() + b"\n"
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(line[:kept])  # -1: a whole record without its line end may still be a part of a longer one
    assert read_lines(tmp_path / "metrics.jsonl") == ROWS[:2]


@pytest.mark.parametrize("broken", [b'{"step": 1', b"", b"\x00\x00", b"\xff\xfe", b"9" * 5000])
def test_a_broken_line_before_the_last_is_corruption(tmp_path, broken):
    (tmp_path / "items.jsonl").write_bytes(b'{"a":1}\n' + broken + b'\n{"a":2}\n')
    with pytest.raises(CorruptRun, match=r"items\.jsonl: line 2 "):
        read_lines(tmp_path / "items.jsonl")


def test_truncation_drops_what_came_after_the_checkpoint(tmp_path):
    store = RunStore(tmp_path)
    store.append("metrics.jsonl", ROWS[:1])
    marks = store.marks()
    before = (tmp_path / "metrics.jsonl").read_bytes()
    nothing = {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    assert marks.pop("metrics.jsonl") == {"size": len(before), "sha256": hashlib.sha256(before).hexdigest()}
    assert marks == dict.fromkeys(("evals.jsonl", "items.jsonl", "targets.jsonl"), nothing)
    marks = store.marks()
    store.append("metrics.jsonl", ROWS[1:])
    store.append("items.jsonl", ROWS)
    (tmp_path / "metrics.jsonl").open("ab").write(b'{"torn')
    store = RunStore(tmp_path)
    store.truncate(marks)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert (tmp_path / "items.jsonl").read_bytes() == b""
    assert store.marks() == marks  # the digest goes on from here
    store.append("metrics.jsonl", ROWS[1:])
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    assert store.marks()["metrics.jsonl"] == {"size": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
    store.truncate({})
    assert [mark["size"] for mark in store.marks().values()] == [0] * len(RECORDS)


@pytest.mark.parametrize("size", [10, 0, None])
def test_truncation_refuses_records_shorter_than_the_checkpoint(tmp_path, size):
    """Lost bytes are not made up with zeros."""
    store = RunStore(tmp_path)
    store.append("evals.jsonl", ROWS)
    store.append("metrics.jsonl", ROWS)
    marks = store.marks()
    store.append("evals.jsonl", ROWS)
    if size is None:
        (tmp_path / "metrics.jsonl").unlink()
    else:
        os.truncate(tmp_path / "metrics.jsonl", size)
    before = files(tmp_path)
    with pytest.raises(CorruptRun, match=rf"metrics\.jsonl has {size or 0} bytes"):
        RunStore(tmp_path).truncate(marks)
    assert files(tmp_path) == before


def test_truncation_refuses_records_with_any_byte_changed(tmp_path):
    store = RunStore(tmp_path)
    store.append("evals.jsonl", ROWS)
    marks = store.marks()
    content = (tmp_path / "evals.jsonl").read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        (tmp_path / "evals.jsonl").write_bytes(changed)
        with pytest.raises(CorruptRun, match=r"evals\.jsonl was changed after the checkpoint"):
            RunStore(tmp_path).truncate(marks)
        assert (tmp_path / "evals.jsonl").read_bytes() == changed


@pytest.mark.parametrize("damage", ["a changed byte", "a byte more", "a byte less", "no file"])
def test_records_that_another_program_changes_meanwhile_are_not_sealed(tmp_path, damage):
    store = RunStore(tmp_path)
    write_atomic(tmp_path / "plan.json", {"seed": 0})
    for record in RECORDS:
        store.append(record, ROWS)
    path = tmp_path / "evals.jsonl"
    content = path.read_bytes()
    changed = {"a changed byte": content.replace(b"1", b"2"), "a byte more": content + b"\n"}
    path.write_bytes(changed.get(damage, content[:-1]))
    if damage == "no file":
        path.unlink()
    with pytest.raises(CorruptRun, match=r"evals\.jsonl was changed by another program"):
        store.finish({"flops": 1.5})
    assert not is_done(tmp_path)
    path.write_bytes(content)
    store.finish({"flops": 1.5})
    assert finished_runs(tmp_path.parent)[1] == []


def test_any_changed_byte_of_the_done_marker_is_seen(tmp_path):
    """Also in the ledger and in the names of fields; but not what means the same, such as another blank."""
    path = finished_run(tmp_path)
    content, value = (path / "done.json").read_bytes(), read_json(path / "done.json")
    for place in range(len(content)):
        for bit in (1, 2, 8, 128):
            changed = bytearray(content)
            changed[place] ^= bit
            (path / "done.json").write_bytes(changed)
            try:
                assert check_records(path) == value, changed
            except CorruptRun:
                continue


def test_a_replaced_file_is_never_seen_in_part(tmp_path):
    """A writer killed at any byte leaves the old content."""
    path = tmp_path / "state.json"
    write_atomic(path, {"old": 1})

    class Unwritable:
        pass

    with pytest.raises(TypeError):
        write_atomic(path, {"a": 1, "b": Unwritable()})  # fails after the first bytes were written
    assert read_json(path) == {"old": 1}
    write_atomic(path, {"new": 2})
    assert read_json(path) == {"new": 2}
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".part")] == ["state.json"]


def test_two_writers_of_one_file_leave_what_the_last_one_wrote(tmp_path, monkeypatch):
    """The second one begins and ends between the first one's writing and its renaming."""
    path, sync = tmp_path / "passport.json", os.fsync

    def disturb(file):
        monkeypatch.setattr(os, "fsync", sync)
        write_atomic(path, {"second": 2})

    monkeypatch.setattr(os, "fsync", disturb)
    write_atomic(path, {"first": 1})
    assert read_json(path) == {"first": 1} and [p.name for p in tmp_path.iterdir()] == ["passport.json"]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff", b"7"])
def test_unreadable_json_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(CorruptRun, match=r"plan\.json"):
        read_json(tmp_path / "plan.json")


# --- the done marker ---


def test_a_finished_run_proves_its_records(tmp_path):
    path = finished_run(tmp_path)
    assert is_done(path) and check_records(path)["ledger"] == {"flops": 1.5}
    assert finished_runs(tmp_path) == ([path], [])


def test_a_run_without_the_marker_is_not_finished(tmp_path):
    path = finished_run(tmp_path)
    (path / "done.json").rename(path / "done.json.part")
    assert not is_done(path)
    assert finished_runs(tmp_path) == ([], [])
    assert finished_runs(tmp_path / "missing") == ([], [])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def remove_field(path: Path, field: str) -> None:
    done = json.loads((path / "done.json").read_text())
    del done[field]
    (path / "done.json").write_text(json.dumps(done))


DAMAGES = {
    "a flipped bit in the metrics": lambda p: flip(p / "metrics.jsonl"),
    "a flipped bit in the items": lambda p: flip(p / "items.jsonl"),
    "a lost record file": lambda p: (p / "evals.jsonl").unlink(),
    "an added record": lambda p: RunStore(p).append("evals.jsonl", [{"accuracy": 1.0}]),
    "another plan": lambda p: write_atomic(p / "plan.json", {"seed": 1}),
    "no plan": lambda p: (p / "plan.json").unlink(),
    "an empty marker": lambda p: (p / "done.json").write_text(""),
    "half a marker": lambda p: os.truncate(p / "done.json", 40),
    "a marker without digests": lambda p: remove_field(p, "digests"),
    "a marker without ledger": lambda p: remove_field(p, "ledger"),
    "a marker that proves nothing": lambda p: write_atomic(p / "done.json", {"ledger": {}, "digests": {}}),
    "a marker of another kind": lambda p: write_atomic(p / "done.json", {"ledger": 1, "digests": [1]}),
    "a folder for a file": lambda p: ((p / "items.jsonl").unlink(), (p / "items.jsonl").mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_named_apart_and_left_as_it_is(tmp_path, damage):
    good, bad = finished_run(tmp_path, "a"), finished_run(tmp_path, "b")
    also_good = finished_run(tmp_path, "c")
    DAMAGES[damage](bad)
    before = files(tmp_path)
    found, faults = finished_runs(tmp_path)
    assert found == [good, also_good]
    assert [path for path, _ in faults] == [bad] and faults[0][1]
    assert faults[0] in load_results(tmp_path, verify=True)[1]
    assert files(tmp_path) == before


PLAN = RunPlan(
    **dict.fromkeys(("method", "task", "level", "template", "model", "model_digest"), "x"),
    **dict.fromkeys(("task_version", "seed", "budget_limit", "train_size", "max_new_tokens"), 1),
    **{"stages": (), "budget_unit": "steps", "evaluation": Evaluation()},
)
SUMMARY = {"split": "test", "fraction": 1.0, "num_items": 2, "chance": 0.0}
ITEM = {"split": "test", "fraction": 1.0, "id": "a", "greedy": {"correct": True}, "samples": [{"correct": True}]}
NONSENSE = {
    "no object": ("evals.jsonl", [7]),
    "no evaluation": ("evals.jsonl", []),
    "no field": ("evals.jsonl", [{**SUMMARY, "chance": None}]),
    "an item too few": ("items.jsonl", [ITEM]),
    "items without samples": ("items.jsonl", [ITEM, {**ITEM, "samples": 1}]),
    "ragged samples": ("items.jsonl", [ITEM, {**ITEM, "samples": []}]),
    "another plan": ("plan.json", {"seed": 0}),
}


@pytest.mark.parametrize("case", [None, *NONSENSE])
def test_records_that_make_no_sense_are_faults_not_crashes(tmp_path, case):
    """The digests fit, but no plan or evaluation can be read from the files."""
    content = {"plan.json": PLAN.model_dump(mode="json"), "evals.jsonl": [SUMMARY], "items.jsonl": [ITEM, ITEM]}
    content |= dict([NONSENSE[case]] if case else [])
    store = RunStore(tmp_path / "run")
    write_atomic(store.path / "plan.json", content["plan.json"])
    for name in ("evals.jsonl", "items.jsonl"):
        store.append(name, content[name])
    store.finish({"steps": 1})
    records, faults = load_all([store.path])
    assert [r.correct.tolist() for r in records] == ([] if case else [[[True], [True]]])
    assert [path for path, _ in faults] == ([store.path] if case else [])
    assert finished_runs(tmp_path) == ([store.path], [])


# --- one writer at a time ---

HOLD = """
import sys, time
from pathlib import Path
from bench.store.run_store import RunStore
with RunStore(Path(sys.argv[1])).own():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path):
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="run run is in progress in another process"):
            RunStore(tmp_path / "run").own().__enter__()
        holder.send_signal(signal.SIGKILL)
    for _ in range(2):
        with RunStore(tmp_path / "run").own():
            pass


PARENT = """
import subprocess, sys, time
child = subprocess.Popen(["sh", "-c", sys.argv[1]], stdin=subprocess.PIPE)
time.sleep(60)
"""
WORKER = """
import os, time
from bench.engine.worker import exit_with_parent
exit_with_parent()
print(os.getpid(), flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("wrapper", ["exec {}", "exec 3<&0; {} <&3 & wait", "exec 3<&0; setsid {} <&3 &"])
def test_a_worker_ends_with_the_command_and_not_with_a_wrapper(tmp_path, wrapper):
    """An orphan would go on and hold the lock.  A program in between may be the parent, or be gone at once."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    (tmp_path / "worker.py").write_text(WORKER)
    inner = wrapper.format(f"{sys.executable} {tmp_path / 'worker.py'}")
    command = [sys.executable, "-c", PARENT, inner]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.7)
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
    end = time.monotonic() + 20
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(pid)


# --- the results folder ---


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    check_writable(tmp_path / "new" / "results")
    assert list((tmp_path / "new" / "results").iterdir()) == []


def test_an_unwritable_folder_is_bad_input(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "results"):
        with pytest.raises(UserError, match=f"folder '{path}' is not writable"):
            check_writable(path)

    def refuse(self: Path, *args: object) -> None:  # what a folder without the right to write does to anyone but root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match="not writable: Permission denied"):
        check_writable(tmp_path)

"""verdicts.npz says what items.jsonl says, is the same for the same records, and is never believed unchecked."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from bench.analysis.records import load_all, load_run
from bench.engine.runner import execute
from bench.store import packed_verdicts
from bench.store.files import write_atomic
from bench.store.run_folder import VERDICTS, check_records, digest_of, read_json, read_lines, seal_of
from tests.engine.test_elsewhere import FULL
from tests.helpers.runs import make_job, write_model
from tests.store.test_run_folder import flip

SPLITS = ("test", "val", "selected", "ood", "reworded", "other:logic")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run with all splits, never written to."""
    folder = tmp_path_factory.mktemp("runs")
    evaluation = FULL.model_copy(update={"fractions": (0.5, 1.0)})
    job = make_job(write_model(folder / "model"), folder / "results", "sft", evaluation=evaluation)
    execute(job, keep="none")
    return job.path


def copied(run: Path, folder: Path, without: tuple[str, ...] = ()) -> Path:
    target = folder / run.name
    target.mkdir()
    for file in run.iterdir():
        if file.is_file() and file.name not in without:
            (target / file.name).write_bytes(file.read_bytes())
    return target


def from_before(run: Path, folder: Path) -> Path:
    """The same run as it was written before there were packed verdicts and sizes."""
    old = copied(run, folder, (VERDICTS,))
    done = read_json(old / "done.json")
    del done["sizes"], done["digests"][VERDICTS], done["seal"]
    write_atomic(old / "done.json", done)
    return old


def packed(evals, items):
    return packed_verdicts.pack((e, packed_verdicts.of_items(e, items)) for e in evals)


def as_lists(record):
    own = (record.item_ids, record.correct.tolist(), record.greedy.tolist(), record.chance, record.ledger)
    others = {name: (j.item_ids, j.correct.tolist(), j.formatted) for name, j in record.elsewhere.items()}
    return own, others, record.selected_fraction


def test_both_ways_of_reading_agree(run, tmp_path):
    old = from_before(run, tmp_path)
    for split in SPLITS:
        assert as_lists(load_run(run, split)) == as_lists(load_run(old, split)), split
    for fraction in (0.5, 1.0):
        assert as_lists(load_run(run, "val", fraction)) == as_lists(load_run(old, "val", fraction))
    assert set(load_run(run).elsewhere) > {"ood", "reworded", "other:logic", "other:math", "other:sudoku", "selected"}


def test_bits_come_back_in_their_places():
    """Numbers of items and samples that fill no whole byte, two evaluations on the same items."""
    rng = np.random.default_rng(0)
    evals, items = [], []
    for split, fraction, num_items in (("val", 0.5, 3), ("val", 1.0, 3), ("test", 1.0, 5)):
        evals.append({"split": split, "fraction": fraction, "num_items": num_items, "num_samples": 3, "chance": 0.5})
        for n in range(num_items):
            drawn = [{"correct": bool(x)} for x in rng.integers(0, 2, 4)]
            line = {"split": split, "fraction": fraction, "id": f"{split}\n{n}", "greedy": drawn[0]}
            items.append({**line, "samples": drawn[1:]})
    found = packed_verdicts.unpack(packed(evals, items))
    assert [{k: v for k, v in e.items() if k != "ids"} for e in found.evaluations] == evals
    assert [e["ids"] for e in found.evaluations] == [0, 0, 1] and len(found.ids) == 2
    for evaluation, original in zip(found.evaluations, evals):
        here, expected = found.verdicts(evaluation), packed_verdicts.of_items(original, items)
        assert here.item_ids == expected.item_ids
        assert here.correct.dtype == here.greedy.dtype == bool
        assert here.correct.tolist() == expected.correct.tolist() and here.greedy.tolist() == expected.greedy.tolist()


def test_the_same_records_give_the_same_bytes(run):
    records = (read_lines(run / "evals.jsonl"), read_lines(run / "items.jsonl"))
    assert packed(*records) == packed(*records) == (run / VERDICTS).read_bytes()
    assert len((run / VERDICTS).read_bytes()) < (run / "items.jsonl").stat().st_size / 5


def test_a_table_reads_no_completions(run, tmp_path, monkeypatch):
    monkeypatch.setattr(packed_verdicts, "read_lines", lambda path: pytest.fail(f"{path} was read"))
    assert load_run(run).correct.shape == (8, 2)


def test_changed_verdicts_are_found_whatever_is_verified(run, tmp_path):
    changed = copied(run, tmp_path)
    flip(changed / VERDICTS)
    assert check_records(changed, digests=())  # the size alone says nothing
    records, faults = load_all([changed])
    assert not records and f"{VERDICTS} was changed" in faults[0][1]
    (changed / VERDICTS).unlink()
    assert f"{VERDICTS} has 0 bytes" in load_all([changed])[1][0][1]


def test_changed_completions_of_the_same_size_are_found_by_verifying(run, tmp_path):
    changed = copied(run, tmp_path)
    flip(changed / "items.jsonl")
    assert as_lists(load_run(changed)) == as_lists(load_run(run))
    records, faults = load_all([changed], verify=True)
    assert not records and "items.jsonl was changed" in faults[0][1]
    (tmp_path / "old").mkdir()
    old = from_before(run, tmp_path / "old")
    flip(old / "items.jsonl")
    assert "items.jsonl was changed" in load_all([old])[1][0][1], "without sizes the digests are compared"


def stored(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


JSON_OF = {"index": b'[{"split":"test","fraction":1.0,"num_items":9,"num_samples":1,"ids":0}]', "ids": b'[["a"]]'}
BYTES = {name: np.frombuffer(text, dtype=np.uint8) for name, text in JSON_OF.items()}
BROKEN = {
    "nothing": b"",
    "no zip": b"PK\x03\x04 but no more",
    "a member missing": stored(**BYTES),
    "no JSON": stored(index=np.zeros(3, np.uint8), ids=BYTES["ids"], bits=np.zeros(3, np.uint8)),
    "objects": stored(index=np.array([{}], dtype=object), ids=BYTES["ids"], bits=np.zeros(3, np.uint8)),
    "too few verdicts": stored(**BYTES, bits=np.zeros(1, np.uint8)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_makes_no_sense_is_a_fault(run, tmp_path, case):
    """The digest fits, the content does not."""
    broken = copied(run, tmp_path)
    (broken / VERDICTS).write_bytes(BROKEN[case])
    done = read_json(broken / "done.json")
    done["digests"][VERDICTS], done["sizes"][VERDICTS] = digest_of(BROKEN[case]), len(BROKEN[case])
    write_atomic(broken / "done.json", {**done, "seal": seal_of(done)})
    records, faults = load_all([broken])
    assert not records and [path for path, _ in faults] == [broken]

"""Runs whose splits share no key: their identity, their problems, and the labels that they record."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.analysis.board import leaderboard
from bench.analysis.records import load_run
from bench.engine.runner import execute
from bench.engine.splits import own
from bench.export.documents import documents
from bench.plan.spec import RunPlan
from bench.stats.intervals import crossed_interval
from bench.store.run_folder import read_json
from tasks.countdown import TASK
from tests.helpers.commands import call
from tests.helpers.runs import EVALUATION, make_job, write_model

KEY = "number set"
MANY = EVALUATION.model_copy(update={"test_items": 60})


def number_sets(plan: RunPlan, split: str, count: int) -> list[str]:
    return [TASK.near_keys(e.problem)[KEY] for e in own(plan, None, split, count)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("split")
    job = make_job(write_model(folder / "model"), folder / "r", "sft", "2steps", split_by=KEY, evaluation=MANY)
    execute(job, keep="none")
    return job.path


def test_the_key_is_part_of_the_identity_where_it_is_given(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    plain, split = (make_job(model, tmp_path, "sft", split_by=key).plan for key in (None, KEY))
    assert "split_by" not in plain.identity(set()) and split.identity(set())["split_by"] == KEY
    assert plain.run_id != split.run_id and plain.comparison != split.comparison
    older = {name: value for name, value in plain.model_dump(mode="json").items() if name != "split_by"}
    assert RunPlan.restore(older).run_id == plain.run_id
    assert (plain.problems, split.problems) == ("generated", "generated, split by number set")


def test_no_problem_of_validation_and_test_shares_its_numbers_with_training(run: Path) -> None:
    plan = RunPlan.restore(read_json(run / "plan.json"))
    train, val, test = (set(number_sets(plan, *of)) for of in (("train", 1000), ("val", 60), ("test", 200)))
    assert len(train) > 300 and not train & test and not train & val and not val & test
    without = plan.model_copy(update={"split_by": ""})
    assert set(number_sets(without, "train", 1000)) & set(number_sets(without, "test", 200))


def test_labels_are_recorded_and_cluster_the_errors(run: Path) -> None:
    record = load_run(run)
    plan = RunPlan.restore(read_json(run / "plan.json"))
    sets = number_sets(plan, "test", 60)
    assert record.clusters is not None and len(set(sets)) < 60
    assert [sets.index(s) for s in sets] == [record.clusters.index(label) for label in record.clusters]
    assert record.data == "generated, split by number set"
    (row,) = leaderboard([record]).tables[0].rows
    order = np.argsort(record.item_ids)
    values, labels = record.correct.mean(axis=1)[order], [sets[place] for place in order]
    assert row.accuracy == crossed_interval(values[None], clusters=labels)


def test_problems_are_made_again_with_the_key(run: Path) -> None:
    plan = RunPlan.restore(read_json(run / "plan.json"))
    found = documents(plan)["test"]
    assert found.keys() == {e.id for e in own(plan, None, "test", 60)}
    assert {row["prompt"] for row in found.values()} == {e.prompt for e in own(plan, None, "test", 60)}


def test_a_key_with_too_few_classes_stops_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("run", "--methods", "sft", "--seeds", "1", "--results", str(tmp_path / "r"))
    for more, message in (
        (("--task", "sudoku", "--split-by", "grid class"), "level 4x4 of sudoku has 2 classes of it"),
        (("--task", "countdown,sudoku", "--split-by", "number set"), "key of near duplicates of sudoku 'number set'"),
        (("--split-by", ""), "--split-by is empty"),
    ):
        code, out, err = call(capsys, *words, *more)
        assert (code, out, err.count("\n")) == (2, "", 1) and message in err
    assert not (tmp_path / "r").exists()


def test_labels_of_a_damaged_file_are_refused(run: Path, tmp_path: Path) -> None:
    """The digest of the done marker guards them as it guards the verdicts."""
    copy = tmp_path / run.name
    shutil.copytree(run, copy)
    content = bytearray((copy / "verdicts.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "verdicts.npz").write_bytes(bytes(content))
    with pytest.raises(Exception, match="was changed after the run ended"):
        load_run(copy)

"""Learning curves: their points are the recorded validations, base is a level line, comparisons get figures apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.analysis.records import load_run
from bench.engine.runner import execute
from bench.report.curves import BANDS, line_styles, method_curves, plot_accuracy, plot_curves
from bench.store.run_folder import read_lines
from bench.types import UserError
from tests.helpers.runs import make_job, write_model


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves")
    model = write_model(folder / "model")
    jobs = [make_job(model, folder, "sft"), make_job(model, folder, "base")]
    jobs.append(make_job(model, folder, "sft", budget="4steps"))
    for job in jobs:
        execute(job)
    return [load_run(job.path, "val") for job in jobs]


def test_points_are_the_recorded_validations(records):
    found = method_curves(records[:2])
    evals = [e for e in read_lines(Path(records[0].path) / "evals.jsonl") if e["split"] == "val"]
    sft = found[records[0].method]
    assert [(x, y) for x, y, _, _ in sft] == [(e["fraction"], e["accuracy"]) for e in evals]
    assert all(low <= y <= high for _, y, low, high in sft)
    assert [x for x, *_ in found["base"]] == [0.0, 1.0] and found["base"][0][1:] == found["base"][1][1:]


def test_points_against_a_currency_are_the_recorded_amounts(records):
    evals = [e for e in read_lines(Path(records[0].path) / "evals.jsonl") if e["split"] == "val"]
    found = method_curves(records[:2], "tokens", "greedy")
    points = [(x, y) for x, y, _, _ in found[records[0].method]]
    assert points == [(e["spent"]["tokens"], e["greedy"]) for e in evals]
    assert [x for x, *_ in found["base"]] == [0, evals[-1]["spent"]["tokens"]]
    unused = method_curves(records[:2], "rollouts")[records[0].method]  # a level line at its end
    assert [x for x, *_ in unused] == [0, 1] and {y for _, y, _, _ in unused} == {evals[-1]["accuracy"]}


def test_many_methods_have_error_bars_apart_from_each_other(tmp_path):
    points = [(0.5, 0.2, 0.1, 0.3), (1.0, 0.4, 0.3, 0.5)]
    few, many = ({f"m{n}": points for n in range(count)} for count in (BANDS, BANDS + 1))
    assert {s["offset"] for s in line_styles(few)} == {None}
    assert len({s["offset"] for s in line_styles(many)}) == len(many)
    for name, group in (("few", few), ("many", many)):
        plot_accuracy(group, tmp_path / f"{name}.svg", "seconds", "greedy")
    bands = [(tmp_path / f"{name}.svg").read_text().count("FillBetween") for name in ("few", "many")]
    assert bands == [len(few), 0]


def test_each_comparison_gets_its_own_figure(records, tmp_path):
    assert plot_curves(records[:2], tmp_path / "one.svg") == [tmp_path / "one.svg"]
    written = plot_curves(records, tmp_path / "many.png")
    assert len(written) == 2 and all(p.stat().st_size > 1000 and p.name.startswith("many-") for p in written)
    with pytest.raises(UserError, match="no finished runs"):
        plot_curves([], tmp_path / "none.svg")

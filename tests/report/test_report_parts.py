"""Parts of the HTML report that come from elsewhere: ablations, profiles across tasks, the status of differences."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.analysis.fairness import diff_plans
from bench.plan.spec import Evaluation
from bench.report.html.content import Choice, load_choice, make_report
from bench.report.html.figures import write_figures
from bench.types import UserError
from tests.helpers.synthetic import plan, two_tasks
from tests.report.test_report_page import HOSTILE, Reader, page


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return two_tasks(tmp_path_factory.mktemp("results"))


def ablation_record() -> dict[str, Any]:
    """The fields of an ablation's report.json that the page reads."""
    accuracy = {"mean": 0.5, "low": 0.4, "high": 0.61}
    arm = {"name": "demo_coef=0", "method": "uft[uft.demo_coef=0]", "accuracy": accuracy, "seeds": [0, 1, 2]}
    unknown = {"name": HOSTILE, "method": "uft", "accuracy": {"mean": 0.5, "low": None, "high": None}, "seeds": [0]}
    effect = {"contrast": {"name": "demo_coef=0 instead of 0.001"}, "difference": {"mean": -0.031}}
    effect |= {"low": -0.05, "high": -0.01, "adjusted": 0.0123, "verdict": "supported"}
    record = {"method": "uft", "design": "grid", "metric": "accuracy", "task": "countdown", "level": "3"}
    record |= {"model": "tiny", "num_items": 500, "arms": [arm, unknown], "effects": [effect]}
    return {**record, "sentences": ["It helps."]}


def test_ablations_are_shown_and_broken_ones_are_named(results, tmp_path):
    path = tmp_path / "ablations" / "uft" / "report.json"
    with pytest.raises(UserError, match="does not exist"):
        page(results, tmp_path / "r.html", ablations=tmp_path / "ablations")
    path.parent.mkdir(parents=True)
    with pytest.raises(UserError, match="no ablation in"):
        page(results, tmp_path / "r.html", ablations=tmp_path / "ablations")
    path.write_text(json.dumps(ablation_record()))
    text = page(results, tmp_path / "r.html", ablations=tmp_path / "ablations")
    Reader(text)
    assert "Ablation (grid) of uft: countdown, level 3, model tiny, 500 items, accuracy" in text
    assert "<td>50.0</td><td>[40.0, 61.0]</td><td>3</td>" in text and "[-, -]" in text
    assert "<td>-3.1</td><td>[-5.0, -1.0]</td><td>.012</td><td>supported</td>" in text and "It helps." in text
    path.write_text("{}")
    with pytest.raises(UserError, match=r"ablation '.*report.json' cannot be read: KeyError"):
        page(results, tmp_path / "r.html", ablations=path.parent)


@pytest.mark.slow
def test_profiles_are_the_shares_of_runs_above(results, tmp_path):
    found = make_report(load_choice(Choice(results)), Choice(results))
    (drawn,) = found.profiles
    assert [s.name for s in drawn.series] == [line.method for line in found.sections[0].lines]
    line = next(s.line for s in drawn.series if s.name == "base").split()
    heights = [float(point.split(",")[1]) for point in line]
    assert heights[0] == 10 and heights[-1] == 276 and heights == sorted(heights)  # from all runs down to none
    write_figures(load_choice(Choice(results)), tmp_path, ("svg",))
    kinds = [f"{kind}-{name}.svg" for name in ("countdown", "logic") for kind in ("accuracy", "curves", "pairs")]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*kinds, "profiles-1.svg"])
    assert make_report(load_choice(Choice(results, ("logic",))), Choice(results)).profiles == ()


def test_differences_have_the_status_that_fairness_gives_them(results):
    found = make_report(load_choice(Choice(results)), Choice(results)).sections[0].settings
    plans = [plan("uft", "countdown", 0, Evaluation()), plan("sft", "countdown", 0, Evaluation())]
    expected = {k.name: k.status for k in diff_plans(*plans)}
    knobs = {k.name: k for k in found.knobs}
    assert knobs["betas"].status == expected["betas"] and knobs["betas"].status in ("declared", "tuned")

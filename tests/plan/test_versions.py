"""Which version of a task a plan records: by level, by template, and of rows."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.models import TINY
from bench.plan.registry import ROOT, task, task_version
from bench.study.jobs import Spec, plan_jobs

PUBLISHED = sorted((ROOT / "results" / "published").glob("*/*/plan.json"))


def test_levels_come_before_templates_and_rows_have_the_task_s_own():
    judge = SimpleNamespace(
        version=5, levels={"1": "", "2": ""}, level_versions={"1": 2}, template_versions={"compact": 3}
    )
    assert [task_version(judge, level, "compact") for level in ("1", "2", "file")] == [2, 3, 5]
    assert [task_version(judge, level, "plain") for level in ("1", "2", "file")] == [2, 5, 5]


@pytest.mark.parametrize(("name", "compact"), [("countdown", 1), ("logic", 2), ("sudoku", 2)])
def test_only_the_embedded_model_s_template_keeps_its_version(name, compact):
    judge = task(name)
    assert {task_version(judge, level, "compact") for level in judge.levels} == {compact}
    assert {task_version(judge, level, t) for level in judge.levels for t in ("plain", "chat")} == {compact + 1}
    assert task_version(judge, "file", "compact") == compact + 1


def test_published_runs_are_of_today_s_versions():
    """Else their prompts could not be shown, nor new runs stand beside them."""
    assert len(PUBLISHED) > 60
    for path in PUBLISHED:
        plan = json.loads(path.read_text())
        judged = [(plan["task"], plan["level"], plan["task_version"])]
        judged += [(other["task"], other["level"], other["version"]) for other in plan["others"]]
        for name, level, version in judged:
            assert task_version(task(name), level, plan["template"]) == version, path


def test_plans_of_language_models_have_the_new_versions(tmp_path: Path):
    model = shutil.copytree(TINY, tmp_path / "model")
    (model / "chat_template.jinja").write_text("{{ messages[0]['content'] }}>")
    spec = Spec(methods=["sft"], tasks=["countdown"], results=tmp_path, model=str(model), template="chat")
    [job] = plan_jobs(spec)
    assert job.plan.task_version == 2
    assert {other.task: other.version for other in job.plan.others if other.task != "math"} == {"logic": 3, "sudoku": 3}

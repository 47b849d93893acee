"""pipeline.overlap: which examples the two stages get, by id, and that it leaves no trace where it is not set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.engine import runner
from bench.plan.pipelines import overlapping
from bench.plan.spec import RunPlan, parse_method, parse_overrides
from bench.types import UserError
from tests.helpers.runs import EVALUATION, make_job, write_model

IDS = [f"problem {n}" for n in range(41)]


def sets(overlap: float, ids: list[str] = IDS) -> tuple[set[str], set[str]]:
    first, second = overlapping(ids, overlap)
    assert first == sorted(first) and second == sorted(second), "in the pool's order"
    return {ids[place] for place in first}, {ids[place] for place in second}


@pytest.mark.parametrize(("overlap", "shared"), [(0.0, 0), (0.3, 6), (0.5, 10), (1.0, 20)])
def test_sizes_are_fixed_and_the_overlap_is_as_asked(overlap: float, shared: int) -> None:
    first, second = sets(overlap)
    assert (len(first), len(second), len(first & second)) == (20, 20, shared)
    assert first == sets(0.0)[0], "the first stage's data are the same whatever the overlap is"


def test_0_is_disjoint_and_1_identical_by_id() -> None:
    assert not set.intersection(*sets(0.0)) and len(set.union(*sets(0.0))) == 40
    first, second = sets(1.0)
    assert first == second


def test_the_order_of_the_pool_does_not_matter_and_more_overlap_keeps_what_was_shared() -> None:
    assert sets(0.3, IDS[::-1]) == sets(0.3)
    assert set.intersection(*sets(0.3)) <= set.intersection(*sets(0.7))


def test_too_small_a_pool_is_refused() -> None:
    with pytest.raises(UserError, match=r"1 training examples cannot be halved for pipeline.overlap"):
        overlapping(["a"], 0.0)


def parsed(text: str, *settings: str) -> tuple[str, Any]:
    return parse_method(text, {}, parse_overrides(settings))


def test_the_label_names_it_and_both_stages_have_it() -> None:
    label, stages = parsed("sft@0.3+grpo", "pipeline.overlap=0.3", "grpo.lr=1e-4")
    assert label == "sft@0.3+grpo[grpo.lr=1e-4,pipeline.overlap=0.3]"
    assert [stage.overlap for stage in stages] == [0.3, 0.3]
    label, (stage,) = parsed("sft", "pipeline.overlap=0.3")
    assert label == "sft" and stage.overlap is None, "a single method has nothing to share"


@pytest.mark.parametrize(
    ("text", "setting", "message"),
    [
        ("sft+grpo", "overlap=1.5", "pipeline.overlap: '1.5' is not valid: expected a share from 0 to 1"),
        ("sft+grpo", "overlap=-0.1", "pipeline.overlap: '-0.1'"),
        ("sft+grpo", "overlap=nan", "pipeline.overlap: 'nan'"),
        ("sft+grpo", "overlap=half", "pipeline.overlap: 'half'"),
        ("sft+grpo", "overlap=0,1", "pipeline.overlap: '0,1'"),
        ("sft+dft+grpo", "overlap=0", "'sft.dft.grpo' has 3 stages: expected two"),
        ("sft+grpo", "overlaps=0", "unknown field of pipeline 'overlaps': did you mean overlap"),
        ("sft", "lr=0", "unknown field of pipeline 'lr'"),
    ],
)
def test_bad_settings_are_one_line(text: str, setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parsed(text, f"pipeline.{setting}")
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


SMALL = EVALUATION.model_copy(update={"val_items": 2, "test_items": 2, "fractions": (1.0,)})


def job(model: Path, results: Path, overlap: str | None) -> Any:
    own = ["sft.batch_size=4", "grpo.batch_size=4", "grpo.group_size=2", "grpo.num_updates=1"]
    own += [] if overlap is None else [f"pipeline.overlap={overlap}"]
    return make_job(model, results, "sft+grpo", budget="2steps", settings=own, evaluation=SMALL)


def test_without_it_plans_are_as_before(model: Path, tmp_path: Path) -> None:
    plain, none, half = (job(model, tmp_path, overlap).plan for overlap in (None, "0", "0.5"))
    assert all(set(stage) == {"name", "share", "fields"} for stage in plain.record()["stages"])
    assert all(set(stage) == {"name", "share", "fields"} for stage in plain.identity(set())["stages"])
    assert [stage["overlap"] for stage in none.record()["stages"]] == [0.0, 0.0]
    assert len({plain.run_id, none.run_id, half.run_id}) == 3
    assert plain.comparison == none.comparison == half.comparison, "they stand in one table"
    assert RunPlan.restore(half.record()).run_id == half.run_id
    assert RunPlan.restore(plain.record()).run_id == plain.run_id


def test_it_needs_a_pipeline(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="setting for 'pipeline', which is not among the methods sft"):
        make_job(model, tmp_path, "sft", settings=["pipeline.overlap=0"])


def test_a_run_trains_its_stages_on_these_sets(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pools of 40 examples that the stages of a real run are built with."""
    pools: list[set[str]] = []
    built = runner.planned_stage

    def recorded(*arguments: Any) -> Any:
        pools.append({example.id for example in arguments[3]})
        return built(*arguments)

    monkeypatch.setattr(runner, "planned_stage", recorded)
    runner.execute(job(model, tmp_path, "0.25"), keep="none")
    first, second = pools
    assert (len(first), len(second), len(first & second)) == (20, 20, 5)

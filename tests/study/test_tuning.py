"""`bench tune` and `bench run --tuned`: trials, what is written of them, what runs take from it, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bench.analysis.tuning_record import best, cost, study_file, write_record
from bench.engine.runner import execute
from bench.plan.spec import SWITCHED, Tuned
from bench.store.files import write_atomic
from bench.store.run_folder import finished_runs, read_json
from bench.study.best_settings import tuned_jobs
from bench.study.jobs import Spec
from bench.study.jobs import plan_jobs as plan_jobs
from bench.study.search_space import Axis
from bench.study.trials import read_trials, studies, trial_evaluation, trial_seeds
from bench.types import UserError
from tests.helpers.commands import call, model_with_defaults
from tests.helpers.runs import EVALUATION, NOWHERE_OPTIONS, files

SEARCH = {"lr": Axis(low=1e-4, high=1e-1, scale="log")}
OPTIONS = ("--trials", 2, "--val-items", 8, "--val-samples", 2, "--search", "lr=1e-4..1e-1:log", "--device", "cpu")
SIZES = ("--test-items", 8, "--val-items", 8, "--test-samples", 2, "--device", "cpu", *NOWHERE_OPTIONS)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_with_defaults(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def results(model, tmp_path_factory):
    """A results folder with two finished trials each of sft and grpo; nothing is written of them yet."""
    folder = tmp_path_factory.mktemp("tuning") / "runs"
    for trial in study(model, folder).trials:
        for job in trial.runs:
            execute(job, keep="none")
    return folder


def study(model, folder, methods=("sft", "grpo"), **changes):
    options = {"seeds": [1000], "model": str(model), "device": "cpu", "evaluation": trial_evaluation(8, 2), **changes}
    return studies(Spec(methods, ["countdown"], results=folder / "tuning" / "runs", **options), 2, SEARCH)[0]


def tune(capsys, model, results, *arguments, methods="sft,grpo"):
    return call(capsys, "tune", "--methods", methods, "--model", model, "--results", results, *OPTIONS, *arguments)


@pytest.fixture
def record(model, results, tmp_path):
    """What `bench tune` writes of the two methods, in a folder of its own."""
    own = replace(study(model, results), spec=replace(study(model, results).spec, results=tmp_path / "tuning" / "runs"))
    (tmp_path / "tuning").mkdir()
    return write_record(own, {}, ["bench"])


def test_trials_are_runs_on_validation_with_seeds_of_their_own(model, results):
    plans = [job.plan for trial in study(model, results).trials for job in trial.runs]
    assert [p.stages[0].name for p in plans] == ["sft", "sft", "grpo", "grpo"]
    assert {p.seed for p in plans} == {1000} and len({p.run_id for p in plans}) == 4
    assert plans[0].stages[0].fields["lr"] == plans[2].stages[0].fields["lr"] != plans[1].stages[0].fields["lr"]
    e = plans[0].evaluation
    assert (e.test_items, e.test_samples) == (2, 1) and not any(getattr(e, name) for name in SWITCHED)
    assert trial_seeds("2") == [1000, 1001] and trial_seeds("1004,1007") == [1004, 1007]


def test_tune_writes_every_trial_and_reuses_it(model, results, capsys, tmp_path):
    before = files(results / "tuning" / "runs")
    code, out, err = tune(capsys, model, results, "--plot", tmp_path / "lr.svg")
    assert code == 0 and "all 4 runs finished earlier" in err and (tmp_path / "lr.svg").stat().st_size > 1000
    after = files(results / "tuning" / "runs")
    assert {k: v for k, v in after.items() if k in before} == before, "a finished trial is not trained again"
    path = study_file(study(model, results))
    found = read_trials(path)
    assert path.parent == results / "tuning" and path.name in "".join(out.split())
    entry = found["methods"]["grpo"]
    assert entry["space"] == {"grpo.lr": {"low": 1e-4, "high": 0.1, "scale": "log"}}
    assert [t["runs"][0]["seed"] for t in entry["trials"]] == [1000, 1000]
    curve = entry["trials"][0]["runs"][0]["curve"]
    assert [point["fraction"] for point in curve][-1] == 1.0 and entry["trials"][0]["accuracy"] == curve[-1]["accuracy"]
    ledgers = [read_json(job.path / "done.json")["ledger"] for t in study(model, results).trials for job in t.runs]
    assert found["cost"]["flops"] == pytest.approx(sum(ledger["flops"] for ledger in ledgers))
    assert found["cost"]["rollouts"] == sum(ledger["rollouts"] for ledger in ledgers) > 0
    assert entry["trials"][0]["runs"][0]["ledger"] in ledgers
    assert finished_runs(results)[0] == [], "trials are no runs of the results folder"


def test_a_file_gains_methods_and_another_way_of_searching_has_its_own(model, results, tmp_path):
    both = study(model, results)
    (tmp_path / "tuning").mkdir()
    alone = [study(model, results, [name]) for name in ("sft", "grpo")]
    moved = [replace(s, spec=replace(s.spec, results=tmp_path / "tuning" / "runs")) for s in alone]
    paths = [write_record(s, {}, ["bench"]) for s in moved]
    assert paths[0] == paths[1] and set(read_trials(paths[0])["methods"]) == {"sft", "grpo"}
    assert study_file(both).name == paths[0].name
    assert study_file(study(model, results, seeds=[1000, 1001])).name != paths[0].name


def test_a_failed_trial_is_recorded_charged_and_not_chosen(model, results, tmp_path):
    found = study(model, results)
    path = found.trials[0].runs[0].path
    (tmp_path / "tuning").mkdir()
    moved = replace(found, spec=replace(found.spec, results=tmp_path / "tuning" / "runs"))
    entry = read_trials(write_record(moved, {path.name: "loss is not finite"}, ["bench"]))["methods"]["sft"]
    assert entry["trials"][0]["runs"][0]["fault"] == "loss is not finite" and entry["trials"][0]["accuracy"] is None
    assert entry["best"] == 1 and entry["trials"][0]["runs"][0]["ledger"]["flops"] > 0
    assert entry["cost"]["flops"] == cost(entry["trials"])["flops"] > entry["trials"][0]["runs"][0]["ledger"]["flops"]


def test_the_best_trial_and_how_ties_are_broken():
    def trial(lr, accuracy, **more):
        return {"settings": {"uft.lr": lr, **more}, "accuracy": accuracy}

    assert best([trial(1e-3, 0.2), trial(1e-4, 0.4), trial(1e-5, 0.3)]) == 1
    assert best([trial(1e-3, 0.4), trial(1e-4, 0.4), trial(1e-2, 0.4)]) == 1, "ties go to the lower rate"
    assert best([trial(1e-4, 0.4, **{"uft.demo_coef": 1}), trial(1e-4, 0.4, **{"uft.demo_coef": 0})]) == 0
    assert best([trial(1e-4, None), trial(1e-3, 0.0)]) == 1 and best([trial(1e-4, None)]) is None


def test_tuned_runs_take_the_best_settings_and_say_so(model, results, record, tmp_path, capsys):
    spec = Spec(["base", "sft", "grpo"], ["countdown"], (0,), str(model), evaluation=EVALUATION, device="cpu")
    spec = replace(spec, results=tmp_path)
    jobs, warnings = tuned_jobs(spec, None)
    assert warnings == [] and [job.plan.method for job in jobs] == ["base", "sft[tuned=2]", "grpo[tuned=2]"]
    entry = read_trials(record)["methods"]["sft"]
    chosen = entry["trials"][entry["best"]]["settings"]["sft.lr"]
    plan = jobs[1].plan
    assert plan.stages[0].fields["lr"] == chosen and plan.stages[0].fields["batch_size"] == 4
    assert plan.tuned == Tuned(
        settings={"sft.lr": chosen},
        trials=2,
        seeds=(1000,),
        flops=entry["cost"]["flops"],
        rollouts=entry["cost"]["rollouts"],
        seconds=entry["cost"]["seconds"],
        source=plan.tuned.source,
    )
    assert record.name in plan.tuned.source and jobs[0].plan.tuned is None
    assert plan.model_copy(update={"tuned": None}).run_id == plan.run_id, "where settings come from is in no hash"
    assert plan.comparison == jobs[0].plan.comparison, "tuned and untuned runs stand in one table"


def test_tables_state_what_the_trials_cost(model, results, record, tmp_path, capsys):
    arguments = ("--methods", "base,sft", "--seeds", 1, "--model", model, "--results", tmp_path, *SIZES)
    evaluation = EVALUATION.model_copy(update={"fractions": (0.25, 0.5, 0.75, 1.0)})
    spec = Spec(["base", "sft"], ["countdown"], (0,), str(model), evaluation=evaluation, device="cpu", results=tmp_path)
    for job in tuned_jobs(spec, None)[0]:
        execute(job, keep="none")
    code, out, err = call(capsys, "run", "--tuned", *arguments)
    assert code == 0 and "all 2 runs finished earlier" in err
    spent = read_trials(record)["methods"]["sft"]["cost"]["flops"]
    assert f"sft[tuned=2]: 2 trials, {spent:.1e} FLOPs, sft.lr" in " ".join(out.split())
    rows = {row["method"]: row for row in json.loads(call(capsys, "leaderboard", "--results", tmp_path, "--json")[1])}
    assert rows["sft[tuned=2]"]["trials"] == 2 and rows["sft[tuned=2]"]["trials_flops"] == spent
    assert rows["base"]["trials"] == 0 and rows["base"]["trials_flops"] == 0
    execute(plan_jobs(spec)[1], keep="none")
    out = " ".join(call(capsys, "leaderboard", "--results", tmp_path)[1].split())
    assert "Not tuned like these: sft." in out


def test_other_fields_than_in_the_trials_are_named(model, results, record, tmp_path):
    spec = Spec(["sft"], ["countdown"], (0,), str(model), evaluation=EVALUATION, device="cpu", results=tmp_path)
    jobs, warnings = tuned_jobs(replace(spec, settings=["sft.batch_size=2"]), record)
    assert jobs[0].plan.method == "sft[tuned=2,sft.batch_size=2]"
    assert warnings == ["sft was tuned with sft.batch_size 4, this run has 2"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--methods", "uft"), ("no trials of uft on countdown", "bench tune --methods uft --task countdown --model")),
        (("--methods", "sft", "--budget", "20steps"), ("budget_limit 10.0, not 20.0", "--budget 20steps")),
        (("--methods", "sft", "--level", "4"), ("have level 3, not 4", "--level 4")),
        (("--methods", "sft", "--seeds", "999,1000"), ("seed 1000 was used by the trials",)),
        (("--methods", "sft", "--set", "sft.lr=0.1"), ("sft.lr is tuned for sft", "leave out --set sft.lr")),
        (("--methods", "sft", "--tuning", "no.json"), ("tuning results 'no.json' cannot be read",)),
        (("--methods", "sft", "--tuning", "pyproject.toml"), ("'pyproject.toml' cannot be read",)),
    ],
)
def test_trials_that_do_not_fit_are_refused(model, results, record, tmp_path, capsys, arguments, said):
    code, out, err = call(capsys, "run", "--tuned", "--model", model, "--results", tmp_path, *SIZES, *arguments)
    assert code == 2 and out == "" and err.count("\n") == 1
    assert all(part in err for part in said), err


def test_two_files_and_files_of_failures_are_refused(model, results, record, tmp_path):
    spec = Spec(["sft"], ["countdown"], (0,), str(model), evaluation=EVALUATION, device="cpu", results=tmp_path)
    other = read_trials(record)
    write_atomic(record.with_name("other.json"), other)
    with pytest.raises(UserError, match=r"two files have trials of sft .* choose one with --tuning FILE"):
        tuned_jobs(spec, None)
    assert tuned_jobs(spec, record)[0][0].plan.tuned is not None
    other["methods"]["sft"]["best"] = None
    write_atomic(record, other)
    assert "other.json" in tuned_jobs(spec, None)[0][0].plan.tuned.source, "a file of failures is passed over"
    with pytest.raises(UserError, match=r"every trial of sft in .* failed"):
        tuned_jobs(spec, record)
    write_atomic(record, {"version": 99, "methods": {}})
    with pytest.raises(UserError, match="is no record of 'bench tune'"):
        tuned_jobs(spec, record)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), ("no methods given", "--methods sft,grpo,uft")),
        (("--methods", "base,sft"), ("method 'base' has nothing to tune",)),
        (("--methods", "sft", "--set", "sft.lr=0.1"), ("method 'sft' has nothing to tune",)),
        (("--methods", "sft", "--search", "lrr=1..2"), ("search space of 'lrr': no method among sft searches it",)),
        (("--methods", "sft", "--search", "uft.lr=1..2"), ("'uft.lr': no method among sft",)),
        (("--methods", "sft", "--search", "sft.lrr=1..2"), ("unknown field of sft 'lrr': did you mean lr",)),
        (
            ("--methods", "sft", "--search", "sft.batch_size=1,2", "--set", "sft.lr=1"),
            ("8 trials are more than the 2",),
        ),
        (("--methods", "sft", "--seeds", "0,1"), ("seed 0 is one of reported runs", "from 1000 on", "--seeds 2")),
        (("--methods", "sfft"), ("unknown method 'sfft'", "did you mean sft")),
        (("--methods", "sft", "--task", "countdwn"), ("unknown task 'countdwn'",)),
        (("--methods", "sft", "--plot", "a.gif"), ("cannot plot to a.gif", ".svg")),
        (("--show", "no.json"), ("'no.json' cannot be read",)),
        (("--show", "results/published/countdown-tiny.json"), ("countdown-tiny.json", "cannot be read")),
    ],
)
def test_bad_input_of_tune_is_named(model, tmp_path, capsys, arguments, said):
    code, out, err = call(capsys, "tune", "--model", model, "--results", tmp_path / "runs", *arguments)
    assert code == 2 and out == "" and err.count("\n") == 1
    assert all(part in err for part in said), err
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_of_tune_starts_nothing(model, capsys, tmp_path):
    code, out, _ = tune(capsys, model, tmp_path / "runs", "--dry-run", methods="sft")
    assert code == 0 and "2 runs to do" in out and not (tmp_path / "runs").exists()

"""Trials of `bench tune`: the same number for every method, ordinary runs judged on validation.

They are run directories of ``RESULTS/tuning/runs``.  What they found is the record ``RESULTS/tuning/NAME.json``, one
file for one setting and one way of searching.  It gains methods command by command (`bench.analysis.tuning_record`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from bench.models import locate, model_settings
from bench.plan.spec import SWITCHED, Evaluation, RunPlan, parse_method, parse_overrides
from bench.store.job import Job
from bench.store.run_folder import CorruptRun, read_json
from bench.study.jobs import Spec, check_runs, parse_seeds, plan_jobs
from bench.study.search_space import Axis, draw_points, method_space
from bench.types import UserError

FIRST_SEED = 1000  # of trials; reported runs have lower ones
FOLDER = "tuning"
VERSION = 1  # of the record
SETTING = (  # what a tuned run must share with the trials
    *("protocol", "task", "task_version", "level", "template", "data_digest", "model_digest"),
    *("budget_unit", "budget_limit", "train_size", "max_new_tokens", "temperature", "max_grad_norm"),
)


@dataclass(frozen=True)
class Trial:
    """One point of a method's search space: ``settings`` by METHOD.FIELD and its runs, one per seed."""

    method: str
    settings: Mapping[str, Any]
    runs: tuple[Job, ...]


@dataclass(frozen=True)
class Study:
    """All trials of one task: ``spaces`` by method, ``given`` are those that the user gave."""

    spec: Spec
    given: Mapping[str, Axis]
    spaces: Mapping[str, Mapping[str, Axis]]
    trials: tuple[Trial, ...]

    @property
    def plan(self) -> RunPlan:
        return self.trials[0].runs[0].plan

    @property
    def num_trials(self) -> int:
        return len(self.trials) // len(self.spaces)


def trial_evaluation(val_items: int, val_samples: int) -> Evaluation:
    """Validation as asked for.

    The test split is cut to two items with one sample because tuning never reads it; the other splits are off.
    """
    off = dict.fromkeys(SWITCHED, 0)
    return Evaluation.model_validate(
        {**off, "val_items": val_items, "val_samples": val_samples, "test_items": 2, "test_samples": 1}
    )


def trial_seeds(text: str) -> list[int]:
    """``2`` means 1000 and 1001; a list is taken as it is; UserError for a seed that a reported run may have."""
    seeds = parse_seeds(text)
    seeds = seeds if "," in text else [FIRST_SEED + seed for seed in seeds]
    if min(seeds) < FIRST_SEED:
        raise UserError(
            f"seed {min(seeds)} is one of reported runs: expected seeds of trials from {FIRST_SEED} on, "
            f"or a number of seeds (--seeds {len(seeds)})"
        )
    return seeds


def shared_setting(plan: RunPlan) -> dict[str, Any]:
    """What must be equal for settings found by trials to be used by a run."""
    split = {"split_by": plan.split_by} if plan.split_by else {}  # no trace in records of trials without it
    return {name: getattr(plan, name) for name in SETTING} | split


def read_trials(path: Path) -> dict[str, Any]:
    """A record of `bench tune`; UserError that names the file when it is none."""
    try:
        record = read_json(path)
    except CorruptRun as fault:
        raise UserError(f"tuning results '{path}' cannot be read: {fault}") from None
    if record.get("version") != VERSION or not isinstance(record.get("methods"), dict):
        raise UserError(
            f"'{path}' is no record of 'bench tune' of version {VERSION}, from which settings can be taken: make one"
        )
    return record


def with_settings(job: Job, text: str, chosen: Sequence[str], results: Path) -> Job:
    """The job with other settings of the same method expression (``METHOD.FIELD=VALUE``), in a results folder."""
    presets = model_settings(job.model_path).get("methods", {})
    label, stages = parse_method(text, presets, parse_overrides(chosen))
    plan = job.plan.model_copy(update={"method": label, "stages": stages})
    return replace(job, plan=plan, path=results / plan.directory)


def studies(spec: Spec, num_trials: int, given: Mapping[str, Axis]) -> list[Study]:
    """The trials of every task; UserError for a method with nothing to search and for a space that no method has."""
    fixed = parse_overrides(spec.settings)
    preset = model_settings(locate(spec.model).path).get("search", {})
    order = product(spec.tasks, range(len(spec.methods)), spec.seeds)
    check_runs(len(spec.methods) * len(spec.tasks) * len(spec.seeds) * num_trials)
    plain = dict(zip(order, plan_jobs(spec), strict=True))
    spaces = {text: method_space(text, fixed, preset, given) for text in spec.methods}
    for text, axes in spaces.items():
        if not axes:
            raise UserError(f"method '{text}' has nothing to tune: leave it out, or give its space (--search)")
    searched = {key for axes in spaces.values() for name in axes for key in (name, name.partition(".")[2])}
    for name in given.keys() - searched:
        raise UserError(f"search space of '{name}': no method among {', '.join(spec.methods)} searches it")
    made = []
    for task in spec.tasks:
        trials = []
        for n, text in enumerate(spec.methods):
            for chosen in draw_points(spaces[text], num_trials):
                both = [*spec.settings, *(f"{name}={value}" for name, value in chosen.items())]
                own = [with_settings(plain[task, n, seed], text, both, spec.results) for seed in spec.seeds]
                trials.append(Trial(text, chosen, tuple(own)))
        made.append(Study(replace(spec, tasks=[task]), given, spaces, tuple(trials)))
    return made

"""One run, or two side by side: plan, costs, accuracies with intervals, passport, environment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.analysis.fairness import read_arm, reasons_apart
from bench.analysis.records import load_run
from bench.analysis.runs import method_scores, scores_interval
from bench.models.hub import commit_in
from bench.plan.spec import RunPlan
from bench.report.grids import percent, percent_limits
from bench.report.safe_text import fact_lines
from bench.report.table_cells import amount
from bench.stats.intervals import Interval
from bench.store.run_folder import CorruptRun, check_records, is_done, read_lines
from bench.store.stored_run import corrupted

COSTS = ("flops", "tokens", "rollouts", "demonstrations", "distinct_demonstrations", "verifier_calls", "steps")
TIMES = ("seconds", "seconds_sample", "seconds_verify", "seconds_score", "seconds_train")
EVALUATION = ("num_items", "num_samples", "accuracy", "greedy", "pass_at", "chance", "fraction")
SHOWN = ("task", "level", "template", "data", "model", "seed", "train_size", "max_new_tokens")


@dataclass(frozen=True)
class View:
    """What there is to show of a run; ``splits`` holds the last evaluation of each and its interval over items."""

    path: Path
    finished: bool
    plan: RunPlan
    env: Mapping[str, Any]
    passport: str
    ledger: Mapping[str, float]
    splits: Mapping[str, tuple[Mapping[str, Any], Interval | None]]
    validations: Sequence[Mapping[str, Any]]


def view_run(path: Path) -> View:
    """The view of a run directory.  An unfinished run has no intervals.  UserError if the run is corrupted."""
    try:
        arm, finished = read_arm(path), is_done(path)
        evals = read_lines(path / "evals.jsonl")
        splits: dict[str, tuple[Mapping[str, Any], Interval | None]] = {}
        for last in {e["split"]: e for e in evals}.values():
            interval = None
            if finished:
                if lacking := [name for name in EVALUATION if name not in last]:
                    raise CorruptRun(f"evals.jsonl: an evaluation has no {lacking[0]}")
                interval = scores_interval(method_scores([load_run(path, last["split"])]))
            splits[last["split"]] = (last, interval)
        ledger = check_records(path)["ledger"] if finished else (evals[-1]["spent"] if evals else {})
    except (CorruptRun, OSError, LookupError, TypeError, ValueError) as fault:
        raise corrupted(path, fault) from None
    validations = [e for e in evals if e["split"] == "val"]
    return View(path, finished, arm.plan, arm.env, arm.passport, ledger, splits, validations)


def run_as_dict(view: View) -> dict[str, Any]:
    """For JSON; accuracies are fractions, intervals over items only."""
    return {
        "run": view.path.name,
        "path": str(view.path),
        "finished": view.finished,
        "plan": view.plan.model_dump(mode="json"),
        "ledger": dict(view.ledger),
        "splits": {
            name: {
                **{k: e[k] for k in EVALUATION},
                "accuracy_low": interval.low if interval else None,
                "accuracy_high": interval.high if interval else None,
            }
            for name, (e, interval) in view.splits.items()
        },
        "validations": [{k: e[k] for k in ("fraction", "accuracy", "greedy", "spent")} for e in view.validations],
        "passport": view.passport,
        "environment": dict(view.env),
    }


def run_lines(views: Sequence[View]) -> list[str]:
    """Text of one run, or of two side by side, each part under its heading."""
    parts: list[str] = []
    for heading, rows in (
        ("Run", [run_facts(v) for v in views]),
        ("Plan", [plan_facts(v.plan) for v in views]),
        ("Spent", [cost_facts(v) for v in views]),
        ("Accuracy in %, 95 % interval over items only", [accuracy_facts(v) for v in views]),
        ("Environment", [environment_facts(v.env) for v in views]),
    ):
        names = dict.fromkeys(name for row in rows for name in row)
        told = fact_lines([(name, [row.get(name, "-") for row in rows]) for name in names])
        parts += [*([""] if parts else []), heading, *(f"  {line}" for line in told)]
    return parts


def run_facts(view: View) -> dict[str, str]:
    state = "finished" if view.finished else "unfinished: the same 'bench run' resumes it"
    passport = {"none": "none: its stack was not checked by 'bench preflight'"}.get(view.passport, view.passport)
    return {"name": view.path.name, "method": view.plan.method, "state": state, "passport": passport}


def plan_facts(plan: RunPlan) -> dict[str, str]:
    """The plan in words: common settings, then every field of every stage."""
    rows = {name: str(getattr(plan, name)) for name in SHOWN} | {"data": plan.problems}
    if commit := commit_in(plan.model, plan.model_digest):
        rows["commit"] = commit
    rows["budget"] = f"{plan.budget_limit:g} {plan.budget_unit}"
    rows["protocol"], rows["comparison"] = str(plan.protocol), plan.comparison
    for number, stage in enumerate(plan.stages, 1):
        fields = ", ".join(f"{k}={v}" for k, v in stage.fields.items())
        shared = "" if stage.overlap is None else f", half of the examples with an overlap of {stage.overlap:g}"
        rows[f"stage {number}"] = f"{stage.name}, {percent(stage.share)} % of the budget{shared}: {fields}"
    return rows


def cost_facts(view: View) -> dict[str, str]:
    rows = {k.replace("_", " "): amount(view.ledger[k]) for k in (*COSTS, *TIMES) if k in view.ledger}
    limit, used = view.plan.budget_limit, view.ledger.get(view.plan.budget_unit)
    return rows if used is None else {**rows, "of the budget": f"{percent(used / limit)} %"}


def accuracy_facts(view: View) -> dict[str, str]:
    """The last evaluation of each split, then the validations along the budget."""
    rows = {}
    for name, (e, interval) in view.splits.items():
        limits = f" {percent_limits(interval)}" if interval else ""
        most = max(e["pass_at"], key=int)
        best = f", pass@{most} {percent(e['pass_at'][most])}" if int(most) > 1 else ""
        size = f"{e['num_items']} items x {e['num_samples']}"
        rows[name] = f"{percent(e['accuracy'])}{limits}, greedy {percent(e['greedy'])}{best}, {size}"
    along = [f"{percent(e['accuracy'])} at {percent(e['fraction'])} %" for e in view.validations]
    return rows | ({"validations": ", ".join(along)} if along else {})


def environment_facts(env: Mapping[str, Any]) -> dict[str, str]:
    """Versions, machine, and the command in a form that can be given again."""
    rows = {k: str(env[k]) for k in ("python", "machine", "system", "cores", "gpu", "stack_key") if k in env}
    rows["versions"] = ", ".join(f"{name} {version}" for name, version in env.get("versions", {}).items())
    rows["command"] = shlex.join(["bench", *map(str, env["command"][1:])]) if env.get("command") else ""
    return rows


def comparison_warnings(views: Sequence[View]) -> list[str]:
    """Warnings to read before two runs are compared."""
    if len(views) < 2:
        return []
    differing = reasons_apart(*([read_arm(v.path)] for v in views))
    return [f"These runs may not be compared: {'; '.join(differing)}."] if differing else []

"""What trials found, as the record that `bench tune` writes: scores, curves, ledgers, failures, the best, the cost."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.analysis.records import load_run
from bench.analysis.runs import method_scores, scores_interval
from bench.plan.spec import stable_hash
from bench.store.files import write_atomic
from bench.store.run_folder import CorruptRun, check_records, read_lines
from bench.store.stored_run import corrupted
from bench.study.trials import VERSION, Study, Trial, read_trials, shared_setting

COSTS = ("flops", "seconds", "rollouts", "tokens", "steps", "verifier_calls", "demonstrations")


def run_record(path: Path, seed: int, fault: str) -> dict[str, Any]:
    """One run of a trial: its validation curve and full ledger, or why it failed and what it had spent by then.

    UserError if a finished run is corrupted.
    """
    name = path.name
    if fault:
        steps = read_lines(path / "metrics.jsonl")
        return {"run": name, "seed": seed, "fault": fault, "ledger": dict(steps[-1]["spent"]) if steps else {}}
    try:
        done = check_records(path, ("evals.jsonl",))
        evals = [e for e in read_lines(path / "evals.jsonl") if e["split"] == "val"]
    except CorruptRun as found:
        raise corrupted(path, found) from None
    curve = [{key: e[key] for key in ("fraction", "step", "accuracy", "greedy")} for e in evals]
    return {"run": name, "seed": seed, "curve": curve, "ledger": done["ledger"]}


def trial_record(trial: Trial, faults: Mapping[str, str]) -> dict[str, Any]:
    """One trial; its accuracy on validation at the end is the mean over its seeds, None when a seed failed.

    The limits are those of the 95 % interval, whose ``over`` says what it covers.
    """
    runs = [run_record(job.path, job.plan.seed, faults.get(job.path.name, "")) for job in trial.runs]
    record: dict[str, Any] = {"settings": dict(trial.settings), "runs": runs}
    record["stages"] = [stage.model_dump(mode="json") for stage in trial.runs[0].plan.stages]
    if any("fault" in run for run in runs):
        return {**record, "accuracy": None, "low": None, "high": None, "over": None}
    interval = scores_interval(method_scores([load_run(job.path, "val") for job in trial.runs]))
    return {**record, "accuracy": interval.mean, "low": interval.low, "high": interval.high, "over": interval.over}


def cost(trials: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What all runs of these trials spent, failed ones included."""
    total: Counter[str] = Counter()
    for trial in trials:
        for run in trial["runs"]:
            total.update({key: run["ledger"].get(key, 0) for key in COSTS})
    return {key: total[key] for key in COSTS}


def best(trials: Sequence[Mapping[str, Any]]) -> int | None:
    """Index of the trial with the highest validation accuracy; ties go to the lower learning rates, then the earlier.

    None when every trial failed.
    """

    def rank(index: int) -> tuple[float, tuple[float, ...], int]:
        rates = tuple(float(v) for k, v in sorted(trials[index]["settings"].items()) if k.endswith(".lr"))
        return -trials[index]["accuracy"], rates, index

    return min((i for i, t in enumerate(trials) if t["accuracy"] is not None), key=rank, default=None)


def method_record(study: Study, text: str, faults: Mapping[str, str]) -> dict[str, Any]:
    trials = [trial_record(trial, faults) for trial in study.trials if trial.method == text]
    space = {name: axis.record() for name, axis in study.spaces[text].items()}
    return {"space": space, "trials": trials, "best": best(trials), "cost": cost(trials)}


def study_file(study: Study) -> Path:
    """Where the record of a study is: the name holds a hash of the setting and of the way of searching."""
    plan = study.plan
    given = {name: axis.record() for name, axis in sorted(study.given.items())}
    key = stable_hash([shared_setting(plan), how(study), sorted(study.spec.settings), given, VERSION])
    words = re.sub(r"[^A-Za-z0-9_.+-]+", "-", f"{plan.task}-{plan.level}-{plan.model}-{plan.budget}")
    return study.spec.results.parent / f"{words[:80]}-{key}.json"


def how(study: Study) -> dict[str, Any]:
    """The way of searching that all methods of a file share."""
    e = study.plan.evaluation
    sizes = {"val_items": e.val_items, "val_samples": e.val_samples}
    return {"trials_per_method": study.num_trials, "seeds": list(study.spec.seeds), **sizes}


def write_record(study: Study, faults: Mapping[str, str], command: Sequence[str]) -> Path:
    """Write what the trials found; methods that the file already has from other commands stay in it."""
    path = study_file(study)
    methods = read_trials(path)["methods"] if path.exists() else {}
    methods |= {text: method_record(study, text, faults) for text in study.spec.methods}
    record = {
        "version": VERSION,
        "model": study.plan.model,
        "data": study.plan.problems,
        "setting": shared_setting(study.plan),
        "search": {**how(study), "fixed": sorted(study.spec.settings)},
        "methods": methods,
        "cost": {key: sum(m["cost"][key] for m in methods.values()) for key in COSTS},
        "command": list(command),
    }
    write_atomic(path, record)
    return path

"""Runs with the best settings that trials found (`bench run --tuned`): which trials fit, and what the runs record."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from bench.plan.origins import Tuned
from bench.plan.spec import RunPlan, stable_hash
from bench.store.job import Job
from bench.store.run_folder import DEFAULT_RESULTS
from bench.study.jobs import Spec, plan_jobs
from bench.study.trials import FOLDER, SETTING, read_trials, shared_setting, with_settings
from bench.types import UserError


@dataclass(frozen=True)
class Source:
    """A file of `bench tune` and its record."""

    path: Path
    record: dict[str, Any]


def tuned_jobs(spec: Spec, file: Path | None) -> tuple[list[Job], list[str]]:
    """The runs of a spec with tuned settings, and warnings; methods that do not train stay as they are.

    Without a file, every record of `bench tune` beside the runs of the results folder is looked through.
    Raises UserError when a method has no trials of the same setting, when two files have some, when a run's seed is
    one of the trials', and when the user sets a tuned field.
    """
    files = [file] if file else sorted((spec.results / FOLDER).glob("*.json"))
    sources = [Source(path, read_trials(path)) for path in files]
    tuned, warnings = [], []
    for (_, text, _), job in zip(product(spec.tasks, spec.methods, spec.seeds), plan_jobs(spec), strict=True):
        if any(stage.fields["batch_size"] > 0 for stage in job.plan.stages):
            source = fitting_record(spec, sources, text, job.plan, file is not None)
            job = with_best_settings(spec, source, text, job)
            warnings += cautions(source, text, job.plan)
        tuned.append(job)
    numbers = sorted({job.plan.tuned.trials for job in tuned if job.plan.tuned})
    if len(numbers) > 1:
        warnings.append(f"methods were tuned with different numbers of trials ({', '.join(map(str, numbers))})")
    return tuned, list(dict.fromkeys(warnings))


def fitting_record(spec: Spec, sources: Sequence[Source], text: str, plan: RunPlan, named: bool) -> Source:
    """The one record with finished trials of a method in the setting of a plan."""
    wanted = shared_setting(plan)
    having = [s for s in sources if text in s.record["methods"]]
    fitting = [s for s in having if s.record["setting"] == wanted]
    usable = [s for s in fitting if s.record["methods"][text]["best"] is not None]
    if len(usable) == 1:
        return usable[0]
    if usable:
        files = " and ".join(str(s.path) for s in usable)
        raise UserError(f"two files have trials of {text} on {plan.task}: {files}: choose one with --tuning FILE")
    where = f"'{sources[0].path}'" if named else f"'{spec.results / FOLDER}'"
    if fitting:
        raise UserError(f"every trial of {text} in '{fitting[0].path}' failed: see its faults, or give other --search")
    other = f"; {setting_differences(having[-1], wanted)}" if having else ""
    raise UserError(
        f"no trials of {text} on {plan.task} (level {plan.level}, model {plan.model}, budget {plan.budget}) in {where}"
        f"{other}: make them with {tune_command(spec)}"
    )


def setting_differences(source: Source, wanted: dict[str, Any]) -> str:
    """In which parts of the setting the trials of a file differ."""
    given = source.record["setting"]
    differing = [name for name in (*SETTING, "split_by") if given.get(name) != wanted.get(name)]
    parts = [f"{name} {given.get(name)}, not {wanted.get(name)}" for name in differing]
    return f"those of {source.path.name} have {', '.join(parts)}"


def tune_command(spec: Spec) -> str:
    """The command that makes the trials of a spec."""
    words = ["bench", "tune", "--methods", ",".join(m for m in spec.methods if m != "base")]
    words += ["--task", ",".join(spec.tasks)]
    options: dict[str, object] = {
        "recipe": spec.recipe,
        "model": spec.model if spec.model != "tiny" else None,
        "budget": spec.budget,
    }
    options |= {"level": spec.level, "template": spec.template, "data": spec.data.location if spec.data else None}
    options |= {"split-by": spec.split_by, "train-size": spec.train_size, "max-new-tokens": spec.max_new_tokens}
    options |= {"results": spec.results if spec.results != DEFAULT_RESULTS else None}
    for name, value in options.items():
        words += [f"--{name}", str(value)] if value is not None else []
    return "'" + shlex.join([*words, *(word for item in spec.settings for word in ("--set", item))]) + "'"


def with_best_settings(spec: Spec, source: Source, text: str, job: Job) -> Job:
    """The job with the best trial's settings, a label that says so, and a record of the trials."""
    entry = source.record["methods"][text]
    chosen, search = entry["trials"][entry["best"]], source.record["search"]
    if job.plan.seed in search["seeds"]:
        raise UserError(f"seed {job.plan.seed} was used by the trials in '{source.path}': choose other --seeds")
    for item in spec.settings:
        if (name := item.partition("=")[0].strip()) in chosen["settings"]:
            raise UserError(f"--set {item}: {name} is tuned for {text}: leave out --set {name} or --tuned")
    settings = [f"{name}={value}" for name, value in chosen["settings"].items()]
    better = with_settings(job, text, [*spec.settings, *settings], spec)
    own = job.plan.method.partition("[")[2].rstrip("]")  # the user's settings
    num_trials = len(entry["trials"])
    label = f"{text}[tuned={num_trials}{',' if own else ''}{own}]"
    tuned = Tuned(
        settings=chosen["settings"],
        trials=num_trials,
        seeds=search["seeds"],
        **{key: entry["cost"][key] for key in ("flops", "rollouts", "seconds")},
        source=f"{source.path.name} {stable_hash([entry['space'], chosen, search])}",
    )
    plan = better.plan.model_copy(update={"method": label, "tuned": tuned})
    return replace(better, plan=plan, path=spec.results / plan.directory)


def cautions(source: Source, text: str, plan: RunPlan) -> list[str]:
    """What makes tuned settings doubtful: failed trials, and fields that differ from those of the trials."""
    entry = source.record["methods"][text]
    failed = sum(trial["accuracy"] is None for trial in entry["trials"])
    said = [f"{failed} of {len(entry['trials'])} trials of {text} failed"] if failed else []
    for mine, theirs in zip(plan.stages, entry["trials"][entry["best"]]["stages"]):
        fields = json.loads(json.dumps(mine.fields))
        said += [
            f"{text} was tuned with {mine.name}.{name} {theirs['fields'].get(name)}, this run has {value}"
            for name, value in fields.items()
            if theirs["fields"].get(name) != value
        ]
    return said

"""From the command's options to run plans, and what they will cost before anything starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from bench.plan import registry
from bench.plan.budget import Budget
from bench.plan.data import Source
from bench.plan.data import data_digest as digest_of
from bench.plan.execution import RECOMPUTE, Execution
from bench.plan.spec import Evaluation, Other, RunPlan, parse_method, parse_overrides
from bench.store.job import Job
from bench.store.run_folder import DEFAULT_RESULTS
from bench.study.groups import check_level
from bench.types import UserError
from tasks.skills import SKILLS

MAX_SEEDS, MAX_SEED = 1_000, 2**63 - 1
MAX_RUNS = 10_000  # of one command


@dataclass(frozen=True)
class Spec:
    """The options of ``bench run``; None means the model's own default."""

    methods: Sequence[str]
    tasks: Sequence[str]
    seeds: Sequence[int] = (0,)
    model: str = "tiny"
    budget: str | None = None
    level: str | None = None
    template: str | None = None
    data: Source | None = None
    split_by: str | None = None
    train_size: int | None = None
    max_new_tokens: int | None = None
    settings: Sequence[str] = ()
    evaluation: Evaluation = field(default_factory=Evaluation)
    device: str = "auto"
    threads: int = 1
    micro_batch_tokens: int | None = None
    recompute: str = "auto"
    results: Path = DEFAULT_RESULTS


def split_names(text: str, what: str) -> list[str]:
    """Comma-separated names of something, none of an empty text; UserError for an empty name or one given twice."""
    names = [name.strip() for name in text.split(",")] if text else []
    for name in names:
        if not name:
            raise UserError(f"malformed list '{text}': one {what} in it is empty, expected names separated by commas")
        if names.count(name) > 1:
            raise UserError(f"{what} '{name}' is given twice in '{text}': expected each once")
    return names


def parse_seeds(text: str) -> list[int]:
    """``3`` means seeds 0, 1, 2; ``0,4,7`` means these; UserError for more than MAX_SEEDS and for what is no seed."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"malformed seeds '{text}': expected a number of seeds (3) or a list (0,1,2)") from None
    count = numbers[0] if len(numbers) == 1 and "," not in text else len(numbers)
    if count > MAX_SEEDS:
        raise UserError(f"malformed seeds '{text}': expected at most {MAX_SEEDS} seeds")
    seeds = list(range(count)) if "," not in text else numbers
    if not seeds or min(seeds) < 0 or max(seeds) > MAX_SEED:
        raise UserError(f"malformed seeds '{text}': expected at least one seed, none negative, none above {MAX_SEED}")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"malformed seeds '{text}': one of them is given twice")
    return seeds


def choose_device(choice: str) -> str:
    """``auto`` takes a CUDA device when torch sees one; torch is asked only if the driver is present."""
    registry.check_choice(choice, ("auto", "cpu", "cuda"), "device")
    if choice == "cpu" or (choice == "auto" and not os.path.exists("/dev/nvidiactl")):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if choice == "cuda":
        raise UserError("device 'cuda' is not available on this machine: expected auto or cpu")
    return "cpu"


def check_runs(number: int) -> None:
    """UserError for more runs than a command can list."""
    if number > MAX_RUNS:
        raise UserError(
            f"{number} runs are more than the {MAX_RUNS} of one command: give fewer methods, tasks or seeds"
        )


def plan_jobs(spec: Spec) -> list[Job]:
    """The runs of a spec: methods x tasks x seeds; UserError for anything unknown or impossible."""
    from bench.models import locate, model_settings

    check_runs(len(spec.methods) * len(spec.tasks) * len(spec.seeds))
    model = locate(spec.model)
    defaults = model_settings(model.path)
    overrides = parse_overrides(spec.settings)
    if spec.budget is None and "budget" not in defaults:
        raise UserError(f"model '{spec.model}' has no default budget: give --budget, for example 1e16flops")
    budget = Budget.parse(str(defaults["budget"] if spec.budget is None else spec.budget))
    formats = {name: task_format(spec, name, defaults) for name in spec.tasks}
    where = choose_device(spec.device)
    registry.check_choice(spec.recompute, RECOMPUTE, "recompute")
    methods = [parse_method(m, defaults.get("methods", {}), overrides) for m in spec.methods]
    used = {stage.name for _, stages in methods for stage in stages}
    for name in overrides.keys() - used:
        raise UserError(f"setting for '{name}', which is not among the methods {', '.join(spec.methods)}")
    common: dict[str, Any] = {
        "model": model.name,
        "model_digest": model.digest,
        "data": spec.data.name if spec.data else "generated",
        "data_digest": digest_of(spec.data) if spec.data else "",
        "split_by": spec.split_by or "",
        "budget_unit": budget.unit,
        "budget_limit": budget.limit,
        "train_size": spec.train_size or defaults.get("train_size", 10_000),
        "max_new_tokens": spec.max_new_tokens or defaults.get("max_new_tokens", 256),
    }
    execution = Execution(
        device=where,
        threads=spec.threads,
        micro_batch_tokens=spec.micro_batch_tokens or (2048 if where == "cpu" else 16_384),
        sample_rows=256 if where == "cpu" else 1024,
        recompute="none" if (spec.recompute, where) == ("auto", "cpu") else spec.recompute,
    )
    if budget.unit == "seconds":  # there the machine decides how far a run comes
        common["execution"] = execution
    model.fetch()  # all that was asked for is known now: a wrong option costs no download
    jobs = []
    for name, (level, template) in formats.items():
        version = registry.task_version(registry.task(name), level, template)
        problems = judged_elsewhere(spec.evaluation, name, level, template)
        problems |= {"task": name, "task_version": version, "level": level, "template": template}
        problems |= chat_facts(model.path) if template == "chat" else {}
        for (label, stages), seed in product(methods, spec.seeds):
            plan = RunPlan(method=label, stages=stages, seed=seed, **problems, **common)
            jobs.append(Job(plan, execution, spec.results / plan.directory, model.path, spec.data))
    return jobs


def chat_facts(path: str) -> dict[str, str]:
    """What a plan says of the chat template that its prompts get; UserError if the model has none."""
    from bench.engine.policy import load_tokenizer
    from bench.models.chat import chat_digest

    return {"chat_digest": chat_digest(load_tokenizer(path))}


def judged_elsewhere(evaluation: Evaluation, name: str, level: str, template: str) -> dict[str, Any]:
    """What a run is judged on besides its own level; a split that the task cannot have is switched off.

    The other tasks are the built-in ones that have the template, at their default levels.
    """
    harder = registry.task(name).harder.get(level, "") if evaluation.ood_items else ""
    tasks = [registry.task(other) for other in registry.built_in("tasks") if other != name and evaluation.other_items]
    others = [
        Other(task=t.name, level=t.default_level, version=registry.task_version(t, t.default_level, template))
        for t in tasks
        if template in t.templates
    ]
    sizes = {"ood_items": evaluation.ood_items if harder else 0, "other_items": evaluation.other_items if others else 0}
    skills = [Other(task=s.name, level=s.form(template), version=s.version) for s in SKILLS.values()]
    splits = {"ood_level": harder, "others": others, "skills": skills if evaluation.skill_items else []}
    return {**splits, "evaluation": evaluation.model_copy(update=sizes)}


def task_format(spec: Spec, name: str, defaults: dict[str, Any]) -> tuple[str, str]:
    """Level and template of a task: the user's, else the model's, else the task's own; a data file has no level."""
    task = registry.task(name)
    if spec.data is not None and spec.level is not None:
        raise UserError("--level chooses generated problems and --data brings its own: give one of them")
    level = spec.level or defaults.get("levels", {}).get(name, task.default_level)
    template = spec.template or defaults.get("template", "plain")
    registry.check_choice(level, task.levels, f"level of {name}")
    registry.check_choice(template, task.templates, f"template of {name}")
    if spec.split_by == "":
        raise UserError("--split-by is empty: expected a key of near duplicates, or leave it out")
    if spec.split_by and spec.data is None:
        check_level(task, level, spec.split_by)
    return "file" if spec.data else level, template

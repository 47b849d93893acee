"""From the command's options to run plans, and what they will cost before anything starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.plan import registry
from bench.plan.budget import Budget
from bench.plan.data import Source
from bench.plan.data import data_digest as digest_of
from bench.plan.execution import RECOMPUTE, Execution, check_devices_per_run, check_reference, check_sampler
from bench.plan.lora import parse_lora
from bench.plan.optimizers import check_optimizer
from bench.plan.pipelines import PIPELINE
from bench.plan.recipes import merged
from bench.plan.spec import Evaluation, Other, RunPlan, parse_method, parse_overrides
from bench.store.job import Job
from bench.store.run_folder import DEFAULT_RESULTS
from bench.study.groups import check_level
from bench.study.sizes import USUAL, fitted, pool_size
from bench.types import UserError
from tasks.skills import SKILLS

if TYPE_CHECKING:
    from bench.models import Located

MAX_SEEDS, MAX_SEED = 1_000, 2**63 - 1
MAX_RUNS = 10_000  # of one command
GENERATED = (
    "the problems of task math are generated, they are not those of MATH: these are given by --data FILE with "
    "--max-new-tokens 1024"
)


@dataclass(frozen=True)
class Spec:
    """The options of ``bench run``; None means the model's own default.

    ``tell`` is told what differs from what was asked for, a sentence each time.
    """

    methods: Sequence[str]
    tasks: Sequence[str]
    seeds: Sequence[int] = (0,)
    model: str = "tiny"
    recipe: str | None = None
    budget: str | None = None
    batch: str | None = None
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
    devices_per_run: int = 1
    lora: str | None = None
    optimizer: str = "adamw"
    packing: bool | None = None
    reference: str = "auto"
    micro_batch_tokens: int | None = None
    recompute: str = "auto"
    sampler: str = "torch"
    results: Path = DEFAULT_RESULTS
    here: bool = True  # whether the runs are made on this machine
    tell: Callable[[str], None] = field(default=lambda note: None, compare=False)


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


def choose_device(choice: str, here: bool = True) -> str:
    """``auto`` takes a CUDA device when torch sees one; torch is asked only if the driver is present.

    UserError for ``auto`` where runs are made on machines other than this one.
    """
    registry.check_choice(choice, ("auto", "cpu", "cuda"), "device")
    if not here:
        if choice == "auto":
            raise UserError("--device auto asks this machine, and the runs are made on others: expected cpu or cuda")
        return choice
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
    chosen = defaults.get("budget") if spec.budget is None else spec.budget
    if chosen is None and model.commit:  # its weights are not here yet, so no rate can be measured
        raise UserError(f"model '{spec.model}' has no default budget: give --budget, for example 1e16flops")
    budget = Budget.parse("1flops" if chosen is None else str(chosen))
    formats = {name: task_format(spec, name, defaults) for name in spec.tasks}
    execution = execution_of(spec, choose_device(spec.device, spec.here))
    presets = merged(defaults.get("methods", {}), spec.recipe)
    methods = [parse_method(m, presets, overrides) for m in spec.methods]
    used = {stage.name for _, stages in methods for stage in stages}
    used |= {PIPELINE} if any(len(stages) > 1 for _, stages in methods) else set()
    for name in overrides.keys() - used:
        raise UserError(f"setting for '{name}', which is not among the methods {', '.join(spec.methods)}")
    common = common_fields(spec, model, budget, defaults)
    if budget.unit == "seconds":  # there the machine decides how far a run comes
        common["execution"] = execution
    model.fetch()  # all that was asked for is known now: a wrong option costs no download
    jobs = []
    for name, (level, template) in formats.items():
        version = registry.task_version(registry.task(name), level, template)
        problems = judged_elsewhere(spec.evaluation, name, level, template)
        problems |= {"task": name, "task_version": version, "level": level, "template": template}
        problems |= chat_facts(model.path) if template == "chat" else {}
        problems |= {"train_size": pool(spec, name, level, defaults)}
        plans = [
            RunPlan(method=label, stages=stages, seed=seed, **problems, **common)
            for (label, stages), seed in product(methods, spec.seeds)
        ]
        evaluation = fitted(plans[0], spec.tell)  # the same for all of them
        for plan in [plan.model_copy(update={"evaluation": evaluation}) for plan in plans]:
            jobs.append(Job(plan, execution, spec.results / plan.directory, model.path, spec.data))
    if chosen is None:
        raise no_budget(spec, jobs)
    return jobs if spec.batch is None else scaled_jobs(spec, jobs)


def common_fields(spec: Spec, model: Located, budget: Budget, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that the plans of all methods and tasks share."""
    return {
        "model": model.name,
        "model_digest": model.digest,
        "data": spec.data.name if spec.data else "generated",
        "data_digest": digest_of(spec.data) if spec.data else "",
        "split_by": spec.split_by or "",
        "budget_unit": budget.unit,
        "budget_limit": budget.limit,
        "max_new_tokens": spec.max_new_tokens or defaults.get("max_new_tokens", 256),
        "optimizer": check_optimizer(spec.optimizer),
        "lora": None if spec.lora is None else parse_lora(spec.lora),
    }


def scaled_jobs(spec: Spec, jobs: list[Job]) -> list[Job]:
    """The runs with batches that follow the budget."""
    from bench.study.batches import scale_batches

    return scale_batches(jobs, spec.tell)


def no_budget(spec: Spec, jobs: Sequence[Job]) -> UserError:
    """The error of a model without a default budget, with budgets that make sense, or what else is wrong."""
    from bench.study.suggestions import suggested_budgets

    begin = f"model '{spec.model}' has no default budget: give --budget, for example"
    try:
        return UserError(f"{begin} {suggested_budgets(jobs)}")
    except UserError as fault:
        return UserError(f"{begin} 1e16flops; and {fault}")


def pool(spec: Spec, name: str, level: str, defaults: Mapping[str, Any]) -> int:
    """The size of the training pool: the user's, else the model's, else the usual one; no more than there is."""
    given = spec.train_size or defaults.get("train_size")
    if spec.data is not None:
        return int(given or USUAL)
    if name == "math" and spec.model != "tiny":
        spec.tell(GENERATED)
    return pool_size(name, level, spec.split_by or "", given, spec.tell)


def chat_facts(path: str) -> dict[str, str]:
    """What a plan says of the chat template that its prompts get; UserError if the model has none."""
    from bench.engine.policy import load_tokenizer
    from bench.models.chat import chat_digest

    return {"chat_digest": chat_digest(load_tokenizer(path))}


def execution_of(spec: Spec, where: str) -> Execution:
    """How the runs of a spec are computed on a device."""
    registry.check_choice(spec.recompute, RECOMPUTE, "recompute")
    return Execution(
        device=where,
        threads=spec.threads,
        micro_batch_tokens=spec.micro_batch_tokens or (2048 if where == "cpu" else 16_384),
        sample_rows=256 if where == "cpu" else 1024,
        recompute="none" if (spec.recompute, where) == ("auto", "cpu") else spec.recompute,
        packing=where == "cuda" if spec.packing is None else spec.packing,
        reference=check_reference(spec.reference, where),
        sampler=check_sampler(spec.sampler),
        devices_per_run=check_devices_per_run(spec.devices_per_run, spec.lora, spec.optimizer, spec.sampler),
    )


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

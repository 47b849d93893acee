"""`bench doctor`: one finding after another on a machine, a model, tasks and a results folder; nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from bench.audit import doctor_machine, doctor_model, doctor_tasks
from bench.audit.doctor_folder import examine_folder
from bench.audit.doctor_machine import BAD, OK, Finding
from bench.models import hub, locate, model_settings
from bench.plan.budget import Budget
from bench.plan.data import data_digest
from bench.plan.lora import parse_lora
from bench.plan.optimizers import check_optimizer
from bench.plan.spec import parse_method, parse_overrides
from bench.study.jobs import Spec, choose_device, execution_of, plan_jobs, task_format
from bench.types import UserError

BUDGET = "1e15flops"  # of a model that has no default of its own


def check(spec: Spec) -> None:
    """UserError for options that no machine makes good: names of nothing, malformed settings and budgets."""
    execution_of(spec, choose_device(spec.device))
    check_optimizer(spec.optimizer)
    if spec.lora is not None:
        parse_lora(spec.lora)
    overrides = parse_overrides(spec.settings)
    for method in spec.methods:
        parse_method(method, {}, overrides)
    for task in spec.tasks:
        task_format(spec, task, {})
    if spec.budget is not None:
        Budget.parse(spec.budget)
    if spec.data is not None:
        data_digest(spec.data)
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # these are findings
        spec.results.stat()
    if not hub.NAME.fullmatch(spec.model):  # that the hub is out of reach is a finding
        locate(spec.model)


def examine(spec: Spec) -> Iterator[Finding]:
    """Everything about the machine, then what these runs would meet."""
    where = choose_device(spec.device)
    yield from doctor_machine.packages()
    yield from doctor_machine.devices(where)
    yield doctor_machine.matmul(where)
    free = None
    for finding in examine_folder(spec.results):
        free = finding.facts.get("free", free)
        yield finding
    try:
        known = doctor_model.know(locate(spec.model))
    except UserError as error:
        yield Finding("model", BAD, str(error), "bench models")
        return
    weights = doctor_model.weights_line(known)
    yield weights
    yield from doctor_model.tokenizer_lines(known)
    yield doctor_model.attention_line(known, where)
    if weights.state == OK:
        yield from examine_runs(spec, known, where, free)


def examine_runs(spec: Spec, known: doctor_model.Known, where: str, free: int | None) -> Iterator[Finding]:
    """Tokens, verifiers, memory, time and disk of one run of each method on each task."""
    own = spec.budget is not None or "budget" in model_settings(known.located.path)
    assumed = "" if own else ", which is assumed: --budget"
    jobs = []
    for task in spec.tasks:
        one = replace(spec, tasks=(task,), budget=spec.budget if own else BUDGET)
        try:
            jobs += plan_jobs(one)
        except UserError as error:
            yield Finding(f"{task} plan", BAD, str(error), f"bench tasks show {task}")
    context = getattr(known.config, "max_position_embeddings", None)
    longest = 0
    for job in {job.plan.task: job for job in jobs}.values():
        try:
            examples = doctor_tasks.sample_examples(job, known.tokenizer)
        except UserError as error:
            yield Finding(f"{job.plan.task} tokens", BAD, str(error), f"bench tasks check {job.plan.task}")
            continue
        tokens = doctor_tasks.token_line(job, known.tokenizer, examples, context)
        longest = max(longest, tokens.facts["row"])
        yield tokens
        yield doctor_tasks.verifier_line(doctor_tasks.task_of(job), examples)
    if not longest:
        return
    room, cores = free_memory(where), doctor_machine.cores()
    yield doctor_model.memory_finding(known, jobs, longest, where, room, cores)
    yield from doctor_tasks.cost_lines(jobs, spec.results, free, assumed)


def free_memory(where: str) -> int:
    """Bytes free on the device that runs would use."""
    if where == "cpu":
        return doctor_machine.memory()[1]
    import torch

    return int(torch.cuda.mem_get_info()[0])

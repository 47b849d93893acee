"""What is known of a model and a task before a run: sizes, tokens of examples, the most that a step can cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from bench.plan import registry
from bench.plan.budget import UNITS, Budget, Meter, ascent_rank, scoring_passes
from bench.plan.spec import RunPlan
from bench.store.job import Job
from bench.study.groups import check_rows
from bench.types import Example, Preparer, Requests, Rows, UserError

SUFFIXES = {unit: suffix for suffix, unit in UNITS.items()}
SAMPLE = 64  # examples from which a step's cost is estimated


class Probe:
    """Architecture and tokenised examples of one model and task, without loading weights.

    ``notes`` are doubts about lengths that do not stop a run.
    """

    def __init__(self, job: Job) -> None:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        from bench.engine.adapters import attach, own_parameters
        from bench.engine.model_facts import architecture
        from bench.engine.model_faults import check_files, check_vocabulary
        from bench.engine.policy import NO_CODE, load_config, load_tokenizer, unloadable

        logging.set_verbosity_error()
        tokenizer = load_tokenizer(job.model_path)
        with torch.device("meta"):
            try:
                model = AutoModelForCausalLM.from_config(load_config(job.model_path), **NO_CODE)
            except Exception as error:  # transformers raises anything for a configuration that makes no sense
                raise unloadable(job.model_path, error) from None
        check_vocabulary(job.model_path, model, tokenizer)
        check_files(job.model_path)
        if job.plan.lora is not None:
            attach(model, job.plan.lora, job.plan.seed)
        self.architecture = architecture(model)
        self.num_parameters = sum(p.numel() for p in model.parameters())
        self.num_trained = sum(p.numel() for p in own_parameters(model).values())
        self.largest_parameter = max(p.numel() for p in model.parameters())
        self.examples, self.rows = probe_examples(job, tokenizer)
        self.costs: dict[tuple[str, int, int, str], tuple[float, float]] = {}
        self.notes = check_lengths(job, self, tokenizer, getattr(model.config, "max_position_embeddings", None))


def probes_of(jobs: Sequence[Job]) -> dict[tuple[str, str], Probe]:
    """A probe for each model and task among the jobs."""
    probes: dict[tuple[str, str], Probe] = {}
    for job in jobs:
        key = (job.model_path, job.plan.task)
        if key not in probes:
            probes[key] = Probe(job)
    return probes


def probe_examples(job: Job, tokenizer: Any) -> tuple[list[Example], dict[str, list[Example]] | None]:
    """A few tokenised training examples, and the rows of a data file by split, None where problems are generated.

    Reading the file finds its faults before any run starts.
    """
    from bench.engine.encoding import encode
    from tasks import common

    plan, task = job.plan, registry.task(job.plan.task)
    splits = None
    if job.data is not None:
        splits = common.from_file(task, job.data, plan.template, plan.split_by)
        for split, found in splits.items():
            if not found:
                raise UserError(f"data file '{job.data.location}' has no rows for the {split} split: give more rows")
        if plan.split_by:
            check_rows(task, splits, job.data.name, plan.split_by)
        rows = splits["train"][:SAMPLE]
    else:
        size = min(SAMPLE, plan.train_size)
        rows = common.load_examples(task, "train", size, plan.level, plan.template, split_by=plan.split_by)
    return [encode(tokenizer, e, plan.template) for e in rows], splits


def check_lengths(job: Job, probe: Probe, tokenizer: Any, window: int | None) -> list[str]:
    """Notes on demonstrations that no completion can imitate; UserError if a run may exceed the model's context.

    Generated problems are drawn and tokenised one and all only if twice the longest of the sample would not fit.  A
    row of a file is tokenised if its bytes would not fit, since a tokenizer makes at most one token of a byte.
    """
    from bench.engine.encoding import encode
    from bench.engine.splits import check_context

    plan = job.plan
    check_context(plan, probe.examples, window)
    rows = probe.rows
    if window is not None and rows is None:
        longest = max(len(e.prompt_ids) + len(e.demo_ids) for e in probe.examples)
        rows = all_rows(plan) if 2 * longest + plan.max_new_tokens > window else None
    if window is not None and rows is not None:
        added = max(0, *(len(e.prompt_ids) - len(e.prompt.encode()) for e in probe.examples)) + 2
        limit = window - plan.max_new_tokens - added
        doubtful = [e for found in rows.values() for e in found if size_of(e) > limit]
        if doubtful:
            check_context(plan, [encode(tokenizer, e, plan.template) for e in doubtful], window)
    return demonstration_notes(plan, probe, tokenizer)


def size_of(example: Example) -> int:
    """Bytes of prompt and demonstration."""
    return len(example.prompt.encode()) + len(example.demonstration.text.encode())


def all_rows(plan: RunPlan) -> dict[str, list[Example]]:
    """All problems that a run trains on and is judged on at its own level, not tokenised."""
    from tasks import common

    sizes = {"train": plan.train_size, "val": plan.evaluation.val_items, "test": plan.evaluation.test_items}
    task = registry.task(plan.task)
    return {
        split: common.load_examples(task, split, size, plan.level, plan.template, split_by=plan.split_by)
        for split, size in sizes.items()
    }


def demonstration_notes(plan: RunPlan, probe: Probe, tokenizer: Any) -> list[str]:
    """A note if demonstrations are longer than a completion may be, by the longest of a file or of the sample."""
    from bench.engine.encoding import encode

    examples = list(probe.examples)
    if probe.rows is not None:
        ranked = sorted(probe.rows["train"], key=lambda e: len(e.demonstration.text))[-SAMPLE:]
        examples += [encode(tokenizer, e, plan.template) for e in ranked]
    longest = max(len(e.demo_ids) for e in examples)
    if longest <= plan.max_new_tokens:
        return []
    return [
        f"demonstrations of {plan.task} have up to {longest} tokens and completions at most {plan.max_new_tokens}: "
        f"none can imitate the longest (--max-new-tokens {longest})"
    ]


def worst_costs(job: Job, probe: Probe, stage: int, unit: str) -> tuple[float, float]:
    """``stage_costs`` of a stage of a run, which are the same for all its seeds and are worked out once."""
    plan = job.plan
    key = (plan.stages[stage].model_dump_json(), plan.max_new_tokens, plan.train_size, unit)
    if key not in probe.costs:
        probe.costs[key] = stage_costs(job, probe, stage, unit)
    return probe.costs[key]


def stage_costs(job: Job, probe: Probe, stage: int, unit: str) -> tuple[float, float]:
    """Worst case in a unit of one step of a stage, from examples as long as the longest probed ones.

    The second figure is that of a method that rewrites its data before its first step; it is 0 for the others.
    """
    longest = max(probe.examples, key=lambda e: len(e.prompt_ids) + len(e.demo_ids))
    settings = job.plan.stages[stage]
    method = registry.build_method(settings.name, settings.fields)
    meter = Meter(probe.architecture, Budget(unit, float("inf")))
    rows = step_rows(method, rewritten(method, longest, job.plan.max_new_tokens), job.plan.max_new_tokens)
    updates = method.num_updates + bool(Requests.of(method).buffer_size)
    step = meter.worst_case(rows, scoring_passes(method), updates, ascent_rank(method))
    if not isinstance(method, Preparer):
        return step, 0.0
    size = job.plan.train_size if settings.overlap is None else job.plan.train_size // 2
    rows = method.prepare_worst_case([longest] * size, job.plan.max_new_tokens)
    return step, meter.worst_case(rows, 0, 0)


def rewritten(method: Any, example: Example, max_new_tokens: int) -> Example:
    """The example with the longest target that a method which rewrites its data may give it."""
    if not isinstance(method, Preparer):
        return example
    tries = method.prepare_worst_case([example], max_new_tokens).decode
    longest = max((shown + new for shown, new in tries), default=0) - len(example.prompt_ids)
    missing = max(0, longest - len(example.demo_ids))
    return replace(example, demo_ids=(*example.demo_ids, *example.demo_ids[-1:] * missing))


def step_rows(method: Any, example: Example, max_new_tokens: int) -> Rows:
    """The most that a step on examples like this one may process."""
    asks = Requests.of(method)
    num_examples = method.batch_size + asks.num_demos + asks.buffer_size
    copies = [replace(example, id=str(i)) for i in range(num_examples)]  # methods may choose examples by their ids
    return cast(Rows, method.worst_case(copies, max_new_tokens))

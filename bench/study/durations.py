"""How long the parts of a run take: by measured rates, or by what finished runs took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median

from bench.plan import registry
from bench.plan.budget import Budget, Meter, ascent_rank, scoring_passes
from bench.store.job import Job
from bench.store.run_folder import CorruptRun, finished_runs, read_json, read_lines
from bench.store.stored_run import execution_in, read_plan
from bench.study.probe import Probe, step_rows
from bench.study.rates import Rates
from bench.types import Example

GUESS = 1e10  # FLOPs per second of a CPU thread, where nothing is measured: good enough to tell minutes from hours


@dataclass(frozen=True)
class Past:
    """What finished runs of the same method, model and task took here: seconds per FLOP and per completion judged."""

    flop: float
    completion: float


@dataclass(frozen=True)
class TypicalStep:
    """A step on examples of usual length with completions of usual length; ``cost`` in the budget's unit."""

    cost: float
    flops: float
    train_seconds: float
    sample_seconds: float


def typical_step(job: Job, probe: Probe, stage: int, rates: Rates | None) -> TypicalStep:
    """What a step usually costs."""
    settings, plan = job.plan.stages[stage], job.plan
    method = registry.build_method(settings.name, settings.fields)
    length = min(plan.max_new_tokens, max(1, round(rates.length))) if rates else max(1, plan.max_new_tokens // 2)
    rows = step_rows(method, usual(probe), length)
    passes = scoring_passes(method)
    unit = plan.budget_unit if plan.budget_unit != "seconds" else "flops"
    rank = ascent_rank(method)
    cost = Meter(probe.architecture, Budget(unit, float("inf"))).worst_case(rows, passes, method.num_updates, rank)
    drawing, training, besides = (Meter(probe.architecture, Budget("flops", float("inf"))) for _ in range(3))
    drawing.charge_sample(rows.prefill, rows.decode, 0)
    training.charge_train([n for n, _ in rows.train], [t for _, t in rows.train], 0)
    besides.charge_score([n for n, _ in rows.score], [t for _, t in rows.score], 0)
    if rank:
        besides.charge_ascent([n for n, _ in rows.train], [t for _, t in rows.train], 0, rank)
    train, draw, score = training.ledger.flops, drawing.ledger.flops, besides.ledger.flops
    total = train * (1 + passes / 3) + draw + score
    if rates is None:
        speed = GUESS * job.execution.threads
        return TypicalStep(cost, total, (total - draw) / speed, draw / speed)
    seconds = train / rates.train + passes * train / 3 / rates.score + method.num_updates * rates.update
    seconds += score / rates.score
    number = len(rows.decode)
    sampling = rates.verify * number + decoding(job, rates, number, length)
    sampling += sum(probe.architecture.forward(n, 1) for n in rows.prefill) / rates.score
    return TypicalStep(cost, total, seconds, sampling)


def usual(probe: Probe) -> Example:
    """The example of median length."""
    return sorted(probe.examples, key=lambda e: len(e.prompt_ids) + len(e.demo_ids))[len(probe.examples) // 2]


def decoding(job: Job, rates: Rates, rows: int, length: float) -> float:
    """Seconds of sampling completions of a mean length: chunks go on until their longest row ends, twice the mean."""
    chunks = ceil(rows / job.execution.sample_rows)
    longest = min(job.plan.max_new_tokens, 2 * length)
    return rates.token * chunks * longest + rates.row * rows * length


def judged(job: Job) -> list[tuple[int, int]]:
    """Items and samples per item of every evaluation, the best checkpoint's second test among them."""
    e, plan = job.plan.evaluation, job.plan
    last = [e.test_items, e.ood_items if plan.ood_level else 0, e.reworded_items]
    last += [e.other_items] * len(plan.others) + [e.skill_items] * len(plan.skills)
    trains = any(stage.fields["batch_size"] > 0 for stage in plan.stages)
    last += [e.test_items] if trains else []
    times = len(e.fractions) if trains else 1
    return [(e.val_items, e.val_samples)] * times + [(items, e.test_samples) for items in last if items]


def completions(job: Job) -> int:
    """Completions, sampled and greedy, of all evaluations."""
    return sum(items * (samples + 1) for items, samples in judged(job))


def evaluation_seconds(job: Job, probe: Probe, rates: Rates | None) -> float:
    """Seconds of all evaluations; trained on demonstrations, a model writes as much as they have."""
    if rates is None:
        return 0.0
    limit, mean = job.plan.max_new_tokens, len(usual(probe).demo_ids)
    last = job.plan.stages[-1]
    length = min(rates.length, limit)
    if last.fields["batch_size"] > 0:
        method = registry.build_method(last.name, last.fields)
        sampling = bool(step_rows(method, usual(probe), 1).decode)
        length = (length + min(mean, limit)) / 2 if sampling else min(mean, limit)
    prompt = probe.architecture.forward(len(usual(probe).prompt_ids), 1) / rates.score
    total = 0.0
    for items, samples in judged(job):
        rows = items * (samples + 1)
        total += 2 * items * prompt + rows * rates.verify
        total += decoding(job, rates, items * samples, length) + decoding(job, rates, items, length)
    return total


def num_examples(job: Job) -> int:
    """Problems that a run makes and tokenises before it starts."""
    return job.plan.train_size + sum(items for items, _ in judged(job))


# --- finished runs -------------------------------------------------------------------------------------------------


def identity(job: Job) -> tuple[object, ...]:
    """What runs must share for the time of one to say that of the other."""
    plan, how = job.plan, job.execution
    settings = (plan.method, plan.task, plan.level, plan.model_digest, plan.max_new_tokens)
    return *settings, how.device, how.threads, how.devices_per_run


def past_runs(jobs: Sequence[Job], results: Path) -> Iterator[tuple[tuple[object, ...], Past]]:
    """What finished runs took, the median of those like each of the jobs."""
    wanted = {identity(job) for job in jobs}
    found: dict[tuple[object, ...], list[Past]] = {}
    for path in finished_runs(results, digests=())[0]:
        try:
            plan, ledger = read_plan(path), read_json(path / "done.json")["ledger"]
            where = execution_in(read_json(path / "env.json"), plan)
            evals = read_lines(path / "evals.jsonl")
            settings = (plan.method, plan.task, plan.level, plan.model_digest, plan.max_new_tokens)
            key = (*settings, where.get("device"), where.get("threads"), where.get("devices_per_run", 1))
            if key in wanted:
                number = sum(e["num_items"] * (e["num_samples"] + 1) for e in evals)
                judging = sum(e["seconds"] for e in evals) / max(number, 1)
                flop = ledger["seconds"] / ledger["flops"] if ledger["flops"] else 0.0
                found.setdefault(key, []).append(Past(flop, judging))
        except (CorruptRun, KeyError, TypeError):  # such a run is named when it is shown
            continue
    for like, runs in found.items():
        yield like, Past(median(run.flop for run in runs), median(run.completion for run in runs))

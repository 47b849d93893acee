"""What a list of runs will cost, before anything starts: steps, FLOPs, time and disk of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.foreign import say, say_json
from bench.plan import registry
from bench.plan.budget import UNITS, Budget, Meter, scoring_passes
from bench.store.job import Job
from bench.store.run_folder import CorruptRun, finished_runs, read_json
from bench.store.stored_run import execution_in, read_plan
from bench.study.footprint import footprint, peak_disk
from bench.study.groups import check_rows
from bench.types import Example, Preparer, Requests, UserError

TYPICAL = 0.75  # a step's usual cost as a share of its worst case
EFFICIENCY = 0.15  # share of the measured matrix-multiply rate that a run reaches, until finished runs say more
COARSE = 0.03  # share of the budget from which one step is worth a warning
SUFFIXES = {unit: suffix for suffix, unit in UNITS.items()}
LISTED = 12  # methods that such a warning names
SAMPLE = 64  # examples from which a step's cost is estimated


@dataclass(frozen=True)
class Estimate:
    """Expected cost of one run; ``seconds`` excludes evaluation and start-up."""

    run: str
    finished: bool
    steps: float
    flops: float
    seconds: float
    disk_bytes: float  # what it leaves: records and the kept policy
    checkpoint_bytes: float  # on the disk beside these while it goes on
    memory_bytes: float  # of the host, while it goes on
    largest_step: float  # worst case of one step as a share of its stage's budget: as much may stay unspent


class Probe:
    """Architecture and tokenised examples of one model and task, without loading weights."""

    def __init__(self, job: Job) -> None:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        from bench.engine.model_faults import check_files, check_vocabulary
        from bench.engine.policy import NO_CODE, architecture, load_config, load_tokenizer, unloadable
        from bench.engine.splits import check_context

        logging.set_verbosity_error()
        tokenizer = load_tokenizer(job.model_path)
        with torch.device("meta"):
            try:
                model = AutoModelForCausalLM.from_config(load_config(job.model_path), **NO_CODE)
            except Exception as error:  # transformers raises anything for a configuration that makes no sense
                raise unloadable(job.model_path, error) from None
        check_vocabulary(job.model_path, model, tokenizer)
        check_files(job.model_path)
        self.architecture = architecture(model)
        self.num_parameters = sum(p.numel() for p in model.parameters())
        self.largest_parameter = max(p.numel() for p in model.parameters())
        self.examples = probe_examples(job, tokenizer)
        self.costs: dict[tuple[str, int, int, str], tuple[float, float]] = {}
        check_context(job.plan, self.examples, getattr(model.config, "max_position_embeddings", None))


def probe_examples(job: Job, tokenizer: Any) -> list[Example]:
    """A few tokenised training examples; reads the data file, so that its faults are found before any run starts."""
    from bench.engine.encoding import encode
    from tasks import common

    plan, task = job.plan, registry.task(job.plan.task)
    if job.data is not None:
        splits = common.from_file(task, job.data, plan.template, plan.split_by)
        for split, rows in splits.items():
            if not rows:
                raise UserError(f"data file '{job.data.location}' has no rows for the {split} split: give more rows")
        if plan.split_by:
            check_rows(task, splits, job.data.name, plan.split_by)
        rows = splits["train"][:SAMPLE]
    else:
        size = min(SAMPLE, plan.train_size)
        rows = common.load_examples(task, "train", size, plan.level, plan.template, split_by=plan.split_by)
    return [encode(tokenizer, e, plan.template) for e in rows]


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
    settings = job.plan.stages[stage]
    method = registry.build_method(settings.name, settings.fields)
    longest = max(probe.examples, key=lambda e: len(e.prompt_ids) + len(e.demo_ids))
    asks = Requests.of(method)
    num_examples = method.batch_size + asks.num_demos + asks.buffer_size
    copies = [replace(longest, id=str(i)) for i in range(num_examples)]  # methods may choose examples by their ids
    rows = method.worst_case(copies, job.plan.max_new_tokens)
    meter = Meter(probe.architecture, Budget(unit, float("inf")))
    step = meter.worst_case(rows, scoring_passes(method), method.num_updates + bool(asks.buffer_size))
    if not isinstance(method, Preparer):
        return step, 0.0
    rows = method.prepare_worst_case([longest] * job.plan.train_size, job.plan.max_new_tokens)
    return step, meter.worst_case(rows, 0, 0)


def estimate_runs(jobs: Sequence[Job], results: Path, keep: str) -> list[Estimate]:
    """One estimate per job; UserError when a budget does not allow one step of a method."""
    probes: dict[tuple[str, str], Probe] = {}
    rate = 0.0
    estimates = []
    for job in jobs:
        key = (job.model_path, job.plan.task)
        if key not in probes:
            probes[key] = Probe(job)
            rate = rate or speed(job, results)
        estimates.append(estimate_run(job, probes[key], rate, keep))
    return estimates


def estimate_run(job: Job, probe: Probe, rate: float, keep: str) -> Estimate:
    """``rate`` is in FLOPs per second."""
    plan = job.plan
    steps = flops = largest = 0.0
    for index, stage in enumerate(plan.stages):
        if stage.fields["batch_size"] == 0:
            continue
        share = plan.budget_limit * stage.share
        cost, before = worst_costs(job, probe, index, plan.budget_unit)
        if cost + before > share:
            raise UserError(
                f"budget {plan.budget} is smaller than one step of {plan.method}"
                f"{f' (its stage {stage.name} has {share:.3g})' if len(plan.stages) > 1 else ''}: a step may cost "
                f"{cost:.3g} {plan.budget_unit}"
                + (f", preparing the data before it {before:.3g}" if before else "")
                + f"; the smallest budget is {smallest_budget(job, probe)}"
            )
        largest = max(largest, cost / share)
        step_flops, before_flops = (TYPICAL * flops for flops in worst_costs(job, probe, index, "flops"))
        typical = {"steps": cost, "rollouts": cost, "seconds": step_flops / rate}.get(plan.budget_unit, TYPICAL * cost)
        num = (share - TYPICAL * before) / typical if typical else share * rate / step_flops
        steps += num * stage.fields["num_updates"]
        flops += num * step_flops + before_flops
    seconds = plan.budget_limit if plan.budget_unit == "seconds" and steps else flops / rate
    needs = footprint(job, probe.num_parameters, probe.largest_parameter, steps, keep)
    return Estimate(plan.directory, job.done, steps, flops, seconds, *needs, largest)


def smallest_budget(job: Job, probe: Probe) -> str:
    """The smallest budget of a run's unit that allows a step of every stage, rounded up to three digits."""
    stages, unit = job.plan.stages, job.plan.budget_unit
    trained = [n for n, stage in enumerate(stages) if stage.fields["batch_size"] > 0]
    amount = max(sum(worst_costs(job, probe, n, unit)) / stages[n].share for n in trained)
    rounded = float(f"{amount:.3g}")
    return f"{rounded if rounded >= amount else float(f'{amount * 1.005:.3g}'):.3g}{SUFFIXES[unit]}"


def speed(job: Job, results: Path) -> float:
    """FLOPs per second of finished runs of this model and device, or a guess from a short matrix multiplication."""
    rates = []
    for path in finished_runs(results, digests=())[0]:
        try:
            plan, ledger = read_plan(path), read_json(path / "done.json")["ledger"]
            where = execution_in(read_json(path / "env.json"), plan)
        except CorruptRun:
            continue
        same = plan.model_digest == job.plan.model_digest and where.get("device") == job.execution.device
        if same and ledger["seconds"] > 0:
            rates.append(ledger["flops"] / ledger["seconds"])
    return sorted(rates)[len(rates) // 2] if rates else EFFICIENCY * matmul_rate(job.execution.device)


def matmul_rate(device: str) -> float:
    """FLOPs per second of float32 products (bfloat16 on a GPU), measured for a moment on one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    size, repeats = (512, 10) if device == "cpu" else (4096, 10)
    a = torch.randn(size, size, device=device, dtype=torch.float32 if device == "cpu" else torch.bfloat16)
    (a @ a).sum().item()
    begin = perf_counter()
    for _ in range(repeats):
        b = a @ a
    b.sum().item()
    torch.set_num_threads(threads)
    return 2.0 * size**3 * repeats / (perf_counter() - begin)


def coarse(jobs: Sequence[Job], estimates: Sequence[Estimate]) -> str:
    """A warning that names the methods whose steps are large parts of the budget; empty if there are none."""
    shares: dict[str, float] = {}
    for job, e in zip(jobs, estimates):
        if e.largest_step > COARSE:
            shares[job.plan.method] = max(e.largest_step, shares.get(job.plan.method, 0.0))
    if not shares:
        return ""
    named = [f"{method} {100 * share:.0f} %" for method, share in shares.items()]
    listed = ", ".join(named[:LISTED] + ([f"{len(named) - LISTED} more"] if len(named) > LISTED else []))
    return f"one step may cost a large part of this budget, and as much may stay unspent: {listed}; a larger one helps"


def print_estimate(estimates: Sequence[Estimate], workers: int, format: str) -> None:
    """The plan as a table, or as JSON."""
    if format == "json":
        say_json([asdict(e) for e in estimates])
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for title in ("run", "steps", "FLOPs", "time", "disk"):
        table.add_column(title, justify="left" if title == "run" else "right", overflow="fold")
    for e in estimates:
        time = "finished" if e.finished else f"{e.seconds:.0f} s"
        table.add_row(e.run, f"{e.steps:.0f}", f"{e.flops:.2e}", time, f"{e.disk_bytes / 1e6:.0f} MB")
    Console(width=120).print(table)
    open_runs = [e for e in estimates if not e.finished]
    total = sum(e.seconds for e in open_runs) / max(1, min(workers, len(open_runs)))
    say(
        f"{len(open_runs)} runs to do, {workers} at a time: about {total:.0f} s of training and "
        f"{peak_disk(open_runs, workers) / 1e6:.0f} MB at the peak; nothing was started"
    )

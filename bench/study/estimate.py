"""What a list of runs will cost, before anything starts: steps, FLOPs, time and disk of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.foreign import say, say_json
from bench.store.job import Job
from bench.study.durations import (
    GUESS,
    Past,
    completions,
    evaluation_seconds,
    identity,
    num_examples,
    past_runs,
    typical_step,
)
from bench.study.footprint import footprint, peak_disk
from bench.study.preflight_time import Preflight
from bench.study.probe import SUFFIXES, Probe, probes_of, worst_costs
from bench.study.rates import Rates, known_rates, measured_rates
from bench.study.slots import Slot
from bench.types import UserError

COARSE = 0.03  # share of the budget from which one step is worth a warning
LISTED = 12  # methods that such a warning names
LONG = 600.0  # seconds of training by that guess from which the rate is measured before runs start


@dataclass(frozen=True)
class Estimate:
    """Expected cost of one run; ``seconds`` is all its time, of which the other four are the parts."""

    run: str
    finished: bool
    steps: float
    flops: float
    seconds: float
    disk_bytes: float  # what it leaves: records and the kept policy
    checkpoint_bytes: float  # on the disk beside these while it goes on
    memory_bytes: float  # of the host, while it goes on
    largest_step: float  # worst case of one step as a share of its stage's budget: as much may stay unspent
    start_seconds: float = 0.0
    train_seconds: float = 0.0
    sample_seconds: float = 0.0
    evaluation_seconds: float = 0.0


def estimate_runs(
    jobs: Sequence[Job],
    results: Path,
    keep: str,
    tell: Callable[[str], None],
    slots: Sequence[Slot] = (Slot(0),),
    measure: bool = True,
    good: Callable[[], None] = lambda: None,
    here: bool = True,
) -> list[Estimate]:
    """One estimate per job; UserError when a budget does not allow one step of a method, notes for ``tell``.

    ``good`` is called when the input was found good, before anything is measured.  The rate of a model is measured, by
    a process in each of ``slots`` at once, where no finished run tells it; without ``measure`` only if the runs seem to
    take long, and only if they are made ``here``.
    """
    probes = probes_of(jobs)
    for note in (note for probe in probes.values() for note in probe.notes):
        tell(note)
    for job in jobs:
        check_budget(job, probes[job.model_path, job.plan.task])
    good()
    before = dict(past_runs(jobs, results))
    rates: dict[tuple[str, str], Rates | None] = {}
    long = sum(flops_of(job) for job in jobs if not job.done) > LONG * GUESS
    estimates = []
    for job in jobs:
        key, past = (job.model_path, job.plan.task), before.get(identity(job))
        if past is None and key not in rates:
            own = slots[: max(1, sum(not other.done for other in jobs))]
            wanted = (measure or long) and here and not job.done
            rates[key] = measured_rates(job, own) if wanted else known_rates(job, own)
        estimates.append(estimate_run(job, probes[key], rates.get(key), past, keep))
    return estimates


def flops_of(job: Job) -> float:
    """FLOPs of a run by its budget alone, if that is in FLOPs."""
    return job.plan.budget_limit if job.plan.budget_unit == "flops" else 0.0


def check_budget(job: Job, probe: Probe) -> None:
    """UserError, with what to do, when the budget of a stage does not allow one step of it."""
    plan = job.plan
    for index, stage in enumerate(plan.stages):
        if stage.fields["batch_size"] == 0:
            continue
        share = plan.budget_limit * stage.share
        cost, before = worst_costs(job, probe, index, plan.budget_unit)
        if cost + before > share:
            fits = plan.budget_unit in ("flops", "tokens", "rollouts")  # units that --batch auto takes
            smaller = fits and stage.fields["batch_size"] > 1 and plan.scaled is None
            raise UserError(
                f"budget {plan.budget} is smaller than one step of {plan.method}"
                f"{f' (its stage {stage.name} has {share:.3g})' if len(plan.stages) > 1 else ''}: a step may cost "
                f"{cost:.3g} {plan.budget_unit}"
                + (f", preparing the data before it {before:.3g}" if before else "")
                + f"; the smallest budget is {smallest_budget(job, probe)}"
                + (", or give --batch auto for smaller batches" if smaller else "")
            )


def estimate_run(job: Job, probe: Probe, rates: Rates | None, past: Past | None, keep: str) -> Estimate:
    """The cost of one run; what finished runs took goes before what was measured."""
    plan = job.plan
    steps = flops = largest = trained = sampled = 0.0
    for index, stage in enumerate(plan.stages):
        if stage.fields["batch_size"] == 0:
            continue
        share = plan.budget_limit * stage.share
        cost, before = worst_costs(job, probe, index, plan.budget_unit)
        largest = max(largest, cost / share)
        step = typical_step(job, probe, index, rates)
        if plan.budget_unit == "seconds":
            num = share / (step.train_seconds + step.sample_seconds)
        else:
            num = max(share - before / 2, 0.0) / step.cost
        steps += num * stage.fields["num_updates"]
        flops += num * step.flops + worst_costs(job, probe, index, "flops")[1] / 2
        trained, sampled = trained + num * step.train_seconds, sampled + num * step.sample_seconds
    if past is not None:
        known = flops * past.flop
        sampled = known * sampled / (trained + sampled) if sampled else 0.0
        trained = known - sampled
    busy = rates.busy if rates is not None else 1.0
    judging = evaluation_seconds(job, probe, rates) * busy if past is None else past.completion * completions(job)
    start = (rates.start + rates.load * num_examples(job)) * busy if rates is not None else 0.0
    if past is None:
        trained, sampled = trained * busy, sampled * busy
    if plan.budget_unit == "seconds":
        trained, sampled = plan.budget_limit - sampled, sampled
    left, checkpoints, memory = footprint(job, probe, steps, keep)
    how_long = {"start_seconds": start, "train_seconds": trained, "sample_seconds": sampled}
    return Estimate(
        run=plan.directory,
        finished=job.done,
        steps=steps,
        flops=flops,
        seconds=start + trained + sampled + judging,
        disk_bytes=left,
        checkpoint_bytes=checkpoints,
        memory_bytes=memory,
        largest_step=largest,
        evaluation_seconds=judging,
        **how_long,
    )


def smallest_budget(job: Job, probe: Probe) -> str:
    """The smallest budget of a run's unit that allows a step of every stage, rounded up to three digits."""
    stages, unit = job.plan.stages, job.plan.budget_unit
    trained = [n for n, stage in enumerate(stages) if stage.fields["batch_size"] > 0]
    amount = max(sum(worst_costs(job, probe, n, unit)) / stages[n].share for n in trained)
    rounded = float(f"{amount:.3g}")
    return f"{rounded if rounded >= amount else float(f'{amount * 1.005:.3g}'):.3g}{SUFFIXES[unit]}"


# --- in words ------------------------------------------------------------------------------------------------------


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


def print_estimate(
    estimates: Sequence[Estimate], workers: int, format: str, preflight: Preflight | None = None
) -> None:
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
        time = "finished" if e.finished else duration(e.seconds)
        table.add_row(e.run, f"{e.steps:.0f}", f"{e.flops:.2e}", time, f"{e.disk_bytes / 1e6:.0f} MB")
    Console(width=120).print(table)
    open_runs = [e for e in estimates if not e.finished]
    shares = f"{found}; " if (found := parts(open_runs, preflight)) else ""
    say(
        f"{len(open_runs)} runs to do, {workers} at a time: about "
        f"{duration(total_seconds(open_runs, workers, preflight))} and "
        f"{peak_disk(open_runs, workers) / 1e6:.0f} MB at the peak; {shares}nothing was started"
    )


def total_seconds(open_runs: Sequence[Estimate], workers: int, preflight: Preflight | None = None) -> float:
    """Seconds until all runs are done, some at a time; no sooner than the longest, and after the preflight."""
    times, before = [e.seconds for e in open_runs], preflight.seconds or 0.0 if preflight else 0.0
    return before + max(sum(times) / max(1, min(workers, len(times))), max(times, default=0.0))


def parts(open_runs: Sequence[Estimate], preflight: Preflight | None = None) -> str:
    """Which share of the runs' time is spent on what, and how long the preflight before them takes."""
    total = sum(e.seconds for e in open_runs)
    said = [preflight.text] if preflight else []
    if not total:
        return ", ".join(said)
    names = {"training": "train", "sampling": "sample", "evaluation": "evaluation", "start": "start"}
    shares = [(name, sum(getattr(e, f"{field}_seconds") for e in open_runs) / total) for name, field in names.items()]
    return ", ".join([*said, *(f"{name} {share:.0%}" for name, share in shares)])


def duration(seconds: float) -> str:
    """Seconds up to ten minutes, then minutes up to three hours, then hours."""
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3 * 3600 else f"{seconds / 3600:.1f} h"

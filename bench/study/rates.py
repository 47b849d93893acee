"""How fast a model trains and samples on this machine: measured by processes of their own, and remembered for a day."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean

from bench.foreign import parse_json
from bench.models import user_cache
from bench.plan.spec import stable_hash
from bench.store.files import write_atomic
from bench.store.job import Job
from bench.study.slots import Slot, child_environment
from bench.types import UserError

KEPT_SECONDS = 86_400.0  # a machine may be busy today and idle tomorrow
BUSY, BUSY_SECONDS = 1.3, 600.0  # a factor from which the machine had other work, and how long such rates are kept
WAIT_SECONDS = 600.0  # a model may come from a slow disk
MOST_COPIES = 16
VERSION = 2


@dataclass(frozen=True)
class Rates:
    """FLOPs per second of training and scoring; the rest in seconds and tokens, as ``rate_probe.measure`` says.

    What is worked out from them is to be multiplied by ``busy``.
    """

    train: float
    score: float
    update: float
    token: float
    row: float
    length: float
    load: float
    verify: float
    start: float
    busy: float = 1.0


def rates_folder() -> Path:
    """Where measured rates are kept: the user's cache folder."""
    return user_cache("rates")


def rates_key(job: Job, slots: Sequence[Slot]) -> str:
    """What rates depend on: model, how and where it runs, the lengths of the task's texts, and how many run at once."""
    plan, devices = job.plan, [slot.device for slot in slots if slot.device]
    asked = [plan.model_digest, job.execution.model_dump(), len(slots), VERSION, platform.node(), *devices]
    return stable_hash([*asked, plan.task, plan.level, plan.template, plan.data_digest, plan.max_new_tokens])


def measuring(job: Job, slots: Sequence[Slot]) -> Sequence[Slot]:
    """The slots in which rates are measured at once: on a CPU up to MOST_COPIES, on CUDA the first."""
    return slots[: MOST_COPIES if job.execution.device == "cpu" else 1]


def known_rates(job: Job, slots: Sequence[Slot]) -> Rates | None:
    """Rates that were measured within the last day, or minutes ago if the machine was busy then."""
    file = rates_folder() / f"{rates_key(job, measuring(job, slots))}.json"
    try:
        record = dict(parse_json(file.read_bytes()))
        age = time.time() - float(record.pop("measured"))
        rates = Rates(**record)
        return rates if 0 <= age < (BUSY_SECONDS if rates.busy > BUSY else KEPT_SECONDS) else None
    except (OSError, ValueError, TypeError, KeyError):  # none, or one that another version wrote
        return None


def measured_rates(job: Job, slots: Sequence[Slot]) -> Rates:
    """The rates of one of the processes that run in these slots at once, each measured beside the others.

    On a GPU one process measures alone, on the device of the first slot.  UserError if the model cannot be measured.
    """
    if (known := known_rates(job, slots)) is not None:
        return known
    own = measuring(job, slots)
    rates = run_probes(job, own)
    write_atomic_in(rates_folder(), f"{rates_key(job, own)}.json", {**asdict(rates), "measured": time.time()})
    return rates


def write_atomic_in(folder: Path, name: str, record: dict[str, float]) -> None:
    """Keep a record if the folder can be written; a read-only home costs a measurement each time, no more."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / name, record)
    except OSError:
        return


def run_probes(job: Job, slots: Sequence[Slot]) -> Rates:
    """Start a process in each slot, wait for all, and take the means of what they say."""
    settings = [child_environment(slot.device, job.execution.threads) for slot in slots]
    command = [sys.executable, "-m", "bench.study.rate_probe"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    order = json.dumps({"job": job.record(), "began": time.time()}).encode()
    started = [subprocess.Popen(command, env=env, **pipes) for env in settings]  # type: ignore[call-overload]
    try:
        for process in started:  # all begin before one is waited for
            process.stdin.write(order)
            process.stdin.close()
            process.stdin = None
        ended = [process.communicate(timeout=WAIT_SECONDS) for process in started]
    except subprocess.TimeoutExpired:
        raise UserError(f"the rate of model '{job.plan.model}' was not measured within {WAIT_SECONDS:.0f} s") from None
    finally:
        for process in started:
            process.kill()
            process.wait()
    return mean_rates(job, [(process.returncode, *texts) for process, texts in zip(started, ended)])


def mean_rates(job: Job, ended: Sequence[tuple[int, bytes, bytes]]) -> Rates:
    """The means of what processes wrote; UserError with the last line of one that failed."""
    for code, _, errors in ended:
        if code:
            said = errors.decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
            raise UserError(f"the rate of model '{job.plan.model}' cannot be measured: {said[-1]}")
    records = [parse_json(output) for _, output, _ in ended]
    return Rates(**{field.name: fmean(record[field.name] for record in records) for field in fields(Rates)})

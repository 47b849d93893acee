"""Disk and host memory that runs need at their peak, against what is free."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from bench.foreign import say
from bench.plan import registry
from bench.plan.memory import FLOAT, MOMENTS, kept_bytes
from bench.store.job import Job
from bench.store.run_folder import NONE
from bench.study.slots import Slot
from bench.types import Requests, UserError

PROCESS = {"cpu": 0.4e9, "cuda": 3e9}  # bytes of memory of a worker without any model, mostly its libraries
CGROUPS = Path("/sys/fs/cgroup")
# Of the second and the first version of control groups: the limit and what is used of it.
LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


class Needs(Protocol):
    """The part of an estimate that is about space, in bytes."""

    @property
    def disk_bytes(self) -> float: ...

    @property
    def checkpoint_bytes(self) -> float: ...

    @property
    def memory_bytes(self) -> float: ...


class Size(Protocol):
    """Numbers of a model: all of its weights, those that training changes, those of its largest tensor."""

    num_parameters: int
    num_trained: int
    largest_parameter: int


def footprint(job: Job, size: Size, steps: float, keep: str) -> tuple[float, float, float]:
    """Bytes that a run leaves on the disk, that its checkpoints need besides, and of host memory."""
    plan, e, weights, own = job.plan, job.plan.evaluation, FLOAT * size.num_parameters, FLOAT * size.num_trained
    elsewhere = e.other_items * len(plan.others) + e.skill_items * len(plan.skills)
    last = 2 * e.test_items + e.ood_items + e.reworded_items + elsewhere
    items = e.val_items * (e.val_samples + 1) * len(e.fractions) + last * (e.test_samples + 1)
    kept = weights * (keep != NONE) / (2 if job.execution.device == "cuda" else 1)  # there in bfloat16
    left = items * (200 + 2.0 * plan.max_new_tokens) + steps * 1200 + kept
    methods = [registry.build_method(stage.name, stage.fields) for stage in plan.stages]
    asks = [Requests.of(method) for method in methods]
    references = sum(a.keeps_reference + bool(a.reference_sync) for a in asks)
    trained = any(method.batch_size > 0 for method in methods)
    # While a checkpoint is saved the one before still stands: twice the weights and both moments of AdamW.  The best
    # weights are there once, and so is the reference as long as it is the same.
    checkpoints = float(own * ((2 * (1 + MOMENTS) + 1 + min(references, 2)) if trained else 1))
    count = job.execution.devices_per_run  # each loads the model, and has all weights again while it samples
    memory = count * (PROCESS[job.execution.device] + FLOAT * size.largest_parameter + weights)
    if job.execution.device == "cpu" and trained:  # on CUDA all else is not here
        states = kept_bytes(size.num_parameters, size.num_trained, max(a.frozen_models for a in asks))
        memory += states["gradients"] + states["moments"] + count * states["reference"] + (weights if count > 1 else 0)
    return left, checkpoints, memory


def peak_disk(needs: Sequence[Needs], workers: int) -> float:
    """Bytes when all has been written, and as many runs save as can go on at a time."""
    return sum(e.disk_bytes for e in needs) + sum(largest((e.checkpoint_bytes for e in needs), workers))


def largest(values: Iterable[float], count: int) -> list[float]:
    return sorted(values, reverse=True)[:count]


def check_space(
    jobs: Sequence[Job], needs: Sequence[Needs], slots: list[Slot], results: Path, asked: bool, here: bool = True
) -> list[Slot]:
    """The slots in which these runs have room together; a warning if they are fewer, UserError if there are none.

    UserError too if they are fewer than the user ``asked`` for.  Of runs not made ``here`` the disk alone counts.
    """
    workers = min(len(slots), len(jobs))
    memory, disk = free_memory() if here else float("inf"), free_disk(results) + sum(map(checkpoints_there, jobs))
    fits = 0
    for count in range(1, workers + 1):
        if sum(largest((e.memory_bytes for e in needs), count)) <= memory and peak_disk(needs, count) <= disk:
            fits = count
    if fits == workers:
        return slots
    need = sum(largest((e.memory_bytes for e in needs), workers))
    short = [f"{need / 1e9:.1f} GB of memory where {memory / 1e9:.1f} are free"] if need > memory else []
    if (need := peak_disk(needs, workers)) > disk:
        short.append(f"{need / 1e9:.1f} GB in '{results}' where {disk / 1e9:.1f} are free")
    says = f"{workers} runs at a time need {' and '.join(short)}"
    if not fits:
        way = "a larger disk by --results, or --keep none" if peak_disk(needs, 1) > disk else "a smaller model"
        raise UserError(f"{says}, and with --workers 1 they do not fit either: expected {way}")
    if asked:
        raise UserError(f"{says}: expected --workers {fits} or fewer")
    say(f"warning: {says}: {fits} are started at a time (--workers {fits})", error=True)
    return slots[:fits]


def checkpoints_there(job: Job) -> int:
    """Bytes of the checkpoints of an interrupted run; a file with several names counts once."""
    files = {s.st_ino: s.st_size for s in (p.stat() for p in job.path.glob("*checkpoint-*/*"))}
    return sum(files.values())


def free_disk(folder: Path) -> float:
    """Bytes that may still be written in a folder, or where it will be made."""
    there = next(p for p in [folder.absolute(), *folder.absolute().parents] if p.exists())
    return float(shutil.disk_usage(there).free)


def free_memory() -> float:
    """Bytes of host memory that this process and its children can have; infinite where the system does not say."""
    free = [float("inf"), *control_groups()]
    with suppress(OSError, ValueError, IndexError):
        said = Path("/proc/meminfo").read_text(encoding="utf-8")
        free.append(1024.0 * int(re.findall(r"MemAvailable: +(\d+) kB", said)[0]))
    return min(free)


def control_groups() -> Iterator[float]:
    """What the limits of this process's control groups leave: those of containers and of batch systems."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds and "memory" not in kinds.split(","):
                continue
            group = CGROUPS / ("memory" if kinds else "") / path.lstrip("/")
            for folder in [group, *group.parents]:
                yield from left_in(folder)
                if folder == CGROUPS:
                    break


def left_in(folder: Path) -> Iterator[float]:
    """What the limit of one control group leaves; its cache of files counts as free, since the system gives it back."""
    for limit, used in LIMITS:
        with suppress(OSError, ValueError):  # no such limit: the file is not there, or says "max"
            taken = int((folder / used).read_text(encoding="utf-8"))
            said = (folder / "memory.stat").read_text(encoding="utf-8")
            cache = re.findall(r"(?m)^(?:total_)?(?:in)?active_file (\d+)", said)
            yield float(int((folder / limit).read_text(encoding="utf-8")) - taken + sum(map(int, cache)))

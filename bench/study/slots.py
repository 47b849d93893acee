"""Where runs are computed: a slot is a part of the CPU's cores or of a CUDA device, and holds one worker at a time."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from bench.plan.registry import ROOT
from bench.types import UserError

FAKE = "BENCH_FAKE_DEVICES"  # a number of devices for tests: runs on a CPU are then placed as if they had them
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Slot:
    """Room for one worker; ``device`` is what CUDA calls the devices that it sees, with commas, empty on a CPU."""

    number: int
    device: str = ""


def child_environment(device: str, threads: int) -> dict[str, str]:
    """The environment of a process: it sees this device alone, or what this one sees, and has so many threads."""
    sizes = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(":")
    return {**os.environ, **sizes, **({VISIBLE: device} if device else {}), "PYTHONPATH": path}


def num_workers(threads: int) -> int:
    """Processes that fit this machine's cores."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, available // threads)


def make_slots(
    kind: str,
    threads: int,
    workers: int = 0,
    devices: str | None = None,
    per_device: int | None = None,
    per_run: int = 1,
) -> list[Slot]:
    """The slots of runs on ``kind`` of device with so many threads each; ``workers`` of them, 0 for all.

    A run gets ``per_run`` devices, on a CPU as many processes.  UserError for devices that are not there, and for more
    workers than they hold.
    """
    if kind != "cuda" and FAKE not in os.environ:
        if devices is not None or per_device is not None:
            raise UserError("--devices and --per-device are about CUDA devices, and these runs are on the CPU")
        return [Slot(number) for number in range(workers or num_workers(threads * per_run))]
    if not (found := visible_devices()):
        raise UserError("no CUDA device is visible here: expected some in CUDA_VISIBLE_DEVICES, or give --device cpu")
    ids = found if devices is None else choose(devices, found)
    if per_run > len(ids):
        raise UserError(f"--devices-per-run {per_run} are more than the CUDA devices here: expected at most {len(ids)}")
    groups = [",".join(ids[i : i + per_run]) for i in range(0, len(ids) - per_run + 1, per_run)]
    slots = [Slot(n, group) for n, group in enumerate(group for _ in range(per_device or 1) for group in groups)]
    if workers > len(slots):
        raise UserError(
            f"--workers {workers} are more than the {len(slots)} slots of {len(ids)} CUDA devices: expected at most "
            f"{len(slots)}, or --per-device {-(-workers // len(groups))} if so many models fit on one"
        )
    return slots[: workers or None]


def visible_devices() -> list[str]:
    """The CUDA devices that this process may use, by name; CUDA is not started for it, which would take memory."""
    if fake := os.environ.get(FAKE):
        if not re.fullmatch("[0-9]{1,4}", fake):
            raise UserError(f"{FAKE}='{fake}': expected a number of devices up to 9999")
        return [str(number) for number in range(int(fake))]
    if listed := os.environ.get(VISIBLE):
        return [name.strip() for name in listed.split(",") if name.strip()]
    try:
        text = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        text = ""
    if found := listed_devices(text):
        return found
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def listed_devices(text: str) -> list[str]:
    """UUIDs in what ``nvidia-smi -L`` prints; the parts of a divided device stand in its place."""
    # UUIDs, because CUDA may number devices otherwise than the driver does.
    devices: list[tuple[str, list[str]]] = []
    for name in re.findall(r"\(UUID: ((?:GPU|MIG)-[^)]+)\)", text):
        if name.startswith("GPU"):
            devices.append((name, []))
        elif devices:
            devices[-1][1].append(name)
    return [name for device, parts in devices for name in parts or [device]]


def choose(text: str, found: Sequence[str]) -> list[str]:
    """The devices that ``all``, ``0-3``, ``0,2`` or UUIDs mean; UserError for others, and for one given twice."""
    if text == "all":
        return list(found)
    last = len(found) - 1
    expected = f"expected all, numbers from 0 to {last} such as 0-{last} or 0,{last}, or UUIDs"
    chosen: list[str] = []
    for part in [part.strip() for part in text.split(",")]:
        span = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
        if part in found and not span:
            names = [part]
        elif span and int(span[1]) <= int(span[2] or span[1]) <= last:
            names = list(found[int(span[1]) : int(span[2] or span[1]) + 1])
        else:
            raise UserError(f"--devices '{text}': there is no device '{part}': {expected}")
        chosen += names
    if len(set(chosen)) < len(chosen):
        raise UserError(
            f"--devices '{text}' names a device twice: expected each once (--per-device runs several on it)"
        )
    return chosen

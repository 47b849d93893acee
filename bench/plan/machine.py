"""Versions and hardware, as recorded with everything that is measured."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from contextlib import suppress
from importlib import metadata
from typing import Any

PACKAGES = ("posttrain-bench", "torch", "transformers", "tokenizers", "numpy", "safetensors")


def machine_facts(device: str) -> dict[str, Any]:
    """Python, versions of the packages that numbers depend on, and the hardware, with the GPU's name on CUDA."""
    hardware = {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}
    if device == "cuda":
        import torch

        hardware["gpu"] = torch.cuda.get_device_name()
    versions = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"python": platform.python_version(), "versions": versions, **hardware}


def used_resources(device: str, begin: float) -> dict[str, float]:
    """What this process used since ``begin`` (``time.monotonic``): seconds, CPU seconds, most bytes held at once.

    Peaks are those of the whole process; of a device they are the bytes of tensors, without what the allocator kept.
    """
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    used = {"seconds": time.monotonic() - begin, "seconds_cpu": time.process_time(), "peak_host_bytes": peak}
    if device == "cuda":
        import torch

        used["peak_device_bytes"] = torch.cuda.max_memory_allocated()
    return used

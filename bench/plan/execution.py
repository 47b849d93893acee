"""How runs are computed, apart from what is compared."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from bench.types import UserError

PLACES = ("auto", "device", "offload")


class Execution(BaseModel):
    """How a run is computed, which is no part of what is compared: results depend on it by rounding alone.

    ``micro_batch_tokens`` is the size of one training pass, with its padding unless ``packing`` lays the rows end to
    end; ``sample_rows`` the completions written at once; ``reference`` where a GPU's reference model is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    device: str
    threads: int
    micro_batch_tokens: int
    sample_rows: int
    packing: bool = False
    reference: str = "auto"


def check_reference(where: str, device: str) -> str:
    """The place of the reference model; UserError for an unknown one, and for one that the device does not have."""
    from bench.plan.registry import check_choice

    check_choice(where, PLACES, "reference")
    if where == "offload" and device == "cpu":
        raise UserError("--reference offload is about a GPU's memory and this run is on the CPU: expected auto")
    return where

"""How a run is computed: on what, in what portions, and what is kept in memory."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

RECOMPUTE = ("none", "auto", "full")  # auto: full on CUDA where a pass would hardly fit otherwise


class Execution(BaseModel):
    """How a run is computed, which is no part of what is compared: results depend on it by rounding alone.

    ``micro_batch_tokens`` is the padded size of one training pass, ``sample_rows`` the most completions written at
    once: fewer where memory is short.  ``recompute`` (one of RECOMPUTE) says whether activations are computed again in
    the backward pass.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    device: str
    threads: int
    micro_batch_tokens: int
    sample_rows: int
    recompute: str = "none"

    def identity(self) -> dict[str, Any]:
        """The fields that are hashed where execution is compared."""
        fields = self.model_dump()
        return {k: v for k, v in fields.items() if (k, v) != ("recompute", "none")}

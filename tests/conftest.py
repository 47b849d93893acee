"""Only for ``make test-rounding``: the shipped model is nudged wherever a test's own process loads it."""

from __future__ import annotations

import os
from typing import Any

import pytest


@pytest.fixture(autouse=True, scope="session")
def shipped_model_nudged() -> Any:
    """Random models are nudged where they are made, so that their files hold the nudged weights."""
    if not os.environ.get("BENCH_TEST_NUDGE"):
        yield
        return
    from transformers import AutoModelForCausalLM

    from bench.models import model_path
    from tests.helpers.rounding import nudged

    load = AutoModelForCausalLM.from_pretrained

    def loaded(path: Any, *args: Any, **options: Any) -> Any:
        model = load(path, *args, **options)
        return nudged(model) if str(path) == model_path("tiny") else model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AutoModelForCausalLM, "from_pretrained", loaded)
        yield

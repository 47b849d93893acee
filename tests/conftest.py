"""Rates are not measured in tests; for ``make test-rounding`` the shipped model is nudged where a test loads it."""

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


@pytest.fixture(autouse=True)
def rates_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Made-up rates in place of those of processes that take seconds, and nothing that the user's cache holds."""
    from bench.report import kept_tables
    from bench.study import rates

    monkeypatch.setattr(kept_tables, "tables_folder", lambda: tmp_path_factory.getbasetemp() / "tables")
    made_up = rates.Rates(1e10, 1e10, 0.001, 0.001, 0.0001, 20.0, 0.001, 0.001, 5.0)
    monkeypatch.setattr(rates, "run_probes", lambda job, slots: made_up)
    monkeypatch.setattr(rates, "rates_folder", lambda: tmp_path_factory.getbasetemp() / "rates")

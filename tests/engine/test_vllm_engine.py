"""vLLM on the CPU against the sampler of bench: the same tokens, before and after updates (``make test-vllm``)."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.engine.engines import Engine, StaleWeights, weights_version
from bench.engine.policy import Policy, load_model
from bench.engine.runner import execute
from bench.models import model_path
from bench.plan import registry
from bench.plan.budget import Budget, Meter
from bench.plan.lora import Lora
from bench.store.run_folder import read_json, read_lines
from bench.types import UserError
from benchmarks import gpu_cases
from benchmarks.gpu_engines import engines
from tests.helpers.engine import TOKENIZER, pool, small_model, stage
from tests.helpers.imports import ROOT
from tests.helpers.runs import make_job, timeless, write_model

pytestmark = pytest.mark.vllm
ROWS, NEW, APART = 64, 64, 1e-4  # nats: float32 of two implementations
CPU = torch.device("cpu")


def engine(path: str) -> Engine:
    from bench.engine.vllm_engine import VllmEngine

    return VllmEngine(path, CPU, ROWS)


@pytest.fixture(scope="module")
def pair() -> tuple[Policy, Policy]:
    """The embedded model under either engine."""
    path = str(model_path("tiny"))
    handler = signal.getsignal(signal.SIGTERM)
    threads = torch.set_num_threads
    policies = Policy(*load_model(path)), Policy(*load_model(path), engine=engine(path))
    both(policies, 1, 2)
    assert signal.getsignal(signal.SIGTERM) is handler and torch.set_num_threads is threads
    return policies


def both(policies: tuple[Policy, Policy], group: int = 4, new: int = NEW, **how: Any) -> None:
    """Sample with both and compare tokens, log-probabilities and lengths; with these seeds no draw is near a border."""
    prompts = [example.prompt_ids for example in pool(ROWS // group)]
    seeds = how.pop("seeds", range(ROWS))
    ours, theirs = (p.sample(prompts, group, new, seeds and list(seeds), **how) for p in policies)
    assert ours.token_ids == theirs.token_ids
    for a, b in zip(ours.logprobs, theirs.logprobs):
        assert a == pytest.approx(b, abs=APART)
    assert (ours.prefill_lengths, ours.rows) == (theirs.prefill_lengths, theirs.rows)
    assert theirs.wasted >= 0


def train_both(policies: tuple[Policy, Policy], name: str, steps: int, **fields: Any) -> list[list[dict[str, Any]]]:
    """Steps of a method by both, each on its own weights."""
    records = []
    for policy in policies:
        policy.meter = Meter(policy.architecture, Budget("steps", 1e9))
        method = registry.build_method(name, {"batch_size": 4, "group_size": 4, **fields})
        current = stage(policy, method, pool(40), max_new_tokens=NEW)
        records.append([timeless(current.run_step()) for _ in range(steps)])
    return records


@pytest.mark.parametrize("how", [{}, {"seeds": None}, {"temperature": 0.6}, {"group": 1}, {"new": 1}, {"group": 64}])
def test_the_same_tokens(pair: Any, how: dict[str, Any]) -> None:
    both(pair, **how)


def test_rows_are_told_as_soon_as_they_end(pair: Any) -> None:
    told: dict[int, list[int]] = {}
    calls = []

    def finished(rows: Any, tokens: Any) -> None:
        calls.append(list(rows))
        told.update(zip(rows, tokens))

    prompts = [example.prompt_ids for example in pool(8)]
    out = pair[1].sample(prompts, 2, NEW, list(range(16)), finished=finished)
    assert len(calls) > 1 and [told[row] for row in range(16)] == out.token_ids


def test_a_row_that_does_not_fit_is_one_line(pair: Any) -> None:
    with pytest.raises(UserError, match=r"^--sampler vllm: a prompt and its completion may have 260 tokens.* for 256:"):
        pair[1].sample([[5] * 200, [6]], 1, 60, [0, 1])


def test_an_error_in_the_caller_leaves_nothing_behind(pair: Any) -> None:
    def fails(rows: Any, tokens: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pair[1].sample([example.prompt_ids for example in pool(8)], 2, NEW, list(range(16)), finished=fails)
    both(pair)


def test_training_has_the_same_rewards_and_charges(pair: Any) -> None:
    """After every update the new weights are the engine's; a stale version is refused."""
    ours, theirs = train_both(pair, "uft", 5, lr=1e-3, num_updates=2)
    for a, b in zip(ours, theirs):
        assert a["reward"] == b["reward"] and a["loss"] == pytest.approx(b["loss"], rel=1e-3, abs=1e-5)
        assert b["sampler_gap"] < 1e-5 and b["sampler_gap_p99"] < APART and b["sampler_kl"] < 1e-8
    ledgers = [timeless(asdict(policy.meter.ledger)) for policy in pair]
    assert {k: v for k, v in ledgers[0].items() if k != "padding_tokens"} == {
        k: v for k, v in ledgers[1].items() if k != "padding_tokens"
    }
    with pytest.raises(StaleWeights):
        request: Any = None
        pair[1].engine.sample(request, weights_version(pair[1].model) + 1)
    both(pair)


def directory(path: Path, **changes: Any) -> str:
    small_model(1, 0.3, **changes).save_pretrained(path)
    TOKENIZER.save_pretrained(path)
    return str(path)


def loaded(path: str, lora: Lora | None = None) -> Iterator[Policy]:
    """A policy under either engine."""
    from bench.engine.adapters import attach

    for own in (None, engine(path)):
        model, tokenizer = load_model(path)
        if lora is not None:
            attach(model, lora, 0)
        yield Policy(model, tokenizer, engine=own)


def test_a_tied_head_and_an_adapter_follow_the_training(tmp_path: Path) -> None:
    """On a CPU vLLM packs the head's weights when it loads them: a tied one would keep its first values."""
    path = directory(tmp_path, tie_word_embeddings=True)
    for lora in (None, Lora(rank=4, alpha=8.0)):
        first, second = loaded(path, lora)
        both((first, second))
        ours, theirs = train_both((first, second), "grpo", 2, lr=0.02)
        assert [r["reward"] for r in ours] == [r["reward"] for r in theirs]
        both((first, second))


def test_importing_bench_loads_no_vllm() -> None:
    """Where it is installed: a run that samples with torch never waits for it."""
    script = (
        "import importlib, sys\n"
        "for module in sys.argv[1:]:\n    importlib.import_module(module)\n"
        "assert 'vllm' not in sys.modules"
    )
    files = [file.relative_to(ROOT) for file in (ROOT / "bench").rglob("*.py") if file.stem != "__main__"]
    modules = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    assert len(modules) > 100 and "bench.engine.vllm_engine" in modules
    done = subprocess.run([sys.executable, "-c", script, *modules], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_benchmark_of_a_card_measures_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu_cases.SHAPES, "wide", {**gpu_cases.SHAPES["tiny"], "num_attention_heads": 2})
    monkeypatch.setitem(gpu_cases.VOCABULARY, "wide", 512)
    rows = list(engines(gpu_cases.random_model("wide", "cpu"), "cpu", gpu_cases.SMALL, 1e9))
    assert [row["engine"] for row in rows] == ["torch", "vllm"] and rows[0]["tokens"] == rows[1]["tokens"] == 8 * 16
    assert all(row["gap"] < APART for row in rows)


def test_a_run_with_vllm_is_the_run_with_torch(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    found = []
    for sampler in ("torch", "vllm"):
        job = make_job(model, tmp_path / sampler, "uft", "4steps", sampler=sampler)
        execute(job)
        rewards = [line["reward"] for line in read_lines(job.path / "metrics.jsonl")]
        evals = [(e["split"], e["accuracy"], e["mean_tokens"]) for e in read_lines(job.path / "evals.jsonl")]
        found.append((job.path.name, rewards, evals))
    assert found[0] == found[1]
    env = read_json(job.path / "env.json")
    assert env["execution"]["sampler"] == env["engine"]["name"] == "vllm"
    assert env["stack"]["sampler"] == env["engine"]["version"] and "0.32.0" in env["stack"]["sampler"]
    assert all(e["sampler_gap"] < 1e-5 for e in read_lines(job.path / "evals.jsonl"))

"""On a CUDA device: bfloat16 autocast stays near float32, in the trainer and in the sampler, and a step runs."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from bench.audit.preflight import make_stack, run_checks, trained
from bench.engine.batching import collate
from bench.engine.head import LOGITS_BYTES
from bench.engine.policy import Policy
from bench.models import model_path
from bench.plan.budget import Budget, Meter
from bench.study.jobs import Spec
from bench.types import Trajectory
from tests.helpers.engine import TOKENIZER, kept_gradients, method, pool, small_model, stage

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
TOLERANCE = 2e-2


@pytest.fixture(scope="module")
def policies() -> tuple[Policy, Policy]:
    """The same weights in float32 on the CPU and, under autocast, on the GPU."""
    model: Any = small_model(spread=0.05)
    return Policy(copy.deepcopy(model), TOKENIZER), Policy(model.to("cuda"), TOKENIZER)


def test_forward_stays_near_float32(policies: tuple[Policy, Policy]) -> None:
    cpu, gpu = policies
    rows = [Trajectory(e.prompt_ids, e.demo_ids[:8], e.demo_ids[8:]) for e in pool(16)]
    want, found = (p.forward(collate(rows, p.device), True) for p in policies)
    for ours, exact in zip(found, want):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.cpu(), exact, atol=TOLERANCE, rtol=0)
    scores = gpu.score(rows, gpu.model, 100)
    exact_scores = cpu.score(rows, cpu.model, 100)
    for row in rows:
        torch.testing.assert_close(scores[id(row)].cpu(), exact_scores[id(row)], atol=TOLERANCE, rtol=0)


def test_samples_stay_near_float32(policies: tuple[Policy, Policy]) -> None:
    cpu, gpu = policies
    prompts = [e.prompt_ids for e in pool(8)]
    out = gpu.sample(prompts, 4, 24, list(range(4 * len(prompts))))
    rows = [Trajectory(prompts[i // 4], (), tuple(ids)) for i, ids in enumerate(out.token_ids)]
    exact, trained = cpu.score(rows, cpu.model, 1000), gpu.score(rows, gpu.model, 1000)
    for row, logprobs in zip(rows, out.logprobs):
        torch.testing.assert_close(torch.tensor(logprobs), exact[id(row)], atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(torch.tensor(logprobs), trained[id(row)].cpu(), atol=TOLERANCE, rtol=0)


def test_one_step_runs_and_is_charged(policies: tuple[Policy, Policy]) -> None:
    policy = Policy(copy.deepcopy(policies[1].model), TOKENIZER)
    policy.meter = Meter(policy.architecture, Budget("tokens", 1e9))
    before = [p.detach().clone() for p in policy.model.parameters()]
    current = stage(policy, method("uft", batch_size=4, num_updates=2), pool(10))
    record = current.run_step()
    assert record is not None and math.isfinite(record["loss"]) and record["grad_norm"] > 0
    assert policy.meter.ledger.steps == 2
    assert any(not torch.equal(a, b) for a, b in zip(before, policy.model.parameters()))
    assert all(p.dtype == torch.float32 for p in policy.model.parameters())


def test_chunks_and_recomputed_layers_give_the_same_gradient(
    policies: tuple[Policy, Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients: list[torch.Tensor] = []
    for recompute, chunk in ((False, 100_000), (True, 64)):
        policy = Policy(copy.deepcopy(policies[1].model), TOKENIZER)
        policy.meter = Meter(policy.architecture, Budget("tokens", 1e9))
        policy.recompute = recompute
        monkeypatch.setitem(LOGITS_BYTES, "cuda", 4 * len(TOKENIZER) * chunk)
        current = stage(policy, method("sft"), pool(10))
        found, _ = kept_gradients(current), current.run_step()
        gradients += found
    whole, parts = gradients
    assert (parts - whole).norm() <= TOLERANCE * whole.norm()


def test_preflight_passes_on_the_embedded_model() -> None:
    methods = trained(None)
    current = make_stack(Spec((), ("countdown",), device="cuda"), "cuda", model_path("tiny"), methods)
    assert [found for found in run_checks(current, methods) if not found.passed] == []

"""bfloat16 autocast stays near float32, in the trainer and in the sampler, and a step runs: on CUDA, and on the CPU.

What is rounded differs between the two; what the tests ask does not, so that CI runs all but the last of them.
"""

from __future__ import annotations

import copy
import json
import math
from importlib.util import find_spec
from pathlib import Path
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
from benchmarks import gpu
from benchmarks.gpu_cases import CASES, SMALL, Exact, Half
from tests.helpers.engine import TOKENIZER, kept_gradients, method, pool, small_model, stage

TOLERANCE = 2e-2
CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=CUDA)])
def policies(request: pytest.FixtureRequest) -> tuple[Policy, Policy]:
    """The same weights in float32 on the CPU and, under bfloat16 autocast, on the device."""
    model: Any = small_model(spread=0.05)
    return Exact(copy.deepcopy(model), TOKENIZER), Half(model.to(request.param), TOKENIZER)


def test_forward_stays_near_float32(policies: tuple[Policy, Policy]) -> None:
    cpu, gpu = policies
    assert type(cpu)._autocast is not type(gpu)._autocast
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
    policy = Half(copy.deepcopy(policies[1].model), TOKENIZER)
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
    half = policies[1]
    for recompute, chunk in ((False, 100_000), (True, 64)):
        policy = type(half)(copy.deepcopy(half.model), TOKENIZER)
        policy.meter = Meter(policy.architecture, Budget("tokens", 1e9))
        policy.recompute = recompute
        monkeypatch.setitem(LOGITS_BYTES, half.device.type, 4 * len(TOKENIZER) * chunk)
        current = stage(policy, method("sft"), pool(10))
        found, _ = kept_gradients(current), current.run_step()
        gradients += found
    whole, parts = gradients
    assert (parts - whole).norm() <= TOLERANCE * whole.norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_preflight_passes_on_the_embedded_model() -> None:
    methods = trained(None)
    current = make_stack(Spec((), ("countdown",), device="cuda"), "cuda", model_path("tiny"), methods)
    assert [found for found in run_checks(current, methods) if not found.passed] == []


def test_the_benchmark_of_a_card_runs_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its work is what its sizes say, counted by hand; its checks hold."""
    gpu.main(["--device", "cpu", "--json", str(tmp_path / "found.json")])
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    cases = {name: [row for row in rows if row["case"] == name] for name in {row["case"] for row in rows}}
    sizes = SMALL
    length = sizes.prompt + sizes.new
    assert {row["tokens"] for row in cases["train"]} == {sizes.steps * sizes.rows * length}
    weights = 2 * (4 * 64 * 64 - 2 * 64 * 32 + 3 * 64 * 128)  # q and o, k and v of half the width, the three of the MLP
    pairs = 2 * 4 * 64 * length  # layers, 2 products of 2 FLOPs, width of all heads, a row's keys
    flops = 3 * sizes.steps * sizes.rows * (2 * weights * length + pairs * length + 2 * 64 * 512 * sizes.new)
    assert {row["flops"] for row in cases["train"]} == {flops}
    assert [row["tokens"] for row in cases["sample"]] == [rows * sizes.new for rows in sizes.sampled]
    assert all(0 < row["share_of_matrix_rate"] < 2 for row in cases["train"] + cases["sample"])
    torch_row, vllm_row = cases["engine"]
    assert (torch_row["engine"], torch_row["tokens"]) == ("torch", max(sizes.sampled) * sizes.new)
    assert 0 <= torch_row["gap"] < 1e-4
    assert vllm_row["engine"] == "vllm" and ("fault" in vllm_row) == (find_spec("vllm") is None)
    (gap,), (resumed,), (short,) = cases["bfloat16 gap"], cases["resume"], cases["out of memory"]
    assert 0 < gap["mean"] < gap["p99"] <= gap["most"] < 0.1
    assert resumed["weights_apart"] == 0 and resumed["bytes"] > 3 * 4 * (weights + 64 * 512)
    assert short["finished"] == short["retries_known"]
    assert "share of matrix rate" in capsys.readouterr().out


def test_the_benchmark_stops_in_time_and_names_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--device", "cpu", "--seconds", "0"])
    assert capsys.readouterr().out.count("left out: no time") == len(CASES) + len(gpu.ONCE)
    for wrong in (["--device", "cpu", "--shapes", "7b"], *([] if torch.cuda.is_available() else [[]])):
        with pytest.raises(SystemExit):
            gpu.main(wrong)
        assert "expected" in capsys.readouterr().err

"""The protocol of sampler engines: stale weights, one sync per change, the same charges, and the gap to the trainer."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.engine import evaluate
from bench.engine.engines import Request, StaleWeights, TorchEngine, plain_weights, weights_version
from bench.engine.optimizers import apply_update
from bench.engine.policy import Policy
from bench.engine.sampler import Samples, row_uniforms, sample
from bench.engine.sampler_gap import SamplerGap
from bench.engine.uniform_rows import ROW, Call, UniformRows
from bench.engine.vllm_engine import VllmEngine
from bench.plan import execution, registry
from bench.store import passport
from bench.types import UserError
from tests.helpers.engine import TASK, pool, small_model, small_policy, stage
from tests.helpers.runs import make_job, timeless, write_model


class Foreign:
    """An engine with weights of its own, as vLLM has: pushed by ``sync``, sampled a row at a time.

    ``report`` changes what it says of its log-probabilities.
    """

    name = "foreign"
    version: int | None = None

    def __init__(self, report: Callable[[float], float] = lambda value: value) -> None:
        self.syncs, self.releases, self.report = 0, 0, report
        self.own: Policy | None = None

    def sync(self, model: Any, version: int) -> None:
        self.own = self.own or small_policy(99)
        self.own.model.load_state_dict({name: value.clone() for name, value in plain_weights(model)})
        self.version, self.syncs = version, self.syncs + 1

    def sample(self, request: Request, version: int, finished: Any = None) -> Samples:
        assert self.own is not None
        how = (request.max_new_tokens, request.seeds, request.temperature, 1)
        out = self.own.sample(request.prompts, request.group_size, *how)
        if finished is not None:
            finished(list(range(request.count)), out.token_ids)
        return replace(out, logprobs=[[self.report(value) for value in row] for row in out.logprobs])

    def release(self) -> None:
        self.releases += 1

    def facts(self) -> dict[str, Any]:
        return {"name": self.name}


def policy_with(engine: Any) -> Policy:
    policy = small_policy(0, "1e15flops")
    policy.engine = engine
    policy.gap = SamplerGap(engine.name, policy.device)
    return policy


# --- versions -----------------------------------------------------------------------------------------------------


def written(model: Any) -> dict[str, Callable[[], object]]:
    """Every way in which the engine's code writes to weights."""
    weight = next(model.parameters())

    def update(fused: bool) -> None:  # as on CUDA; its kernel counts no change by itself
        model(input_ids=torch.tensor([[5, 6, 7]])).logits.sum().backward()
        apply_update(torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused))

    def load() -> None:
        model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()})

    @torch.no_grad()
    def copied() -> None:
        weight.copy_(weight.clone())

    updates = {"an update": partial(update, False), "a fused one": partial(update, True)}
    return {**updates, "loaded": load, "copied": copied}


def test_every_write_to_a_weight_is_a_new_version_and_reading_is_none() -> None:
    model = small_model()
    for name, write in written(model).items():
        before = weights_version(model)
        write()
        after = weights_version(model)
        assert after > before, name
        with torch.no_grad():
            model(input_ids=torch.tensor([[5, 6, 7]]))
        copy.deepcopy(model)
        assert weights_version(model) == after


def test_a_stale_version_is_refused() -> None:
    policy = small_policy()
    request = Request([[5, 6]], 1, 4, policy.eos_ids, [1])
    version = weights_version(policy.model)
    with pytest.raises(StaleWeights, match=f"has weights None, asked for {version}"):
        policy.engine.sample(request, version)
    policy.engine.sync(policy.model, version)
    policy.engine.sample(request, version)
    with torch.no_grad():
        next(policy.model.parameters()).mul_(1.01)
    with pytest.raises(StaleWeights, match=f"has weights {version}, asked for {version + 1}"):
        policy.engine.sample(request, weights_version(policy.model))


def test_weights_are_pushed_once_per_change_and_every_sample_is_of_the_newest() -> None:
    """Against the model's own weights, step by step: a stale copy would write other tokens at this learning rate."""
    policy, plain = policy_with(engine := Foreign()), small_policy(0, "1e15flops")
    sides = []
    for side in (policy, plain):
        method = registry.build_method("grpo", {"batch_size": 2, "group_size": 4, "lr": 0.02, "num_updates": 2})
        current = stage(side, method, pool(8), max_new_tokens=8)
        records = [timeless(current.run_step()) for _ in range(3)]
        evaluated = evaluate.evaluate_split(side, TASK, pool(4, "val"), "val", evaluate.Settings(2, 8, 1.0, 64, 0))
        sides.append((records, evaluated[1], timeless(asdict(side.meter.ledger))))  # type: ignore[arg-type]
    (ours, items, ledger), (theirs, plain_items, plain_ledger) = sides
    assert engine.syncs == 4  # before each of three steps, however many updates it has, and before the evaluation
    assert engine.releases == 3
    for ours_step, theirs_step in zip(ours, theirs):
        gaps = {name: ours_step.pop(name) for name in ("sampler_gap", "sampler_gap_p99", "sampler_kl")}
        assert 0 <= gaps["sampler_gap"] < 1e-5 and ours_step == pytest.approx(theirs_step, rel=1e-4, abs=1e-6)
    assert items == plain_items
    assert {k: v for k, v in ledger.items() if k != "padding_tokens"} == {
        k: v for k, v in plain_ledger.items() if k != "padding_tokens"
    }


# --- the gap ------------------------------------------------------------------------------------------------------


def test_no_loss_sees_an_engines_log_probabilities() -> None:
    """Values off by half of the limit train the same weights to the bit."""
    weights = []
    for report in (lambda value: value, lambda value: value - 0.0005):
        policy = policy_with(Foreign(report))
        for updates in (1, 2):
            method = registry.build_method("grpo", {"batch_size": 2, "group_size": 4, "num_updates": updates})
            stage(policy, method, pool(8), max_new_tokens=8).run_step()
        weights.append(torch.cat([p.detach().flatten() for p in policy.model.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.parametrize("updates", [1, 2])
def test_the_gap_of_a_step_is_what_was_added(updates: int) -> None:
    policy = policy_with(Foreign(lambda value: value - 0.0005))
    method = registry.build_method("uft", {"batch_size": 2, "group_size": 4, "num_updates": updates})
    record = stage(policy, method, pool(8), max_new_tokens=8).run_step()
    assert record is not None
    assert record["sampler_gap"] == pytest.approx(0.0005, rel=0.02)
    assert record["sampler_gap_p99"] == pytest.approx(0.0005, rel=0.05)
    assert record["sampler_kl"] == pytest.approx(math.expm1(0.0005) - 0.0005, rel=0.05)


def test_a_gap_beyond_rounding_ends_the_run_with_one_line() -> None:
    method = registry.build_method("grpo", {"batch_size": 2, "group_size": 4})
    current = stage(policy_with(Foreign(lambda value: value - 0.01)), method, pool(8), max_new_tokens=8)
    with pytest.raises(UserError, match=r"^--sampler foreign: its .* 0\.01 nats a token from the trainer's at step 0"):
        current.run_step()
    policy = policy_with(Foreign(lambda value: math.nan))
    with pytest.raises(UserError, match="nan nats a token from the trainer's in the evaluation of val"):
        evaluate.evaluate_split(policy, TASK, pool(4, "val"), "val", evaluate.Settings(1, 8, 1.0, 64, 0))


def test_at_another_temperature_greedy_rows_are_compared() -> None:
    policy = policy_with(Foreign(lambda value: value - 0.0005))
    how = evaluate.Settings(2, 8, 0.5, 64, 0)
    summary, items = evaluate.evaluate_split(policy, TASK, pool(4, "val"), "val", how)
    assert summary["sampler_gap"] == pytest.approx(0.0005, rel=0.02)
    assert items == evaluate.evaluate_split(small_policy(), TASK, pool(4, "val"), "val", how)[1]


def test_old_completions_are_not_compared_with_new_weights() -> None:
    policy = policy_with(Foreign())
    policy.sample([[5, 6]], 1, 4, [0])
    with torch.no_grad():
        next(policy.model.parameters()).mul_(1.5)
    row = SimpleNamespace(completion_ids=(5,), old_logprobs=(-9.0,))
    micro: Any = SimpleNamespace(rows=(row,), policy=torch.tensor([[True]]))
    policy.gap.compare(micro, torch.tensor([[-1.0]]), None)  # scripted: not the engine's
    assert policy.gap.taken("") == {}
    policy.gap.expect([row.old_logprobs])
    policy.gap.compare(micro, torch.tensor([[-1.0]]), policy.model)
    assert policy.gap.taken("") == {}
    policy.gap.expect([row.old_logprobs])
    policy.gap.compare(micro, torch.tensor([[-1.0]]), None)
    with pytest.raises(UserError, match="8 nats"):
        policy.gap.taken("now")


# --- draws inside vLLM -----------------------------------------------------------------------------------------------

VOCABULARY, PLACES, STEPS = 13, 5, 9


def logits_of(row: int, tokens: Sequence[int]) -> np.ndarray[Any, Any]:
    """Made-up logits that depend on the row and all that it has written."""
    return np.random.default_rng([row, *tokens]).normal(size=VOCABULARY).astype(np.float32)


def expected(row: int, uniforms: Any, length: int, temperature: float) -> tuple[list[int], list[float]]:
    """Tokens and log-probabilities of a row by itself, from the definition of an inverse transform."""
    tokens: list[int] = []
    logprobs = []
    for step in range(length):
        p = np.exp(logits_of(row, tokens).astype(np.float64) / temperature)
        p /= p.sum()
        tokens.append(int(p.argmax() if uniforms is None else (p.cumsum() <= float(uniforms[row, step])).sum()))
        logprobs.append(float(np.log(p[tokens[-1]])))
    return tokens, logprobs


@pytest.mark.parametrize(("sampled", "temperature"), [(True, 1.0), (True, 0.6), (False, 1.0)])
def test_rows_keep_their_draws_wherever_a_batch_puts_them(sampled: bool, temperature: float) -> None:
    """A batch in which rows come, end, are preempted, resumed, moved and swapped at random, as vLLM's may."""
    rows, chance = 23, random.Random(3)
    lengths = [chance.randint(1, STEPS) for _ in range(rows)]
    uniforms = row_uniforms(range(rows), STEPS) if sampled else None
    call = Call(rows, STEPS, uniforms, temperature, "cpu")
    processor = type("Draws", (UniformRows,), {"call": call})(None, torch.device("cpu"), False)
    waiting, running = list(range(rows)), dict[int, int]()  # place -> row
    written: list[list[int]] = [[] for _ in range(rows)]
    while waiting or running:
        ended = [p for p, r in running.items() if len(written[r]) == lengths[r] or chance.random() < 0.1]
        for place in ended:
            row = running.pop(place)
            if len(written[row]) < lengths[row]:
                waiting.append(row)  # preempted: it comes back with what it has
        added = []
        for place in [p for p in range(PLACES) if p not in running][: len(waiting)]:
            row = running[place] = waiting.pop(0)
            added.append((place, SimpleNamespace(extra_args={ROW: row}), None, written[row]))
        moved = []
        if len(running) > 1:
            a, b = chance.sample(sorted(running), 2)
            running[a], running[b] = running[b], running[a]
            moved.append((a, b, SimpleNamespace(name="SWAP")))
        free = [p for p in range(PLACES) if p not in running]
        if running and free:
            a = chance.choice(sorted(running))
            running[free[0]] = running.pop(a)
            moved.append((a, free[0], SimpleNamespace(name="UNIDIRECTIONAL")))
        processor.update_state(SimpleNamespace(removed=ended, added=added, moved=moved))
        logits = torch.zeros(PLACES, VOCABULARY)
        for place, row in running.items():
            logits[place] = torch.from_numpy(logits_of(row, written[row]))
        before = logits.clone()
        after = processor.apply(logits)
        for place in range(PLACES):
            if place in running:
                written[running[place]].append(int(after[place].argmax()))
                assert after[place].softmax(-1).max() == 1.0
            else:
                assert torch.equal(after[place], before[place])
    for row, length in enumerate(lengths):
        tokens, logprobs = expected(row, uniforms, length, temperature)
        assert written[row] == tokens
        assert call.logprobs[row, :length].tolist() == pytest.approx(logprobs, abs=1e-5)
        assert not call.logprobs[row, length:].any()


def test_without_requests_vllm_gets_its_logits_back() -> None:
    processor = UniformRows(None, torch.device("cpu"), False)
    processor.update_state(None)
    logits = torch.randn(3, 7)
    assert processor.apply(logits) is logits


class FakeLlm:
    """Notes what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def collective_rpc(self, method: str, kwargs: dict[str, Any]) -> None:
        self.told.append(f"{method} {len(list(kwargs['weights_iterator']))}")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **how: self.told.append(" ".join([name, *(str(value) for value in how.values())]))


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_vllm_sleeps_on_a_card_while_the_policy_trains(kind: str) -> None:
    """Weights and cache are dropped once, and are back, new, before anything is sampled."""
    engine = VllmEngine.__new__(VllmEngine)
    engine.device, engine.llm, engine.asleep, engine.version = torch.device(kind), FakeLlm(), False, 1
    model = small_model()
    for _ in range(2):
        engine.release()
    assert engine.version == (None if kind == "cuda" else 1)
    engine.sync(model, 2)
    assert engine.version == 2
    engine.sync(model, 3)
    push = [f"reload_weights {len(model.state_dict())}", "reset_prefix_cache"]
    slept = ["sleep 2", "wake_up ['weights']", *push, "wake_up ['kv_cache']"]
    assert engine.llm.told == [*(slept if kind == "cuda" else push), *push]


# --- names, plans, records -------------------------------------------------------------------------------------------


def test_plain_weights_are_those_of_the_checkpoint() -> None:
    untied = small_model()
    assert dict(plain_weights(untied)).keys() == untied.state_dict().keys()
    tied = small_model(tie_word_embeddings=True)
    weights = dict(plain_weights(tied))
    assert torch.equal(weights["lm_head.weight"], tied.model.embed_tokens.weight)


def test_an_unknown_or_missing_engine_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path / "model")
    with pytest.raises(UserError, match="unknown sampler 'vlm': did you mean vllm"):
        make_job(model, tmp_path, sampler="vlm")
    monkeypatch.setattr(execution, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^--sampler vllm needs the package vllm"):
        make_job(model, tmp_path, sampler="vllm")


def test_the_engine_is_no_part_of_a_run_but_of_its_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path / "model")
    monkeypatch.setattr(execution, "find_spec", lambda name: object())
    torch_job, vllm_job = (make_job(model, tmp_path, sampler=sampler) for sampler in execution.SAMPLERS)
    assert torch_job.plan == vllm_job.plan and torch_job.plan.run_id == vllm_job.plan.run_id
    assert vllm_job.execution.sampler == "vllm" and "sampler" not in torch_job.execution.identity()
    monkeypatch.setattr(passport, "vllm_version", lambda: "vllm 1.2.3")
    stacks = [passport.stamp(job)["stack"] for job in (torch_job, vllm_job)]
    assert stacks[1] == {**stacks[0], "sampler": "vllm 1.2.3"} and "sampler" not in stacks[0]


def test_the_torch_engine_is_the_plain_sampler() -> None:
    policy = small_policy()
    assert isinstance(policy.engine, TorchEngine)
    prompts = [[5, 6, 7], [8, 9]]
    ours = policy.sample(prompts, 2, 6, [3, 1, 4, 1])
    assert ours == sample(policy.engine.decoder, prompts, 2, 6, policy.eos_ids, row_uniforms([3, 1, 4, 1], 6))

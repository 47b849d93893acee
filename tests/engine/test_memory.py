"""Chunked heads, recomputed layers and passes redone when memory runs out: same gradients, same ledger, less memory.

The right gradients come from a plain path written here: one row at a time, all logits at once, no engine.
"""

from __future__ import annotations

import copy
import gc
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.engine import memory, runner
from bench.engine.batching import collate, split_micro_batches
from bench.engine.head import LOGITS_BYTES, CastCache, through_head
from bench.engine.out_of_memory import OutOfMemory, is_out_of_memory
from bench.engine.policy import Policy
from bench.engine.recompute import recomputed
from bench.engine.token_values import Outputs, Wanted
from bench.engine.trainer import Stage
from bench.plan import registry
from bench.plan.budget import Budget, Meter
from bench.plan.execution import Execution
from bench.seeds import derive_seed
from bench.store.run_folder import read_json, read_lines
from bench.types import Batch, Requests, Trajectory, UserError
from tests.engine.test_golden import METHODS, Scripted
from tests.helpers.engine import TASK, TOKENIZER, kept_gradients, method, pool, small_model, stage
from tests.helpers.runs import make_job, write_model

NAMES = [name for name in registry.names("methods") if registry.build_method(name, {}).batch_size]
TINY = {"hidden_size": 16, "intermediate_size": 24, "head_dim": 8}
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
POOL = pool(8)
TOKENS = 160  # of one micro-batch
MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1.00 GiB."


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """Whatever was there before is no garbage: the collection after each failure need not go through it."""
    gc.freeze()
    yield
    gc.unfreeze()


def chosen_method(name: str) -> Any:
    """A method with a small batch and one update a step."""
    fields = METHODS.get(name, {})
    own = registry.build_method(name, {})
    small = {} if hasattr(own, "group_size") or name in {"iw_sft", "masked_sft"} else {"batch_size": 4}
    return method(name, **{**fields, "num_updates": 1, **({"num_candidates": 4} if name == "otr" else {}), **small})


@cache
def random_policy(dtype: torch.dtype, layers: int) -> Policy:
    return Policy(small_model(2, 0.3, **TINY, num_hidden_layers=layers).to(dtype), TOKENIZER)


def made_stage(name: str, dtype: torch.dtype = torch.float64, tokens: int = TOKENS, layers: int = 2) -> Stage:
    """A stage on a random model, whose reference differs from its policy; gradients are not clipped."""
    policy = copy.copy(random_policy(dtype, layers))  # its weights never move: updates here have a learning rate of 0
    policy.meter = Meter(policy.architecture, Budget("tokens", 1e9))
    current = stage(policy, chosen_method(name), POOL, micro_batch_tokens=tokens, max_grad_norm=float("inf"))
    with torch.no_grad():
        for parameter in current.reference.parameters() if current.reference is not None else ():
            parameter.mul_(1.03)
    return current


def scripted_rows(current: Stage) -> list[Trajectory]:
    """What the method collects from scripted completions."""
    ctx: Any = Scripted(0.2, random.Random(0), current.buffer, current.asks.buffer_size > 0)
    return current.method.collect(current.examples(), ctx)


@contextmanager
def failing(model: Any, *numbers: int, error: type[Exception] = torch.OutOfMemoryError) -> Iterator[list[int]]:
    """Let memory run out in the passes of these numbers, counted from 1; gives the tokens of all passes so far."""
    seen: list[int] = []

    def before(module: Any, args: Any, kwargs: Any) -> None:
        seen.append(kwargs["input_ids"].numel())
        if len(seen) in numbers:
            raise error(MESSAGE)

    handle = model.base_model.register_forward_pre_hook(before, with_kwargs=True)
    yield seen
    handle.remove()


# --- the plain path ----------------------------------------------------------------------------------------------


def drawn(logits: Tensor, row: int, current: Stage) -> Tensor:
    """The candidates [M, K] at a row's targets: the inverse of the cumulative distribution at the row's own numbers."""
    seed = derive_seed("candidates", TASK.name, current.seed, current.name, current.step, row)
    shape = (len(logits), current.asks.num_candidates)
    uniforms = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).double()
    cumulative = (logits.detach().double() / current.asks.candidate_temperature).softmax(-1).cumsum(-1)
    return (cumulative[:, None, :] <= uniforms[:, :, None] * cumulative[:, -1:, None]).sum(-1)


def row_values(current: Stage, row: Trajectory, number: int) -> dict[str, Tensor]:
    """Values at the targets of one row, from all of its logits."""
    ids, first = torch.tensor([[*row.prompt_ids, *row.demo_ids, *row.completion_ids]]), len(row.prompt_ids) - 1
    targets = ids[0, first + 1 :, None]
    model, asks = current.policy.model, current.asks
    logits = model(input_ids=ids).logits[0, first:-1]
    if asks.input_residual:
        embed, start = model.get_input_embeddings(), first + 1
        own, other = embed(ids), embed(logits.argmax(-1))
        mixed = (1 - asks.input_residual) * own[0, start:] + asks.input_residual * other
        logits = model(inputs_embeds=torch.cat([own[0, :start], mixed])[None]).logits[0, first:-1]
    ours = logits.log_softmax(-1)
    values = {"logprobs": ours.gather(1, targets)[:, 0]}
    values["entropies"] = -(ours.exp() * ours).sum(-1) * asks.uses_entropies
    values["ref_logprobs"] = values["logprobs"].detach()
    if current.reference is not None:
        with torch.no_grad():
            theirs = current.reference(input_ids=ids).logits[0, first:-1]
        if asks.uses_reference_kl:
            values["reference_kl"] = (theirs.softmax(-1) * (theirs.log_softmax(-1) - ours)).sum(-1)
        if asks.reference_temperatures is not None:
            theirs = theirs / asks.reference_temperatures(theirs)[:, None]
        values["ref_logprobs"] = theirs.log_softmax(-1).gather(1, targets)[:, 0]
    if asks.num_candidates:
        tokens = drawn(logits, number, current)
        values |= {"candidate_logprobs": ours.gather(1, tokens), "candidate_hits": tokens == targets}
    demo = torch.arange(len(targets)) < len(row.demo_ids)
    values |= {"demo": demo, "policy": ~demo}
    values["advantages"] = torch.where(demo, row.demo_advantage, row.advantage)
    values["demo_weights"] = torch.tensor([*(row.demo_weights or [1.0] * int(demo.sum())), *[0.0] * int((~demo).sum())])
    return values


def ascended(current: Stage, rows: Sequence[Trajectory]) -> list[dict[str, Tensor]]:
    """States of each layer at the targets of each row, at the weights and at whole weights that were moved.

    By the chain rule: with G the gradient of a weight, that of B beside it is G A^T.
    """
    model, asks = current.policy.model, current.asks
    layers = {k: m for k, m in model.named_modules() if isinstance(m, torch.nn.Linear) and k != "lm_head"}
    seed = derive_seed("ascent", TASK.name, current.seed, current.name, current.step, rows[0].group)
    generator = torch.Generator().manual_seed(seed)
    count = sum(len(row.demo_ids) for row in rows)
    loss = -torch.stack([row_values(current, row, 0)["logprobs"].sum() for row in rows]).sum() / count
    steps = {}
    for (name, layer), gradient in zip(layers.items(), torch.autograd.grad(loss, [m.weight for m in layers.values()])):
        bound = 1 / layer.in_features**0.5
        a = torch.empty(asks.ascent_rank, layer.in_features).uniform_(-bound, bound, generator=generator).to(gradient)
        steps[f"{name}.weight"] = gradient @ a.T, a
    length = torch.stack([b.square().sum() for b, _ in steps.values()]).sum().sqrt()
    moved = {k: asks.ascent_step * b @ a / length for k, (b, a) in steps.items()}
    weights = {k: p + moved.get(k, 0.0) for k, p in model.named_parameters()}
    found = []
    for row in rows:
        ids, first = torch.tensor([[*row.prompt_ids, *row.demo_ids]]), len(row.prompt_ids) - 1
        both = {}
        for kind, chosen in (("hidden", dict(model.named_parameters())), ("moved", weights)):
            last: list[Tensor] = []  # transformers gives the last layer's states after the norm
            handle = model.model.norm.register_forward_pre_hook(lambda module, args, last=last: last.append(args[0]))
            how = {"input_ids": ids, "output_hidden_states": True, "use_cache": False}
            states = torch.func.functional_call(model, chosen, kwargs=how).hidden_states
            handle.remove()
            for number, state in enumerate((*states[1:-1], last[0])):
                both[f"{kind} {number}"] = state[0, first:-1]
        found.append(both)
    return found


def plain_gradient(current: Stage, rows: Sequence[Trajectory]) -> Tensor:
    """Gradient of the method's loss over the whole optimizer batch, of all weights in one tensor."""
    found = [row_values(current, row, number) for number, row in enumerate(rows)]
    rewards = [row.reward for row in rows if row.completion_ids]
    if current.asks.ascent_step:
        for values, states in zip(found, ascended(current, rows)):
            values |= states
    padded = {k: torch.nn.utils.rnn.pad_sequence([v[k] for v in found], batch_first=True) for k in found[0]}
    states = [[padded.pop(k) for k in [*padded] if k.startswith(kind)] for kind in ("hidden", "moved")]
    batch = Batch(
        **padded,
        hidden=tuple(states[0]),
        moved_hidden=tuple(states[1]),
        old_logprobs=padded["logprobs"].detach(),
        groups=torch.tensor([row.group for row in rows]),
        num_demo=sum(len(row.demo_ids) for row in rows),
        num_policy=sum(len(row.completion_ids) for row in rows),
        num_trajectories=len(rows),
        progress=0.2,
        num_rollouts=len(rewards),
        reward=sum(rewards) / max(len(rewards), 1),
    )
    weights = list(current.policy.model.parameters())
    return torch.cat([g.flatten() for g in torch.autograd.grad(current.method.loss(batch).value, weights)])


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_a_plain_path(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Requests.of(chosen_method(name)).whole_groups
    tokens = 2 * TOKENS if whole else TOKENS  # two groups, which can be cut
    plain = made_stage(name, dtype, tokens)
    rows = scripted_rows(plain)
    expected, ledgers = plain_gradient(plain, rows), []
    assert expected.norm() > 0
    for kind in ("nothing", "chunks", "recomputed", "redone") if dtype == torch.float64 else ("all",):
        current = made_stage(name, dtype, tokens)
        current.policy.recompute = kind in ("recomputed", "all")
        monkeypatch.setitem(LOGITS_BYTES, "cpu", 4 * len(TOKENIZER) * (7 if kind in ("chunks", "all") else 10_000))
        redone = kind in ("redone", "all")
        last = min(2, len(split_micro_batches(rows, tokens, whole_groups=whole)))
        with failing(current.policy.model, *([last] if redone else [])) as passes:
            gradients, record = kept_gradients(current), current.update(rows, 0.0, 0.2)
        assert len(gradients) == 1
        assert (gradients[0] - expected).norm() <= TOLERANCES[dtype] * expected.norm(), kind
        ledgers.append({k: v for k, v in asdict(current.meter.ledger).items() if k[:7] not in ("seconds", "padding")})
        assert record.get("oom_retries") == (1 if redone else None)
        assert record.get("micro_tokens") == (current.limit.tokens if redone else None)
        assert max(passes[last if redone else 0 :]) <= current.limit.tokens
    assert all(ledger == ledgers[0] for ledger in ledgers) and ledgers[0]["steps"] == 1


# --- running out of memory ---------------------------------------------------------------------------------------


def test_scoring_is_redone_and_charged_once() -> None:
    found = []
    for numbers in ((), (1, 3)):  # all rows at once, then the second half
        current = made_stage("grpo", tokens=1000)
        rows = scripted_rows(current)
        with failing(current.reference, *numbers):
            scores = current._score_reference(rows)
        found.append((torch.cat([scores[id(row)] for row in rows]), current.meter.ledger, current.limit))
    (plain, ledger, _), (redone, charged, limit) = found
    torch.testing.assert_close(redone, plain, rtol=1e-12, atol=0)
    assert (charged.flops, charged.scored_tokens) == (ledger.flops, ledger.scored_tokens)
    assert limit.retries == 2 and limit.tokens <= 1000 // 4


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_one_row_that_does_not_fit_is_the_end(error: type[Exception]) -> None:
    current = made_stage("sft")
    rows = scripted_rows(current)
    always = failing(current.policy.model, *range(1, 100), error=error)
    message = f"one row of {max(map(len, rows))} tokens.*2.00 GiB.*--recompute full"
    with always as passes, pytest.raises(OutOfMemory, match=message):
        current.update(rows, 0.0, 0.2)
    assert len(passes) < 8 and current.meter.ledger.flops == 0
    assert all(p.grad is None for p in current.policy.model.parameters())


def test_where_rows_are_cut_matters_no_limit_is_changed() -> None:
    current = made_stage("sft")
    bound = stage(current.policy, method("sft", divisor="micro-batch", batch_size=4), POOL, micro_batch_tokens=TOKENS)
    rows = scripted_rows(bound)
    message = r"by SFT\.divisor=micro-batch the loss depends.*--micro-batch-tokens"
    with failing(current.policy.model, 2), pytest.raises(OutOfMemory, match=message):
        bound.update(rows, 0.0, 0.2)
    assert bound.limit.tokens == TOKENS
    assert bound.update(rows, 0.0, 0.2)["loss"] > 0  # the device was only busy


def test_other_errors_are_not_taken_for_it() -> None:
    current = made_stage("sft")
    broken = failing(current.policy.model, 2, error=ValueError)
    with broken, pytest.raises(ValueError, match="CUDA out of memory"):
        current.update(scripted_rows(current), 0.0, 0.2)
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


def test_the_allocators_of_a_cpu_are_understood() -> None:
    for allocate in (lambda: torch.empty(2**58), lambda: bytearray(2**60)):
        with pytest.raises((RuntimeError, MemoryError)) as raised:
            allocate()
        assert is_out_of_memory(raised.value)


def test_an_update_that_does_not_fit_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    current = made_stage("sft")

    def step() -> None:
        raise torch.OutOfMemoryError(MESSAGE)

    monkeypatch.setattr(current.optimizer, "step", step)
    with pytest.raises(OutOfMemory, match="an update of the optimizer does not fit"):
        current.update(scripted_rows(current), 0.0, 0.2)


def test_a_lower_limit_is_kept_with_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    current = made_stage("sft", tokens=1000)
    rows = scripted_rows(current)
    with failing(current.policy.model, 1, 2):
        records = [current.update(rows, 0.0, 0.2) for _ in range(2)]
    assert [record.get("oom_retries") for record in records] == [2, None]
    assert capsys.readouterr().err.count("out of memory") == 1
    resumed = made_stage("sft")
    resumed.restore(current.state())
    assert resumed.limit.tokens == current.limit.tokens < 1000 // 4


# --- recomputed layers -------------------------------------------------------------------------------------------


def kept_for_backward(policy: Policy, rows: Sequence[Trajectory]) -> int:
    """Bytes of what autograd saves in a training pass, weights apart."""
    weights = {p.data_ptr() for p in policy.model.parameters()}
    kept: dict[int, Tensor] = {}

    def save(value: Tensor) -> Tensor:
        if value.data_ptr() not in weights:
            kept[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(save, lambda value: value):
        policy.forward(collate(rows, policy.device), True)
    return sum(value.untyped_storage().nbytes() for value in kept.values())


def test_recomputed_layers_keep_a_quarter_at_most() -> None:
    policy = made_stage("sft", layers=12).policy
    assert not policy.model.training  # transformers' own switch does nothing then
    rows = [Trajectory(e.prompt_ids, e.demo_ids) for e in POOL]
    plain = kept_for_backward(policy, rows)
    policy.recompute = True
    assert 0 < kept_for_backward(policy, rows) <= plain / 4


def test_the_model_is_as_it_was_after_a_pass() -> None:
    policy = made_stage("sft").policy
    ids = torch.tensor([POOL[0].prompt_ids])
    before = policy.model(input_ids=ids).logits
    with pytest.raises(ZeroDivisionError), recomputed(policy.model):
        assert torch.equal(policy.model(input_ids=ids).logits, before)
        raise ZeroDivisionError
    assert not any("forward" in vars(module) for module in policy.model.modules())


@pytest.mark.parametrize(("name", "reference"), [("sft", 0), ("grpo", 1)])
def test_auto_recomputes_where_a_pass_would_not_fit(name: str, reference: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit by hand: gradient, two moments, a reference, casts of all weights, the head, activations."""
    current = made_stage(name, torch.float32)
    policy, tokens = current.policy, 100_000
    job = SimpleNamespace(
        execution=Execution(device="cuda", threads=1, micro_batch_tokens=tokens, sample_rows=1, recompute="auto"),
        plan=SimpleNamespace(stages=[SimpleNamespace(name=name, fields=asdict(current.method))]),
    )
    assert memory.settled(job, policy).recompute == "none"  # the model is on a CPU
    weights = 4 * sum(p.numel() for p in policy.model.parameters())
    rows = [[Trajectory((1,) * 20, (2,) * (n - 20))] for n in (100, 200)]
    kept = [kept_for_backward(policy, part) for part in rows]  # with logits, a small part
    hidden, vocabulary = policy.model.config.hidden_size, policy.model.config.vocab_size
    head = 6 * min(LOGITS_BYTES["cuda"], 4 * tokens * vocabulary) + 8 * hidden * vocabulary
    needed = weights * (3.5 + reference) + head + tokens * (kept[1] - kept[0]) / 100
    monkeypatch.setattr(policy, "device", torch.device("cuda"))
    monkeypatch.setattr(policy, "_autocast", nullcontext)
    for share, expected in ((0.8, "full"), (1.5, "none")):
        monkeypatch.setattr(memory, "free_bytes", lambda device, share=share: share * needed)
        assert memory.settled(job, policy).recompute == expected


def test_a_run_keeps_its_lower_limit_and_records_how_it_was_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(write_model(tmp_path / "model"), tmp_path / "runs", "sft+grpo", "4steps", recompute="full")
    assert job.plan.run_id == make_job(tmp_path / "model", tmp_path / "runs", "sft+grpo", "4steps").plan.run_id
    stages: list[Stage] = []

    def watched(*args: Any) -> Stage:
        stages.append(planned(*args))
        if len(stages) == 1:
            cleanup.enter_context(failing(stages[0].policy.model, 1))
        return stages[-1]

    planned = runner.planned_stage
    monkeypatch.setattr(runner, "planned_stage", watched)
    with ExitStack() as cleanup:
        runner.execute(job, keep="none")
    assert [s.name for s in stages] == ["0:sft", "1:grpo"] and stages[0].policy.recompute
    assert stages[0].limit.tokens == stages[1].limit.tokens < job.execution.micro_batch_tokens
    assert read_json(job.path / "env.json")["execution"]["recompute"] == "full"
    lines = read_lines(job.path / "metrics.jsonl")
    assert [line.get("oom_retries") for line in lines][:2] == [1, None]
    assert lines[0]["micro_tokens"] == stages[0].limit.tokens


def test_a_model_without_a_list_of_layers_cannot_recompute() -> None:
    policy = Policy(small_model(**TINY), TOKENIZER)
    policy.model.config.num_hidden_layers = 5
    with pytest.raises(UserError, match="'llama' have no list of 5 decoder layers: expected --recompute none"):
        policy.recompute = True
        policy.forward(collate([Trajectory(POOL[0].prompt_ids, POOL[0].demo_ids)], policy.device), False)


# --- the head ----------------------------------------------------------------------------------------------------


def head_gradients(head: torch.nn.Linear, rows: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Outputs of everything that may be wanted, and the gradients of hidden states and head, by chunks of this size."""
    monkeypatch.setitem(LOGITS_BYTES, "cpu", chunk * 4 * head.weight.shape[0])
    torch.manual_seed(3)
    hidden = torch.randn(rows, head.in_features, dtype=head.weight.dtype, requires_grad=True)
    targets, uniforms = torch.randint(head.out_features, (rows,)), torch.rand(rows, 3)
    other = torch.nn.Linear(head.in_features, head.out_features, bias=False).to(head.weight.dtype)
    wanted = Wanted(True, None, uniforms, 0.7, lambda logits: 1 + logits.std(-1))
    values = through_head(hidden, targets, head, wanted, hidden.detach() + 0.1, other, CastCache())
    assert isinstance(values, Outputs) and all(value is not None for value in values)
    head.zero_grad()
    sum((k + 1) * value.square().sum() for k, value in enumerate(values[:4])).backward()
    return [*values[:4], values[4].float(), hidden.grad, *(p.grad for p in head.parameters() if p.requires_grad)]


@pytest.mark.parametrize("kind", ["plain", "bias", "frozen", "bfloat16"])
def test_chunks_of_any_head_equal_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    head = torch.nn.Linear(8, 30, bias=kind == "bias").to(torch.float32 if kind == "bfloat16" else torch.float64)
    head.requires_grad_(kind != "frozen")
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
        whole, chunks = (head_gradients(head, 11, chunk, monkeypatch) for chunk in (11, 4))
    assert len(whole) == {"bias": 8, "frozen": 6}.get(kind, 7)
    for found, expected in zip(chunks, whole, strict=True):
        assert (found - expected).norm() <= (1e-2 if kind == "bfloat16" else 1e-12) * expected.norm()


def test_a_head_is_cast_once_until_its_weights_change() -> None:
    weight, casts = torch.nn.Parameter(torch.ones(3, 2)), CastCache()
    assert casts.get(weight).dtype == torch.float32 and not casts.copies
    with torch.autocast("cpu", torch.bfloat16):
        first = casts.get(weight)
        assert first.dtype == torch.bfloat16 and casts.get(weight) is first
        weight.grad = torch.ones_like(weight)
        torch.optim.AdamW([weight], lr=0.5).step()
        assert torch.equal(casts.get(weight), weight.detach().bfloat16()) and not torch.equal(casts.get(weight), first)

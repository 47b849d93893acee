"""Memory and pace of the sampler: prompts in pieces, rows by bytes, out of memory, late looks, steps of fixed shape."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import bench.engine.sampler
from bench.engine import cuda_graph, fast_decoder
from bench.engine.decoder import GenericDecoder, make_decoder
from bench.engine.fast_decoder import LlamaDecoder, pieces
from bench.engine.row_budget import CPU_BYTES, RowBudget, next_chunk
from bench.engine.sampler import rows_to_run, sample
from tests.engine.test_sampler import EOS, build, draw
from tests.helpers.engine import method, pool, run, small_policy, stage

ENDS = frozenset([EOS, 7, 9])
PROMPTS = [[5, 6, 7, 8, 9], [7, 8], [(3 * i) % 61 for i in range(40)], [7, 8], [(5 * i) % 61 for i in range(33)]]
GROUP, STEPS = 2, 24
ROWS = GROUP * len(PROMPTS)
SEED = 4


@cache
def reference(name: str) -> list[list[int]]:
    """Completions by the model's own forward on one row at a time, without cache: inverse transform of its softmax."""
    model, uniforms = build(name), draw(ROWS, STEPS, SEED)
    rows = []
    for r, line in enumerate(uniforms):
        ids = list(PROMPTS[r // GROUP])
        for u in line:
            with torch.no_grad():
                cumulated = model(torch.tensor([ids])).logits[0, -1].double().softmax(-1).cumsum(-1)
            # With this seed no border is nearer than rounding can move it.
            assert (cumulated - u).abs().min() > 1e-6
            ids.append(int((cumulated <= u).sum()))
            if ids[-1] in ENDS:
                break
        rows.append(ids[len(PROMPTS[r // GROUP]) :])
    return rows


def completions(decoder: Any, **options: Any) -> list[list[int]]:
    uniforms = draw(ROWS, STEPS, SEED)
    return sample(decoder, PROMPTS, GROUP, STEPS, ENDS, uniforms, **options).token_ids


@pytest.mark.parametrize("name", ["llama-gqa", "qwen3"])
@pytest.mark.parametrize(
    ("fixed", "every", "max_rows"), [(False, 1, 256), (False, 1, 1), (False, 8, 7), (True, 1, 7), (True, 8, 256)]
)
def test_completions_are_those_of_the_plain_forward(
    name: str, fixed: bool, every: int, max_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bench.engine.sampler.CHECK_EVERY, "cpu", every)
    monkeypatch.setitem(fast_decoder.PREFILL_TOKENS, "cpu", 45)
    monkeypatch.setattr(fast_decoder, "FIXED_BLOCK", 16)  # several blocks in 63 columns
    assert completions(LlamaDecoder(build(name), fixed), max_rows=max_rows) == reference(name)
    assert len({len(tokens) for tokens in reference(name)}) > 1


def test_the_generic_path_looks_late_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.engine.sampler.CHECK_EVERY, "cpu", 8)
    assert completions(GenericDecoder(build("llama-gqa")), max_rows=7) == reference("llama-gqa")


def test_rows_that_end_at_once_stop_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What step 0 copies is looked at in step 7: seven steps run in vain where all rows end with the first token."""
    every = frozenset(range(61))
    for interval, steps in {1: 0, 8: 7}.items():
        monkeypatch.setitem(bench.engine.sampler.CHECK_EVERY, "cpu", interval)
        out = sample(LlamaDecoder(build("llama")), [[5, 6]], 2, 100, every, draw(2, 100))
        assert [len(tokens) for tokens in out.token_ids] == [1, 1]
        assert out.wasted == 2 * steps


# --- prompts ---


def test_pieces_hold_a_limit_of_padded_tokens() -> None:
    assert pieces([5, 2, 9, 2, 1], 6) == [[4, 1, 3], [0], [2]]
    assert pieces([5, 2, 9, 2, 1], 1000) == [[4, 1, 3, 0, 2]]
    assert pieces([5, 5], 1) == [[0], [1]]


def test_a_pass_over_prompts_has_at_most_the_declared_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fast_decoder.PREFILL_TOKENS, "cpu", 45)
    decoder = LlamaDecoder(build("llama"))
    seen: list[int] = []
    embed = decoder.model.get_input_embeddings()
    embed.register_forward_hook(lambda module, args, output: seen.append(args[0].numel()))
    _, session = decoder.start(PROMPTS, [0, 1, 2, 3, 4], 0)
    assert seen == [3 * 5, 33, 40]  # 2, 2 and 5 tokens padded to 5, then one each
    assert session.prefilled == sum(seen)


# --- rows ---


def test_chunks_keep_groups_whole_where_one_fits() -> None:
    rows = list(range(12))  # three groups of four
    need = lambda row: 10  # noqa: E731
    assert next_chunk(rows, 4, need, 256, 1e9) == 12
    assert next_chunk(rows, 4, need, 11, 1e9) == 8
    assert next_chunk(rows, 4, need, 256, 79) == 4  # seven rows fit
    assert next_chunk(rows, 4, need, 256, 39) == 3  # no group fits
    assert next_chunk(rows[3:], 4, need, 256, 39) == 1  # the rest of a group
    assert next_chunk(rows, 4, need, 256, 0) == 1
    assert next_chunk(rows, 4, lambda row: 10 + 10 * row, 256, 60) == 2  # every row gets the room of the longest


@pytest.mark.parametrize("name", ["llama-gqa", "qwen2", "gpt2"])
def test_bytes_of_a_row_are_those_of_its_cache(name: str) -> None:
    decoder = make_decoder(build(name))
    heads, layers = {"llama-gqa": (1, 4), "qwen2": (3, 2), "gpt2": (3, 2)}[name]
    assert decoder.row_bytes(30, 11) - decoder.row_bytes(30, 10) == 2 * layers * heads * 32 * 4
    if name != "gpt2":
        _, session = LlamaDecoder(decoder.model, fixed=True).start([[1] * 30], [0] * 5, 10)  # type: ignore[attr-defined]
        assert sum(kv.nbytes for kv in session.kv) == 5 * 2 * layers * heads * 32 * 4 * 40
    assert RowBudget().available(torch.device("cpu")) == CPU_BYTES


def test_only_halves_of_a_fixed_number_of_rows_go_on() -> None:
    assert [rows_to_run(left, 100, True) for left in (99, 51, 50, 26, 25, 13, 1)] == [100, 100, 50, 50, 25, 13, 1]
    assert [rows_to_run(left, 100, False) for left in (99, 94, 93)] == [100, 100, 93]


class Small:
    """A decoder whose memory holds ``most`` rows; it fails at the start, or at a step of the first session."""

    def __init__(self, decoder: Any, most: int, at_step: bool = False, error: Exception | None = None) -> None:
        self.decoder, self.most, self.at_step = decoder, most, at_step
        self.error = error or torch.OutOfMemoryError("out of memory")
        self.started: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.decoder, name)

    def start(self, prompts: Sequence[Sequence[int]], rows: Sequence[int], capacity: int) -> Any:
        self.started.append(len(rows))
        logits, session = self.decoder.start(prompts, rows, capacity)
        if len(rows) > self.most:
            if not self.at_step:
                raise self.error
            whole, calls = session.step, []

            def step(tokens: Tensor) -> Tensor:
                calls.append(1)
                if len(calls) == 2:
                    raise self.error
                return whole(tokens)

            session.step = step
        return logits, session


@pytest.mark.parametrize("at_step", [False, True])
def test_out_of_memory_halves_the_rows_and_says_so_once(at_step: bool) -> None:
    decoder, budget = Small(LlamaDecoder(build("llama-gqa")), 3, at_step), RowBudget()
    got: list[int] = []
    with pytest.warns(UserWarning, match="with 10 rows sampled at once") as told:
        tokens = completions(decoder, budget=budget, finished=lambda rows, tokens: got.extend(rows))
    assert len(told) == 1
    assert tokens == reference("llama-gqa")
    # Half of ten rows of 64 tokens are ten of 31, or six of 29 in whole groups; half of six are three, or one group.
    assert decoder.started[:3] == [10, 6, 2]
    assert sorted(got) == list(range(ROWS)), "every row is finished once"
    decoder.started.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert completions(decoder, budget=budget) == reference("llama-gqa")
    assert max(decoder.started) <= 3, "the limit is kept"


def test_one_row_that_does_not_fit_is_an_error_and_so_is_anything_else() -> None:
    with pytest.warns(UserWarning, match="out of memory"), pytest.raises(torch.OutOfMemoryError):
        completions(Small(LlamaDecoder(build("llama")), 0))
    host = RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory")
    with pytest.warns(UserWarning, match="out of memory"):
        assert completions(Small(LlamaDecoder(build("qwen3")), 7, error=host)) == reference("qwen3")
    other = Small(LlamaDecoder(build("llama")), 0, error=RuntimeError("device-side assert"))
    with pytest.raises(RuntimeError, match="device-side"):
        completions(other)
    assert other.started == [ROWS]


def test_the_ledger_does_not_depend_on_the_rows_at_once() -> None:
    ledgers = []
    for rows in (1, 5, 64):
        policy = small_policy(budget="1Gtokens")
        examples = pool(3)
        current = stage(policy, method("grpo", batch_size=4), examples, sample_rows=rows, max_new_tokens=6)
        run(current, max_steps=1)
        assert policy.meter is not None
        record = policy.meter.ledger.record()
        ledgers.append({k: v for k, v in record.items() if "seconds" not in k and k != "padding_tokens"})
    assert ledgers[0] == ledgers[1] == ledgers[2]


# --- graphs ---


def recording(captures: list[int]) -> Callable[[Callable[[], Tensor]], Callable[[], Tensor]]:
    """Like a graph on a CPU: it runs the same step on the same tensors into the same result."""

    def capture(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        captures.append(1)
        result = step().clone()

        def replay() -> Tensor:
            return result.copy_(step())

        return replay

    return capture


def test_replayed_steps_give_the_same_completions(monkeypatch: pytest.MonkeyPatch) -> None:
    captures: list[int] = []
    monkeypatch.setattr(cuda_graph, "wanted", lambda device: True)
    monkeypatch.setattr(cuda_graph, "capture", recording(captures))
    monkeypatch.setattr(fast_decoder, "FIXED_BLOCK", 16)
    monkeypatch.setattr(fast_decoder, "FIXED_LEAST", 1)
    assert completions(LlamaDecoder(build("llama-gqa"))) == reference("llama-gqa")
    assert 2 <= len(captures) <= 6  # columns 41 to 63 are two blocks; ten rows may halve to 5, 3, 2 and 1


def test_a_capture_that_fails_is_said_once_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(fast_decoder, "FIXED_LEAST", 1)
    monkeypatch.setattr(cuda_graph, "failed", False)
    monkeypatch.setattr(cuda_graph, "wanted", lambda device: not cuda_graph.failed)
    monkeypatch.setattr(cuda_graph, "capture", refuse)
    with pytest.warns(UserWarning, match="without CUDA graphs.*is capturing$") as told:
        assert completions(LlamaDecoder(build("llama-gqa"))) == reference("llama-gqa")
    assert len(told) == 1


def test_graphs_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    card = torch.device("cuda")
    assert cuda_graph.wanted(card) and not cuda_graph.wanted(torch.device("cpu"))
    monkeypatch.setenv("BENCH_CUDA_GRAPHS", "0")
    assert not cuda_graph.wanted(card)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_graphs_on_a_card_give_the_same_completions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_decoder, "FIXED_LEAST", 1)
    decoder = LlamaDecoder(build("llama-gqa").to("cuda"))
    assert completions(decoder) == reference("llama-gqa")
    assert not cuda_graph.failed
    monkeypatch.setenv("BENCH_CUDA_GRAPHS", "0")
    assert completions(decoder) == reference("llama-gqa")


# --- the probe ---


def test_the_probe_runs_under_the_autocast_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that is wrong in bfloat16 alone is not taken where bfloat16 is used."""
    right = fast_decoder.snapshot

    def snapshot(model: Any) -> Any:
        weights = right(model)
        return dataclasses.replace(weights, eps=30.0) if weights.dtype == torch.bfloat16 else weights

    autocast = lambda: torch.autocast("cpu", torch.bfloat16)  # noqa: E731
    assert isinstance(make_decoder(build("llama"), autocast), LlamaDecoder)
    monkeypatch.setattr(fast_decoder, "snapshot", snapshot)
    assert isinstance(make_decoder(build("llama")), LlamaDecoder)
    with pytest.warns(UserWarning, match="using its own forward"):
        assert isinstance(make_decoder(build("llama"), autocast), GenericDecoder)

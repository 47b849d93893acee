"""The sampler and its two decoding networks against transformers: same tokens, same probabilities, exact counts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import bench.engine.sampler
from bench.engine.decoder import GenericDecoder, make_decoder
from bench.engine.fast_decoder import LlamaDecoder
from bench.engine.sampler import choose_tokens, packed, sample
from tests.helpers.rounding import nudged

VOCAB = 61
EOS = 3
PROMPTS = [[5, 6, 7, 8, 9], [7, 8], [9, 4, 4, 11, 30, 2, 1], [7, 8], [60]]
STEPS = 24  # beyond the first block of the cache


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(name: str, vocab: int = VOCAB, seed: int = 0) -> Any:
    """A random model with weights large enough that its predictions are peaked and depend on the context."""
    torch.manual_seed(seed)
    if name == "gpt2":
        config = GPT2Config(vocab_size=vocab, n_embd=96, n_layer=2, n_head=3, bos_token_id=0, eos_token_id=EOS)
        model: Any = GPT2LMHeadModel(config)
    else:
        classes: dict[str, tuple[Any, Any, dict[str, Any]]] = {
            "llama": (LlamaForCausalLM, LlamaConfig, {}),
            "llama-gqa": (LlamaForCausalLM, LlamaConfig, {"num_key_value_heads": 1, "num_hidden_layers": 4}),
            "llama-bias": (LlamaForCausalLM, LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
            "llama-rope": (LlamaForCausalLM, LlamaConfig, {"rope_parameters": {"rope_type": "linear", "factor": 3.0}}),
            "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"num_key_value_heads": 3, "tie_word_embeddings": True}),
            "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"num_key_value_heads": 1}),
        }
        model_class, config_class, extra = classes[name]
        if "rope_parameters" in extra:
            extra["rope_parameters"]["rope_theta"] = 5e3
        sizes = {"hidden_size": 96, "num_attention_heads": 3, "head_dim": 32, "intermediate_size": 256}
        options = {"num_hidden_layers": 2, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": EOS}
        model = model_class(config_class(vocab_size=vocab, **{**sizes, **options, **extra}))
    for parameter in model.parameters():
        mean = 0.8 if parameter.dim() == 1 else 0.0
        torch.nn.init.normal_(parameter, mean, 0.2)
    return nudged(model.eval())


def draw(rows: int, steps: int = STEPS, seed: int = 0) -> Tensor:
    return torch.rand(rows, steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def decoders(name: str) -> list[Any]:
    model = build(name)
    return [make_decoder(model), GenericDecoder(model)] if name != "gpt2" else [make_decoder(model)]


FAST = ["llama", "llama-gqa", "llama-bias", "llama-rope", "qwen2", "qwen3"]


@pytest.mark.parametrize("name", [*FAST, "gpt2"])
def test_greedy_equals_generate(name: str) -> None:
    model = build(name)
    decoder = make_decoder(model)
    assert isinstance(decoder, GenericDecoder if name == "gpt2" else LlamaDecoder)
    out = sample(decoder, PROMPTS, 2, STEPS, frozenset([EOS]), None)
    for i, prompt in enumerate(PROMPTS):
        options = {"do_sample": False, "max_new_tokens": STEPS, "eos_token_id": EOS, "pad_token_id": 0}
        ids = torch.tensor([prompt])
        want = model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, len(prompt) :].tolist()
        assert out.token_ids[2 * i] == out.token_ids[2 * i + 1] == want


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_sampled_frequencies_are_the_exact_probabilities(name: str) -> None:
    """20,000 two-token continuations over 7 tokens against the product of both steps' probabilities."""
    model, n, temperature = build(name, vocab=7), 20_000, 1.5
    ids = torch.tensor([[1, 2, 4]])
    with torch.no_grad():
        first = (model(ids).logits[0, -1] / temperature).softmax(-1)
        both = torch.cat([ids.expand(7, 3), torch.arange(7)[:, None]], 1)
        exact = first[:, None] * (model(both).logits[:, -1] / temperature).softmax(-1)
        options = {"do_sample": True, "top_k": 0, "max_new_tokens": 2, "temperature": temperature, "pad_token_id": 0}
        theirs = model.generate(ids.expand(n, 3), attention_mask=torch.ones(n, 3), eos_token_id=None, **options)[:, 3:]
    ours = sample(make_decoder(model), ids.tolist(), n, 2, frozenset(), draw(n, 2), temperature, max_rows=5000)
    for tokens in (torch.tensor(ours.token_ids), theirs):
        counts = torch.bincount(tokens[:, 0] * 7 + tokens[:, 1], minlength=49).double()
        rare = exact.flatten().double() * n < 5  # pooled, as the test asks for
        expected = exact.flatten().double() * n
        observed_cells = torch.cat([counts[~rare], counts[rare].sum()[None]])
        expected_cells = torch.cat([expected[~rare], expected[rare].sum()[None]])
        expected_cells *= observed_cells.sum() / expected_cells.sum()
        kept = expected_cells > 0
        assert chisquare(observed_cells[kept].numpy(), expected_cells[kept].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gpt2"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_equal_a_full_forward(name: str, temperature: float) -> None:
    for decoder in decoders(name):
        out = sample(decoder, PROMPTS, 4, STEPS, frozenset([EOS]), draw(20), temperature)
        for r, (tokens, logprobs) in enumerate(zip(out.token_ids, out.logprobs)):
            prompt = PROMPTS[r // 4]
            with torch.no_grad():
                logits = decoder.model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
            want = (logits / temperature).log_softmax(-1)[torch.arange(len(tokens)), tokens]
            assert all(type(p) is float for p in logprobs)
            torch.testing.assert_close(torch.tensor(logprobs), want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama-gqa", "qwen2", "gpt2"])
def test_chunks_and_dropping_do_not_change_the_tokens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With this seed no draw is nearer than 3e-5 to a border between two tokens, a hundred times the rounding."""
    for decoder in decoders(name):
        runs = []
        for max_rows, share in [(256, 1e-9), (256, 2.0), (10, 0.5), (1, 1 / 16)]:
            monkeypatch.setattr(bench.engine.sampler, "DROP_SHARE", share)
            runs.append(sample(decoder, PROMPTS, 5, STEPS, frozenset([EOS, 7, 9]), draw(25, seed=3), max_rows=max_rows))
        assert len({len(tokens) for tokens in runs[0].token_ids}) > 3  # rows did end at different times
        assert all(run.token_ids == runs[0].token_ids for run in runs)
        for run in runs[1:]:
            for ours, first in zip(run.logprobs, runs[0].logprobs):
                assert ours == pytest.approx(first, abs=1e-4)
        assert runs[0].wasted < runs[1].wasted


def test_eos_is_included_and_ends_the_row() -> None:
    eos = frozenset([EOS, 7, 9])
    out = sample(make_decoder(build("llama")), PROMPTS, 20, STEPS, eos, draw(100))
    ends = [tokens[-1] in eos for tokens in out.token_ids]
    assert any(ends) and not all(ends)
    for tokens, logprobs, end in zip(out.token_ids, out.logprobs, ends):
        assert not eos.intersection(tokens[:-1])
        assert len(tokens) == len(logprobs) and (end or len(tokens) == STEPS)


def test_each_row_has_its_own_limit() -> None:
    decoder = make_decoder(build("llama"))
    free = sample(decoder, PROMPTS, 2, STEPS, frozenset(), draw(10))
    limits = [1, 3, 24, 2, 2, 5, 6, 7, 1, 1]
    out = sample(decoder, PROMPTS, 2, limits, frozenset(), draw(10), max_rows=4)
    assert out.token_ids == [tokens[:n] for tokens, n in zip(free.token_ids, limits)]
    assert out.rows == [(len(PROMPTS[r // 2]), n) for r, n in enumerate(limits)]


@pytest.mark.parametrize("name", ["llama-gqa", "qwen2", "gpt2"])
@pytest.mark.parametrize("max_rows", [256, 6])
def test_hook_on_the_embedding_counts_the_reported_tokens(name: str, max_rows: int) -> None:
    for decoder in decoders(name):
        seen: list[int] = []
        handle = decoder.model.get_input_embeddings().register_forward_hook(
            lambda module, args, output, seen=seen: seen.append(args[0].numel())
        )
        out = sample(decoder, PROMPTS, 6, STEPS, frozenset([EOS, 7, 9]), draw(30), max_rows=max_rows)
        decoded = sum(len(tokens) - 1 for tokens in out.token_ids)
        assert sum(seen) == sum(out.prefill_lengths) + decoded + out.wasted
        assert [new for _, new in out.rows] == [len(tokens) for tokens in out.token_ids]
        if max_rows == 256:
            assert sorted(out.prefill_lengths) == [1, 2, 5, 7]  # the repeated prompt ran once
        seen.clear()
        even = sample(decoder, [[5, 6], [7, 8]], 3, 4, frozenset(), draw(6))
        assert (even.prefill_lengths, even.wasted, sum(seen)) == ([2, 2], 0, 4 + 18)
        handle.remove()


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gpt2"])
def test_updated_weights_are_seen(name: str) -> None:
    model, changed = build(name), build(name, seed=1)
    decoder = make_decoder(model)
    before = sample(decoder, PROMPTS, 2, STEPS, frozenset(), draw(10))
    with torch.no_grad():
        for parameter, new in zip(model.parameters(), changed.parameters()):
            parameter.copy_(new)
    after = sample(decoder, PROMPTS, 2, STEPS, frozenset(), draw(10))
    assert after.token_ids == sample(make_decoder(changed), PROMPTS, 2, STEPS, frozenset(), draw(10)).token_ids
    assert after.token_ids != before.token_ids


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_uniforms_pick_possible_tokens(dtype: torch.dtype) -> None:
    """Tokens 0, 3 and the last have probability 0; many equal ones make the cumulated sum round."""
    logits = torch.full((1, 5001), 0.0)
    logits[:, [0, 3, 5000]] = -math.inf
    for u, want in [(0.0, 1), (1 - 2.0**-53, 4999), (1 - 2.0**-24, 4999)]:
        chosen, logprob = choose_tokens(logits, torch.tensor([u], dtype=dtype).double(), 1.0)
        assert chosen.item() == want
        assert logprob.item() == pytest.approx(-math.log(4998), abs=1e-5)
    peaked = torch.tensor([[0.0, 200.0, 0.0]])
    assert [choose_tokens(peaked, torch.tensor([u]).double(), 1.0)[0].item() for u in (0.0, 0.5, 1 - 2.0**-53)] == [
        1,
        1,
        1,
    ]


def test_packed_moves_the_last_rows_into_the_holes() -> None:
    alive = torch.tensor([True, False, True, False, False, True, True])
    assert packed(alive, 4).tolist() == [0, 5, 2, 6]
    assert packed(torch.ones(3, dtype=torch.bool), 3).tolist() == [0, 1, 2]


def test_disagreeing_fast_path_warns_and_falls_back() -> None:
    model = build("llama")
    model.model.layers[0].input_layernorm.variance_epsilon = 3.0  # not what the config says
    with pytest.warns(UserWarning, match="using its own forward"):
        assert isinstance(make_decoder(model), GenericDecoder)


def test_adapters_and_windows_use_the_generic_path() -> None:
    class Adapted(torch.nn.Linear):
        pass

    model = build("llama")
    model.model.layers[0].self_attn.q_proj = Adapted(96, 96, bias=False)
    assert isinstance(make_decoder(model), GenericDecoder)
    windowed = build("qwen2")
    windowed.config.layer_types = ["full_attention", "sliding_attention"]
    assert isinstance(make_decoder(windowed), GenericDecoder)


def test_generic_path_ignores_dropout_and_restores_the_mode() -> None:
    model = build("gpt2")
    decoder = make_decoder(model)
    want = sample(decoder, PROMPTS, 2, STEPS, frozenset(), None).token_ids
    model.train()
    assert sample(decoder, PROMPTS, 2, STEPS, frozenset(), None).token_ids == want
    assert model.training and model.transformer.drop.training


@pytest.mark.parametrize("name", ["llama-gqa", "qwen2", "qwen3", "gpt2"])
def test_bfloat16_autocast_stays_near_the_forward(name: str) -> None:
    for decoder in decoders(name):
        with torch.autocast("cpu", torch.bfloat16):
            out = sample(decoder, PROMPTS, 2, STEPS, frozenset([EOS]), draw(10))
        for r, (tokens, logprobs) in enumerate(zip(out.token_ids, out.logprobs)):
            prompt = PROMPTS[r // 2]
            with torch.no_grad():
                logits = decoder.model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
            want = logits.log_softmax(-1)[torch.arange(len(tokens)), tokens]
            assert (torch.tensor(logprobs) - want).abs().mean() < 0.2  # float32 gives 1e-6


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_probe_ignores_autocast(name: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert isinstance(make_decoder(build(name)), LlamaDecoder)


def test_bad_arguments_are_named() -> None:
    decoder = make_decoder(build("llama"))
    for message, arguments in {
        "entries for": ([[1]], 2, [3], frozenset(), None),
        "at least 1": ([[1]], 1, 0, frozenset(), None),
        "prompt is empty": ([[1], []], 1, 3, frozenset(), None),
        "do not cover": ([[1]], 2, 3, frozenset(), draw(1)),
        "temperature": ([[1]], 1, 3, frozenset(), None, 0.0),
    }.items():
        with pytest.raises(ValueError, match=message):
            sample(decoder, *arguments)  # type: ignore[arg-type]
    assert sample(decoder, [], 4, 3, frozenset(), None).token_ids == []

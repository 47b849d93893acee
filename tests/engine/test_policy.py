"""The policy: probabilities against plain computations, text in and out, and every token charged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

import bench.engine.token_values
from bench.engine import evaluate
from bench.engine.batching import MicroBatch, collate
from bench.engine.decoder import GenericDecoder
from bench.engine.encoding import encode
from bench.engine.head import LOGITS_BYTES
from bench.engine.policy import Policy, load_model
from bench.types import Trajectory, UserError
from tasks import common
from tests.helpers.engine import (
    SIZES,
    TASK,
    TOKENIZER,
    count_tokens,
    method,
    pool,
    run,
    small_model,
    small_policy,
    stage,
)


def mixed(count: int = 6) -> list[Trajectory]:
    """Rows of several lengths and shapes: demonstration only, completion only, both."""
    rows = []
    for i, e in enumerate(pool(count)):
        cut = (len(e.demo_ids), 0, e.step_ends[0])[i % 3]
        rows.append(Trajectory(e.prompt_ids, e.demo_ids[:cut], e.demo_ids[cut : len(e.demo_ids) - i % 4]))
    return rows


def plain(model: Any, row: Trajectory) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of a row's targets from the full logits, in double precision."""
    ids = torch.tensor([(*row.prompt_ids, *row.demo_ids, *row.completion_ids)])
    logp = model(input_ids=ids, use_cache=False).logits[0].double().log_softmax(-1)
    targets = torch.arange(len(row.prompt_ids), len(row))
    entropy = torch.distributions.Categorical(logits=logp[targets - 1]).entropy()
    return logp[targets - 1, ids[0, targets]], entropy


# --- the ledger sees every token -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fields"),
    [("sft", {"num_updates": 2}), ("uft", {"num_updates": 2}), ("uft", {"schedule": "uniform", "kl_coef": 0.0})],
)
def test_hooks_count_exactly_the_tokens_of_the_ledger(name: str, fields: dict[str, Any]) -> None:
    policy = small_policy(budget="12ktokens")
    meter = policy.meter
    assert meter is not None
    policy.eos_ids = frozenset(range(2, 40))  # many rows end early
    mixed_lengths = [*pool(10), *pool(10, level="4")]
    chosen = method(name, batch_size=4, **fields)
    current = stage(policy, chosen, mixed_lengths, micro_batch_tokens=200, sample_rows=12)
    models = [policy.model] if current.reference is None else [policy.model, current.reference]
    assert (len(models) == 2) == (name == "uft" and "kl_coef" not in fields)
    seen = count_tokens(*models)
    records = run(current)
    assert len(records) >= 4 and meter.ledger.padding_tokens > 0
    if name == "uft":  # prompts of several lengths in one chunk: the sampler pads as well
        assert len({len(e.prompt_ids) for e in mixed_lengths}) > 3
    assert sum(seen) == meter.ledger.tokens + meter.ledger.padding_tokens


def test_evaluation_is_seen_by_the_hooks_and_not_by_the_ledger() -> None:
    policy = small_policy(budget="8ktokens")
    assert policy.meter is not None
    run(stage(policy, method("sft"), pool(10)), max_steps=2)
    before = policy.meter.ledger.record()
    seen = count_tokens(policy.model)
    settings = evaluate.Settings(num_samples=2, max_new_tokens=8, temperature=1.0, sample_rows=64, seed=0)
    found, items = evaluate.evaluate_split(policy, TASK, pool(4, "val"), "val", settings)
    assert sum(seen) > 4 * 13 and policy.meter.ledger.record() == before
    assert found["num_items"] == len(items) == 4 and all(len(item["samples"]) == 2 for item in items)
    with pytest.raises(RuntimeError), policy.off_the_clock():
        raise RuntimeError  # the meter runs again even after an error
    policy.sample([[1, 7]], 1, 2, None)
    assert policy.meter is not None and policy.meter.ledger.tokens > before["tokens"]


# --- probabilities -----------------------------------------------------------------------------------------------


def assert_plain(policy: Policy, rows: list[Trajectory]) -> None:
    """forward() equals the plain computation, is zero elsewhere, and score() equals forward()."""
    micro = collate(rows, policy.device)
    logprobs, entropies = policy.forward(micro, True)
    for i, row in enumerate(micro.rows):
        want = plain(policy.model, row)
        mask = micro.targets[i]
        torch.testing.assert_close(logprobs[i][mask].double(), want[0], atol=2e-5, rtol=0)
        torch.testing.assert_close(entropies[i][mask].double(), want[1], atol=2e-5, rtol=0)
    assert not logprobs[~micro.targets].any() and not entropies[~micro.targets].any()
    found = policy.score(rows, policy.model, 10_000)
    for i, row in enumerate(micro.rows):
        torch.testing.assert_close(found[id(row)], logprobs[i][micro.targets[i]].detach(), atol=2e-5, rtol=0)
        assert not found[id(row)].requires_grad


def test_probabilities_equal_a_plain_computation() -> None:
    policy = small_policy()
    assert policy.split_head
    assert_plain(policy, mixed())
    assert not policy.forward(collate(mixed(), policy.device), False)[1].any()  # entropies cost nothing unless asked


CAPPED = {"final_logit_softcapping": 3.0, "query_pre_attn_scalar": 32}


@pytest.mark.parametrize(
    ("kind", "changes", "split"),
    [
        ((Gemma2Config, Gemma2ForCausalLM), CAPPED, False),
        ((Gemma2Config, Gemma2ForCausalLM), {**CAPPED, "final_logit_softcapping": None}, True),
        ((CohereConfig, CohereForCausalLM), {"logit_scale": 0.25}, False),
        ((Qwen2Config, Qwen2ForCausalLM), {"tie_word_embeddings": True, "num_key_value_heads": 1}, True),
    ],
)
def test_heads_that_are_more_than_linear_are_computed_by_the_model(kind: Any, changes: Any, split: bool) -> None:
    policy = Policy(small_model(kind=kind, spread=0.3, **changes), TOKENIZER)
    assert policy.split_head == split
    assert_plain(policy, mixed(4))


def test_a_soft_cap_is_found_below_small_logits() -> None:
    """An untrained model's logits hardly reach the cap, a trained one's do."""
    model = small_model(kind=(Gemma2Config, Gemma2ForCausalLM), spread=0.01, final_logit_softcapping=30.0)
    assert model(torch.arange(4)[None]).logits.abs().max() < 0.5
    assert not Policy(model, TOKENIZER).split_head


@pytest.mark.parametrize("entropies", [False, True])
def test_chunks_of_logits_change_nothing(entropies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = small_policy()
    micro = collate(mixed(), policy.device)

    def outcome() -> list[Tensor]:
        logprobs, entropy = policy.forward(micro, entropies)
        policy.model.zero_grad()
        (
            (logprobs * torch.linspace(0, 1, logprobs.numel()).view_as(logprobs)).sum() + entropy.square().sum()
        ).backward()
        return [logprobs.detach(), entropy.detach(), *(p.grad.clone() for p in policy.model.parameters())]

    whole = outcome()
    monkeypatch.setitem(LOGITS_BYTES, "cpu", 7 * 4 * len(TOKENIZER))
    calls: list[int] = []
    original = bench.engine.token_values.token_logprobs

    def counted(logits: Tensor, targets: Tensor, entropies: bool) -> tuple[Tensor, Tensor]:
        calls.append(len(targets))
        return original(logits, targets, entropies)

    monkeypatch.setattr(bench.engine.token_values, "token_logprobs", counted)
    for ours, want in zip(outcome(), whole):
        torch.testing.assert_close(ours, want, atol=1e-5, rtol=1e-5)
    assert max(calls) == 7 and sum(calls) == 2 * int(micro.targets.sum())  # once more in the backward pass
    scored = policy.score(micro.rows, policy.model, 10_000)
    torch.testing.assert_close(torch.cat([scored[id(row)] for row in micro.rows]), whole[0][micro.targets])


@pytest.mark.parametrize("generic", [False, True])
def test_sampler_and_trainer_agree(generic: bool) -> None:
    policy = small_policy()
    if generic:
        policy.engine.decoder = GenericDecoder(policy.model)
    prompts = [e.prompt_ids for e in pool(5)]
    out = policy.sample(prompts, 3, 16, [4 + 100 * i for i in range(3 * len(prompts))])
    rows = [Trajectory(prompts[i // 3], (), tuple(ids)) for i, ids in enumerate(out.token_ids)]
    found = policy.score(rows, policy.model, 300)
    for row, logprobs in zip(rows, out.logprobs):
        torch.testing.assert_close(found[id(row)], torch.tensor(logprobs), atol=1e-4, rtol=0)
    assert policy.sample(prompts, 3, 16, [4 + 100 * i for i in range(3 * len(prompts))]).token_ids == out.token_ids
    assert policy.sample(prompts, 3, 16, [5 + 100 * i for i in range(3 * len(prompts))]).token_ids != out.token_ids


def test_the_reference_is_a_frozen_copy() -> None:
    policy = small_policy()
    reference = policy.frozen_copy()
    rows = mixed()
    before = policy.score(rows, reference, 500)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.5)
    after, moved = policy.score(rows, reference, 500), policy.score(rows, policy.model, 500)
    assert all(torch.equal(before[id(row)], after[id(row)]) for row in rows)
    assert all(not torch.allclose(before[id(row)], moved[id(row)]) for row in rows)
    assert not any(p.requires_grad for p in reference.parameters())


# --- text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["compact", "plain"])
def test_encoding_keeps_borders_and_ends_with_eos(template: str) -> None:
    for raw in common.load_examples(TASK, "train", 20, "3", template):
        e = encode(TOKENIZER, raw, template)
        assert e.prompt_ids[0] == TOKENIZER.bos_token_id and TOKENIZER.decode(e.prompt_ids[1:]) == raw.prompt
        assert e.demo_ids[-1] == TOKENIZER.eos_token_id and TOKENIZER.eos_token_id not in e.demo_ids[:-1]
        assert len(e.step_ends) == len(raw.demonstration.steps) and e.step_ends[-1] < len(e.demo_ids)
        for k, end in enumerate(e.step_ends):
            assert TOKENIZER.decode(e.demo_ids[:end]) == "".join(raw.demonstration.steps[: k + 1])
        assert TOKENIZER.decode(e.demo_ids[:-1]) == raw.demonstration.text
        assert small_policy().decode([e.demo_ids]) == [raw.demonstration.text]


def test_a_chat_template_is_used_or_missed() -> None:
    raw = common.load_examples(TASK, "train", 1, "3", "chat")[0]
    with pytest.raises(UserError, match="no chat template"):
        encode(TOKENIZER, raw, "chat")
    template = "{% for m in messages %}<bos>[{{ m['content'] }}]{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    TOKENIZER.chat_template = template
    try:
        ids = encode(TOKENIZER, raw, "chat").prompt_ids
    finally:
        TOKENIZER.chat_template = None
    assert TOKENIZER.decode(ids) == f"<bos>[{raw.prompt}]>" and ids.count(TOKENIZER.bos_token_id) == 1


def test_only_one_final_eos_is_hidden_from_the_verifier() -> None:
    eos, bos, pad = 2, 1, 0
    word = TOKENIZER("7", add_special_tokens=False).input_ids[0]
    rows = [[word, eos], [word, eos, eos], [bos, word, pad], [eos, word], [eos], []]
    assert small_policy().decode(rows) == ["7", "7<eos>", "<bos>7<pad>", "<eos>7", "", ""]


def test_ordinary_tokens_are_never_an_eos() -> None:
    """A configuration's own default id may be any word of another tokenizer."""
    model = small_model()
    digit = TOKENIZER("7", add_special_tokens=False).input_ids[0]
    model.generation_config.eos_token_id = digit
    assert Policy(model, TOKENIZER).eos_ids == {2}
    model.generation_config.eos_token_id = [digit, 0]  # chat models list a second special token
    assert Policy(model, TOKENIZER).eos_ids == {0, 2}
    model.generation_config.eos_token_id = None
    assert Policy(model, TOKENIZER).eos_ids == {2}
    foreign = GPT2LMHeadModel(GPT2Config(vocab_size=SIZES["vocab_size"], n_embd=64, n_layer=1, n_head=2))
    assert foreign.generation_config.eos_token_id == 50256 and Policy(foreign, TOKENIZER).eos_ids == {2}


def test_a_micro_batch_is_moved_whole() -> None:
    micro: MicroBatch = collate(mixed(), torch.device("meta"))
    assert all(t.is_meta for t in (micro.token_ids, micro.demo, micro.policy, micro.advantages, micro.targets))


def test_broken_weights_are_one_clear_line(tmp_path) -> None:
    small_model().save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="cannot load model"):
        load_model(str(tmp_path))

"""Adapters: what they cost, that they alone learn, and that merging, references and checkpoints keep their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from bench.analysis.fairness import diff_plans
from bench.engine import checkpoint
from bench.engine.adapters import attach, merge, own_parameters
from bench.engine.batching import collate
from bench.engine.decoder import GenericDecoder
from bench.engine.fast_decoder import LlamaDecoder
from bench.engine.model_facts import architecture
from bench.engine.planned import planned_policy
from bench.engine.policy import Policy
from bench.engine.runner import Run, execute
from bench.plan import lora as lora_module
from bench.plan.budget import Architecture, Budget, Meter
from bench.plan.lora import Lora, parse_lora
from bench.store.run_folder import read_json
from bench.store.run_store import RunStore
from bench.types import Trajectory, UserError
from tests.helpers.engine import TOKENIZER, method, pool, small_model, stage
from tests.helpers.runs import differences, make_job, outcome, write_model

RANK = 4
BODY = 2 * (4 * 64 * 64 + 3 * 64 * 128)  # of the small model: four projections of 64 x 64 and three of 64 x 128
ADAPTER = 2 * RANK * (4 * (64 + 64) + 3 * (64 + 128))  # A and B of the same


def adapted(moved: bool = True, **changes: Any) -> Policy:
    """A small policy with an adapter; ``moved``: with values in B, so that it changes something."""
    model = small_model(**changes)
    attach(model, Lora(rank=RANK, alpha=8.0), 3)
    if moved:
        torch.manual_seed(5)
        for name, p in own_parameters(model).items():
            if "lora_B" in name:
                torch.nn.init.normal_(p, std=0.05)
    policy = Policy(model, TOKENIZER)
    policy.meter = Meter(policy.architecture, Budget.parse("1Ptokens"))
    return policy


def rows(count: int = 3) -> list[Trajectory]:
    """Of one length."""
    found = [Trajectory(e.prompt_ids, e.demo_ids[:-2], e.demo_ids[-2:]) for e in pool(40)]
    return [row for row in found if len(row) == len(found[0])][:count]


def test_flops_equal_the_counted_ones() -> None:
    """But for the first layer's inputs, which need no gradient: ours are those of a layer among others."""
    policy = adapted()
    assert policy.meter is not None
    assert policy.architecture == Architecture(BODY + ADAPTER, 64 * len(TOKENIZER), 4 * 2 * 64, ADAPTER)
    micro = collate(rows(), policy.device)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        policy.forward(micro, False)[0].sum().backward()
    tokens = sum(micro.lengths)
    # Queries, keys and values of the first layer: three frozen weights and three As.
    unneeded = 2 * tokens * 3 * (64 * 64 + 64 * RANK)
    assert counter.get_total_flops() == policy.meter.ledger.flops - unneeded


def test_the_rule_by_hand() -> None:
    weights = Architecture(body=1000, head=100, attention=8, trained=30)
    forward = 2 * 1000 * 5 + 2 * 100 * 3 + 8 * 25
    assert weights.forward(5, 3) == forward
    # Backward: activations through all weights, own weights of the adapter, both sides of attention's products.
    assert weights.train(5, 3) == forward + (2 * 1000 * 5 + 2 * 100 * 3) + 2 * 30 * 5 + 2 * 8 * 25


def test_only_the_adapter_learns() -> None:
    policy = adapted(moved=False)
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    current = stage(policy, method("sft", weight_decay=0.0), pool(8))
    current.run_step()
    moved = {name for name, p in policy.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "lora_B" in name}  # the gradient of A is zero while B is
    current.run_step()
    moved = {name for name, p in policy.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "lora_" in name} == set(own_parameters(policy.model))


@pytest.mark.parametrize("generic", [False, True])
def test_the_sampler_writes_with_the_adapter(generic: bool) -> None:
    policy = adapted()
    assert isinstance(policy.engine.decoder, LlamaDecoder)
    if generic:
        policy.engine.decoder = GenericDecoder(policy.model)
    prompts = [e.prompt_ids for e in pool(2)]
    out = policy.sample(prompts, 2, 12, list(range(4)))
    written = [Trajectory(prompts[i // 2], (), tuple(ids)) for i, ids in enumerate(out.token_ids)]
    scores = policy.score(written, policy.model, 1000)
    plain = Policy(small_model(), TOKENIZER).score(written, small_model(), 1000)
    for row, logprobs in zip(written, out.logprobs):
        assert torch.allclose(scores[id(row)], torch.tensor(logprobs), atol=1e-4)
        assert not torch.allclose(plain[id(row)], torch.tensor(logprobs), atol=1e-2)


@torch.no_grad()
def test_a_merged_model_is_a_plain_one_with_the_same_logits() -> None:
    model = adapted().model.double()
    ids = torch.arange(1, 13).view(2, 6)
    expected = model(input_ids=ids).logits
    merged = merge(model)
    assert type(merged) is LlamaForCausalLM
    assert merged.state_dict().keys() == small_model().state_dict().keys()
    assert torch.allclose(merged(input_ids=ids).logits, expected, rtol=0, atol=1e-12)
    assert merge(merged) is merged and torch.equal(merged(input_ids=ids).logits, merged(input_ids=ids).logits)


def test_the_reference_shares_what_is_frozen() -> None:
    """A fresh adapter is switched off in it; a trained one is copied, and follows the policy no more."""
    policy = adapted(moved=False)
    calls: list[int] = []
    current = stage(policy, method("grpo", kl_coef=0.1, num_updates=1), pool(8))
    assert current.reference is not None
    for name, module in current.reference.named_modules():
        if name.endswith("lora_A.default"):
            module.register_forward_hook(lambda *_: calls.append(1))
    base = policy.score(rows(), small_model(), 1000)
    scored = rows()
    reference = policy.score(scored, current.reference, 1000)
    assert all(torch.equal(a, b) for a, b in zip(base.values(), reference.values())) and not calls
    current.run_step()
    current.run_step()
    assert not calls
    own = set(own_parameters(policy.model))
    ours, theirs = (dict(m.named_parameters()) for m in (policy.model, current.reference))
    assert {name for name in ours if ours[name].data_ptr() == theirs[name].data_ptr()} == set(ours) - own
    assert all(ours[name].requires_grad == (name in own) and not theirs[name].requires_grad for name in ours)

    second = stage(policy, method("grpo", kl_coef=0.1, num_updates=1), pool(8), seed=1)
    now = torch.cat(list(policy.score(scored, policy.model, 1000).values()))
    assert torch.equal(torch.cat(list(policy.score(scored, second.reference, 1000).values())), now)
    second.run_step()
    assert torch.equal(torch.cat(list(policy.score(scored, second.reference, 1000).values())), now)
    assert not torch.equal(torch.cat(list(policy.score(scored, policy.model, 1000).values())), now)


@pytest.mark.parametrize("share", [1.0, 0.25])
@torch.no_grad()
def test_a_reference_follows_the_merged_weights(share: float) -> None:
    """Replaced by the new adapter, or averaged with it: an average of weights, not of the adapter's factors."""
    policy, base = adapted(moved=False), small_model()
    current = stage(policy, method("curio_sft", sync_every=1, sync_mix=share), pool(8))
    for name, p in adapted().model.named_parameters():
        policy.model.get_parameter(name).copy_(p)
    current.step = 1
    current._score_reference(rows())  # here it follows
    moved = merge(adapted().model)
    for theirs, (before, after) in zip(
        merge(current.reference).parameters(), zip(base.parameters(), moved.parameters())
    ):
        assert torch.allclose(theirs, (1 - share) * before + share * after, atol=1e-6)
    assert not torch.equal(moved.model.layers[0].mlp.up_proj.weight, base.model.layers[0].mlp.up_proj.weight)


class Stop(Exception):
    pass


def test_runs_resume_exactly_and_keep_the_merged_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stages, so that the reference of the second is an adapter that has learned."""
    model = write_model(tmp_path / "model")
    jobs = [make_job(model, tmp_path / name, "sft@0.5+grpo", lora="2:8", threads=1) for name in ("whole", "cut")]
    execute(jobs[0])
    monkeypatch.setenv(checkpoint.INTERVAL, "-1")
    log, calls = Run.log, []

    def stopping(run: Run, *args: Any) -> None:
        log(run, *args)
        calls.append(1)
        if len(calls) == 8:
            raise Stop

    monkeypatch.setattr(Run, "log", stopping)
    with pytest.raises(Stop):
        execute(jobs[1])
    saved = checkpoint.last_good(jobs[1].path)
    assert saved is not None and saved.state["stage_index"] == 1
    for name in (checkpoint.POLICY, checkpoint.REFERENCE):
        held = load_file(saved.path / name)
        assert held and all("lora_" in key for key in held)
    moments = {name.split(".")[0] for name in load_file(saved.path / checkpoint.OPTIMIZER)}
    assert len(moments) == len(held)
    monkeypatch.setattr(Run, "log", log)
    execute(jobs[1])
    assert differences(outcome(jobs[0].path), outcome(jobs[1].path)) == []
    run = Run(jobs[0], RunStore(jobs[0].path))
    start, kept = (AutoModelForCausalLM.from_pretrained(p) for p in (model, jobs[0].path / "policy"))
    assert kept.state_dict().keys() == start.state_dict().keys()
    assert read_json(jobs[0].path / "plan.json")["lora"] == {"rank": 2, "alpha": 8.0, "targets": "all-linear"}
    assert run.policy.architecture.trained == sum(p.numel() for p in own_parameters(run.policy.model).values())
    change = kept.model.layers[0].mlp.up_proj.weight - start.model.layers[0].mlp.up_proj.weight
    assert 1 <= int(torch.linalg.matrix_rank(change.double(), rtol=1e-4)) <= 2
    assert torch.equal(kept.model.embed_tokens.weight, start.model.embed_tokens.weight)


def values_of(policy: Policy) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in own_parameters(policy.model).items()}


def test_the_seed_decides_the_adapter(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    job = make_job(model, tmp_path, "sft", lora="2")
    one, two = values_of(planned_policy(job)), values_of(planned_policy(job))
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = make_job(model, tmp_path, "sft", lora="2", seeds=(1,))
    assert any(not torch.equal(one[name], v) for name, v in values_of(planned_policy(other)).items())


def test_plans_without_an_adapter_keep_their_ids(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    plan, other = (make_job(model, tmp_path, "sft", lora=text).plan for text in (None, "2"))
    hashed = plan.identity(set())
    assert not {"lora", "optimizer", "packing", "reference"} & hashed.keys()
    assert plan.run_id != other.run_id and plan.comparison != other.comparison
    (knob,) = diff_plans(plan, other)
    assert (knob.name, knob.a, knob.status) == ("lora", "null", "undeclared") and '"rank": 2' in knob.b


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "16:", "16:0", "16:x", "99999", "1.5", "nan", "16:32:1"])
def test_malformed_adapters_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected a rank from 1 to 4096"):
        parse_lora(text)


def test_an_adapter_is_read() -> None:
    assert parse_lora("16") == Lora(rank=16, alpha=32.0)
    assert parse_lora("8:4.5") == Lora(rank=8, alpha=4.5)


def test_adapters_need_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package peft, which is not installed: pip install"):
        parse_lora("16")


def test_architectures_without_an_adapter_train_all() -> None:
    assert architecture(small_model()).trained is None

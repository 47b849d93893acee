"""The reference model's memory: half-size weights that change nothing under autocast, and weights kept on the host."""

from __future__ import annotations

import copy

import torch

from bench.engine import reference
from bench.engine.recompute import decoder_layers
from bench.engine.reference import TRAINING_BYTES, halves, mix, mixed_by, offload, place, size, widened
from tests.helpers.engine import method, small_model

IDS = torch.arange(1, 25).view(2, 12)


@torch.no_grad()
def test_half_size_weights_are_bitwise_equal_under_autocast() -> None:
    """On a CPU with its autocast to bfloat16, for a head of its own and for one that is the embedding too."""
    for tied in (False, True):
        model = small_model(tie_word_embeddings=tied)
        small = copy.deepcopy(model, halves(model)).requires_grad_(False)
        narrow = {name for name, p in small.named_parameters() if p.dtype == torch.bfloat16}
        assert narrow == {n for n, _ in model.named_parameters() if n.endswith("_proj.weight") or n == "lm_head.weight"}
        assert tied == (small.lm_head.weight is small.model.embed_tokens.weight) == ("lm_head.weight" not in narrow)
        assert size(small) < size(model)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model(input_ids=IDS).logits, small(input_ids=IDS).logits)
            states = [m.base_model(input_ids=IDS).last_hidden_state for m in (model, small)]
            heads = [m.get_output_embeddings()(s) for m, s in zip((model, small), states)]
        assert torch.equal(*states) and torch.equal(*heads)
        assert all(p.dtype == torch.float32 for p in model.parameters())
        assert widened(model) is model and widened(small)(input_ids=IDS).logits.dtype == torch.float32


def test_what_is_averaged_is_not_rounded() -> None:
    assert mixed_by(method("curio_sft", sync_every=2, sync_mix=0.5))
    assert not mixed_by(method("curio_sft", sync_every=2, sync_mix=1.0))
    assert not mixed_by(method("curio_sft", sync_every=0, sync_mix=0.5)) and not mixed_by(method("grpo"))


def test_a_rounded_reference_is_replaced_by_the_rounded_policy() -> None:
    policy, other = small_model(0), small_model(1)
    small = copy.deepcopy(other, halves(other)).requires_grad_(False)
    mix(small, policy, 1.0)
    for name, theirs in small.named_parameters():
        assert torch.equal(theirs, policy.get_parameter(name).to(theirs.dtype))


@torch.no_grad()
def test_offloaded_layers_hold_their_weights_only_while_they_run() -> None:
    """Copies on the same device stand for those on a card, where this was never run."""
    plain, model = small_model(), small_model()
    home = {name: p.data_ptr() for name, p in model.named_parameters()}
    offload(model, torch.device("cpu"))
    home |= {name: p.data_ptr() for name, p in model.named_parameters()}
    seen: list[list[bool]] = []

    def away() -> list[bool]:
        return [any(p.data_ptr() != home[f"model.layers.{i}.{n}"] for n, p in b.named_parameters()) for i, b in inside]

    inside = list(enumerate(decoder_layers(model)))
    for block in decoder_layers(model):
        block.mlp.register_forward_hook(lambda *_: seen.append(away()))
    for _ in range(2):
        assert torch.equal(model(input_ids=IDS).logits, plain(input_ids=IDS).logits)
    assert seen == [[True, False], [False, True]] * 2 and away() == [False, False]
    mix(model, small_model(1), 0.5)  # what is at home is changed, so the next run has it
    mix(plain, small_model(1), 0.5)
    assert torch.equal(model(input_ids=IDS).logits, plain(input_ids=IDS).logits)


def test_where_the_reference_goes() -> None:
    """1.5e9 weights on a card of 80 GB: 18 GB of gradients and moments are still to come, a quarter stays free."""
    assert TRAINING_BYTES * 1.5e9 == 18e9
    assert place(int(39e9), int(80e9), int(1.5e9)) == "device"
    assert place(int(37e9), int(80e9), int(1.5e9)) == "offload"
    assert reference.chosen_place("offload", small_model(), {}, torch.device("cpu")) == "offload"

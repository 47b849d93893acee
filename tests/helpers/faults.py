"""Broken engines, each a known fault patched into the real code; those of training are in faults_training.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import torch

import bench.audit.checks_batches
import bench.audit.checks_values
import bench.engine.ascent
import bench.engine.batching
import bench.engine.evaluate
import bench.engine.policy
import bench.engine.sampler
import bench.engine.scoring
import bench.engine.step
import bench.engine.token_values
import bench.engine.trainer
from bench.audit.stack import Stack
from bench.engine.policy import Policy
from bench.engine.trainer import Stage
from bench.types import Loss
from methods import common, sft

MODULES = (
    bench.engine.ascent,
    bench.engine.batching,
    bench.engine.scoring,
    bench.audit.checks_batches,
    bench.audit.checks_training,
    bench.audit.checks_values,
    bench.engine.policy,
    bench.engine.step,
    bench.engine.trainer,
)
collate, split, encode = (
    bench.engine.batching.collate,
    bench.engine.batching.split_micro_batches,
    bench.engine.policy.encode,
)
Patch = pytest.MonkeyPatch


def everywhere(patch: Patch, name: str, value: Any) -> None:
    """Replace a function in every module of the engine that imported it."""
    for module in MODULES:
        if hasattr(module, name):
            patch.setattr(module, name, value)


def recollated(patch: Patch, change: Callable[[Any], Any]) -> None:
    """Collate that changes what the right one returns."""
    everywhere(patch, "collate", lambda *a, **k: change(collate(*a, **k)))


def last_part_only(patch: Patch) -> None:
    patch.setattr(bench.engine.batching, "split_micro_batches", lambda rows, *how: split(rows, *how)[-1:])


def gradients_not_accumulated(patch: Patch) -> None:
    original = Stage._batch

    def batch(self: Stage, *args: Any) -> Any:
        self.policy.model.zero_grad(set_to_none=True)
        return original(self, *args)

    patch.setattr(Stage, "_batch", batch)


def mean_of_means(patch: Patch) -> None:
    original = common.token_divisor
    patch.setattr(common, "token_divisor", lambda batch, mask, n, divisor: original(batch, mask, n, "micro-batch"))


def mean_in_one_loss(patch: Patch) -> None:
    patch.setattr(sft.SFT, "loss", lambda self, batch: Loss(-batch.logprobs[batch.demo].mean()))


def later(mask: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(mask[:, :-1], (1, 0))


def demo_mask_off_by_one(patch: Patch) -> None:
    recollated(patch, lambda m: replace(m, demo=later(m.demo) & ~m.policy))


def prompt_in_the_mask(patch: Patch) -> None:
    def change(m: Any) -> Any:
        until = m.demo.flip(1).cumsum(1).flip(1) > 0
        return replace(m, demo=until & ~m.policy)

    recollated(patch, change)


def pads_are_targets(patch: Patch) -> None:
    def change(m: Any) -> Any:
        lengths = torch.tensor(m.lengths)[:, None]
        pads = torch.arange(1, m.token_ids.shape[1])[None, :] >= lengths
        return replace(m, demo=m.demo | (pads & m.demo.any(1, keepdim=True)))

    recollated(patch, change)


def last_target_lost(patch: Patch) -> None:
    recollated(patch, lambda m: replace(m, demo=m.demo & ~(m.demo.flip(1).cumsum(1).flip(1) == 1)))


def left_padding(patch: Patch) -> None:
    def change(m: Any) -> Any:
        moved = {}
        for name in ("token_ids", "demo", "policy", "advantages"):
            value, width = getattr(m, name), m.token_ids.shape[1]
            moved[name] = torch.stack([row.roll(width - n) for row, n in zip(value, m.lengths)])
        return replace(m, **moved)

    recollated(patch, change)


def border_after_prefix_shifted(patch: Patch) -> None:
    def change(m: Any) -> Any:
        both = (m.demo.any(1) & m.policy.any(1))[:, None]
        return replace(m, demo=m.demo | (later(m.demo) & both), policy=m.policy & ~(later(m.demo) & both))

    recollated(patch, change)


def advantages_shifted(patch: Patch) -> None:
    recollated(patch, lambda m: replace(m, advantages=later(m.advantages)))


def softmax_over_rows(patch: Patch) -> None:
    def logprobs(logits: Any, targets: Any, entropies: bool) -> Any:
        logp = torch.log_softmax(logits.float(), dim=0)
        chosen = logp.gather(1, targets.unsqueeze(1)).squeeze(1)
        return chosen, torch.zeros_like(chosen)

    patch.setattr(bench.engine.token_values, "token_logprobs", logprobs)


def rate_of_the_next_step(patch: Patch) -> None:
    original = bench.engine.trainer.learning_rate
    patch.setattr(bench.engine.trainer, "learning_rate", lambda method, progress: original(method, progress + 1 / 8))


def constant_rate(patch: Patch) -> None:
    patch.setattr(bench.engine.trainer, "learning_rate", lambda method, progress: method.lr)


def rate_not_given_to_the_optimizer(patch: Patch) -> None:
    original = Stage.update

    def update(self: Stage, rows: Any, rate: float, progress: float) -> Any:
        return original(self, rows, self.method.lr, progress)

    patch.setattr(Stage, "update", update)


def optimizer_does_nothing(patch: Patch) -> None:
    patch.setattr(torch.optim.AdamW, "step", lambda self: None)


def temperature_ignored(patch: Patch) -> None:
    original = bench.engine.sampler.choose_tokens
    patch.setattr(
        bench.engine.sampler, "choose_tokens", lambda logits, uniforms, temperature: original(logits, uniforms, 1.0)
    )


def sampled_logprobs_shifted(patch: Patch) -> None:
    original = Policy.sample

    def sample(self: Policy, *args: Any) -> Any:
        out = original(self, *args)
        return replace(out, logprobs=[[0.0, *row[:-1]] for row in out.logprobs])

    patch.setattr(Policy, "sample", sample)


def sampled_logprobs_are_nan(patch: Patch) -> None:
    original = Policy.sample

    def sample(self: Policy, *args: Any) -> Any:
        out = original(self, *args)
        return replace(out, logprobs=[[math.nan] * len(row) for row in out.logprobs])

    patch.setattr(Policy, "sample", sample)


def padding_gives_nan(patch: Patch) -> None:
    original = sft.SFT.loss

    def loss(self: sft.SFT, batch: Any) -> Loss:
        found = original(self, batch)
        return found if len(batch.demo) == batch.num_trajectories else Loss(found.value * math.nan)

    patch.setattr(sft.SFT, "loss", loss)


def sampled_eos_dropped(patch: Patch) -> None:
    original = Policy.sample

    def sample(self: Policy, *args: Any) -> Any:
        out = original(self, *args)
        ends = [len(ids) - (len(ids) > 1 and ids[-1] in self.eos_ids) for ids in out.token_ids]
        cut = {name: [row[:n] for row, n in zip(getattr(out, name), ends)] for name in ("token_ids", "logprobs")}
        return replace(out, **cut)

    patch.setattr(Policy, "sample", sample)


def unseeded_evaluation(patch: Patch) -> None:
    numbers = count()
    patch.setattr(bench.engine.evaluate, "derive_seed", lambda *parts: next(numbers))


def evaluation_on_the_clock(patch: Patch) -> None:
    @contextmanager
    def running(self: Policy) -> Iterator[None]:
        yield

    patch.setattr(Policy, "off_the_clock", running)


def rewards_not_centred(patch: Patch) -> None:
    patch.setattr(common, "group_advantages", lambda rewards, *settings: list(rewards))


def rounding_becomes_an_advantage(patch: Patch) -> None:
    def advantages(rewards: Any, *settings: Any) -> list[float]:
        mean = sum(rewards) / len(rewards)
        return [(reward - mean) / 1e-6 for reward in rewards]

    patch.setattr(common, "group_advantages", advantages)


# fault -> (checks that must fail, checks that must pass)
SFT, GRPO = "micro-batches sft", "micro-batches grpo"
FAULTS: dict[Callable[[Patch], None], tuple[set[str], set[str]]] = {
    last_part_only: ({SFT, GRPO, "hand-computed loss"}, {"packing", "mask", "sampler"}),
    gradients_not_accumulated: ({SFT, GRPO}, {"hand-computed loss", "mask", "padding"}),  # the logged loss looks right
    mean_of_means: ({SFT, GRPO, "hand-computed loss"}, {"packing", "padding", "mask"}),
    mean_in_one_loss: ({SFT, "hand-computed loss"}, {GRPO, "packing", "mask"}),
    demo_mask_off_by_one: ({"mask", "hand-computed loss", "prefix"}, {"sampler", "round trip", "evaluation"}),
    prompt_in_the_mask: ({"mask", "hand-computed loss", "prefix"}, {"sampler", "round trip"}),
    pads_are_targets: ({"mask", "padding", "hand-computed loss"}, {"sampler", "round trip"}),
    last_target_lost: ({"mask", "eos"}, {"packing", "padding", "sampler"}),
    left_padding: ({"packing", "padding", "hand-computed loss"}, {"mask", "round trip", "evaluation"}),
    border_after_prefix_shifted: ({"prefix"}, {"mask", SFT, "hand-computed loss", "sampler"}),
    advantages_shifted: ({"prefix", "hand-computed loss"}, {"mask", SFT, "sampler"}),
    softmax_over_rows: ({"packing", "hand-computed loss", "sampler", "prefix"}, {"mask", "round trip"}),
    rate_of_the_next_step: ({"learning rate"}, {"eos", SFT, "hand-computed loss"}),
    constant_rate: ({"learning rate"}, {"eos", SFT, "hand-computed loss"}),
    rate_not_given_to_the_optimizer: ({"learning rate"}, {"eos", "packing"}),
    optimizer_does_nothing: ({"eos", "optimizer", "reference and old policy"}, {SFT, "constant reward"}),
    temperature_ignored: ({"sampler"}, {"prefix", "evaluation"}),
    sampled_logprobs_shifted: ({"sampler", "prefix"}, {"evaluation", "mask", "hand-computed loss"}),
    sampled_logprobs_are_nan: ({"sampler", "prefix"}, {"evaluation", "mask", "hand-computed loss"}),
    padding_gives_nan: ({"padding", SFT, "hand-computed loss"}, {"mask", "packing"}),
    sampled_eos_dropped: ({"prefix"}, {"sampler", "mask"}),
    unseeded_evaluation: ({"evaluation"}, {"sampler"}),
    evaluation_on_the_clock: ({"evaluation"}, {"sampler"}),
    rewards_not_centred: ({"constant reward"}, {"hand-computed loss", SFT}),
    rounding_becomes_an_advantage: ({"constant reward"}, {SFT}),
}


def encoded(change: Callable[[Stack, Any], Any]) -> Callable[[Patch, Stack], None]:
    """An encoder that changes what the right one returns, seen by all checks."""

    def apply(patch: Patch, stack: Stack) -> None:
        patch.setattr(bench.engine.policy, "encode", lambda tokenizer, *rest: change(stack, encode(tokenizer, *rest)))
        patch.setattr(stack, "examples", stack.load("train", len(stack.examples)))

    return apply


def with_a_space(stack: Stack, e: Any) -> Any:
    (space,) = stack.policy.tokenizer(" ", add_special_tokens=False).input_ids
    return replace(e, demo_ids=(space, *e.demo_ids), step_ends=tuple(n + 1 for n in e.step_ends))


ENCODERS = {
    "missing EOS": (
        lambda stack, e: replace(e, demo_ids=e.demo_ids[:-1]),
        ({"mask", "eos"}, {SFT, "packing", "round trip", "learning rate"}),
    ),
    "a space at the border": (with_a_space, ({"round trip", "mask"}, {SFT, "packing", "sampler"})),
    "step borders one too far": (
        lambda stack, e: replace(e, step_ends=tuple(n + 1 for n in e.step_ends)),
        ({"round trip"}, {SFT, "mask", "eos", "hand-computed loss"}),
    ),
    "prompt cut": (
        lambda stack, e: replace(e, prompt_ids=e.prompt_ids[:-1]),
        ({"round trip"}, {SFT, "mask", "hand-computed loss"}),
    ),
}

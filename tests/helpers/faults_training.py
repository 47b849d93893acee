"""Broken training: faults of reference, old policy and optimizer, with the checks that must catch them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch

import bench.engine.step
import bench.engine.trainer
from bench.engine.trainer import Stage
from tests.helpers.faults import SFT, Patch

POLICIES = "reference and old policy"
UNTOUCHED = {"hand-computed loss", SFT}


def reference_is_the_policy(patch: Patch) -> None:
    patch.setattr(Stage, "_score_reference", lambda self, rows: self._score(rows, self.policy.model))


def rescored(patch: Patch, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """A scoring pass of Stage that changes each row's log-probabilities."""
    original = getattr(Stage, name)
    patch.setattr(Stage, name, lambda self, *args: {k: change(v) for k, v in original(self, *args).items()})


def reference_shifted(patch: Patch) -> None:
    rescored(patch, "_score_reference", lambda v: v.roll(1))


def old_policy_off_by_a_nat(patch: Patch) -> None:
    rescored(patch, "_score", lambda v: v - 1)


def old_policy_never_scored(patch: Patch) -> None:
    patch.setattr(Stage, "_score", lambda self, *args: {})


def old_policy_of_other_weights(patch: Patch) -> None:
    def score(self: Stage, rows: Any, model: Any) -> Any:
        other = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(1.01)
        return self.policy.score(rows, other, self.limit.tokens)

    patch.setattr(Stage, "_score", score)


def batched(patch: Patch, change: Callable[[Any], Any]) -> None:
    """Optimizer batches of a step, changed."""
    original = bench.engine.step.optimizer_batches
    patch.setattr(bench.engine.trainer, "optimizer_batches", lambda *args: change(original(*args)))


def first_batch_only(patch: Patch) -> None:
    batched(patch, lambda parts: parts[:1])


def first_batch_twice(patch: Patch) -> None:
    batched(patch, lambda parts: [parts[0]] * len(parts))


def a_row_lost_in_later_batches(patch: Patch) -> None:
    batched(patch, lambda parts: [parts[0], *(part[1:] for part in parts[1:])])


def gradients_kept(patch: Patch) -> None:
    patch.setattr(torch.optim.AdamW, "zero_grad", lambda self, set_to_none=True: None)


def never_clipped(patch: Patch) -> None:
    original = torch.nn.utils.clip_grad_norm_
    patch.setattr(torch.nn.utils, "clip_grad_norm_", lambda parameters, limit: original(parameters, math.inf))


def clipped_tensor_by_tensor(patch: Patch) -> None:
    original = torch.nn.utils.clip_grad_norm_

    def clip(parameters: Any, limit: float) -> torch.Tensor:
        return torch.stack([original([p], limit) for p in parameters]).norm()

    patch.setattr(torch.nn.utils, "clip_grad_norm_", clip)


def made_otherwise(patch: Patch, **changes: Any) -> None:
    """AdamW made with these settings, whatever the method asks for."""
    original = torch.optim.AdamW
    patch.setattr(torch.optim, "AdamW", lambda *args, **settings: original(*args, **{**settings, **changes}))


def betas_ignored(patch: Patch) -> None:
    made_otherwise(patch, betas=(0.0, 0.0))


def default_betas(patch: Patch) -> None:
    made_otherwise(patch, betas=(0.9, 0.999))


def weight_decay_ignored(patch: Patch) -> None:
    made_otherwise(patch, weight_decay=0.0)


def moments_forgotten(patch: Patch) -> None:
    original = Stage.update

    def update(self: Stage, *args: Any) -> Any:
        self.optimizer.state.clear()
        return original(self, *args)

    patch.setattr(Stage, "update", update)


# fault -> (checks that must fail, checks that must pass)
TRAINING_FAULTS: dict[Callable[[Patch], None], tuple[set[str], set[str]]] = {
    reference_is_the_policy: ({POLICIES}, UNTOUCHED),
    reference_shifted: ({POLICIES}, UNTOUCHED),
    old_policy_off_by_a_nat: ({POLICIES}, UNTOUCHED),
    old_policy_never_scored: ({POLICIES}, UNTOUCHED),
    old_policy_of_other_weights: ({POLICIES}, UNTOUCHED),
    first_batch_only: ({POLICIES}, UNTOUCHED),
    first_batch_twice: ({POLICIES}, UNTOUCHED),
    a_row_lost_in_later_batches: ({POLICIES}, UNTOUCHED),
    gradients_kept: ({"optimizer"}, {"hand-computed loss", "sampler"}),
    never_clipped: ({"optimizer"}, {POLICIES, *UNTOUCHED}),
    clipped_tensor_by_tensor: ({"optimizer"}, {POLICIES, *UNTOUCHED}),
    betas_ignored: ({"optimizer"}, {POLICIES, *UNTOUCHED}),
    default_betas: ({"optimizer"}, {POLICIES, *UNTOUCHED}),
    weight_decay_ignored: ({"optimizer"}, {POLICIES, *UNTOUCHED}),
    moments_forgotten: ({"optimizer"}, {POLICIES, *UNTOUCHED}),
}

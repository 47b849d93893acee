"""The preflight's identities of training: reference, old policy and the optimizer's updates; see docs/preflight.md.

The expected side of each is worked out row by row, without batching, masks, losses or optimizer of the engine.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.audit.parity import largest
from bench.audit.stack import Check, Stack, outcome
from bench.engine.reference import widened
from bench.types import Trajectory

K3_LIMIT = 10.0  # where GRPO cuts off the estimate of the KL, as verl does
UPDATES = 3
DECAY = 1.0  # weight decay; small ones would drown in the rest of the update
BETAS = (0.6, 0.8)


# --- reference and old policy ------------------------------------------------------------------------------------


def target_logprobs(stack: Stack, row: Trajectory, model: Any = None) -> Tensor:
    """By hand, in float64: log-probabilities of the row's demonstration and completion."""
    targets = [*row.demo_ids, *row.completion_ids]
    full = stack.logprobs((*row.prompt_ids, *targets), model=model)[len(row.prompt_ids) - 1 :]
    return full.gather(1, torch.tensor([targets]).T).squeeze(1)


def scripted(stack: Stack, method: Any) -> list[Trajectory]:
    """Scripted rollouts with advantages of both signs, whose sums do not cancel."""
    return [replace(row, advantage=-0.3 if i % 3 == 0 else 0.5 + 0.05 * i) for i, row in enumerate(stack.rows(method))]


def divergence(stack: Stack) -> tuple[float, float]:
    """Loss of GRPO with a strong KL to a reference that differs from the policy: the engine's, and by hand."""
    method = stack.method("grpo", kl_coef=2.0, entropy_coef=0.0, aggregation="dapo")
    rows = scripted(stack, method)
    stage = stack.stage(method, sum(map(len, rows)) // 3)
    assert stage.reference is not None
    with torch.no_grad():
        for parameter in stage.reference.parameters():
            parameter.mul_(1.05)
    reference = widened(stage.reference)  # on CUDA it is half in bfloat16, and here there is no autocast
    total, count = 0.0, 0
    for row in rows:
        gap = target_logprobs(stack, row, reference) - target_logprobs(stack, row)
        k3 = (gap.exp() - gap - 1).clamp(max=K3_LIMIT)
        total += float((2.0 * k3 - row.advantage).sum())
        count += len(gap)
    return stage.update(rows, 0.0, 0.1)["loss"], total / count


def surrogate(stack: Stack, method: Any, rows: Sequence[Trajectory], old: Sequence[Tensor]) -> float:
    """GRPO's loss by hand at the present weights: the clipped ratio to the old policy, a mean over tokens."""
    total = 0.0
    for row, before in zip(rows, old, strict=True):
        ratio = (target_logprobs(stack, row) - before).exp()
        clipped = ratio.clamp(1 - method.clip_low, 1 + method.clip_high)
        total -= float(torch.minimum(ratio * row.advantage, clipped * row.advantage).sum())
    return total / sum(map(len, old))


class Watched:
    """A method that notes the loss of each micro-batch and the rows that it covers."""

    def __init__(self, method: Any) -> None:
        self.method = method
        self.value, self.rows = 0.0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def loss(self, batch: Any) -> Any:
        loss = self.method.loss(batch)
        self.value += float(loss.value.detach())
        self.rows += int((batch.demo | batch.policy).any(1).sum())
        return loss


def two_updates(stack: Stack) -> list[tuple[float, float, int, int]]:
    """One step of GRPO with two updates; of each: its loss, the loss by hand, its rows, the rows expected.

    The later groups form the second update, at weights that the first has moved.  ValueError for another number of
    updates, and if the first moves nothing.
    """
    method = stack.method("grpo", kl_coef=0.0, entropy_coef=0.0, aggregation="dapo", num_updates=2, weight_decay=0.0)
    rows = scripted(stack, method)
    middle = sorted({row.group for row in rows})[len({row.group for row in rows}) // 2]
    parts = [[r for r in rows if (r.group >= middle) == later] for later in (False, True)]
    old = [[target_logprobs(stack, row) for row in part] for part in parts]
    unmoved = surrogate(stack, method, parts[1], old[1])
    watched: Any = Watched(method)
    seen: list[tuple[float, float, int, int]] = []
    stage = stack.stage(watched, sum(map(len, rows)) // 3)

    def note(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if len(seen) < len(parts):
            expected = surrogate(stack, method, parts[len(seen)], old[len(seen)])
            seen.append((watched.value, expected, watched.rows, len(parts[len(seen)])))
        watched.value, watched.rows = 0.0, 0

    stage.optimizer.register_step_pre_hook(note)
    with stack.restored():
        stage.update(rows, stack.moving_rate(), 0.1)
    if len(seen) != len(parts):
        raise ValueError(f"{len(seen)} updates instead of {len(parts)}")
    if seen[1][1] == unmoved:
        raise ValueError("the first update left the policy as it was")
    return seen


def reference_and_old_policy(stack: Stack) -> Check:
    """GRPO's KL to the reference, and its loss after a first update of the same step, equal those by hand."""
    pairs = {"with KL": divergence(stack)}
    updates = two_updates(stack)
    pairs |= {f"update {k + 1}": (loss, expected) for k, (loss, expected, _, _) in enumerate(updates)}
    worst = largest([abs(f - e) / abs(e) for f, e in pairs.values()])
    detail = ", ".join(f"{name} {f:.6f} (by hand {e:.6f})" for name, (f, e) in pairs.items())
    rows = ", ".join(f"{n} of {m}" for _, _, n, m in updates)
    trained = all(n == m for _, _, n, m in updates)
    return outcome("reference and old policy", worst, stack.tolerance.loss, f"{detail}; rows {rows}", trained)


# --- the optimizer -----------------------------------------------------------------------------------------------


def gradients(stack: Stack, model: Any, rows: Sequence[Trajectory]) -> list[Tensor]:
    """Gradient of the mean negative log-probability of the demonstrations' tokens, row by row, not clipped.

    The model runs in the engine's precision, as bfloat16 would hide what is wrong with an update behind its rounding.
    """
    count = sum(len(row.demo_ids) for row in rows)
    for row in rows:
        ids = torch.tensor([[*row.prompt_ids, *row.demo_ids]], device=stack.policy.device)
        with stack.policy._autocast():
            logits = model(input_ids=ids).logits
        logp = torch.log_softmax(logits[0, len(row.prompt_ids) - 1 : -1].float(), dim=-1)
        (-logp.gather(1, ids[0, len(row.prompt_ids) :, None]).sum() / count).backward()
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return grads


def norm(tensors: Sequence[Tensor]) -> float:
    """Euclidean norm over all entries."""
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


Replayed = tuple[list[Tensor], float, float]


def replay(stack: Stack, batches: Sequence[Sequence[Trajectory]], rates: Sequence[float]) -> Replayed:
    """Weights after AdamW's updates by its formula, the norm that gradients were clipped at, and its epsilon.

    The norm is a quarter of the first gradient's.  Epsilon is the root mean square of that gradient once clipped: with
    a small one, Adam would turn the rounding of tiny gradients into whole steps, and hide whether they were clipped.
    """
    model = copy.deepcopy(stack.policy.model)
    weights = list(model.parameters())
    first, second = ([torch.zeros_like(p) for p in weights] for _ in range(2))
    limit = eps = 0.0
    for step, (rows, rate) in enumerate(zip(batches, rates, strict=True), 1):
        grads = gradients(stack, model, rows)
        size = norm(grads)
        if step == 1:
            limit, eps = size / 4, size / 4 / math.sqrt(sum(p.numel() for p in weights))
        with torch.no_grad():
            for p, g, m, v in zip(weights, grads, first, second, strict=True):
                g = g * min(1.0, limit / size)
                m.mul_(BETAS[0]).add_((1 - BETAS[0]) * g)
                v.mul_(BETAS[1]).add_((1 - BETAS[1]) * g * g)
                p.mul_(1 - rate * DECAY)
                p.sub_(rate * (m / (1 - BETAS[0] ** step)) / ((v / (1 - BETAS[1] ** step)).sqrt() + eps))
    return [p.detach() for p in weights], limit, eps


def optimizer(stack: Stack) -> Check:
    """Three updates of SFT change the weights as AdamW with clipped gradients does by its formula."""
    method = stack.method("sft", weight_decay=DECAY, betas=BETAS, divisor="step")
    rows = stack.rows(method)
    size = len(rows) // UPDATES
    batches = [rows[k * size : (k + 1) * size] for k in range(UPDATES)]
    rates = [stack.moving_rate() * factor for factor in (2.0, 1.0, 3.0)]
    expected, limit, eps = replay(stack, batches, rates)
    parameters = list(stack.policy.model.parameters())
    before = [p.detach().clone() for p in parameters]
    stage = stack.stage(method, tokens=1, max_grad_norm=limit)
    for group in stage.optimizer.param_groups:
        group["eps"] = eps
    with stack.restored():
        norms = [stage.update(b, rate, 0.1)["grad_norm"] for b, rate in zip(batches, rates)]
        residual = norm([p.detach() - e for p, e in zip(parameters, expected)])
    moved = norm([e - b for e, b in zip(expected, before)])
    detail = f"gradient norms {', '.join(f'{n:.3g}' for n in norms)} clipped at {limit:.3g}"
    return outcome("optimizer", residual / moved, stack.tolerance.gradient, detail)

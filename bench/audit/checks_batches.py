"""The preflight's identities of batches: micro-batches, company, padding, masks and prefixes; see docs/preflight.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.audit.parity import largest
from bench.audit.stack import WHOLE, Check, Stack, outcome
from bench.engine.batching import BREAKING, collate
from bench.types import Trajectory

Case = tuple[Trajectory, list[int], list[int]]  # a row, its demonstration targets and its policy targets


def gradient(stack: Stack, method: Any, rows: Sequence[Trajectory], tokens: int) -> list[Tensor]:
    """Gradient of one optimizer batch cut into micro-batches of ``tokens``; the learning rate is 0."""
    stage = stack.stage(method, tokens)
    with torch.no_grad():  # a reference that differs, so that the KL has a gradient
        for parameter in stage.reference.parameters() if stage.reference is not None else ():
            parameter.mul_(1.01)
    parts: list[Tensor] = []

    def keep(*_: Any) -> None:  # before the step: afterwards gradients are freed
        parts.extend(p.grad.detach().clone() for p in stack.policy.model.parameters() if p.grad is not None)

    stage.optimizer.register_step_pre_hook(keep)
    stage.update(rows, 0.0, 0.1)
    return parts


def micro_batches(stack: Stack, name: str) -> Check:
    """Any split of an optimizer batch gives its gradient: the residual is rounding, with no part along the gradient."""
    method = stack.method(name)
    rows = stack.rows(method)
    whole = gradient(stack, method, rows, WHOLE)
    square = sum(float(g.double().square().sum()) for g in whole)
    if square == 0:
        raise ValueError("the gradient of the whole batch is zero")
    residuals, shares = [], []
    # The finest split alone where each costs a minute: a row to a micro-batch.
    for tokens in (1,) if stack.slow else (1, sum(map(len, rows)) // 2):
        parts = gradient(stack, method, rows, tokens)
        differences = [p.double() - w.double() for p, w in zip(parts, whole, strict=True)]
        residuals.append(math.sqrt(sum(float(d.square().sum()) for d in differences) / square))
        shares.append(abs(sum(float((d * w).sum()) for d, w in zip(differences, whole))) / square)
    residual, bias = largest(residuals), largest(shares)
    broken = [
        f"{name.partition(':')[0]}.{f}={v}"
        for f, v in BREAKING.items()
        if hasattr(method, f) and getattr(method, f) != v
    ]
    note = f"; {', '.join(broken)} breaks it on purpose" if broken else ""
    detail = f"{len(rows)} rows; along the gradient {bias:.1e} (at most {stack.tolerance.bias:.0e}){note}"
    check = outcome(f"micro-batches {name}", residual, stack.tolerance.gradient, detail, bias <= stack.tolerance.bias)
    return replace(check, method=name)


def packing(stack: Stack) -> Check:
    """Rows batched together get the log-probabilities and entropies that each gets alone."""
    rows = [row for name in ("sft", "grpo", "uft") for row in stack.rows(stack.method(name))]
    batches = [collate(rows, stack.policy.device), *(collate([row], stack.policy.device) for row in rows)]
    with torch.no_grad():
        together, *alone = [
            [values[batch.targets] for values in stack.policy.forward(batch, True)] for batch in batches
        ]
    worst = largest([float((t - torch.cat([a[i] for a in alone])).abs().max()) for i, t in enumerate(together)])
    return outcome("packing", worst, stack.tolerance.logprob, f"{len(rows)} rows of {len(set(map(len, rows)))} lengths")


def padding(stack: Stack) -> Check:
    """Neither the pad token nor the amount of padding changes a loss."""
    method = stack.method("sft")
    rows = stack.rows(method)
    longest = max(rows, key=len)
    without_targets = Trajectory((*longest.prompt_ids, *longest.demo_ids, *longest.prompt_ids[:16]))

    def loss(company: Sequence[Trajectory], pad_id: int) -> float:
        micro = collate([*rows, *company], stack.policy.device, pad_id)
        with torch.no_grad():
            return float(method.loss(stack.batch(method, micro, rows)).value)

    plain = loss((), 0)
    last = stack.policy.model.get_input_embeddings().num_embeddings - 1
    others = [loss(c, i) for c in ((), (without_targets,)) for i in (0, stack.policy.tokenizer.eos_token_id, last)]
    worst = largest([abs(other - plain) / abs(plain) for other in others])
    detail = f"loss {plain:.6f} with 3 pad tokens, and with 16 more columns of padding"
    return outcome("padding", worst, stack.tolerance.loss, detail)


def mask(stack: Stack) -> Check:
    """The loss covers exactly the demonstration with its EOS, or the completion; the divisors count the same tokens."""
    demos: list[Case] = [
        (row, stack.target_ids(example), [])
        for row, example in zip(stack.rows(stack.method("sft")), stack.stage(stack.method("sft")).examples())
    ]
    rollouts: list[Case] = [(row, [], list(row.completion_ids)) for row in stack.rows(stack.method("grpo"))]
    faults = []
    for cases in (demos, rollouts):
        rows = [row for row, _, _ in cases]
        micro = collate(rows, stack.policy.device)
        for i, (row, demo, policy) in enumerate(cases):
            spans = [micro.token_ids[i, 1:][m[i]].tolist() for m in (micro.demo, micro.policy)]
            if spans != [demo, policy]:
                faults.append(f"row of {len(row)} tokens: {spans[0] or spans[1]} instead of {demo or policy}")
        batch = stack.batch(stack.method("grpo"), micro, rows)
        if (int(micro.demo.sum()), int(micro.policy.sum())) != (batch.num_demo, batch.num_policy):
            faults.append(f"{int(micro.targets.sum())} targets, divisor {batch.num_demo + batch.num_policy}")
    fine = f"{len(demos)} demonstrations with EOS, {len(rollouts)} completions"
    return outcome("mask", len(faults), 0, faults[0] if faults else fine)


def prefix(stack: Stack) -> Check:
    """After a demonstration prefix, masks, advantages and the sampler's log-probabilities fall on their tokens."""
    method = stack.method("uft", schedule="cosine", p_high=0.6)
    stage = stack.stage(method)
    examples = stage.examples()
    rows = method.collect(examples, replace(stage._context(0), progress=0.0))
    if not any(row.demo_ids for row in rows):
        raise ValueError("no prefix was drawn")
    micro = collate(rows, stack.policy.device)
    with torch.no_grad():
        logprobs = stack.policy.forward(micro, False)[0]
    wrong, gaps = 0, [0.0]
    for i, row in enumerate(rows):
        example, tokens = examples[row.group], micro.token_ids[i, 1:]
        n = len(row.demo_ids)
        fits = row.demo_ids == example.demo_ids[:n] and n in (0, *example.step_ends)
        fits &= tokens[micro.demo[i]].tolist() == list(row.demo_ids)
        fits &= tokens[micro.policy[i]].tolist() == list(row.completion_ids)
        fits &= bool((micro.advantages[i][micro.policy[i]] == torch.tensor(row.advantage).to(micro.advantages)).all())
        fits &= bool((micro.advantages[i][micro.demo[i]] == torch.tensor(row.demo_advantage).to(logprobs)).all())
        ended = row.completion_ids[-1] in stack.policy.eos_ids
        fits &= ended or len(row.completion_ids) == stack.max_new_tokens
        if fits:
            gap = logprobs[i][micro.policy[i]].cpu() - torch.tensor(row.old_logprobs)
            gaps.append(float(gap.abs().max()))
        wrong += not fits
    detail = f"{wrong} of {len(rows)} rows misaligned, {sum(bool(r.demo_ids) for r in rows)} with a prefix"
    return outcome("prefix", largest(gaps), stack.tolerance.logprob, detail, wrong == 0)

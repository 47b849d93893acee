"""Shared free functions of the methods: advantages, per-token losses, reductions, schedules, trajectories, worst cases.

Sources: GRPO (arXiv 2402.03300), DAPO (2503.14476), Dr.GRPO (2503.20783); divisors as in TRL's ``grpo_trainer.py``;
advantage, clip and KL estimator as in verl's ``core_algos.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bench.types import Batch, Completion, Context, Example, Loss, Rows, Trajectory

AGGREGATIONS = ("dapo", "grpo", "dr_grpo", "bnpo")
DIVISORS = ("step", "micro-batch")
SCALES = ("std", "none")
LEARNING_RATES = (1e-6, 1e-3, "log")  # one range for all; a model may have its own ("search" in its bench.json)
K3_LIMIT = 10.0
MAX_LOG_RATIO = 20.0  # exp beyond it overflows float32 sooner or later, and inf times a zero gradient is nan


def require(condition: bool, message: str) -> None:
    """Raise ValueError unless the condition holds; for the ``__post_init__`` of a method."""
    if not condition:
        raise ValueError(message)


def require_choices(method: object, **choices: Sequence[str]) -> None:
    """Raise ValueError for the first of these fields whose value is not one of its choices."""
    for field, allowed in choices.items():
        value = getattr(method, field)
        require(value in allowed, f"{field}: '{value}' is not one of {', '.join(allowed)}")


def require_at_least(method: object, least: int, *fields: str) -> None:
    """Raise ValueError for the first of these fields that is below the least allowed value."""
    for field in fields:
        value = getattr(method, field)
        require(value >= least, f"{field}: {value} is below {least}")


def require_shares(method: object, *fields: str) -> None:
    """Raise ValueError for the first of these fields that is not between 0 and 1."""
    for field in fields:
        value = getattr(method, field)
        require(0 <= value <= 1, f"{field}: {value} is not in [0, 1]")


def asks_if(field: str) -> property:
    """A request of a method (``Requests`` in bench/types.py) that stands while this field of it is not 0."""
    return property(lambda method: getattr(method, field) != 0)


# --- reductions ----------------------------------------------------------------------------------------------


def token_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of the masked-in values; masked-out ones get a gradient of exactly 0, even where they are not finite."""
    # Not values * mask: 0 * inf is nan, in the value and in the gradient.
    return values.masked_fill(~mask, 0.0).sum()


def token_mean(values: Tensor, mask: Tensor, divisor: Tensor | float) -> Tensor:
    """Masked sum over a stated count; no tokens give 0, not nan."""
    # A micro-batch may hold no token of a kind, an update without demonstrations for instance.
    count = divisor.clamp(min=1) if isinstance(divisor, Tensor) else max(divisor, 1)
    return token_sum(values, mask) / count


def token_divisor(batch: Batch, mask: Tensor, num_tokens: int, divisor: str) -> Tensor | float:
    """What a micro-batch's token sum is divided by.

    "step": tokens of the whole optimizer batch, so any split gives the same gradient.  "micro-batch": the mean of
    micro-batch means, as verl computes it; tokens of micro-batches with few tokens then weigh more.
    """
    if divisor == "step":
        return num_tokens
    return mask.sum().clamp(min=1) * batch.num_micro_batches


def demo_mean(batch: Batch, values: Tensor, divisor: str) -> Tensor:
    """Token mean of the values over demonstration tokens."""
    return token_mean(values, batch.demo, token_divisor(batch, batch.demo, batch.num_demo, divisor))


def row_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of each row's masked-in values, [B, 1]; 0 for a row without any."""
    return values.masked_fill(~mask, 0.0).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def weighted_likelihood(batch: Batch, weights: Tensor, divisor: str) -> Loss:
    """Token mean of -weight log pi over demonstration tokens; weights that are constants have to come detached."""
    value = demo_mean(batch, -weights * batch.logprobs, divisor)
    nll = demo_mean(batch, -batch.logprobs.detach(), "step")
    return Loss(value, {"demo_nll": nll, "demo_weight": demo_mean(batch, weights.detach(), "step")})


def aggregate(batch: Batch, values: Tensor, aggregation: str, max_tokens: int) -> Tensor:
    """Policy-token losses to the micro-batch's share of the step's loss; names and weights as in TRL.

    dapo: 1 / policy tokens of the step.  grpo: mean of sequence means over the step.  dr_grpo: 1 / (sequences *
    max_tokens), a constant.  bnpo: mean of micro-batch token means, hence dependent on the micro-batch size.
    """
    # What differs is the weight of a token: the same for all of the step (dapo), less in longer answers (grpo), or
    # the same in every step, however long its answers are (dr_grpo).
    if aggregation == "dapo":
        return token_mean(values, batch.policy, token_divisor(batch, batch.policy, batch.num_policy, "step"))
    if aggregation == "bnpo":
        return token_mean(values, batch.policy, token_divisor(batch, batch.policy, batch.num_policy, "micro-batch"))
    if aggregation == "dr_grpo":
        return token_mean(values, batch.policy, batch.num_trajectories * max_tokens)
    lengths = batch.policy.sum(dim=1, keepdim=True).clamp(min=1)
    return token_mean(values / lengths, batch.policy, batch.num_trajectories)


# --- per-token losses ----------------------------------------------------------------------------------------


def clipped_surrogate(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """Per token, -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) with r = exp(logprobs - old_logprobs)."""
    ratio = (logprobs - old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    # The gradient is -r A grad log pi, but 0 where A > 0 and r > 1 + clip_high, or A < 0 and r < 1 - clip_low: there
    # the minimum is the clipped term, a constant.  A token that far from the sampling policy is not pushed further.
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)


def shaped_probability(logprobs: Tensor, gamma: float) -> Tensor:
    """Per token p / (p + gamma), p itself if gamma is 0, with gradient: LUFFY's f."""
    p = logprobs.exp()
    return p / (p + gamma) if gamma else p


def k3_kl(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Per token, k3 = q/p - log(q/p) - 1 with q the reference: unbiased for KL(p || q) on samples of p, never below 0.

    Gradient flows: (1 - q/p) grad log p.  Values are clamped to +-10 as in verl (the lower bound never binds); past
    the clamp the gradient is 0.
    """
    # Limiting the exponent first changes neither value nor gradient: k3 exceeds the clamp at +-20 anyway.
    delta = (ref_logprobs - logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    # expm1, because exp(delta) - 1 loses all digits of a small delta.  (k3: joschu.net/blog/kl-approx.html.)
    return (torch.expm1(delta) - delta).clamp(max=K3_LIMIT)


def policy_gradient_loss(
    batch: Batch,
    *,
    clip_low: float = math.inf,
    clip_high: float = math.inf,
    kl_coef: float = 0.0,
    entropy_coef: float = 0.0,
    aggregation: str = "dapo",
    max_tokens: int = 1,
) -> Loss:
    """GRPO's loss: clipped surrogate + kl_coef k3 - entropy_coef H, added per policy token, then reduced.

    Without a clip its gradient is that of r A, r A grad log pi.
    """
    # Off the policy tokens these values mean nothing, but are finite, and the reduction drops them.
    values = clipped_surrogate(batch.logprobs, batch.old_logprobs, batch.advantages, clip_low, clip_high)
    logged = {"policy_loss": values}
    ratio = (batch.logprobs.detach() - batch.old_logprobs).exp()
    outside = torch.where(batch.advantages > 0, ratio > 1 + clip_high, ratio < 1 - clip_low)
    logged["clip_share"] = (outside & (batch.advantages != 0)).to(values.dtype)
    if kl_coef != 0:
        logged["kl"] = k3_kl(batch.logprobs, batch.ref_logprobs)
        values = values + kl_coef * logged["kl"]
    if entropy_coef != 0:
        logged["entropy"] = batch.entropies
        values = values - entropy_coef * batch.entropies
    metrics = {name: token_mean(value.detach(), batch.policy, batch.num_policy) for name, value in logged.items()}
    return Loss(aggregate(batch, values, aggregation, max_tokens), metrics)


# --- advantages and schedules --------------------------------------------------------------------------------


def group_advantages(rewards: Sequence[float], scale: str = "std", eps: float = 1e-6) -> list[float]:
    """(R - mean) / (std + eps) within one group, std unbiased; scale "none" leaves the division out.

    A group of one has mean 0 and std 1 (verl), i.e. its advantage is its reward.
    """
    # Centring changes the expected gradient by the factor (G - 1) / G alone and lowers its variance: an answer counts
    # by how much better it is than the others to its prompt.  Dividing gives all groups advantages of one size.
    if len(rewards) == 1:
        return [rewards[0] / (1 + eps) if scale == "std" else rewards[0]]
    if min(rewards) == max(rewards):
        return [0.0] * len(rewards)  # exactly 0: rounding in the mean must not become a gradient
    mean = math.fsum(rewards) / len(rewards)
    centred = [reward - mean for reward in rewards]
    if scale == "none":
        return centred
    std = math.sqrt(math.fsum(value * value for value in centred) / (len(rewards) - 1))
    return [value / (std + eps) for value in centred]


def cosine(progress: float, start: float, end: float, until: float = 1.0) -> float:
    """Half a cosine from ``start`` at 0 to ``end`` at ``until``, ``end`` afterwards."""
    if progress >= until:
        return end
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress / until))


# --- trajectories and worst cases ----------------------------------------------------------------------------


def rollout(
    example: Example, completion: Completion, group: int, prefix: tuple[int, ...] = (), advantage: float = 0.0
) -> Trajectory:
    """The trajectory of one completion, the prefix as demonstration part."""
    return Trajectory(
        prompt_ids=example.prompt_ids,
        demo_ids=tuple(prefix),
        completion_ids=completion.token_ids,
        old_logprobs=completion.logprobs,
        advantage=advantage,
        group=group,
        reward=completion.verdict.reward,
        correct=completion.verdict.correct,
    )


def grouped(
    examples: Sequence[Example],
    completions: Sequence[Sequence[Completion]],
    scale: str = "std",
    eps: float = 1e-6,
    prefixes: Sequence[tuple[int, ...]] | None = None,
) -> list[Trajectory]:
    """One trajectory per completion, the prefix as demonstration part, advantages normalised within each group."""
    prefixes = [()] * len(examples) if prefixes is None else prefixes
    rows = []
    for group, (example, prefix, rollouts) in enumerate(zip(examples, prefixes, completions, strict=True)):
        advantages = group_advantages([completion.verdict.reward for completion in rollouts], scale, eps)
        for completion, advantage in zip(rollouts, advantages, strict=True):
            rows.append(rollout(example, completion, group, prefix, advantage))
    return rows


def demonstrations(examples: Sequence[Example], first_group: int = 0) -> list[Trajectory]:
    """One trajectory per example: its prompt and its whole demonstration with EOS."""
    return [
        Trajectory(prompt_ids=example.prompt_ids, demo_ids=example.demo_ids, group=group)
        for group, example in enumerate(examples, first_group)
    ]


def demonstration_rows(examples: Sequence[Example]) -> Rows:
    """Worst case of training on each whole demonstration once."""
    return Rows(train=[(len(e.prompt_ids) + len(e.demo_ids), len(e.demo_ids)) for e in examples])


def collect_demonstrations(self: object, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
    """The ``collect`` of methods that train on each whole demonstration once."""
    return demonstrations(examples)


def demonstrations_worst_case(self: object, examples: Sequence[Example], max_new_tokens: int) -> Rows:
    """The ``worst_case`` of the same methods."""
    return demonstration_rows(examples)


def longest_rows(rows: Sequence[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """A bound on any ``count`` of these (row length, target tokens): the largest lengths with the largest targets."""
    return list(zip(*(sorted(sizes, reverse=True)[:count] for sizes in zip(*rows)))) if rows else []


def joined(*parts: Rows) -> Rows:
    """The rows of all parts."""
    return Rows(
        [length for part in parts for length in part.prefill],
        [row for part in parts for row in part.decode],
        [row for part in parts for row in part.train],
        tuple(row for part in parts for row in part.score),
    )


def rollout_rows(contexts: Sequence[tuple[int, int]], group_size: int, max_new_tokens: int) -> Rows:
    """Worst case of sampling and training one group per (prompt tokens, prefix tokens)."""
    prefill, decode, train = [], [], []
    for prompt, prefix in contexts:
        # Once per group: its rollouts begin with copies of one cache.
        prefill.append(prompt + prefix)
        decode += [(prompt + prefix, max_new_tokens)] * group_size
        train += [(prompt + prefix + max_new_tokens, prefix + max_new_tokens)] * group_size
    return Rows(prefill, decode, train)


def plain_rollout_rows(examples: Sequence[Example], group_size: int, max_new_tokens: int) -> Rows:
    """Worst case of sampling and training one group of rollouts per example, each from the prompt alone."""
    return rollout_rows([(len(example.prompt_ids), 0) for example in examples], group_size, max_new_tokens)

"""Prefix-RFT: in every group one rollout continues a demonstration's prefix, and the prefix earns its advantage too.

Source: Prefix-RFT (arXiv 2507.01679 v3), of which only tables and notes were read, and the authors' repository
(``recipe/prefix_rft``: ``core_algos.py``, ``dp_actor.py``, ``rl_dataset.py``, ``ray_trainer.py``), which was read but
cannot run as published.  Where they disagree the paper is followed:
- advantage: one group of plain and hybrid rollouts on paper; the code centres them apart, gives the continuation its
  raw reward (variant "code") or nothing (variant "code-v2");
- entropy: the highest fifth is taken per trajectory; the code pools the prefix tokens of a micro-batch
  (pool="micro-batch").

Departures from the code:
- The prefix is cut in tokens and continued as it is; the code decodes it and tokenises it anew.
- Dr.GRPO's sum is divided by the step's trajectories times max_tokens; the code leaves the trajectories out.
- No dual clip, no entropy bonus (0.001 in the repository's template); its unused off-policy clip is not rebuilt.
- |log ratio| is limited to 20 before exp.
- Schedules are functions of the spent share of the budget: t/500.

Not verified, chosen here: lr 1e-6, 128 prompts in two updates and the divisor 8192 (as LUFFY, whose data it uses), clip
0.2, a prefix of at least one token, |y*| counted with EOS, AdamW settings.  "uniform" is read as l ~ U(low_end, high)
throughout, "nll" as UFT's token mean in place of the prefix's advantage.  Our reading of the ablations:
- Random tokens are drawn once per trajectory, as many as the highest would be.  The code divides the dropped share by
  100 and so drops 0.8 % ("authors-random-20").
- "bottom-20" leaves policy tokens alone.  The code zeroes all but the lowest tokens of a micro-batch, policy tokens
  included ("authors-bottom-20"; nothing is left of a micro-batch without prefix).
- Demonstrations of demo_quantity of the prompts, chosen by their ids; the other groups have plain rollouts alone.
- "dr-po", the prefix left out of the update: the continuation is trained as an answer to the prompt alone, without the
  prefix before it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench.types import Batch, Completion, Context, Example, Loss, Rows, Trajectory
from methods import common

ADVANTAGES = ("paper", "code", "code-v2")
SELECTIONS = ("highest", "lowest", "lowest-alone", "random")
POOLS = ("trajectory", "micro-batch")
ROUNDING = 1e-9  # 0.8 n may round to below a count

EQUATION = """\
L = -(1/(M max_tokens)) sum_i sum_t min(r A, clip(r, 1 - clip_low, 1 + clip_high) A),  M = trajectories of the step
A = R_i - mean(R) within the group, for rollout tokens and the keep_share of the prefix tokens with the most entropy;
A = 0 for the other prefix tokens;  prefix = first floor(l |y*|) tokens of y*,  l ~ U(low(progress), high),
low(progress) = low_end + (low_start - low_end)/2 (1 + cos(pi progress))"""
EVIDENCE = "tables and notes of the paper, authors' repository read (not runnable as published)"
DATA_FLOW = """\
group_size - 1 plain rollouts and one that continues a prefix of the demonstration, cut in tokens
prompt | prefix | rollout;  the prefix belongs to the response: it earns the hybrid's advantage where entropy is high
charged: as GRPO without reference; prefixes are prefilled, not generated"""
PUBLISHED: tuple[str, ...] = (
    "Qwen2.5-Math-7B, mean of six: base 19.0, SFT 44.1, RFT 45.5, SFT+RFT 48.2, LUFFY 50.1, ReLIFT 47.8, "
    "Prefix-RFT 51.8",
    "Table 8, 7B: static 0.001 likelihood 43.8, prefix without loss 45.4, all prefix tokens 45.7, prefix left out 33.8",
    "1.5B: SFT 31.9, RFT 30.0, Prefix-RFT 41.1; with 10 % of the demonstrations 40.8, with 1 % 37.6",
)


def selected(entropies: Tensor, mask: Tensor, share: float, lowest: bool = False) -> Tensor:
    """Per row, the masked-in tokens with the highest (lowest) entropies: n - floor((1 - share) n) of n."""
    counts = mask.sum(dim=1, keepdim=True)
    kept = counts - torch.floor((1 - share) * counts.double() + ROUNDING).long()
    # Masked-out places sort last.  The ranks are those of a stable sort, so that equal entropies never select too many.
    values = (entropies.detach() if lowest else -entropies.detach()).masked_fill(~mask, math.inf)
    ranks = values.argsort(dim=1, stable=True).argsort(dim=1)
    return mask & (ranks < kept)


def drawn(size: int, share: float, rng: random.Random) -> tuple[float, ...]:
    """1 for tokens drawn by lot, as many as ``selected`` takes of ``size``, 0 for the others."""
    chosen = set(rng.sample(range(size), size - math.floor((1 - share) * size + ROUNDING)))
    return tuple(float(place in chosen) for place in range(size))


def advantages(plain: Sequence[float], hybrid: Sequence[float], kind: str) -> tuple[list[float], list[float]]:
    """Advantages of all rollouts (plain ones, then continuations), and of the hybrids' prefixes."""
    if kind == "paper":
        # One mean for both: a hybrid that is right thanks to its prefix lowers the advantages of the plain rollouts.
        every = common.group_advantages([*plain, *hybrid], "none")
        return every, every[len(plain) :]
    mean = math.fsum(plain) / len(plain)
    centred = [reward - mean for reward in plain]
    if kind == "code":
        return [*centred, *hybrid], [reward - mean for reward in hybrid]
    return [*centred, *(0.0 for _ in hybrid)], [-mean for _ in hybrid]


def trajectories(
    example: Example, group: int, rollouts: Sequence[Completion], prefixes: Sequence[tuple[int, ...]], kind: str
) -> list[Trajectory]:
    """One group: plain rollouts, then one hybrid per prefix."""
    rewards = [rollout.verdict.reward for rollout in rollouts]
    num_plain = len(rollouts) - len(prefixes)
    ours, theirs = advantages(rewards[:num_plain], rewards[num_plain:], kind)
    return [
        replace(common.rollout(example, rollout, group, prefix, advantage), demo_advantage=demo_advantage)
        for rollout, prefix, advantage, demo_advantage in zip(
            rollouts, [()] * num_plain + list(prefixes), ours, [0.0] * num_plain + theirs, strict=True
        )
    ]


@dataclass(frozen=True)
class PrefixRFT:
    """L = -(1/(M max_tokens)) sum min(r A, clip(r) A) over rollout tokens and the prefix tokens with most entropy.

    Of the group_size rollouts of a prompt num_hybrids continue a prefix of its demonstration, each its own.  The prefix
    counts as part of the response: its old probabilities are the policy's own.  Without hybrids this is Dr.GRPO.
    """

    advantage: str = "paper"
    num_hybrids: int = 1
    high: float = 0.95
    low_start: float = 0.95
    low_end: float = 0.05
    keep_share: float = 0.2
    select: str = "highest"
    pool: str = "trajectory"
    demo_coef: float = 0.0
    demo_quantity: float = 1.0
    prefix_in_row: bool = True
    group_size: int = 8
    clip_low: float = 0.2
    clip_high: float = 0.2
    max_tokens: int = 8192
    lr: float = 1e-6
    warmup: float = 0.0
    decay: str = "constant"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 128
    num_updates: int = 2

    def __post_init__(self) -> None:
        common.require_choices(self, advantage=ADVANTAGES, select=SELECTIONS, pool=POOLS)
        plain = self.group_size - self.num_hybrids
        common.require(self.num_hybrids >= 0 and plain >= 1, f"num_hybrids: {self.num_hybrids} leaves no plain rollout")
        common.require(self.pool == POOLS[0] or self.select != "random", "pool: random tokens are drawn per trajectory")
        common.require_shares(self, "high", "low_start", "low_end", "keep_share", "demo_quantity")
        common.require_at_least(self, 1, "max_tokens")

    @property
    def uses_entropies(self) -> bool:
        return 0 < self.keep_share < 1 and self.num_hybrids > 0 and self.prefix_in_row and self.select != "random"

    def low(self, progress: float) -> float:
        return common.cosine(progress, self.low_start, self.low_end)

    def prefix(self, example: Example, progress: float, rng: random.Random) -> tuple[int, ...]:
        """The first tokens of the demonstration: at least one, never all."""
        low, size = self.low(progress), len(example.demo_ids)
        share = low + (self.high - low) * rng.random()
        return example.demo_ids[: min(max(math.floor(share * size), 1), size - 1)]

    def hybrids(self, example: Example) -> int:
        """Rollouts of a prompt that continue a prefix; none where its demonstration is left out."""
        # By the id alone, so a prompt keeps its demonstration, or has none, in every step and every run.
        return self.num_hybrids if random.Random(example.id).random() < self.demo_quantity else 0

    def plain(self, examples: Sequence[Example], ctx: Context) -> list[list[Completion]]:
        """The rollouts without prefix, one call for each number of them, so that a prompt is prefilled once."""
        rollouts: dict[int, list[Completion]] = {}
        counts = [self.hybrids(example) for example in examples]
        for count in sorted(set(counts), reverse=True):
            places = [i for i, other in enumerate(counts) if other == count]
            sampled = ctx.sample([examples[i] for i in places], [()] * len(places), self.group_size - count)
            rollouts.update(zip(places, sampled, strict=True))
        return [rollouts[i] for i in range(len(examples))]

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        plain = self.plain(examples, ctx)
        repeated = [example for example in examples for _ in range(self.hybrids(example))]
        prefixes = [self.prefix(example, ctx.progress, ctx.rng) for example in repeated]
        hybrid = [rollout for [rollout] in ctx.sample(repeated, prefixes, 1)] if repeated else []
        rows, first = list[Trajectory](), 0
        for group, example in enumerate(examples):
            own = slice(first, first + self.hybrids(example))
            first = own.stop
            rows += trajectories(example, group, [*plain[group], *hybrid[own]], prefixes[own], self.advantage)
        if not self.prefix_in_row:
            return [replace(row, demo_ids=()) for row in rows]
        if self.select == "random":
            return [replace(row, demo_weights=drawn(len(row.demo_ids), self.keep_share, ctx.rng)) for row in rows]
        return rows

    def kept(self, batch: Batch) -> Tensor:
        """Prefix tokens that keep their advantage."""
        if self.select == "random":
            assert batch.demo_weights is not None
            return batch.demo & (batch.demo_weights > 0)
        shape = batch.demo.shape if self.pool == "trajectory" else (1, batch.demo.numel())
        chosen = selected(
            batch.entropies.reshape(shape), batch.demo.reshape(shape), self.keep_share, self.select != "highest"
        )
        return chosen.reshape(batch.demo.shape)

    def loss(self, batch: Batch) -> Loss:
        # Prefix tokens count as if the policy had sampled them: their ratio is 1 before the first update, and their
        # advantage that of the rollout that continues them.  Those of which the policy is sure are left out.
        # old_logprobs of prefix tokens are the policy's own: the demonstrator's are not known.
        kept = self.kept(batch)
        mask = kept if self.select == "lowest-alone" else batch.policy | kept
        values = common.clipped_surrogate(
            batch.logprobs, batch.old_logprobs, batch.advantages, self.clip_low, self.clip_high
        )
        value = common.token_mean(values, mask, batch.num_trajectories * self.max_tokens)
        if self.demo_coef != 0:
            value = value + self.demo_coef * common.demo_mean(batch, -batch.logprobs, "step")
        metrics = {
            "policy_loss": common.token_mean(values.detach(), batch.policy, batch.num_policy),
            "prefix_loss": common.token_mean(values.detach(), kept, batch.num_demo),
            "demo_nll": common.demo_mean(batch, -batch.logprobs.detach(), "step"),
        }
        return Loss(value, metrics)

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        plain, hybrid = list[Rows](), list[tuple[int, int]]()
        for example in examples:
            # A prefix has at most all tokens but the last, EOS.
            prompt, prefix, count = len(example.prompt_ids), max(len(example.demo_ids) - 1, 0), self.hybrids(example)
            plain.append(common.rollout_rows([(prompt, 0)], self.group_size - count, max_new_tokens))
            hybrid += [(prompt, prefix)] * count
        continued = common.rollout_rows(hybrid, 1, max_new_tokens)
        if not self.prefix_in_row:
            continued = replace(continued, train=[(prompt + max_new_tokens, max_new_tokens) for prompt, _ in hybrid])
        return common.joined(*plain, continued)


METHOD = PrefixRFT
VARIANTS: dict[str, dict[str, Any]] = {
    "code": {"advantage": "code"},
    "code-v2": {"advantage": "code-v2"},
    "authors-pool": {"pool": "micro-batch"},
    "no-prefix": {"num_hybrids": 0},
    "top-50": {"keep_share": 0.5},
    "top-80": {"keep_share": 0.8},
    "all-prefix-tokens": {"keep_share": 1.0},
    "random-20": {"select": "random"},
    "bottom-20": {"select": "lowest"},
    "authors-random-20": {"select": "random", "keep_share": 0.992},
    "authors-bottom-20": {"select": "lowest-alone", "pool": "micro-batch"},
    "frozen-prefix": {"keep_share": 0.0},
    "nll": {"keep_share": 0.0, "demo_coef": 0.001},
    "dr-po": {"prefix_in_row": False},
    "uniform": {"low_start": 0.05},
    "demos-10": {"demo_quantity": 0.1},
    "demos-1": {"demo_quantity": 0.01},
    "on-policy": {"num_updates": 1},
}
SYMBOLS: dict[str, str] = {
    "advantage": "A; paper (code: DR_GRPO_PREFIX, code-v2: DR_GRPO_PREFIX_V2 of core_algos.py)",
    "num_hybrids": "1 of N; paper",
    "high": "upper end of l; paper",
    "low_start": "low at step 0; paper",
    "low_end": "low at step 500 = T; paper",
    "keep_share": "top 20 % of prefix tokens; paper (dp_actor.py: ratio 0.8 dropped)",
    "select": "no symbol; ablations of the paper (lowest-alone: dp_actor.py)",
    "pool": "no symbol; this project's choice (dp_actor.py: micro-batch)",
    "demo_coef": "0 in the paper; 0.001 in its ablation with UFT's likelihood",
    "demo_quantity": "share of prompts with a demonstration; ablation of the paper (10 %, 1 %)",
    "prefix_in_row": "no symbol; Table 8 of the paper (DR-PO), reading of this project",
    "group_size": "N; paper",
    "clip_low": "epsilon; not verified, verl clip_ratio",
    "clip_high": "epsilon; not verified, verl clip_ratio",
    "max_tokens": "constant of Dr.GRPO; not verified, response length of LUFFY",
    "lr": "learning rate; not verified, as LUFFY",
    "warmup": "warm-up share; this project's choice",
    "decay": "schedule; this project's choice",
    "weight_decay": "AdamW weight decay; not verified, verl fsdp_workers.py",
    "betas": "AdamW betas; not verified, verl fsdp_workers.py",
    "batch_size": "prompts per step; not verified, as LUFFY",
    "num_updates": "128 prompts / mini-batch of 64; not verified, as LUFFY",
}

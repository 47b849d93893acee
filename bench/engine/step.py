"""One collected step: its trajectories, the optimizer batches that they form, and figures about them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import torch
from torch import Tensor

from bench.engine.batching import MicroBatch, at_targets, num_targets
from bench.engine.token_values import Outputs
from bench.seeds import derive_seed
from bench.types import Batch, Example, Method, Trajectory, UserError

MAX_IDLE = 1000


@dataclass(frozen=True)
class Step:
    """Trajectories and what is known of them before the first update; scores are keyed by id(row)."""

    rows: Sequence[Trajectory]
    progress: float
    # By identity, not by value: a completion sampled twice gives two equal rows, and each draws candidates of its own.
    old: Mapping[int, Tensor] = field(default_factory=dict)
    reference: Mapping[int, Tensor] = field(default_factory=dict)
    seeds: Mapping[int, int] = field(default_factory=dict)  # of the candidates drawn at each row's targets

    @property
    def reward(self) -> float:
        """Mean over the rollouts; 0 without any."""
        rewards = [row.reward for row in self.rows if row.completion_ids]
        return sum(rewards) / max(len(rewards), 1)

    def batch(
        self,
        values: Outputs,
        micro: MicroBatch,
        rows: Sequence[Trajectory],
        num_micro_batches: int,
        hidden: tuple[Tensor, ...] | None = None,
        moved: tuple[Tensor, ...] | None = None,
    ) -> Batch:
        """One micro-batch as the loss sees it; ``rows`` are those of the whole optimizer batch."""
        old_logprobs = at_targets(self.old, micro, values.logprobs.detach())
        return Batch(
            logprobs=values.logprobs,
            entropies=values.entropies,
            old_logprobs=old_logprobs,
            ref_logprobs=at_targets(self.reference, micro, old_logprobs),
            advantages=micro.advantages,
            demo=micro.demo,
            policy=micro.policy,
            num_demo=sum(len(row.demo_ids) for row in rows),
            num_policy=sum(len(row.completion_ids) for row in rows),
            num_trajectories=len(rows),
            num_micro_batches=num_micro_batches,
            progress=self.progress,
            num_rollouts=sum(bool(row.completion_ids) for row in rows),
            reward=self.reward,
            demo_weights=micro.demo_weights,
            groups=micro.groups,
            reference_kl=values.reference_kl,
            candidate_logprobs=values.candidate_logprobs,
            candidate_hits=values.candidate_hits,
            hidden=hidden,
            moved_hidden=moved,
        )

    def uniforms(self, rows: Sequence[Trajectory], count: int) -> Tensor:
        """[M, count] in [0, 1) that decide the candidates at these rows' targets; a row has its own in any company."""
        seeds = [(row, torch.Generator().manual_seed(self.seeds[id(row)])) for row in rows]
        return torch.cat([torch.rand(num_targets(row), count, generator=seed) for row, seed in seeds])


@dataclass
class Exploration:
    """Prompts that had rollouts so far, and those of them that had a correct one."""

    tried: set[str] = field(default_factory=set)
    solved: set[str] = field(default_factory=set)

    def update(self, rows: Sequence[Trajectory], examples: Sequence[Example]) -> dict[str, float]:
        """Add a step's rollouts.  Returns the share of tried prompts ever solved, nothing before the first rollout."""
        for row in rows:
            if row.completion_ids:
                self.tried.add(examples[row.group].id)
                if row.correct:
                    self.solved.add(examples[row.group].id)
        return {"explored": len(self.solved) / len(self.tried)} if self.tried else {}


def next_idle(idle: int, rows: Sequence[Trajectory], unit: str, name: str) -> int:
    """How many steps in a row had nothing to train on, counting one with these rows.

    UserError if a budget in steps may never end for that: such a step makes no update.
    """
    idle = 0 if rows else idle + 1
    if unit == "steps" and idle >= MAX_IDLE:
        raise UserError(
            f"{name}: {MAX_IDLE} steps in a row found nothing to train on, so a budget in steps may "
            "never end: use another unit or a stronger model"
        )
    return idle


def learning_rate(method: Method, progress: float) -> float:
    """Warm-up over a share of the stage's budget, then constant, linear or cosine decay to zero."""
    if method.warmup > 0 and progress < method.warmup:
        return method.lr * max(progress / method.warmup, 0.01)  # not 0: the first step is charged and must learn
    # By budget, not by steps: a method with costly steps takes few, and decays to zero all the same.
    done = (progress - method.warmup) / max(1.0 - method.warmup, 1e-9)
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[method.decay]
    return method.lr * max(factor, 0.0)


@lru_cache(maxsize=4)  # prompts and separate demonstrations have one each; a step may span two epochs
def epoch_order(name: str, task: str, seed: int, epoch: int, size: int) -> Sequence[int]:
    """The order in which an epoch goes through a pool of this size."""
    indices = list(range(size))
    random.Random(derive_seed(name, task, seed, epoch)).shuffle(indices)
    return tuple(indices)


def in_turn(name: str, task: str, seed: int, step: int, pool: Sequence[Example], size: int) -> list[Example]:
    """The ``size`` examples of a step, one epoch after another."""
    order = partial(epoch_order, name, task, seed, size=len(pool))
    places = (divmod(position, len(pool)) for position in range(step * size, (step + 1) * size))
    return [pool[order(epoch)[index]] for epoch, index in places]


def divide(pool: Sequence[Example], share: float) -> tuple[Sequence[Example], Sequence[Example]]:
    """Disjoint demonstrations and prompts, in pool order: those with the lowest hashes of their ids are demonstrations.

    Share 0 takes none; any other share leaves at least one example on either side.
    """
    if share == 0:
        return (), pool
    if len(pool) < 2:
        raise UserError(f"{len(pool)} training examples cannot be split into demonstrations and prompts: give more")
    # By hash and not by lot: the division is the same for every seed, and a larger share contains a smaller one.
    ranked = sorted(range(len(pool)), key=lambda i: derive_seed("demonstration", pool[i].id))
    chosen = set(ranked[: min(max(round(share * len(pool)), 1), len(pool) - 1)])
    return [e for i, e in enumerate(pool) if i in chosen], [e for i, e in enumerate(pool) if i not in chosen]


def optimizer_batches(rows: Sequence[Trajectory], num_updates: int, apart: int | None) -> list[list[Trajectory]]:
    """Whole groups in order, in at most ``num_updates`` batches; groups numbered ``apart`` or higher form one more.

    Without rows there is no batch.
    """
    # Whole groups: advantages are centred within a group, and a part of one would have a mean that is not 0.
    groups = sorted({row.group for row in rows if apart is None or row.group < apart})
    num = min(num_updates, len(groups))
    # Update u takes the groups from u/num to (u+1)/num of the way: all of them, in sizes that differ by one at most.
    parts = [set(groups[u * len(groups) // num : (u + 1) * len(groups) // num]) for u in range(num)]
    batches = [[row for row in rows if row.group in part] for part in parts]
    last = [row for row in rows if apart is not None and row.group >= apart]
    return [*batches, last] if last else batches


def means(updates: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Means over updates of their figures by name; one that an update lacks is 0 there."""
    # All are read at once: each reading alone would wait for the device.
    values = [value.double() for update in updates for value in update.values()]
    numbers = iter(torch.stack(values).tolist() if values else ())
    found: dict[str, float] = {}
    for update in updates:
        for name in update:
            found[name] = found.get(name, 0.0) + next(numbers) / len(updates)
    return found


def describe(rows: Sequence[Trajectory]) -> dict[str, float]:
    """Means over a step's trajectories that are worth watching: reward, accuracy, lengths, groups without signal."""
    rollouts = [row for row in rows if row.completion_ids]
    means: dict[str, float] = {
        "num_trajectories": len(rows),
        "mean_targets": sum(map(num_targets, rows)) / max(len(rows), 1),
        "demo_share": sum(len(r.demo_ids) for r in rows) / max(sum(map(num_targets, rows)), 1),
    }
    if rollouts:
        groups: dict[int, set[float]] = {}
        for row in rollouts:
            groups.setdefault(row.group, set()).add(row.reward)
        solved = {row.group for row in rollouts if row.correct}
        means["reward"] = sum(row.reward for row in rollouts) / len(rollouts)
        means["correct"] = sum(row.correct for row in rollouts) / len(rollouts)
        means["share_solved"] = len(solved) / len(groups)
        means["mean_completion"] = sum(len(row.completion_ids) for row in rollouts) / len(rollouts)
        # Groups with one reward have advantages of 0 and teach nothing; DAPO (arXiv 2503.14476) replaces them.
        means["share_equal_reward"] = sum(len(rewards) == 1 for rewards in groups.values()) / len(groups)
    return means

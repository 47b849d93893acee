"""What ``bench parity`` compares: for each name a method, its fields, a task level, micro-batches and tolerances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench.plan import registry
from bench.types import Task, UserError, Verdict

SHARED = {"lr": 1e-4, "warmup": 0.0, "decay": "constant", "weight_decay": 0.01}
IMITATION = {**SHARED, "batch_size": 32}
REWARDS = {"batch_size": 8, "group_size": 8, "kl_coef": 0.0, "entropy_coef": 0.0, "eps": 1e-4, "num_updates": 1}


@dataclass(frozen=True)
class Case:
    """One comparison; ``rows_per_pass`` is TRL's micro-batch in rows, ``micro_batch_tokens`` ours in padded tokens."""

    method: str
    fields: Mapping[str, Any]
    level: str
    tolerance: Mapping[str, float]  # largest absolute difference of each measure
    rows_per_pass: int
    micro_batch_tokens: int
    exact_rewards: bool = False  # rewards rounded to eighths, which float32 holds exactly
    trl: Mapping[str, Any] = field(default_factory=dict)  # TRL's settings that do not follow from the fields


def imitation(method: str) -> Case:
    """32 demonstrations of 40 to 64 tokens in four micro-batches of TRL's and at least three of ours."""
    return Case(method, IMITATION, "3to4", {"loss": 1e-5, "grad_norm": 1e-4}, 8, 512)


def grpo(aggregation: str, rows_per_pass: int = 16, exact_rewards: bool = False, **fields: Any) -> Case:
    """Eight groups of eight rollouts; 64 rows per pass leave one micro-batch on both sides."""
    fields = {**SHARED, **REWARDS, "aggregation": aggregation, **fields}
    tolerance = {"loss": 1e-5 if exact_rewards else 1e-4, "grad_norm": 1e-4}
    tokens = 1024 if rows_per_pass == 16 else 10**9
    return Case("grpo", fields, "3", tolerance, rows_per_pass, tokens, exact_rewards)


def dpo(**fields: Any) -> Case:
    """Eight pairs: a demonstration against a wrong rollout, so that every prompt has one."""
    fields = {**SHARED, "batch_size": 8, "group_size": 8, "gold": True, **fields}
    return Case("dpo", fields, "4", {"loss": 1e-4, "grad_norm": 1e-4}, 4, 512)


def family(method: str, trl: Mapping[str, Any], **fields: Any) -> Case:
    """As ``grpo`` with exact rewards, for a method without its divisor, KL and entropy bonus."""
    fields = {**SHARED, **{k: v for k, v in REWARDS.items() if k not in ("kl_coef", "entropy_coef")}, **fields}
    return Case(method, fields, "3", {"loss": 1e-5, "grad_norm": 1e-4}, 16, 1024, True, trl)


CASES = {
    "sft": imitation("sft"),
    "dft": imitation("dft"),
    "dpo": dpo(),
    "dpo:beta-0.5": dpo(beta=0.5),
    "grpo:dapo": grpo("dapo"),
    "grpo:grpo": grpo("grpo"),
    "grpo:dr_grpo": grpo("dr_grpo"),
    "grpo:bnpo": grpo("bnpo", rows_per_pass=64),  # depends on the micro-batches, hence only one
    "grpo:dapo-exact": grpo("dapo", exact_rewards=True),
    "grpo:two-updates": grpo("dr_grpo", exact_rewards=True, num_updates=2, clip_low=0.02, clip_high=0.02),
    "gspo": family("gspo", {"loss_type": "grpo", "importance_sampling_level": "sequence"}, num_updates=2),
    "cispo": family("cispo", {"loss_type": "cispo", "epsilon_high": 5.0}),  # TRL's is the bound itself
}


def choose(names: Sequence[str]) -> list[str]:
    """Comparisons by name, in the given order; ``grpo`` stands for all of GRPO's; UserError for an unknown one."""
    cases: list[str] = []
    for name in names:
        matching = [case for case in CASES if case == name or case.startswith(f"{name}:")]
        if not matching:
            raise registry.nearest(name, CASES, "comparison")
        cases += matching
    if not cases:
        raise UserError("no comparisons given: for example --methods sft,grpo:dapo")
    return list(dict.fromkeys(cases))


@dataclass(frozen=True)
class ExactRewards:
    """A task whose rewards are rounded up to eighths: the mean of equal rewards is then exact in float32, too."""

    task: Task

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def verify(self, problem: Mapping[str, Any], text: str) -> Verdict:
        verdict = self.task.verify(problem, text)
        return replace(verdict, reward=math.ceil(8 * verdict.reward) / 8)

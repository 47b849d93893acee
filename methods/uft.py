"""UFT: reward on rollouts that continue a hint, plus the hint's likelihood.

Source: Unified fine-tuning (arXiv 2505.16984, equation of J_UFT and Table 1); authors' ``run.py``,
``verl/utils/dataset/rl_dataset.py`` (hint length) and ``verl/workers/actor/dp_actor.py`` (loss).  Where paper and
code disagree, the code is followed:
- likelihood: the paper sums over hint tokens with the KL's weight; the code takes a token mean (demo_reduce="sum"
  restores the sum: over the rollouts of a prompt, then the mean over prompts);
- KL: the paper writes the full KL; the code uses k3 on the sampled tokens, clamped to 10;
- entropy bonus: only in the code;
- p = 1: SFT according to the paper; in the code the rest is still generated and rewarded, and the hint's likelihood has
  weight 0.001;
- the abstract claims a win at every model size; Table 2 has RFT ahead for Qwen2.5-3B and three methods ahead for
  Llama-3.2-3B; the printed means of that table are not the means of its columns.

Departures from the code:
- Token means run over the whole optimizer batch; the authors average micro-batch means (divisor="micro-batch").
- Schedules are functions of the spent share of the budget, not of the step: t/500 with hints until 300/500.  The first
  step has progress 0, hence p_high, where the code starts at t = 1.  Staged hints change at equal shares of hint_until;
  the code rounds them down to whole steps.
- Prefixes end at step borders of the tokenised demonstration and are never truncated; the code tokenises prompt and
  hint apart and cuts long hints on the right.
- Logits are not clamped to +-100 in the likelihood; |log ratio| is limited to 20 before exp.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory
from methods import common

SCHEDULES = ("cosine", "uniform", "staged", "none")
REDUCTIONS = ("mean", "sum")

EQUATION = """\
L = L_GRPO(policy tokens) - demo_coef (1/N_hint) sum_{hint tokens} log pi(a*_t | x, a*_<t)
hint = first border_k tokens of the demonstration's steps,  k ~ Binomial(min(num_chunks, steps), p),
p(progress) = p_low + (p_high - p_low)/2 (1 + cos(pi progress / hint_until)) up to hint_until, no hint afterwards"""
EVIDENCE = "paper and authors' code read"
DATA_FLOW = """\
one hint per prompt and step (shared_hint=False: per rollout); group_size rollouts continue prompt and hint
prompt | hint | rollout with its advantage
policy gradient, KL and entropy bonus: rollout tokens; likelihood: hint tokens; the verifier sees hint and rollout
charged: as GRPO, with prompt and hint as context; the hint is trained once per rollout"""
PUBLISHED: tuple[str, ...] = (
    "Table 2, mean of nine columns, SFT / RFT / R3 / UFT: Qwen2.5-0.5B 4.46 / 3.25 / 7.36 / 9.45, 1.5B 9.36 "
    "/ 16.08 / 18.65 / 22.23, 3B 15.25 / 32.15 / 28.02 / 30.93 (printed means; the columns' own are lower)",
    "Table 2, Llama-3.2: 1B 2.49 / 0.80 / 2.20 / 3.52, 3B 3.85 / 0.01 / 5.03 / 3.72",
)


def borders(num_steps: int, num_chunks: int) -> list[int]:
    """Numbers of steps that a hint may hold: the steps cut into at most ``num_chunks`` nearly equal pieces."""
    num = min(num_chunks, num_steps)
    return [round(i * num_steps / num) if num else 0 for i in range(num)] + [num_steps]


def hint_probability(progress: float, p_low: float, p_high: float, hint_until: float) -> float:
    """Probability of each piece under the cosine schedule; 0 once ``hint_until`` is passed."""
    if hint_until == 0 or progress > hint_until:
        return 0.0
    return common.cosine(progress, p_high, p_low, hint_until)


def staged_pieces(num: int, progress: float, hint_until: float) -> int:
    """All pieces at first, one fewer at each of num + 1 equal shares of ``hint_until``, 0 in the last share."""
    if hint_until == 0 or progress > hint_until:
        return 0
    # 1e-9: a border must count as reached although its quotient rounds to just below (20/500 with hints until 0.2)
    return max(num - math.floor(progress / hint_until * (num + 1) + 1e-9), 0)


@dataclass(frozen=True)
class UFT:
    """L = L_GRPO(policy tokens) - demo_coef (1/N_hint) sum over hint tokens of log pi.

    The hint, our prefix, is drawn once per prompt and step and shared by its group_size rollouts (shared_hint=False:
    drawn for each rollout, whose advantage still comes from its group).  Hint tokens get no policy gradient, KL or
    entropy bonus, policy tokens no likelihood.  Without hints the method is GRPO, bit for bit.
    """

    schedule: str = "cosine"
    hint_until: float = 0.6
    p_high: float = 0.95
    p_low: float = 0.05
    num_chunks: int = 5
    shared_hint: bool = True
    demo_coef: float = 0.001
    demo_reduce: str = "mean"
    divisor: str = "step"
    group_size: int = 4
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coef: float = 0.001
    entropy_coef: float = 0.001
    scale: str = "std"
    eps: float = 1e-6
    lr: float = 1e-6
    warmup: float = 0.0
    decay: str = "constant"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 256
    num_updates: int = 4

    def __post_init__(self) -> None:
        common.require_choices(self, schedule=SCHEDULES, demo_reduce=REDUCTIONS)
        common.require_choices(self, divisor=common.DIVISORS, scale=common.SCALES)
        common.require_at_least(self, 1, "group_size", "num_chunks")
        common.require_shares(self, "hint_until")

    uses_reference = common.asks_if("kl_coef")
    uses_entropies = common.asks_if("entropy_coef")

    def pieces(self, num: int, progress: float, rng: random.Random) -> int:
        """How many of ``num`` pieces the hint holds."""
        if self.schedule == "none":
            return 0
        if self.schedule == "uniform":  # R3 keeps its hints throughout
            return rng.randrange(num + 1)
        if self.schedule == "staged":
            return staged_pieces(num, progress, self.hint_until)
        probability = hint_probability(progress, self.p_low, self.p_high, self.hint_until)
        return sum(rng.random() < probability for _ in range(num))

    def prefix(self, example: Example, progress: float, rng: random.Random) -> tuple[int, ...]:
        """The hint's tokens: whole steps of the demonstration, never its ending."""
        cuts = borders(len(example.step_ends), self.num_chunks)
        steps = cuts[self.pieces(len(cuts) - 1, progress, rng)]
        return example.demo_ids[: example.step_ends[steps - 1]] if steps else ()

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        if not self.shared_hint:
            return self.collect_apart(examples, ctx)
        # One hint for the group: with a hint each, a rollout could beat its group's mean by its hint alone.
        prefixes = [self.prefix(example, ctx.progress, ctx.rng) for example in examples]
        completions = ctx.sample(examples, prefixes, self.group_size)
        return common.grouped(examples, completions, self.scale, self.eps, prefixes)

    def collect_apart(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        """Groups whose rollouts have a hint each; the sampler runs and charges contexts that are equal once."""
        repeated = [example for example in examples for _ in range(self.group_size)]
        prefixes = [self.prefix(example, ctx.progress, ctx.rng) for example in repeated]
        completions = [only for (only,) in ctx.sample(repeated, prefixes, 1)]
        # Sampled one by one, but a group all the same: advantages compare the answers to one prompt.
        groups = [completions[i : i + self.group_size] for i in range(0, len(completions), self.group_size)]
        rows = common.grouped(examples, groups, self.scale, self.eps)
        return [replace(row, demo_ids=prefix) for row, prefix in zip(rows, prefixes, strict=True)]

    def loss(self, batch: Batch) -> Loss:
        policy = common.policy_gradient_loss(
            batch,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            kl_coef=self.kl_coef,
            entropy_coef=self.entropy_coef,
            aggregation="dapo" if self.divisor == "step" else "bnpo",
        )
        nll = common.demo_mean(batch, -batch.logprobs.detach(), "step")
        # Rollout tokens are learnt by their reward, hint tokens by their likelihood: no token has both.
        value = policy.value + self.demo_coef * self.demo_loss(batch)
        return Loss(value, {**policy.metrics, "demo_nll": nll})

    def demo_loss(self, batch: Batch) -> Tensor:
        """Negative log-likelihood of the hints; exactly 0 without hint tokens."""
        if self.demo_reduce == "sum":  # group_size / num_trajectories is 1 / prompts of the step
            return common.token_sum(-batch.logprobs, batch.demo) * (self.group_size / max(batch.num_trajectories, 1))
        return common.demo_mean(batch, -batch.logprobs, self.divisor)

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        # The longest hint is all steps of the demonstration, since every piece may be drawn.
        hints = self.schedule == "uniform" or (self.schedule != "none" and self.hint_until > 0)
        contexts = [(len(e.prompt_ids), e.step_ends[-1] if hints and e.step_ends else 0) for e in examples]
        if self.shared_hint:
            return common.rollout_rows(contexts, self.group_size, max_new_tokens)
        repeated = [context for context in contexts for _ in range(self.group_size)]
        return common.rollout_rows(repeated, 1, max_new_tokens)  # no two hints of a group need be equal


METHOD = UFT
VARIANTS: dict[str, dict[str, Any]] = {
    "rft": {"schedule": "none", "demo_coef": 0.0},
    "rft-cosine": {"demo_coef": 0.0},
    "r3": {"schedule": "uniform", "demo_coef": 0.0},
    "uniform": {"schedule": "uniform"},
    "stage": {"schedule": "staged"},
    "stage-no-likelihood": {"schedule": "staged", "demo_coef": 0.0},
    "own-hints": {"shared_hint": False},
    "paper-sum": {"demo_reduce": "sum", "demo_coef": 0.00025},  # 0.001 per rollout at four rollouts
    "authors-divisor": {"divisor": "micro-batch"},
    "no-entropy": {"entropy_coef": 0.0},
    "no-kl": {"kl_coef": 0.0},
    "no-std": {"scale": "none"},
    "on-policy": {"num_updates": 1},
    "demo-coef-1e-4": {"demo_coef": 1e-4},  # 0 is rft-cosine, 1e-3 the default
    "demo-coef-1e-2": {"demo_coef": 1e-2},
    "demo-coef-1e-1": {"demo_coef": 1e-1},
    "hint-until-0.2": {"hint_until": 0.2},  # T_hint of 100 and of 500 in 500 steps; 300 is the default
    "hint-until-1.0": {"hint_until": 1.0},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (  # settings that make the method another one
    ({"schedule": "cosine", "hint_until": 0.0}, "uft", {"schedule": "none"}),
    ({"schedule": "staged", "hint_until": 0.0}, "uft", {"schedule": "none"}),
    ({"schedule": "none", "shared_hint": True, "divisor": "step"}, "grpo", {"aggregation": "dapo"}),
    ({"schedule": "none", "shared_hint": True, "divisor": "micro-batch"}, "grpo", {"aggregation": "bnpo"}),
)
SYMBOLS: dict[str, str] = {
    "schedule": "distribution of l; run.py --algo (uft: cosine, r3: uniform, stage: staged, rft: none)",
    "hint_until": "T_hint / T = 300/500; paper Table 1",
    "p_high": "p_high; paper Table 1",
    "p_low": "p_low; paper Table 1",
    "num_chunks": "L; paper Table 1",
    "shared_hint": "no symbol; rl_dataset.py (drawn before the prompt is repeated n times)",
    "demo_coef": "beta of the log-likelihood; run.py --sft_loss_coef",
    "demo_reduce": "sum over h < l of the paper; dp_actor.py (mean)",
    "divisor": "no symbol; this project's choice (authors: micro-batch, dp_actor.py)",
    "group_size": "n; paper Table 1",
    "clip_low": "epsilon; verl clip_ratio, paper Table 1",
    "clip_high": "epsilon; verl clip_ratio, paper Table 1",
    "kl_coef": "beta of the KL; scripts/train.sh",
    "entropy_coef": "no symbol; verl default of the authors' repository",
    "scale": "no symbol; core_algos.py",
    "eps": "no symbol; core_algos.py",
    "lr": "learning rate; paper Table 1",
    "warmup": "warm-up share; verl default of the authors' repository",
    "decay": "schedule; verl default of the authors' repository (constant)",
    "weight_decay": "AdamW weight decay; verl fsdp_workers.py",
    "betas": "AdamW betas; verl fsdp_workers.py",
    "batch_size": "prompts per step; paper Table 1",
    "num_updates": "no symbol; 256 prompts / mini-batch of 64, scripts/train.sh",
}

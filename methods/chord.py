"""CHORD: GRPO and SFT on disjoint examples in every step, mixed by a weight that decays over the run.

Source: "On-Policy RL Meets Off-Policy Experts" (arXiv 2508.11408 v3; equations 1, 4 and 6, section 4.3,
appendix A.1); the authors' ``chord_policy_loss.py`` and ``examples/mix_chord`` in Trinity-RFT; ms-swift's
``compute_chord_loss``.  The paper and both implementations were read; none of their programs was run to compare.  The
default is CHORD-mu; the variant "phi" is CHORD-phi.  Where the sources disagree:
- phi: equation 6 has no stop-gradient, both implementations detach it; detached here (detach=False: as printed).
- Schedule: the paper states decays of 30 steps (appendix), 200 (figure of section 4.3) and 50 (medical), the authors'
  example file has a third one.  200 steps of about 500 are taken, hence a decay over 0.4 of the budget, no warm-up.
  The others are variants, each a share of 500 steps too; the example file's decay then outlasts the budget.

Departures:
- mu is a function of the spent share of the budget, not of the step.
- Each part is a token mean over the whole optimizer batch, as equation 1 says.  Trinity-RFT weighs the token means of
  micro-batches by their sequences, ms-swift averages them (divisor="micro-batch"); Trinity's dual clip (inactive
  on-policy) is left out.
- While the schedule's mu is 0 no demonstration is read, as in ms-swift.  An adaptive mu is known only once the
  rollouts are judged, so its demonstrations are read, trained on and charged in every step, with weight 0 at times.
- Rewards are the task's own; the paper's penalties for malformed and over-long answers are not added.

Choices where the paper is silent: lr 1e-6 of the three values it searches; AdamW weight decay and eps of the advantage
as for GRPO here; the importance weight "clipped at p > 0.4" is read as min(p, 0.4); focal gamma 2.  Its ablations are
known from notes alone, and the 16 rollouts and rarer weight synchronisation of those on phi are not taken over.  Our
reading: adaptive mu takes the task's reward as it is; every replacement of phi is a constant weight beside mu = 0.1;
entropies are ranked ("entropy-top") or divided by their largest ("entropy") within one demonstration, so that
micro-batches do not matter; a token of weight 0 still counts in N_demo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory
from methods import common
from methods.prefix_rft import selected

WEIGHTS = ("none", "phi", "importance", "focal", "entropy-top", "entropy")

TINY = 1e-12

EQUATION = """\
L = (1 - mu) L_GRPO(policy tokens) - mu (1/N_demo) sum_{demonstration tokens} w log pi(y*_t | x, y*_<t)
w = 1, or sg(p (1 - p)) with p = pi(y*_t | x, y*_<t) (phi), or sg(p) (importance), or sg((1 - p)^gamma) (focal),
    or 1 for the entropy_share of y* with the most entropy H_t, 0 elsewhere (entropy-top), or H_t / max_t H_t (entropy)
mu(progress) rises from 0 to mu_peak over mu_warmup, falls to mu_valley over mu_decay (half a cosine), then stays;
adaptive: mu = max(0, tau - mean reward of the step's rollouts)"""
EVIDENCE = "paper and authors' code read"
DATA_FLOW = """\
two disjoint sets: prompts with group_size rollouts each, and a batch of demonstrations that the policy never sees
prompt | rollout: policy gradient times 1 - mu;  prompt | demonstration with EOS: weighted likelihood times mu
charged: as GRPO without reference, and as SFT on the demonstrations (not collected while the schedule's mu = 0)"""
PUBLISHED: tuple[str, ...] = (
    "AMC / AIME24 / AIME25, Qwen2.5-7B-Instruct: best SFT+RL 58.4 / 17.1 / 16.3, CHORD-mu 60.8 / 18.1 / "
    "17.9, CHORD-phi 62.5 / 18.2 / -, LUFFY 50.9 / 17.7 / 14.8",
    "BFCL, LLaMA-3.2-3B-Instruct: CHORD-mu 77.6, CHORD-phi 78.5",
)


def mixture(progress: float, peak: float, valley: float, warmup: float, decay: float) -> float:
    """mu: linear warm-up to the peak, half a cosine down to the valley, constant afterwards."""
    if progress < warmup:
        return peak * progress / warmup
    return common.cosine(progress - warmup, peak, valley, decay)


@dataclass(frozen=True)
class CHORD:
    """L = (1 - mu) L_GRPO(policy tokens) - mu (1/N_demo) sum over demonstration tokens of w log pi.

    Each step samples group_size rollouts for batch_size prompts and reads num_demos demonstrations of other examples,
    which the policy never sees while it samples.  Both parts are token means; GRPO's has no KL and no entropy bonus.
    """

    mu_peak: float = 0.9
    mu_valley: float = 0.05
    mu_warmup: float = 0.0
    mu_decay: float = 0.4
    tau: float = 0.0  # 0: mu follows the schedule, not the reward
    weight: str = "none"
    weight_clip: float = 1.0  # upper limit of the importance weight; 1: none
    focal_gamma: float = 2.0  # read by focal only
    entropy_share: float = 0.05  # read by entropy-top only
    detach: bool = True
    divisor: str = "step"
    num_demos: int = 64
    demo_share: float = 0.2
    group_size: int = 8
    clip_low: float = 0.2
    clip_high: float = 0.2
    scale: str = "std"
    eps: float = 1e-6
    lr: float = 1e-6
    warmup: float = 0.0
    decay: str = "constant"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 32
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_choices(self, weight=WEIGHTS, divisor=common.DIVISORS, scale=common.SCALES)
        common.require_shares(self, "mu_peak", "mu_valley", "mu_warmup", "mu_decay", "tau", "entropy_share")
        common.require(self.detach or self.weight == "phi", f"detach: only phi may stay attached, not '{self.weight}'")
        common.require_at_least(self, 1, "num_demos")
        common.require(0 < self.demo_share < 1, f"demo_share: {self.demo_share} is not between 0 and 1")
        common.require_at_least(self, 1, "group_size")
        # Several updates would see the prompts first and the demonstrations last, and would be off-policy.
        common.require(self.num_updates == 1, f"num_updates: {self.num_updates} is not 1, CHORD is strictly on-policy")

    @property
    def uses_entropies(self) -> bool:
        return self.weight in ("entropy-top", "entropy")

    def mu(self, progress: float, reward: float = 0.0) -> float:
        """The weight of imitation; ``reward`` is the step's mean, read only if adaptive (0: the largest mu)."""
        if self.tau > 0:
            return max(0.0, self.tau - reward)
        return mixture(progress, self.mu_peak, self.mu_valley, self.mu_warmup, self.mu_decay)

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        prompts, others = examples[: self.batch_size], examples[self.batch_size : self.batch_size + self.num_demos]
        completions = ctx.sample(prompts, [()] * len(prompts), self.group_size)
        rows = common.grouped(prompts, completions, self.scale, self.eps)
        return rows + (common.demonstrations(others, len(prompts)) if self.mu(ctx.progress) > 0 else [])

    def loss(self, batch: Batch) -> Loss:
        policy = common.policy_gradient_loss(
            batch,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            aggregation="dapo" if self.divisor == "step" else "bnpo",
        )
        # At mu = 1 this would be SFT, at mu = 0 GRPO on the other rows of the batch.
        # batch.reward is that of the whole step, so all micro-batches have one mu.
        mu = self.mu(batch.progress, batch.reward)
        weighted = common.demo_mean(batch, -self.weights(batch) * batch.logprobs, self.divisor)
        nll = common.demo_mean(batch, -batch.logprobs.detach(), "step")
        return Loss((1 - mu) * policy.value + mu * weighted, {**policy.metrics, "demo_nll": nll})

    def weights(self, batch: Batch) -> Tensor:
        """w of each token [B, T]; gradient flows through it only if ``detach`` is off."""
        entropies = batch.entropies.detach()
        if self.weight == "entropy-top":
            return selected(entropies, batch.demo, self.entropy_share).to(entropies.dtype)
        if self.weight == "entropy":
            # A masked-out 0 is the largest only if all entropies are 0, and TINY keeps that case finite.
            most = entropies.masked_fill(~batch.demo, 0.0).amax(dim=1, keepdim=True)
            return entropies / most.clamp(min=TINY)
        return self.token_weights(batch.logprobs.detach() if self.detach else batch.logprobs)

    def token_weights(self, logprobs: Tensor) -> Tensor:
        """w of each token from its log-probability."""
        p = logprobs.exp()
        if self.weight == "phi":  # largest at p = 1/2: neither what the policy knows nor what it would never say
            return p * (1 - p)
        if self.weight == "importance":
            return p.clamp(max=self.weight_clip)
        if self.weight == "focal":
            return (1 - p) ** self.focal_gamma
        return p.new_ones(p.shape)

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        prompts, others = examples[: self.batch_size], examples[self.batch_size : self.batch_size + self.num_demos]
        rollouts = common.plain_rollout_rows(prompts, self.group_size, max_new_tokens)
        return common.joined(rollouts, common.demonstration_rows(others))


METHOD = CHORD
VARIANTS: dict[str, dict[str, Any]] = {
    "phi": {"weight": "phi", "mu_peak": 0.1, "mu_valley": 0.1},
    "mu-0.02": {"mu_peak": 0.02, "mu_valley": 0.02},
    "mu-0.1": {"mu_peak": 0.1, "mu_valley": 0.1},
    "mu-0.5": {"mu_peak": 0.5, "mu_valley": 0.5},
    "mu-adaptive": {"tau": 0.5},
    "mu-adaptive-0.7": {"tau": 0.7},
    "phi-attached": {"weight": "phi", "detach": False, "mu_peak": 0.1, "mu_valley": 0.1},  # equation 6 as printed
    "is": {"weight": "importance", "mu_peak": 0.1, "mu_valley": 0.1},
    "is-clipped": {"weight": "importance", "weight_clip": 0.4, "mu_peak": 0.1, "mu_valley": 0.1},
    "focal": {"weight": "focal", "mu_peak": 0.1, "mu_valley": 0.1},
    "entropy-top": {"weight": "entropy-top", "mu_peak": 0.1, "mu_valley": 0.1},
    "entropy": {"weight": "entropy", "mu_peak": 0.1, "mu_valley": 0.1},
    "decay-30": {"mu_decay": 0.06},  # of 500 steps
    "decay-50": {"mu_decay": 0.1},
    "authors-schedule": {"weight": "phi", "mu_peak": 0.5, "mu_valley": 0.02, "mu_warmup": 0.4, "mu_decay": 0.8},
    "authors-divisor": {"divisor": "micro-batch"},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (
    (
        {"mu_peak": 0.0, "mu_valley": 0.0, "tau": 0.0, "weight": "none", "divisor": "step"},
        "grpo",
        {"kl_coef": 0.0, "entropy_coef": 0.0, "aggregation": "dapo"},
    ),
)
SYMBOLS: dict[str, str] = {
    "mu_peak": "peak of mu; paper section 4.3",
    "mu_valley": "valley of mu; paper section 4.3",
    "mu_warmup": "W / T; paper section 4.3 (W = 0)",
    "mu_decay": "D / T = 200/500; paper section 4.3 (appendix A.1: 30 steps)",
    "tau": "tau of the adaptive mu; paper, ablations (0.5 and 0.7; default: none)",
    "weight": "phi, IS of equations 4 and 6; paper, ablations of phi",
    "weight_clip": "0.4 in one ablation; paper, ablations of phi",
    "focal_gamma": "gamma; this project's choice",
    "entropy_share": "top 5 % by entropy; paper, ablations of phi",
    "detach": "sg; both implementations (equation 6 prints none)",
    "divisor": "1/sum |y*| of equation 1; this project's choice (ms-swift: micro-batch)",
    "num_demos": "SFT batch size; paper, experiments",
    "demo_share": "5k of 25k examples; paper, experiments",
    "group_size": "K; paper, experiments",
    "clip_low": "epsilon; paper, experiments",
    "clip_high": "epsilon; paper, experiments",
    "scale": "std of the advantage; paper",
    "eps": "no symbol; verl core_algos.py",
    "lr": "learning rate; smallest of the three values searched, paper, experiments",
    "warmup": "warm-up share; this project's choice",
    "decay": "schedule; this project's choice",
    "weight_decay": "AdamW weight decay; this project's choice",
    "betas": "Adam betas; paper, experiments",
    "batch_size": "RL batch size; paper, experiments",
    "num_updates": "strictly on-policy; paper",
}

"""Doubles for method tests: batches built from free logits, and a sampler that follows a script."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bench.types import SCORED_UNDER, Batch, Completion, Demonstration, Example, Scores, Trajectory, Verdict

torch.set_num_threads(1)
VOCAB = 7


@dataclass
class Fixture:
    """An optimizer batch whose logits are the parameters; old and reference values follow the policy unless given."""

    logits: Tensor  # [B, T, V], leaf
    targets: Tensor  # [B, T]
    demo: Tensor
    policy: Tensor
    advantages: Tensor  # [B, T]
    old: Tensor | None = None
    ref: Tensor | None = None
    ref_logits: Tensor | None = None  # [B, T, V], of the reference model's whole distribution
    candidates: Tensor | None = None  # [B, T, K] tokens drawn at each target
    weights: Tensor | None = None  # [B, T] of the demonstration tokens
    moved: Tensor | None = None  # [B, T, V]: hidden states are the logits and their halves, moved ones these as well
    reward: float = 0.0
    progress: float = 0.0

    @property
    def logprobs(self) -> Tensor:
        return self.logits.log_softmax(-1).gather(-1, self.targets.unsqueeze(-1)).squeeze(-1)

    @property
    def scores(self) -> Tensor:
        """onehot - softmax: the gradient of each target's log-probability with respect to its logits."""
        onehot = torch.nn.functional.one_hot(self.targets, self.logits.shape[-1])
        return (onehot - self.logits.detach().softmax(-1)).to(self.logits.dtype)

    def batch(self, rows: Sequence[int] | None = None, num_micro_batches: int = 1) -> Batch:
        """Micro-batch of some rows; the counts cover all rows."""
        chosen = torch.tensor(list(range(len(self.targets))) if rows is None else list(rows))
        outside = ~(self.demo | self.policy)
        logprobs = self.logprobs.masked_fill(outside, 0.0)
        all_logprobs = self.logits.log_softmax(-1)
        entropies = -(all_logprobs.exp() * all_logprobs).sum(-1).masked_fill(outside, 0.0)
        old = logprobs.detach() if self.old is None else self.old.masked_fill(outside, 0.0)
        ref = old if self.ref is None else self.ref.masked_fill(outside, 0.0)
        weights = torch.ones_like(old) if self.weights is None else self.weights
        kl = drawn = hits = None
        if self.ref_logits is not None:
            theirs = self.ref_logits.log_softmax(-1)
            kl = (theirs.exp() * (theirs - all_logprobs)).sum(-1).masked_fill(outside, 0.0)[chosen]
        if self.candidates is not None:
            drawn = all_logprobs.gather(-1, self.candidates).masked_fill(outside.unsqueeze(-1), 0.0)[chosen]
            hits = ((self.candidates == self.targets.unsqueeze(-1)) & ~outside.unsqueeze(-1))[chosen]
        hidden = moved = None
        if self.moved is not None:
            inside = (~outside).unsqueeze(-1).to(self.logits.dtype)
            hidden = tuple((scale * self.logits * inside)[chosen] for scale in (1.0, 0.5))
            moved = tuple((scale * self.logits * self.moved * inside)[chosen] for scale in (1.0, 0.5))
        return Batch(
            hidden=hidden,
            moved_hidden=moved,
            logprobs=logprobs[chosen],
            entropies=entropies[chosen],
            old_logprobs=old[chosen],
            ref_logprobs=ref[chosen],
            advantages=self.advantages[chosen],
            demo=self.demo[chosen],
            policy=self.policy[chosen],
            num_demo=int(self.demo.sum()),
            num_policy=int(self.policy.sum()),
            num_trajectories=len(self.targets),
            num_micro_batches=num_micro_batches,
            progress=self.progress,
            num_rollouts=int(self.policy.any(dim=1).sum()),
            reward=self.reward,
            demo_weights=weights.masked_fill(~self.demo, 0.0)[chosen],
            groups=chosen // 2,  # rows two by two
            reference_kl=kl,
            candidate_logprobs=drawn,
            candidate_hits=hits,
        )

    def gradient(self, method: Any, splits: Sequence[Sequence[int]] | None = None) -> tuple[Tensor, Tensor]:
        """Loss and gradient with respect to the logits, summed over micro-batches."""
        splits = [range(len(self.targets))] if splits is None else splits
        self.logits.grad = None
        total = torch.zeros((), dtype=self.logits.dtype)
        for rows in splits:
            loss = method.loss(self.batch(rows, len(splits))).value
            loss.backward()
            total += loss.detach()
        assert self.logits.grad is not None
        return total, self.logits.grad.clone()

    def repeated(self, times: int) -> Fixture:
        """Every row ``times`` times."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        twice = {name: value.repeat_interleave(times, 0) for name, value in tensors.items()}
        twice["logits"] = twice["logits"].detach().requires_grad_()
        return Fixture(**twice, progress=self.progress, reward=self.reward)


def fixture(
    lengths: Sequence[tuple[int, int]],
    advantages: Sequence[float] | None = None,
    seed: int = 0,
    old_shift: float = 0.0,
    ref_shift: float = 0.0,
    dtype: torch.dtype = torch.float64,
) -> Fixture:
    """Random logits for rows of (demonstration, policy) tokens after a one-token prompt, padded on the right.

    ``old_shift`` and ``ref_shift`` are the scales of random differences of old and reference log-probabilities.
    """
    generator = torch.Generator().manual_seed(seed)
    width = max(sum(pair) for pair in lengths) + 1
    shape = (len(lengths), width)
    logits = torch.randn((*shape, VOCAB), generator=generator, dtype=dtype).requires_grad_()
    targets = torch.randint(VOCAB, shape, generator=generator)
    place = torch.arange(width).expand(shape)
    num_demo, num_policy = torch.tensor([list(pair) for pair in lengths]).T.unsqueeze(-1)
    demo, policy = place < num_demo, (place >= num_demo) & (place < num_demo + num_policy)
    values = torch.zeros(len(lengths)) if advantages is None else torch.tensor(advantages, dtype=dtype)
    made = Fixture(logits, targets, demo, policy, values.to(dtype).unsqueeze(1).expand(shape))
    noise = torch.randn((2, *shape), generator=generator, dtype=dtype)
    made.old = made.logprobs.detach() + old_shift * noise[0] if old_shift else None
    made.ref = made.logprobs.detach() + ref_shift * noise[1] if ref_shift else None
    return made


def draw(made: Fixture, num: int, temperature: float = 1.0, seed: int = 0) -> Tensor:
    """Candidates [B, T, num] drawn from the fixture's softmax(logits / temperature)."""
    chances = (made.logits.detach() / temperature).softmax(-1).flatten(0, 1)
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(chances, num, replacement=True, generator=generator).view(*made.targets.shape, num)


def relative_error(value: Tensor, expected: Tensor) -> float:
    return float((value - expected).norm() / expected.norm().clamp(min=1e-300))


def example(num_steps: int = 3, prompt_tokens: int = 4, name: str = "e") -> Example:
    """Steps of 2, 3, 2, 3, ... tokens, an ending of two tokens and EOS (0); all tokens of the row are distinct."""
    sizes = [2 + i % 2 for i in range(num_steps)]
    ends = [sum(sizes[: i + 1]) for i in range(num_steps)]
    num_demo = sum(sizes) + 2
    return Example(
        id=name,
        prompt="?",
        demonstration=Demonstration(tuple(f"{i}\n" for i in range(num_steps)), "!"),
        problem={},
        prompt_ids=tuple(range(1000, 1000 + prompt_tokens)),
        demo_ids=(*range(1, num_demo + 1), 0),
        step_ends=tuple(ends),
    )


def scripted_logits(row: Trajectory, under: str = "policy") -> Tensor:
    """Random logits [n, VOCAB] at a row's targets, which its tokens and the model's name decide."""
    seed = sum((*row.demo_ids, *row.completion_ids)) + 7 * len(row) + 1009 * SCORED_UNDER.index(under)
    shape = (len(row.demo_ids) + len(row.completion_ids), VOCAB)
    return 2.0 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scripted_scores(
    row: Trajectory, features: Callable[[Tensor], Tensor] | None = None, under: str = "policy"
) -> Scores:
    """Scores from the scripted logits of a row."""
    targets, logits = torch.tensor((*row.demo_ids, *row.completion_ids)), scripted_logits(row, under)
    logp = logits.log_softmax(-1)
    chosen = logp.gather(1, (targets % VOCAB).unsqueeze(1)).squeeze(1)
    return Scores(chosen, -(logp.exp() * logp).sum(-1), None if features is None else features(logits))


Reward = Callable[[Example, tuple[int, ...], int], float]


def by_index(example: Example, prefix: tuple[int, ...], index: int) -> float:
    """Rewards 1, 0.1, 0, 1, ... within a group."""
    return (1.0, 0.1, 0.0)[index % 3]


@dataclass
class Scripted:
    """A Context whose rollouts are scripted: rollout i has i + 1 tokens and the reward that the script gives it."""

    progress: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    reward: Reward = by_index
    calls: list[tuple[list[Example], list[tuple[int, ...]], int]] = field(default_factory=list)
    greedy: list[bool] = field(default_factory=list)
    buffer: list[Example] = field(default_factory=list)
    memory: dict[str, Tensor] = field(default_factory=dict)
    drift: float = 0.0  # of every log-probability that is scored
    mask_id: int = 999

    def score(
        self,
        rows: Sequence[Trajectory],
        *,
        features: Callable[[Tensor], Tensor] | None = None,
        under: str = "policy",
    ) -> list[Scores]:
        """Scores from logits that the row's tokens and the model's name decide."""
        found = [scripted_scores(row, features, under) for row in rows]
        return [replace(scores, logprobs=scores.logprobs + self.drift) for scores in found]

    def sample(
        self,
        examples: Sequence[Example],
        prefixes: Sequence[tuple[int, ...]],
        group_size: int,
        *,
        greedy: bool = False,
    ) -> list[list[Completion]]:
        self.calls.append((list(examples), list(prefixes), group_size))
        self.greedy.append(greedy)
        return [
            [self.completion(self.reward(example, prefix, i), i) for i in range(group_size)]
            for example, prefix in zip(examples, prefixes, strict=True)
        ]

    def completion(self, reward: float, index: int) -> Completion:
        ids = tuple(range(2000, 2001 + index))
        return Completion(ids, tuple(-0.5 for _ in ids), "", "stop", Verdict(reward == 1.0, reward, "scripted"))


def collect(method: Any, examples: Sequence[Example], progress: float = 0.0, seed: int = 0) -> list[Trajectory]:
    """Trajectories of one scripted step."""
    rows: list[Trajectory] = method.collect(examples, Scripted(progress, random.Random(seed)))
    return rows

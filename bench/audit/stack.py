"""What the preflight checks run on: the real engine with a model, a few problems of a task and small methods."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from typing import Any

import torch
from torch import Tensor

from bench.engine.batching import MicroBatch
from bench.engine.encoding import render
from bench.engine.policy import Policy
from bench.engine.scoring import Features, scores
from bench.engine.step import Step
from bench.engine.trainer import Stage
from bench.plan import registry
from bench.plan.budget import Budget, Meter
from bench.types import SCORED_UNDER, Batch, Completion, Example, Scores, Task, Trajectory, Verdict
from tasks import common

WHOLE = 10**9  # micro_batch_tokens that hold any optimizer batch at once
NUM_EXAMPLES = 12
# Of every method that has the field.  With thousands of candidates one would lie on a border that rounding crosses.
SMALL = {"batch_size": 6, "group_size": 3, "num_demos": 4, "num_updates": 1, "num_candidates": 8}
FEWER = {"batch_size": 4, "group_size": 2, "num_demos": 2}  # on a CPU, for models that take a second for a row
LARGE = 20_000_000  # weights of such a model


@dataclass(frozen=True)
class Check:
    """Outcome of one identity; ``measured`` is None after an error or a value that is not finite (``detail``)."""

    name: str
    passed: bool
    measured: float | None
    tolerance: float
    detail: str
    method: str = ""  # of a check that concerns one method alone: its name, or NAME:VARIANT
    task: str = ""
    settings: str = ""  # of the method: bench.store.passport.method_settings of its fields
    code: str = ""  # of the checks: bench.store.passport.checks_digest


def outcome(name: str, measured: float, tolerance: float, detail: str, passed: bool = True) -> Check:
    """Passed if the measured value is finite and within its tolerance, and ``passed`` holds."""
    if not math.isfinite(measured):
        return Check(name, False, None, tolerance, f"a value is not finite; {detail}")
    return Check(name, bool(passed and measured <= tolerance), float(measured), tolerance, detail)


@dataclass(frozen=True)
class Tolerance:
    """Largest rounding allowed: relative for gradients and losses, in nats for log-probabilities.

    ``bias`` bounds the part of a gradient's residual that lies along the gradient: rounding averages out there.
    """

    gradient: float
    bias: float
    logprob: float
    loss: float


# float32 on the CPU; bfloat16 autocast on CUDA.
TOLERANCES = {"cpu": Tolerance(1e-4, 1e-5, 1e-3, 1e-4), "cuda": Tolerance(2e-2, 2e-3, 0.2, 2e-2)}


@dataclass
class Stack:
    """A policy on its device, its task and the hyper-parameters of the methods to check; ``load`` gives problems."""

    policy: Policy
    task: Task
    level: str
    template: str
    fields: Mapping[str, Mapping[str, Any]]  # by NAME or NAME:VARIANT
    max_new_tokens: int
    examples: list[Example] = field(init=False)

    def __post_init__(self) -> None:
        self.examples = self.load("train", NUM_EXAMPLES)
        self.policy.meter = Meter(self.policy.architecture, Budget("steps", math.inf))

    @property
    def tolerance(self) -> Tolerance:
        return TOLERANCES[self.policy.device.type]

    @property
    def slow(self) -> bool:
        """Whether a row takes long, so that the checks have to do with fewer."""
        return bool(self.policy.model.num_parameters() > LARGE) and self.policy.device.type == "cpu"

    @property
    def sizes(self) -> dict[str, int]:
        """Examples and rollouts of a step of a checked method."""
        return SMALL | FEWER if self.slow else SMALL

    def load(self, split: str, count: int) -> list[Example]:
        """The first tokenised problems of a split."""
        examples = common.load_examples(self.task, split, count, self.level, self.template)
        return [self.policy.encode(e, self.template) for e in examples]

    def method(self, name: str, **changes: Any) -> Any:
        """NAME or NAME:VARIANT with its hyper-parameters here, but small sizes and one update per step."""
        values = {**dict(self.fields.get(name, {})), **changes}
        name = name.partition(":")[0]
        fields = {f.name for f in dataclass_fields(registry.module("methods", name).METHOD())}
        small = {k: v for k, v in self.sizes.items() if k in fields and k not in changes}
        return registry.build_method(name, {**values, **small})

    def stage(
        self,
        method: Any,
        tokens: int = WHOLE,
        task: Any = None,
        pool: Sequence[Example] = (),
        max_grad_norm: float = math.inf,
    ) -> Stage:
        """A training stage; by default its gradients are not clipped."""
        return Stage(
            self.policy,
            method,
            task or self.task,
            pool or self.examples,
            0,
            "preflight",
            max_new_tokens=self.max_new_tokens,
            temperature=1.0,
            max_grad_norm=max_grad_norm,
            micro_batch_tokens=tokens,
            sample_rows=256,
        )

    def batch(self, method: Any, micro: MicroBatch, rows: Sequence[Trajectory]) -> Batch:
        """What the loss sees of one micro-batch of an optimizer batch of these rows."""
        return self.stage(method)._batch(micro, rows, 1, Step(rows, 0.1))

    def rows(self, method: Any, progress: float = 0.1) -> list[Trajectory]:
        """What the method collects from scripted completions, the same on every model."""
        examples = self.stage(method).examples()
        return method.collect(examples, Scripted(self, progress))

    def target_ids(self, example: Example) -> list[int]:
        """The demonstration with EOS as the tokenizer alone writes it behind the prompt."""
        tokenizer, demo = self.policy.tokenizer, example.demonstration.text
        prompt = render(tokenizer, example.prompt, self.template)
        before, whole, apart = (
            tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, prompt + demo, demo)
        )
        ids = whole[len(before) :] if whole[: len(before)] == before else apart
        return [*ids, tokenizer.eos_token_id]

    def logprobs(self, ids: Sequence[int], temperature: float = 1.0, model: Any = None) -> Tensor:
        """By hand, [T-1, V] in float64 on the CPU: log-softmax of a model's own logits of one row, no padding.

        The model is the policy's unless another is given.
        """
        with torch.no_grad():
            logits = (model or self.policy.model)(input_ids=torch.tensor([list(ids)], device=self.policy.device)).logits
        return torch.log_softmax(logits[0, :-1].double().cpu() / temperature, dim=-1)

    def moving_rate(self) -> float:
        """A learning rate at which one update of Adam moves each weight by half a percent of a typical one."""
        weights = [p.detach().float().square().mean().sqrt() for p in self.policy.model.parameters() if p.dim() == 2]
        return 0.005 * float(torch.stack(weights).median())

    def weights(self) -> dict[str, Tensor]:
        """A copy of the model's weights on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.policy.model.state_dict().items()}

    @contextmanager
    def restored(self, budget: Budget | None = None) -> Iterator[None]:
        """Give the weights back as they were, whatever is trained inside, under a budget of its own."""
        model, meter = self.policy.model, self.policy.meter
        before = self.weights()
        if budget is not None:
            self.policy.meter = Meter(self.policy.architecture, budget)
        try:
            yield
        finally:
            model.load_state_dict(before)
            model.zero_grad(set_to_none=True)
            self.policy.meter = meter


@dataclass
class Scripted:
    """A Context without a sampler: ends of demonstrations as completions, truly judged.

    Every other example gets its own demonstration among those of other examples, which are surprising and mostly wrong:
    groups with and without signal occur, and the gradients of right and wrong completions do not cancel.
    """

    stack: Stack
    progress: float
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    buffer: list[Example] = field(default_factory=list)

    memory: dict[str, Tensor] = field(default_factory=dict)

    @property
    def mask_id(self) -> int:
        return self.stack.policy.mask_id

    def score(
        self, rows: Sequence[Trajectory], *, features: Features | None = None, under: str = "policy"
    ) -> list[Scores]:
        """By the real policy; under another model every token is taken to be less likely, by a share of its own."""
        found = scores(self.stack.policy, rows, self.stack.policy.model, features, WHOLE) if rows else []
        share = 1 + 0.1 * SCORED_UNDER.index(under)
        return [replace(score, logprobs=share * score.logprobs) for score in found]

    def sample(
        self,
        examples: Sequence[Example],
        prefixes: Sequence[tuple[int, ...]],
        group_size: int,
        *,
        greedy: bool = False,
    ) -> list[list[Completion]]:
        known = self.stack.examples
        return [
            [
                self.completion(
                    e, prefix, e if (index + k) % 2 == 0 and k < 2 else known[(index + 5 * k + 3) % len(known)]
                )
                for k in range(group_size)
            ]
            for index, (e, prefix) in enumerate(zip(examples, prefixes, strict=True))
        ]

    def completion(self, example: Example, prefix: tuple[int, ...], shown: Example) -> Completion:
        """What follows the prefix's length in the demonstration of ``shown``."""
        ids = shown.demo_ids[len(prefix) :] or shown.demo_ids[-1:]
        (text,) = self.stack.policy.decode([(*prefix, *ids)])
        verdict = self.stack.task.verify(example.problem, text)
        reason = "stop" if ids[-1] in self.stack.policy.eos_ids else "length"
        return Completion(ids, (0.0,) * len(ids), text, reason, verdict)


@dataclass(frozen=True)
class SameReward:
    """A task whose verifier gives every completion one reward, a number that is not exact in binary."""

    task: Task
    reward: float = 0.1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def verify(self, problem: Mapping[str, Any], text: str) -> Verdict:
        return Verdict(False, self.reward, "constant")


def shortened(example: Example) -> Example:
    """The example with a demonstration that ends after its first step: an end that no model expects."""
    steps = example.demonstration.steps
    kept = replace(example.demonstration, steps=(), ending=steps[0] if steps else example.demonstration.ending)
    return replace(example, demonstration=kept)

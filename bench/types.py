"""Core types: what tasks, methods and the engine hand to each other.

Only this module is shared by the three packages.  Nothing here imports torch at run time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from bench.problems import Completion as Completion
from bench.problems import Demonstration as Demonstration
from bench.problems import Example as Example
from bench.problems import Task as Task
from bench.problems import UserError as UserError
from bench.problems import Verdict as Verdict

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Trajectory:
    """prompt | demonstration part | policy part, either part possibly empty; one row of a batch.

    ``advantage`` belongs to the policy part, ``demo_advantage`` to the demonstration part.  ``group`` is the index of
    the example in the list given to ``collect``; rows of one group share a prompt.
    """

    prompt_ids: tuple[int, ...]
    demo_ids: tuple[int, ...] = ()
    completion_ids: tuple[int, ...] = ()
    old_logprobs: tuple[float, ...] = ()  # of the completion, by the policy that sampled it
    advantage: float = 0.0
    demo_advantage: float = 0.0
    group: int = 0
    reward: float = 0.0
    correct: bool = False
    demo_weights: tuple[float, ...] = ()  # one per demonstration token, chosen by ``collect``; empty: all 1

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.demo_ids) + len(self.completion_ids)


@dataclass(frozen=True)
class Batch:
    """One micro-batch as a loss sees it; tensors are [B, T] over target positions (target t is token t+1 of the row).

    Values outside ``demo | policy`` are 0.  The counts cover the whole optimizer batch, so that a sum divided by
    them gives the same gradient for any micro-batch size.
    """

    logprobs: Tensor  # log pi(token) of the current policy, with gradient
    entropies: Tensor  # in nats, with gradient; zeros unless the method asks for them
    old_logprobs: Tensor  # detached; equal to logprobs when strictly on-policy
    ref_logprobs: Tensor  # detached; equal to old_logprobs unless the method asks for the reference model
    advantages: Tensor
    demo: Tensor  # bool: demonstration tokens (hint, prefix or full demonstration with its EOS)
    policy: Tensor  # bool: tokens that the policy sampled
    num_demo: int
    num_policy: int
    num_trajectories: int
    num_micro_batches: int = 1
    progress: float = 0.0  # share of the budget (of the stage) spent, 0 to 1
    num_rollouts: int = 0  # trajectories with tokens that the policy sampled
    reward: float = 0.0  # mean over the rollouts of the collected step
    demo_weights: Tensor | None = None  # of the trajectories; ones on demonstration tokens by default
    groups: Tensor | None = None  # [B] group of each row, of methods with ``whole_groups`` (see Requests) a whole one
    reference_kl: Tensor | None = None  # KL(reference || policy) over the vocabulary, with gradient, if asked for
    candidate_logprobs: Tensor | None = None  # [B, T, K] of tokens drawn at each target, with gradient, if asked for
    candidate_hits: Tensor | None = None  # [B, T, K] bool: the candidate is the target token
    # [B, T, D] after each layer of the model, with gradient: with its weights, and with those that one step of ascent
    # has moved; of methods with ``ascent_step`` (see Requests)
    hidden: tuple[Tensor, ...] | None = None
    moved_hidden: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class Loss:
    """Scalar to minimise, already divided by its divisors, and detached figures to log (summed over micro-batches)."""

    value: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """Token counts of trajectories that a step may cost, for its worst case: each list holds one length per row.

    ``prefill``: prompts given to the sampler (once per group); ``decode``: (context length, most new tokens) per
    rollout; ``train``: (row length, target tokens) per trained row; ``score``: the same per row given to ``ctx.score``.
    """

    prefill: Sequence[int] = ()
    decode: Sequence[tuple[int, int]] = ()
    train: Sequence[tuple[int, int]] = ()
    score: Sequence[tuple[int, int]] = ()


SCORED_UNDER = ("policy", "reference", "initial")


@dataclass(frozen=True)
class Scores:
    """What a model makes of one trajectory, without gradient and on the CPU: values per target token."""

    logprobs: Tensor  # [n]
    entropies: Tensor  # [n], in nats
    features: Tensor | None = None  # [F], if asked for


class Context(Protocol):
    """All that a method may ask of the engine while it collects a step."""

    progress: float
    rng: random.Random
    buffer: list[Example]  # first in, first out; of a method with ``buffer_size`` (see Requests)
    memory: dict[str, Tensor]  # what a method knows of earlier steps; tensors on the CPU, saved with checkpoints

    @property
    def mask_id(self) -> int:
        """Token that stands for a hidden one: the tokenizer's mask, unknown, padding or EOS token."""

    def sample(
        self,
        examples: Sequence[Example],
        prefixes: Sequence[tuple[int, ...]],
        group_size: int,
        *,
        greedy: bool = False,
    ) -> list[list[Completion]]:
        """Sample ``group_size`` completions for each prompt + prefix, verified and charged to the budget."""

    def score(
        self,
        rows: Sequence[Trajectory],
        *,
        features: Callable[[Tensor], Tensor] | None = None,
        under: str = "policy",
    ) -> list[Scores]:
        """One forward pass of the current policy over each row, charged to the budget.

        ``under`` names another model that the method has asked for with ``scored_under`` (see Requests).
        ``features`` makes a vector of fixed length from the logits [n, V] of a row's targets; one row's are there at a
        time.
        """


class Method(Protocol):
    """A post-training method: which trajectories to train on, and a pure loss over their tokens.

    It is a frozen dataclass whose fields are its hyper-parameters; the trainer reads the seven of the optimizer.  It
    asks for whatever else it needs through Requests.  One that rewrites its data before training is a Preparer as well.
    """

    @property
    def lr(self) -> float: ...

    @property
    def warmup(self) -> float:
        """Share of the budget."""

    @property
    def decay(self) -> str:
        """ "constant", "linear" or "cosine" (to zero at the end of the budget)."""

    @property
    def weight_decay(self) -> float: ...

    @property
    def betas(self) -> tuple[float, float]: ...

    @property
    def batch_size(self) -> int:
        """Prompts or demonstrations per step; 0: the method does not train."""

    @property
    def num_updates(self) -> int:
        """Optimizer updates per collected step; 1 is strictly on-policy."""

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]: ...

    def loss(self, batch: Batch) -> Loss: ...

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        """Upper bound on what ``collect`` and the update of these examples may process."""


@dataclass(frozen=True)
class Requests:
    """What a method asks of the engine besides the log-probabilities of its targets.

    A method asks by having an attribute of one of these names: a field, a property or, for the temperatures, a
    function.  What it does not have keeps the default here, so a method that needs nothing says nothing.
    """

    uses_entropies: bool = False  # Batch.entropies
    uses_reference: bool = False  # Batch.ref_logprobs, for one scoring pass of the reference model per step
    uses_reference_kl: bool = False  # Batch.reference_kl, for one scoring pass of the reference model per update
    # Models besides the policy under which ``ctx.score`` is asked: "reference", and "initial", the run's model before
    # its first stage.  They are kept; each pass is charged when it is asked for.
    scored_under: tuple[str, ...] = ()
    # Every ``reference_sync`` steps the reference model becomes (1 - mix) of itself and mix of the policy; 0: never.
    reference_sync: int = 0
    reference_mix: float = 1.0
    # From logits [M, V] a temperature [M] per target, at which ``ref_logprobs`` are taken.
    reference_temperatures: Callable[[Tensor], Tensor] | None = None
    # Batch.candidate_logprobs: this many tokens drawn from the current policy at each target.
    num_candidates: int = 0
    candidate_temperature: float = 1.0
    # This many demonstrations of other examples follow the ``batch_size`` prompts in the list that ``collect`` and
    # ``worst_case`` get; ``demo_share`` of the pool is set aside for them.
    num_demos: int = 0
    demo_share: float = 0.0
    # ``collect`` puts examples into ``ctx.buffer``.  Once it holds this many, the oldest ones leave it and follow the
    # prompts in the next step's list; their trajectories form an update of their own, the last of that step.
    buffer_size: int = 0
    # Batch.hidden and Batch.moved_hidden: before each update, low-rank parts of this rank beside all linear layers take
    # a step of length ``ascent_step`` along the gradient of ``ascent_loss`` over the whole optimizer batch.
    ascent_step: float = 0.0
    ascent_rank: int = 0
    ascent_loss: Callable[[Batch], Tensor] | None = None
    # All rows of a group come in one micro-batch, so that a loss may compare them (Batch.groups).
    whole_groups: bool = False
    # This share of a demonstration token's input embedding is that of the token that the policy finds likeliest there,
    # for one more forward pass per update; 0: inputs are the row's own tokens.
    input_residual: float = 0.0

    @classmethod
    def of(cls, method: object) -> Requests:
        """What this method asks for."""
        names = [request.name for request in fields(cls)]
        return cls(**{name: getattr(method, name) for name in names if hasattr(method, name)})

    @property
    def keeps_reference(self) -> bool:
        """Whether the policy as the stage begins is kept."""
        return self.uses_reference or self.uses_reference_kl or "reference" in self.scored_under

    @property
    def frozen_models(self) -> int:
        """How many models are kept beside the policy."""
        return self.keeps_reference + ("initial" in self.scored_under)


@runtime_checkable
class Preparer(Protocol):
    """A method that also rewrites its training examples, once, before the first step (S3FT)."""

    def prepare(self, examples: Sequence[Example], ctx: Context) -> list[Example]:
        """The examples to train on, with their source; charged to the budget."""

    def prepare_worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        """Upper bound on what ``prepare`` may process."""

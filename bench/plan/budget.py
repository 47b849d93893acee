"""Budgets and the meter: what every forward, backward and generated token costs, and whether one more step fits.

FLOPs follow the architecture: a token costs 2 FLOPs per weight of the linear layers, attention 4 x layers x heads x
head size per token and key, the output head 2 FLOPs per weight only where it is applied; a backward pass costs twice
its forward, less where only an adapter is trained.  Padding is not charged (it is recorded): it belongs to the
implementation, not to the method.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from time import perf_counter
from typing import Any

from bench.types import Method, Requests, Rows, UserError

UNITS = {"flops": "flops", "tokens": "tokens", "s": "seconds", "steps": "steps", "rollouts": "rollouts"}
SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
MOST = 1e30  # of any unit: more than all computing there has been, and its products are still finite
PHASES = ("sample", "verify", "score", "train", "other")


@dataclass(frozen=True)
class Budget:
    """A cap on one currency; every currency is recorded."""

    unit: str
    limit: float

    @staticmethod
    def parse(text: str) -> Budget:
        """Read ``2e14flops``, ``3Mtokens``, ``300s``, ``200steps`` or ``500rollouts``; UserError otherwise."""
        match = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([kMGTPE]?)\s*(flops|tokens|steps|rollouts|s)\s*", text)
        try:
            limit = float(match[1]) * SCALES[match[2]] if match else 0.0
        except ValueError:
            limit = 0.0
        if match is None or not 0 < limit <= MOST:
            raise UserError(
                f"malformed budget '{text}': expected a positive number up to {MOST:g} and a unit, "
                "for example 2e14flops, 3Mtokens, 300s, 200steps or 500rollouts"
            )
        return Budget(UNITS[match[3]], limit)

    def __str__(self) -> str:
        return f"{self.limit:g} {self.unit}"


@dataclass(frozen=True)
class Architecture:
    """What the FLOPs of a decoder depend on: weights of its linear layers, of its head, and its attention width."""

    body: int  # weights of all linear layers but the output head
    head: int
    attention: int  # 4 x layers x heads x head size
    trained: int | None = None  # those of an adapter, which are part of body; None: all weights are trained
    sides: int = field(default=0, compare=False)  # inputs and outputs of all linear layers but the head, added up

    def forward(self, length: int, targets: int) -> float:
        """FLOPs of one full forward of a row with the head at ``targets`` positions."""
        # 2 body n: a multiplication and an addition per weight and token.
        # 2 head t: the same for the head, only at the t positions whose logits are needed.
        # attention n^2: per layer, Q K^T and A V take 2 heads x size each for every pair of query and key.
        # All n^2 pairs count, although the causal mask hides half of them, as in PaLM (arXiv 2204.02311, appendix B).
        return 2.0 * self.body * length + 2.0 * self.head * targets + float(self.attention) * length * length

    def train(self, length: int, targets: int) -> float:
        """FLOPs of one forward and backward of a row."""
        # Forward once, backward twice: every product needs the gradients of both of its factors (arXiv 2001.08361,
        # section 2.1).  Logits that are computed again to save memory are not charged, as padding is not.
        if self.trained is None:
            return 3.0 * self.forward(length, targets)
        # Below an adapter the weights are frozen, and a product with a frozen weight needs the gradient of its other
        # factor only: backward 2 body n + 2 head t, and 2 trained n for the gradients of the adapter's own weights.
        # Both factors of attention's products are activations: still twice the forward.
        weights = 2.0 * self.trained * length + float(self.attention) * length * length
        return 2.0 * self.forward(length, targets) + weights

    def ascent(self, length: int, targets: int, rank: int) -> float:
        """FLOPs of one step of ascent for a row, besides its training, with low-rank parts of ``rank``.

        The direction, by a forward pass and a backward one to activations and to the parts; then a forward and backward
        pass of the moved weights, without the head.
        """
        part = 2.0 * rank * self.sides * length  # one product with the parts: rank x inputs, and outputs x rank
        direction = 2.0 * self.forward(length, targets) + float(self.attention) * length * length + 3.0 * part
        return direction + self.train(length, 0) + 2.0 * part

    def decode(self, context: int, new: int) -> float:
        """FLOPs of generating ``new`` tokens after a prefilled context: the last one is never fed back."""
        # Grows with the square of new through the keys: a long answer costs more than its share of tokens.
        fed = max(new - 1, 0)
        # The k-th token that is fed back attends to context + k keys, itself included; this is the sum over k = 1..fed.
        keys = fed * context + fed * (fed + 1) // 2
        return 2.0 * (self.body + self.head) * fed + float(self.attention) * keys


def scoring_passes(method: Method) -> int:
    """Extra forward passes over a step's rows: old policy, reference, its whole distribution, likeliest tokens."""
    asks = Requests.of(method)
    passes = (method.num_updates > 1, asks.uses_reference, asks.uses_reference_kl, asks.input_residual != 0)
    return sum(map(int, passes))


def ascent_rank(method: Method) -> int:
    """The rank of the parts that take a step of ascent before each update; 0 where there is none."""
    asks = Requests.of(method)
    return asks.ascent_rank if asks.ascent_step else 0


@dataclass
class Ledger:
    """Everything that a run has spent.  Evaluation is off the clock and not part of it."""

    flops: float = 0.0
    trained_tokens: int = 0  # tokens of rows that were trained on, prompts included
    loss_tokens: int = 0  # of these, targets of the loss
    prefilled_tokens: int = 0
    generated_tokens: int = 0
    decoded_tokens: int = 0  # generated tokens that were fed back
    scored_tokens: int = 0  # tokens of rows that went through a model besides: old policy, reference, a step of ascent
    padding_tokens: int = 0  # run only because of batching; not charged
    rollouts: int = 0
    demonstrations: int = 0  # demonstrations, whole or as prefix, given to a step (repeats counted)
    distinct_demonstrations: int = 0
    demonstration_tokens: int = 0
    verifier_calls: int = 0
    steps: int = 0  # optimizer updates
    seconds_sample: float = 0.0
    seconds_verify: float = 0.0
    seconds_score: float = 0.0
    seconds_train: float = 0.0
    seconds_other: float = 0.0

    @property
    def tokens(self) -> int:
        """Every token that went through the network: trained, scored, prefilled and decoded."""
        return self.trained_tokens + self.scored_tokens + self.prefilled_tokens + self.decoded_tokens

    @property
    def seconds(self) -> float:
        return sum(getattr(self, f"seconds_{phase}") for phase in PHASES)

    def record(self) -> dict[str, float]:
        return {**asdict(self), "tokens": self.tokens, "seconds": self.seconds}

    @staticmethod
    def restore(record: Mapping[str, Any]) -> Ledger:
        return Ledger(**{f.name: record[f.name] for f in fields(Ledger)})


@dataclass
class Meter:
    """Charges the ledger and says whether a step still fits; ``start`` and ``limit`` are those of the current stage."""

    architecture: Architecture
    budget: Budget
    ledger: Ledger = field(default_factory=Ledger)
    start: float = 0.0
    limit: float = 0.0
    slowest_step: float = 0.0  # seconds, the worst case of a budget in seconds
    seen: set[str] = field(default_factory=set)  # ids of demonstrations used
    wait: Callable[[], object] = lambda: None  # until a device has done what it was told: phases begin and end so

    def __post_init__(self) -> None:
        self.limit = self.limit or self.budget.limit

    @property
    def spent(self) -> float:
        return float(getattr(self.ledger, self.budget.unit))

    @property
    def progress(self) -> float:
        """Share of the current stage's budget that is spent, 0 to 1."""
        return min(1.0, (self.spent - self.start) / (self.limit - self.start))

    def charge_train(self, lengths: Sequence[int], targets: Sequence[int], padding: int) -> None:
        self.ledger.flops += sum(self.architecture.train(n, t) for n, t in zip(lengths, targets))
        self.ledger.trained_tokens += sum(lengths)
        self.ledger.loss_tokens += sum(targets)
        self.ledger.padding_tokens += padding

    def charge_score(self, lengths: Sequence[int], targets: Sequence[int], padding: int) -> None:
        self.ledger.flops += sum(self.architecture.forward(n, t) for n, t in zip(lengths, targets))
        self.ledger.scored_tokens += sum(lengths)
        self.ledger.padding_tokens += padding

    def charge_ascent(self, lengths: Sequence[int], targets: Sequence[int], padding: int, rank: int) -> None:
        self.ledger.flops += sum(self.architecture.ascent(n, t, rank) for n, t in zip(lengths, targets))
        self.ledger.scored_tokens += 2 * sum(lengths)
        self.ledger.padding_tokens += 2 * padding

    def charge_sample(self, prefills: Sequence[int], rows: Sequence[tuple[int, int]], padding: int) -> None:
        """``prefills``: lengths of prompts run once; ``rows``: (context length, tokens generated) per rollout."""
        # A prompt is run once for all its rollouts, with the head at its last token only.
        self.ledger.flops += sum(self.architecture.forward(n, 1) for n in prefills)
        self.ledger.flops += sum(self.architecture.decode(context, new) for context, new in rows)
        self.ledger.prefilled_tokens += sum(prefills)
        self.ledger.generated_tokens += sum(new for _, new in rows)
        # The last token of a rollout is generated but never runs through the network.
        self.ledger.decoded_tokens += sum(new - 1 for _, new in rows)
        self.ledger.rollouts += len(rows)
        self.ledger.padding_tokens += padding

    def charge_demonstrations(self, used: Sequence[tuple[str, int]]) -> None:
        """``used``: (example id, demonstration tokens shown) per example of a step."""
        self.ledger.demonstrations += len(used)
        self.ledger.demonstration_tokens += sum(tokens for _, tokens in used)
        # Two costs: a repeated demonstration is shown again, but need not be written again.
        self.seen.update(id for id, _ in used)
        self.ledger.distinct_demonstrations = len(self.seen)

    def worst_case(self, rows: Rows, passes: int, updates: int, ascent_rank: int = 0) -> float:
        """Upper bound, in the budget's unit, on a step of these rows with ``passes`` extra scoring passes.

        ``ascent_rank`` is that of the parts that take a step of ascent before each update; 0: there is none.
        """
        if self.budget.unit == "steps":
            return updates
        if self.budget.unit == "rollouts":
            if not rows.decode:
                raise UserError("a budget in rollouts would never end for a method that samples none: use another unit")
            return len(rows.decode)
        if self.budget.unit == "seconds":
            # Seconds have no bound in advance.  The slowest step so far stands for it, so a run may end a little late.
            return self.slowest_step
        # The bound is charged by the functions that charge the step itself, so that the two cannot drift apart.
        shadow = Meter(self.architecture, self.budget)
        shadow.charge_sample(rows.prefill, rows.decode, 0)
        lengths, targets = [n for n, _ in rows.train], [t for _, t in rows.train]
        shadow.charge_train(lengths, targets, 0)
        for _ in range(passes):
            shadow.charge_score(lengths, targets, 0)
        shadow.charge_score([n for n, _ in rows.score], [t for _, t in rows.score], 0)
        if ascent_rank:
            shadow.charge_ascent(lengths, targets, 0, ascent_rank)
        return shadow.spent

    def affords(self, cost: float) -> bool:
        return self.spent + cost <= self.limit

    @contextmanager
    def whole_or_nothing(self) -> Iterator[None]:
        """Take back what was charged inside if it fails, but for the seconds, which have passed."""
        before = asdict(self.ledger)
        try:
            yield
        except BaseException:
            for name, value in before.items():
                if not name.startswith("seconds_"):
                    setattr(self.ledger, name, value)
            raise

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the elapsed seconds to a phase."""
        self.wait()
        begin = perf_counter()
        try:
            yield
        finally:
            self.wait()
            name = f"seconds_{phase}"
            setattr(self.ledger, name, getattr(self.ledger, name) + perf_counter() - begin)

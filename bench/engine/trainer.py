"""The one training loop: collect, batch, forward, loss, backward, optimizer, meter, log - for every method."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from time import perf_counter
from typing import Any

import torch

from bench.engine import memory
from bench.engine.ascent import ascent_of
from bench.engine.batching import MicroBatch, collate, split_dependent
from bench.engine.optimizers import apply_update, make_optimizer, set_rate
from bench.engine.out_of_memory import too_large
from bench.engine.policy import Policy
from bench.engine.reference import mix
from bench.engine.scoring import Features, scores
from bench.engine.sharding import whole
from bench.engine.step import (
    Exploration,
    Step,
    describe,
    divide,
    in_turn,
    learning_rate,
    means,
    next_idle,
    optimizer_batches,
)
from bench.engine.step_context import StepContext
from bench.engine.token_values import Wanted
from bench.plan.budget import Meter, ascent_rank, scoring_passes
from bench.seeds import derive_seed
from bench.types import Batch, Example, Method, Preparer, Requests, Scores, Task, Trajectory, UserError


class Stage:
    """One method on one policy until its part of the budget is used up; ``step`` counts collected steps."""

    def __init__(
        self,
        policy: Policy,
        method: Method,
        task: Task,
        pool: Sequence[Example],
        seed: int,
        name: str,
        reference: Any | None = None,
        initial: Any | None = None,
        *,
        max_new_tokens: int,
        temperature: float,
        max_grad_norm: float,
        micro_batch_tokens: int,
        sample_rows: int,
        optimizer: str = "adamw",
    ) -> None:
        self.policy, self.method, self.task = policy, method, task
        self.asks = asks = Requests.of(method)
        self.demos, self.pool = divide(pool, asks.demo_share if asks.num_demos else 0.0)
        if asks.num_demos and not self.demos:
            raise UserError(f"{name}: num_demos needs demo_share, the share of the pool that is set aside for them")
        if asks.num_demos and asks.buffer_size:
            raise UserError(f"{name}: num_demos and buffer_size cannot be used together")
        self.seed, self.name = seed, name
        self.max_new_tokens, self.temperature, self.sample_rows = max_new_tokens, temperature, sample_rows
        self.max_grad_norm, fixed = max_grad_norm, split_dependent(method)
        fixed, packed = fixed and f"{name.partition(':')[2] or name}.{fixed}", policy.packed
        shared: dict[str, Any] = {"packed": packed, "ranks": policy.ranks}
        self.limit = memory.Limit(micro_batch_tokens, fixed, whole_groups=asks.whole_groups, **shared)
        # Where rows may not be cut otherwise for training, they may be for scoring.
        self.scoring = memory.Limit(micro_batch_tokens, **shared) if fixed or asks.whole_groups else self.limit
        self.buffer: list[Example] = []
        self.step = 0
        self.memory: dict[str, torch.Tensor] = {}
        self.ascent = ascent_of(asks, policy, name)
        self.exploration = Exploration()
        self.idle = 0  # steps without any trajectory since the last one that had some
        self.reference, self.initial = reference, initial
        if reference is None and asks.keeps_reference:
            # The policy as this stage begins: in sft+grpo the fine-tuned model, not the base model.
            self.reference = policy.frozen_copy(method)
        self.optimizer = make_optimizer(optimizer, policy.model.parameters(), method)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of a stage besides the weights and the optimizer."""
        return {
            "step": self.step,
            "idle": self.idle,
            "limits": [self.limit.tokens, self.scoring.tokens],
            "buffer": [example.id for example in self.buffer],
            "tried": sorted(self.exploration.tried),
            "solved": sorted(self.exploration.solved),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        known = {example.id: example for example in self.pool}
        self.step, self.idle = state["step"], state["idle"]
        self.limit.tokens, self.scoring.tokens = state.get("limits", (self.limit.tokens, self.scoring.tokens))
        self.buffer[:] = [known[id] for id in state["buffer"]]
        self.exploration = Exploration(set(state["tried"]), set(state["solved"]))

    @property
    def meter(self) -> Meter:
        assert self.policy.meter is not None
        return self.policy.meter

    def examples(self) -> list[Example]:
        """The next step's examples: prompts, then separate demonstrations, then recalled examples, as the method asks.

        Each set comes in a new order every epoch, decided by seed and epoch alone.
        """
        at = (self.task.name, self.seed, self.step)
        prompts = in_turn("order", *at, self.pool, self.method.batch_size)
        return prompts + in_turn("demonstration order", *at, self.demos, self.asks.num_demos) + self.recalled()

    def recalled(self) -> list[Example]:
        """The examples that leave the buffer with the next step."""
        size = self.asks.buffer_size
        return self.buffer[:size] if 0 < size <= len(self.buffer) else []

    def worst_case(self, examples: Sequence[Example]) -> float:
        """The most that the next step can cost, in the budget's unit."""
        rows = self.method.worst_case(examples, self.max_new_tokens)
        updates = self.method.num_updates + bool(self.recalled())
        return self.meter.worst_case(rows, scoring_passes(self.method), updates, ascent_rank(self.method))

    def _context(self, seed: int) -> StepContext:
        return StepContext(
            self.policy,
            self.task,
            self.meter.progress,
            random.Random(seed),
            seed,
            self.max_new_tokens,
            self.temperature,
            self.sample_rows,
            self.buffer,
            self.memory,
            self._scores,
        )

    def prepare(self) -> None:
        """Let a method that rewrites its data do so; UserError if the budget may not allow it or nothing is left."""
        if not isinstance(self.method, Preparer):
            return
        rows = self.method.prepare_worst_case(self.pool, self.max_new_tokens)
        name = self.name.partition(":")[2]
        need = self.meter.worst_case(rows, 0, 0)
        if not self.meter.affords(need):
            raise UserError(
                f"budget {self.meter.budget} does not allow {name} to prepare its {len(self.pool)} examples, which may "
                f"cost {need:.3g} {self.meter.budget.unit}: raise it or lower --train-size"
            )
        seed = derive_seed("prepare", self.task.name, self.seed, self.name)
        ctx = self._context(seed)
        self.pool = self.method.prepare(self.pool, ctx)
        self.meter.charge_demonstrations(list(ctx.prefixes.items()))
        self.policy.ranks.agree_on_time(self.meter)
        if not self.pool:
            raise UserError(f"{name}: no example is left after preparing, the model solved none: use another variant")

    def run_step(self) -> dict[str, Any] | None:
        """One collected step with its updates; None if its worst case no longer fits the budget."""
        begin, before = perf_counter(), self.meter.ledger.seconds
        examples = self.examples()
        # Asked before anything is sampled: what has begun can be finished, so that no run exceeds its budget.
        if not self.meter.affords(self.worst_case(examples)):
            return None
        progress = self.meter.progress
        ctx = self._context(derive_seed("step", self.task.name, self.seed, self.name, self.step))
        del self.buffer[: len(self.recalled())]
        rows = self.method.collect(examples, ctx)
        shown: dict[int, int] = {}
        for row in [*rows, *ctx.scored]:  # a demonstration is used as well where it is scored and left out
            shown[row.group] = max(shown.get(row.group, 0), len(row.demo_ids))
        gold = {group: examples[group].gold_tokens for group in shown}
        counts = {group: n if gold[group] is None else min(n, gold[group] or 0) for group, n in shown.items()}
        used = [(examples[group].id, n) for group, n in counts.items() if n]
        kept = {id for id, _ in used}  # prefixes of the others were sampled from, but are not in the rows
        self.meter.charge_demonstrations(used + [(id, n) for id, n in ctx.prefixes.items() if id not in kept])
        rate = learning_rate(self.method, progress)
        record = {"progress": progress, "learning_rate": rate, **describe(rows)}
        record.update(self.exploration.update(rows, examples))
        record.update(self.update(rows, rate, progress))
        self.step += 1
        self.idle = next_idle(self.idle, rows, self.meter.budget.unit, self.name)
        seconds = perf_counter() - begin
        self.meter.ledger.seconds_other += max(0.0, seconds - (self.meter.ledger.seconds - before))
        self.meter.slowest_step = max(self.meter.slowest_step, seconds)
        self.policy.ranks.agree_on_time(self.meter)
        return record

    def update(self, rows: Sequence[Trajectory], rate: float, progress: float) -> dict[str, float]:
        """The optimizer updates of one collected step: ``num_updates`` optimizer batches of whole groups.

        Groups of recalled examples form one more.
        """
        set_rate(self.optimizer, rate)
        self.policy.engine.release()
        with self.meter.timed("score"):
            # Not the sampler's values: at its temperature and rounding the first ratio would not be 1.
            old = self._score(rows, self.policy.whole()) if self.method.num_updates > 1 else {}
            reference = self._score_reference(rows) if self.asks.uses_reference else {}
        step = Step(rows, progress, old, reference, self._candidate_seeds(rows))
        apart = self.method.batch_size if self.asks.buffer_size else None
        parts = optimizer_batches(rows, self.method.num_updates, apart)
        with self.meter.timed("train"):
            metrics = means([self._optimize(part, step) for part in parts])
        if not all(math.isfinite(metrics.get(key, 0.0)) for key in ("loss", "grad_norm")):
            raise UserError(f"{self.name}: loss or gradient is not finite at step {self.step}: lower the learning rate")
        metrics |= self.policy.gap.taken(f"at step {self.step}")
        retries = self.limit.taken() + self.scoring.taken()
        return {**metrics, "oom_retries": retries, "micro_tokens": self.limit.tokens} if retries else metrics

    def _candidate_seeds(self, rows: Sequence[Trajectory]) -> dict[int, int]:
        if not self.asks.num_candidates:
            return {}
        name = ("candidates", self.task.name, self.seed, self.name, self.step)
        return {id(row): derive_seed(*name, i) for i, row in enumerate(rows)}

    def _score(self, rows: Sequence[Trajectory], model: Any) -> dict[int, torch.Tensor]:
        return self.scoring.fit(rows, self.meter, self._release, partial(self.policy.score, rows, model))

    def _scores(self, rows: Sequence[Trajectory], features: Features | None, under: str) -> list[Scores]:
        model = self.policy.whole() if under == "policy" else getattr(self, under) or self.reference  # no run: start
        return self.scoring.fit(rows, self.meter, self._release, partial(scores, self.policy, rows, model, features))

    def _score_reference(self, rows: Sequence[Trajectory]) -> dict[int, torch.Tensor]:
        every = self.asks.reference_sync
        if every and self.reference is not None and self.step and self.step % every == 0:
            mix(self.reference, self.policy.whole(), self.asks.reference_mix)
        score = partial(self.policy.score, rows, self.reference, temper=self.asks.reference_temperatures)
        return self.scoring.fit(rows, self.meter, self._release, score)

    def _release(self) -> None:
        """Let go of all that a training pass leaves besides the weights and the optimizer's moments."""
        self.optimizer.zero_grad(set_to_none=True)
        self.policy.reset()
        memory.free_unused(self.policy.device)

    def _optimize(self, rows: Sequence[Trajectory], step: Step) -> dict[str, torch.Tensor]:
        """One optimizer update: gradients of all micro-batches, clipping by global norm, AdamW."""
        self.optimizer.zero_grad(set_to_none=True)
        self.policy.changed()
        # Divisors count the whole batch, so however often it is cut anew, its gradient is the same.
        totals = self.limit.fit(rows, self.meter, self._release, partial(self._gradient, rows, step))
        with too_large("an update of the optimizer"):
            # One norm for all micro-batches, so that the update does not depend on how rows are cut.
            norm = whole(torch.nn.utils.clip_grad_norm_(self.policy.model.parameters(), self.max_grad_norm))
            apply_update(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)  # at once: the sampler needs the room
        self.policy.casts.clear()
        self.meter.ledger.steps += 1
        return {**totals, "grad_norm": norm}

    def _gradient(self, rows: Sequence[Trajectory], step: Step, max_tokens: int) -> dict[str, torch.Tensor]:
        """Add the gradient of one optimizer batch, cut into micro-batches, to the weights'; loss and metrics."""
        ranks, shares = self.policy.ranks, self.limit.shares(rows, max_tokens)
        count = sum(bool(part) for share in shares for part in share)
        totals: dict[str, torch.Tensor] = {}
        if self.ascent:
            seed = derive_seed("ascent", self.task.name, self.seed, self.name, self.step, rows[0].group)
            self.ascent.climb(self.policy, shares[0], seed, partial(self._uncharged_batch, rows, count, step))
        for part in shares[ranks.number]:
            if not part:
                self.policy.idle_pass()
                continue
            batch = self._batch(collate(part, self.policy.device), rows, count, step)
            loss = self.method.loss(batch)
            loss.value.backward()
            for key, value in {"loss": loss.value.detach(), **loss.metrics}.items():
                totals[key] = totals.get(key, torch.zeros((), device=value.device)) + value.detach()
        ranks.all_have_memory()
        return ranks.added(totals, self.policy.device)

    def _uncharged_batch(self, rows: Sequence[Trajectory], count: int, step: Step, micro: MicroBatch) -> Batch:
        return step.batch(self.policy.run(micro, self._wanted(micro, step)), micro, rows, count)

    def _wanted(self, micro: MicroBatch, step: Step) -> Wanted:
        uniforms = step.uniforms(micro.rows, self.asks.num_candidates) if self.asks.num_candidates else None
        reference = self.reference if self.asks.uses_reference_kl else None
        how: Any = {"temperature": self.asks.candidate_temperature, "residual": self.asks.input_residual}
        return Wanted(self.asks.uses_entropies, reference, uniforms, **how)

    def _batch(self, micro: MicroBatch, rows: Sequence[Trajectory], num_micro_batches: int, step: Step) -> Batch:
        """One micro-batch as the loss sees it; ``rows`` are those of the whole optimizer batch."""
        watching: AbstractContextManager[Any] = self.ascent.watched() if self.ascent else nullcontext([])
        with watching as found:
            values = self.policy.outputs(micro, self._wanted(micro, step))
        states = self.ascent.states(self.policy, micro, found) if self.ascent else (None, None)
        batch = step.batch(values, micro, rows, num_micro_batches, *states)
        self.policy.gap.compare(micro, batch.old_logprobs, None if step.old else self.policy.model)
        return batch

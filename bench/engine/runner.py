"""One run from its plan to its done marker: stages, evaluations, checkpoints and exact resume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from itertools import chain
from time import monotonic
from typing import Any

import torch
from safetensors import SafetensorError

from bench.engine import best_checkpoint, checkpoint, evaluate, memory, splits
from bench.engine.keeping import keep_policy
from bench.engine.planned import planned_policy, planned_stage
from bench.engine.ranks import ALONE, Ranks, join
from bench.engine.reference import switch_off_if_fresh
from bench.engine.signals import Preempted, agree, asked, holding
from bench.engine.surroundings import run_environment
from bench.engine.targets import target_rows, with_target
from bench.engine.trainer import Stage
from bench.plan import machine, registry
from bench.plan.budget import Ledger, Meter
from bench.store import packed_verdicts, passport
from bench.store.job import Job
from bench.store.run_folder import LAST, NONE, RESOURCES, SELECTED, CorruptRun, read_lines
from bench.store.run_store import RunStore
from bench.store.silent import SilentStore
from bench.types import Preparer, UserError

PROGRESS_SECONDS = 0.5


class Run:
    """State of one run: policy, meter, store, position in stages and evaluations."""

    def __init__(self, job: Job, store: RunStore, stack_keys: Sequence[str] = (), ranks: Ranks = ALONE) -> None:
        self.job, self.plan, self.store = job, job.plan, store
        self.stack_keys = list(stack_keys)  # of the stacks that the run was made on
        self.task = registry.task(self.plan.task)
        self.policy = planned_policy(job)
        self.meter = Meter(self.policy.architecture, self.plan.budget)
        self.policy.meter = self.meter
        self.execution = memory.settled(job, self.policy, ranks)
        self.policy.spread(ranks)
        self.policy.recompute = self.execution.recompute == "full"
        self.micro_tokens = self.execution.micro_batch_tokens  # lower once memory has run out
        if self.policy.device.type == "cuda":
            self.meter.wait = torch.cuda.synchronize
        self.examples = splits.split_examples(self.plan, job.data, self.policy)
        splits.check_context(self.plan, chain(*self.examples.values()), splits.window(self.policy))
        self.elsewhere = splits.splits_elsewhere(self.plan, job.data, self.policy)
        self.stage_index = 0
        self.fractions_done: list[float] = []
        self.selection: best_checkpoint.Selection | None = None  # the best validation so far
        self.stage: Stage | None = None
        self.saved: checkpoint.Saved | None = None  # the last whole checkpoint
        self.checkpoint_seconds = checkpoint.interval()  # from one to the next
        self.saved_at = self.shown_at = monotonic()
        self.last: dict[str, Any] = {}

    # --- stages ---

    def start_stage(self, saved: checkpoint.Saved | None = None) -> Stage:
        """The current stage, new or restored from a checkpoint."""
        stage = self.plan.stages[number := self.stage_index]
        method = registry.build_method(stage.name, stage.fields)
        reference = None
        if saved is not None and checkpoint.REFERENCE in saved.files:
            reference = self.policy.frozen_copy(method)
            checkpoint.load_weights(reference, saved.path / checkpoint.REFERENCE)
            self.saved = replace(saved, reference=checkpoint.Written(reference))
            switch_off_if_fresh(reference)
        if saved is None:
            # Limits add up over the stages: what one leaves because no further step fits, the next one may spend.
            shares = sum(s.share for s in self.plan.stages[: number + 1])
            last = number == len(self.plan.stages) - 1
            self.meter.start = self.meter.spent
            self.meter.limit = self.plan.budget_limit * (1.0 if last else shares)
        pool, name = splits.stage_pool(self.plan, number, self.examples["train"]), f"{number}:{stage.name}"
        self.stage = planned_stage(self.job, self.policy, method, pool, name, reference)
        self.stage.scoring.tokens = min(self.stage.scoring.tokens, self.micro_tokens)
        if saved is not None:
            checkpoint.restore_stage(saved, self.stage.optimizer, self.stage.memory)
        self.prepare(self.stage, saved is not None)
        return self.stage

    def prepare(self, stage: Stage, resumed: bool) -> None:
        """Targets of a method that rewrites its data: made once, stored with the run, read back when it resumes."""
        if not isinstance(stage.method, Preparer):
            return
        name = "targets.jsonl"
        if resumed:
            lines = [line for line in read_lines(self.store.path / name) if line["stage"] == stage.name]
            examples = {e.id: e for e in stage.pool}
            stage.pool = [with_target(examples[line["id"]], line) for line in lines]
            return
        self.show("preparing")
        with holding(False):  # nothing can be saved before the end of this
            stage.prepare()
        self.store.append(name, target_rows(stage, self.policy))
        # Saved at once below: the samples are paid for, and a run killed before its first step must not pay again.
        counts = Counter(e.source for e in stage.pool)
        line = {"stage": stage.name, "step": self.meter.ledger.steps, "targets": dict(sorted(counts.items()))}
        self.store.append("metrics.jsonl", [line | {"spent": self.meter.ledger.record()}])
        self.save()

    def train(self) -> None:
        """All remaining stages; UserError when the budget does not allow a single step."""
        self.evaluate_due(self.meter.spent / self.plan.budget_limit)  # of a run that was ended in a validation
        while self.stage_index < len(self.plan.stages):
            stage = self.stage or self.start_stage()
            while stage.method.batch_size > 0:
                record = stage.run_step()
                if record is None:
                    break
                self.log(stage, record)
                self.obey_signals()
                self.evaluate_due(self.meter.spent / self.plan.budget_limit)
                if self.policy.ranks.of_first(monotonic() - self.saved_at > self.checkpoint_seconds):
                    self.save()
            if stage.method.batch_size > 0 and stage.step == 0:
                need = stage.worst_case(stage.examples())
                raise UserError(
                    f"budget {self.plan.budget} is smaller than one step of {stage.name.partition(':')[2]}, "
                    f"which may cost {need:.3g} {self.plan.budget_unit}"
                )
            self.stage_index += 1
            self.stage, self.micro_tokens = None, stage.scoring.tokens
        self.evaluate_due(1.0)

    def obey_signals(self) -> None:
        """Save if one has asked for it, and end if it was SIGTERM."""
        end, save = agree(self.policy.ranks)
        if save or end:
            asked.save = False
            self.save()
        if end:
            raise Preempted

    def log(self, stage: Stage, record: dict[str, Any]) -> None:
        line = {"stage": stage.name, "step": self.meter.ledger.steps, **record, "spent": self.meter.ledger.record()}
        self.store.append("metrics.jsonl", [line])
        self.last.update({k: record[k] for k in ("reward", "loss") if k in record})
        if monotonic() - self.shown_at > PROGRESS_SECONDS:
            self.show("training")

    def show(self, phase: str) -> None:
        """Write the small file that the live table reads."""
        self.shown_at = monotonic()
        share = min(1.0, self.meter.spent / self.plan.budget_limit)
        state = {"phase": phase, "share": share, "seconds": self.meter.ledger.seconds, **self.last}
        self.store.write("progress.json", state)

    # --- evaluation ---

    def evaluate_due(self, share: float) -> None:
        """Validate once for every fraction of the budget that is newly reached (the last one after training)."""
        ended = self.stage_index == len(self.plan.stages)
        due = [f for f in self.plan.evaluation.fractions if f not in self.fractions_done and f <= share]
        due = [f for f in due if f < 1.0 or ended]
        if not due:
            return
        self.show("validating")
        # One step can pass several fractions.  A single validation then stands for all of them, under the last one.
        try:
            done = self.evaluate(splits.Split("val", self.task, self.examples["val"]), due[-1])
        except Preempted:
            self.save()  # after the last step; the validation is made when the run resumes
            raise
        self.fractions_done += due
        self.last["accuracy"] = done["accuracy"]
        best = best_checkpoint.better(self.selection, done["accuracy"], due[-1], self.meter.ledger.steps)
        self.selection = best or self.selection
        self.save(selected=best is not None)

    def test(self) -> None:
        """All evaluations after training, off the clock; a run killed among them makes all of them again."""
        test = splits.Split("test", self.task, self.examples["test"])
        for split in (test, *self.elsewhere):
            self.show("testing")
            self.evaluate(split, 1.0)
        if (best := self.selection) is not None and best["fraction"] < 1.0:  # else it is that of the last policy
            self.show("testing")
            assert self.saved is not None, "a validation is followed by a checkpoint"
            summary, items = best_checkpoint.test_selected(self.policy, self.job, test, self.saved)
            spent = best_checkpoint.spent_by_then(self.store.path, best)
            self.record(summary, items, best["fraction"], best["step"], spent)

    def evaluate(self, split: splits.Split, fraction: float) -> dict[str, Any]:
        how = splits.evaluation_settings(self.plan, split, self.job.execution.sample_rows)
        with holding(False):  # nothing of the state changes
            summary, items = evaluate.evaluate_split(self.policy, split.task, split.examples, split.name, how)
        self.record(summary, items, fraction, self.meter.ledger.steps, self.meter.ledger.record())
        return summary

    def clusters(self) -> dict[str, tuple[str, ...]]:
        """Labels of the items that have near duplicates, by the split of their evaluations."""
        own = [splits.Split(name, self.task, self.examples[name]) for name in ("val", "test")]
        by_split = {s.name: splits.near_labels(s, self.plan.split_by) for s in (*own, *self.elsewhere)}
        by_split[SELECTED] = by_split["test"]
        return {name: labels for name, labels in by_split.items() if labels is not None}

    def record(
        self, summary: dict[str, Any], items: list[dict[str, Any]], fraction: float, step: int, spent: dict[str, Any]
    ) -> None:
        """Store an evaluation of the policy as it was at a step."""
        at = {"fraction": fraction, "step": step}
        self.store.append("items.jsonl", [{**at, **item} for item in items])
        self.store.append("evals.jsonl", [{**at, **summary, "spent": spent}])

    # --- saving and resuming ---

    def save(self, selected: bool = False) -> None:
        """A checkpoint; ``selected``: its weights are the best validated so far."""
        begin, stage, memory = monotonic(), self.stage, self.stage.memory if self.stage else None
        state = {
            "ledger": asdict(self.meter.ledger),
            "start": self.meter.start,
            "limit": self.meter.limit,
            "slowest_step": self.meter.slowest_step,
            "seen": sorted(self.meter.seen),
            "stage_index": self.stage_index,
            "stage": stage.state() if stage else None,
            "fractions_done": self.fractions_done,
            "selection": self.selection,
            "stack_keys": self.stack_keys,
            "last": self.last,
        }
        # The records are cut back to their marks when the run resumes: what came after this checkpoint is made again.
        how: dict[str, Any] = {"records": self.store.marks(), "fence": self.store.lease, "ranks": self.policy.ranks}
        what = (self.policy.model, stage.optimizer if stage else None, stage.reference if stage else None)
        self.saved = checkpoint.save(self.store.path, *what, state, self.saved, selected, memory=memory, **how)
        self.saved_at = monotonic()
        self.checkpoint_seconds = checkpoint.interval(self.saved_at - begin)

    def resume(self, saved: checkpoint.Saved | None) -> None:
        """Continue from a checkpoint, or from the beginning without one; CorruptRun for one that cannot be read."""
        self.saved = saved
        self.store.truncate(saved.records if saved else {})
        self.policy.ranks.objects(None)  # nobody reads the records before
        if saved is None:
            return
        try:
            self._restore(saved)
        except (LookupError, TypeError, ValueError, SafetensorError) as fault:  # whole, but it does not fit this code
            what = f"{type(fault).__name__} {fault}"
            raise CorruptRun(f"{saved.path.name} was written by another version of bench ({what})") from fault

    def _restore(self, saved: checkpoint.Saved) -> None:
        state = saved.state
        checkpoint.load_weights(self.policy.model, saved.path / checkpoint.POLICY)
        self.policy.changed()
        self.meter.ledger = Ledger.restore(state["ledger"])
        self.meter.start, self.meter.limit = state["start"], state["limit"]
        self.meter.slowest_step, self.meter.seen = state["slowest_step"], set(state["seen"])
        self.stage_index, self.fractions_done = state["stage_index"], state["fractions_done"]
        self.selection, self.last = state["selection"], state["last"]
        if state["stage"]:
            self.start_stage(saved).restore(state["stage"])


def execute(job: Job, keep: str = LAST, command: Sequence[str] = (), lost: tuple[int, int] | None = None) -> None:
    """Run a plan to its end in this process; a finished run is left alone.  ``command`` is recorded with it.

    ``keep``: one of KEEPS; ``lost`` as for ``lease.acquire``.  CorruptRun if damaged: nothing is changed then.
    """
    torch.set_num_threads(job.execution.threads)
    begin, ranks = monotonic(), join(job.execution.devices_per_run, job.execution.device)
    asked.alone, store = ranks.count == 1, RunStore(job.path) if ranks.first else SilentStore(job.path)
    with nullcontext() if ranks.of_first(job.done) else store.own(lost):
        if ranks.of_first(job.done):
            return
        saved = checkpoint.last_good_for_all(store.path, store.check, ranks)
        # From here on a kill may come anywhere.  The plan is first, so that the run has a name; the done marker after
        # all that it seals; checkpoints go last, since a run that is not marked done still needs them.
        store.write("plan.json", job.plan.record())
        env = {**run_environment(job, command), **passport.stamp(job, saved.state["stack_keys"] if saved else ())}
        store.write("env.json", env)
        run = Run(job, store, [env["stack_key"], *env["earlier_stack_keys"]], ranks)
        env |= {"execution": run.execution.model_dump(), "engine": run.policy.engine.facts()}
        store.write("env.json", env)
        run.resume(saved)
        run.show("training")
        with holding(True):
            run.train()
        run.test()
        if keep != NONE:
            keep_policy(run.policy, store.part("policy"), keep, run.selection, run.saved)
            store.publish("policy")
        if not ranks.first:
            return
        packed_verdicts.write_verdicts(store.path, run.clusters(), store.lease)
        store.write(RESOURCES, machine.used_resources(job.execution.device, begin))
        store.finish(run.meter.ledger.record(), run.selection)
        checkpoint.clear(store.path)

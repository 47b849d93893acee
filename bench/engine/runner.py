"""One run from its plan to its done marker: stages, evaluations, checkpoints and exact resume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from bench.engine import best_checkpoint, checkpoint, evaluate, splits
from bench.engine.policy import Policy, load_model
from bench.engine.trainer import Stage
from bench.plan import machine, registry
from bench.plan.budget import Ledger, Meter
from bench.store import packed_verdicts, passport
from bench.store.job import Job
from bench.store.run_folder import RunStore, read_lines, write_atomic
from bench.types import Example, Method, Preparer, UserError

CHECKPOINT_SECONDS = 30.0
PROGRESS_SECONDS = 0.5
LIMITS = ("max_new_tokens", "temperature", "max_grad_norm")


def run_environment(job: Job, command: Sequence[str]) -> dict[str, Any]:
    """What is recorded of a run's surroundings: how it is computed, versions, hardware, command, installed modules."""
    plan = job.plan
    modules = {
        "methods": registry.distributions("methods", [stage.name for stage in plan.stages]),
        "tasks": registry.distributions("tasks", [plan.task]),
    }
    how = {"execution": job.execution.model_dump(), "command": list(command)}
    return {**machine.machine_facts(job.execution.device), **modules, **how}


def planned_stage(
    job: Job, policy: Policy, method: Method, pool: Sequence[Example], name: str, reference: Any | None = None
) -> Stage:
    """A stage of a run: the method on these examples, with the limits of the plan and of the machine."""
    plan, execution = job.plan, job.execution
    task, values = registry.task(plan.task), {limit: getattr(plan, limit) for limit in LIMITS}
    sizes = {"micro_batch_tokens": execution.micro_batch_tokens, "sample_rows": execution.sample_rows}
    return Stage(policy, method, task, pool, plan.seed, name, reference, **values, **sizes)


class Run:
    """State of one run: policy, meter, store, position in stages and evaluations."""

    def __init__(self, job: Job, store: RunStore) -> None:
        self.job, self.plan, self.store = job, job.plan, store
        self.task = registry.task(self.plan.task)
        model, tokenizer = load_model(job.model_path, job.execution.device)
        self.policy = Policy(model, tokenizer)
        self.meter = Meter(self.policy.architecture, self.plan.budget)
        self.policy.meter = self.meter
        self.examples = splits.split_examples(self.plan, job.data, self.policy)
        self._check_lengths()
        self.elsewhere = splits.splits_elsewhere(self.plan, job.data, self.policy)
        self.stage_index = 0
        self.fractions_done: list[float] = []
        self.selection: best_checkpoint.Selection | None = None  # the best validation so far
        self.stage: Stage | None = None
        self.saved_at = self.shown_at = monotonic()
        self.last: dict[str, Any] = {}

    def _check_lengths(self) -> None:
        """UserError if prompt, demonstration prefix and completion may exceed the model's context together."""
        longest = max(len(e.prompt_ids) + len(e.demo_ids) for rows in self.examples.values() for e in rows)
        window = splits.window(self.policy)
        need = longest + self.plan.max_new_tokens
        if window is not None and need > window:
            raise UserError(
                f"model '{self.plan.model}' has a context of {window} tokens, this run may need {need}: "
                "lower --max-new-tokens or choose another level or template"
            )

    # --- stages ---

    def start_stage(self, saved: Path | None = None) -> Stage:
        """The current stage, new or restored from a checkpoint."""
        stage = self.plan.stages[self.stage_index]
        method = registry.build_method(stage.name, stage.fields)
        reference = None
        if saved is not None and (saved / "reference.safetensors").exists():
            reference = self.policy.frozen_copy()
            checkpoint.load_weights(reference, saved / "reference.safetensors")
        if saved is None:
            # Limits add up over the stages: what one leaves because no further step fits, the next one may spend.
            shares = sum(s.share for s in self.plan.stages[: self.stage_index + 1])
            last = self.stage_index == len(self.plan.stages) - 1
            self.meter.start = self.meter.spent
            self.meter.limit = self.plan.budget_limit * (1.0 if last else shares)
        name = f"{self.stage_index}:{stage.name}"
        self.stage = planned_stage(self.job, self.policy, method, self.examples["train"], name, reference)
        if saved is not None:
            checkpoint.restore_optimizer(saved, self.stage.optimizer)
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
            stage.pool = [
                replace(
                    examples[r["id"]],
                    demo_ids=tuple(r["token_ids"]),
                    step_ends=(),
                    source=r["source"],
                    gold_tokens=r["gold_tokens"],
                )
                for r in lines
            ]
            return
        self.show("preparing")
        stage.prepare()
        texts = self.policy.decode([e.demo_ids for e in stage.pool])
        rows = [
            {
                "stage": stage.name,
                "id": e.id,
                "source": e.source,
                "gold_tokens": e.gold_tokens,
                "text": text,
                "token_ids": list(e.demo_ids),
            }
            for e, text in zip(stage.pool, texts)
        ]
        self.store.append(name, rows)
        # Saved at once below: the samples are paid for, and a run killed before its first step must not pay again.
        counts = Counter(e.source for e in stage.pool)
        line = {"stage": stage.name, "step": self.meter.ledger.steps, "targets": dict(sorted(counts.items()))}
        self.store.append("metrics.jsonl", [{**line, "spent": self.meter.ledger.record()}])
        self.save()

    def train(self) -> None:
        """All remaining stages; UserError when the budget does not allow a single step."""
        while self.stage_index < len(self.plan.stages):
            stage = self.stage or self.start_stage()
            while stage.method.batch_size > 0:
                record = stage.run_step()
                if record is None:
                    break
                self.log(stage, record)
                self.evaluate_due(self.meter.spent / self.plan.budget_limit)
                if monotonic() - self.saved_at > CHECKPOINT_SECONDS:
                    self.save()
            if stage.method.batch_size > 0 and stage.step == 0:
                need = stage.worst_case(stage.examples())
                raise UserError(
                    f"budget {self.plan.budget} is smaller than one step of {stage.name.partition(':')[2]}, "
                    f"which may cost {need:.3g} {self.plan.budget_unit}"
                )
            self.stage_index += 1
            self.stage = None
        self.evaluate_due(1.0)

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
        write_atomic(self.store.path / "progress.json", state)

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
        self.fractions_done += due
        done = self.evaluate(splits.Split("val", self.task, self.examples["val"]), due[-1])
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
        best = best_checkpoint.known(self.selection)
        if best is not None and best["fraction"] < 1.0:  # the last validation is that of the last policy
            self.show("testing")
            summary, items = best_checkpoint.test_selected(self.policy, self.job, test, self.store.path)
            self.record(
                summary, items, best["fraction"], best["step"], best_checkpoint.spent_by_then(self.store.path, best)
            )

    def evaluate(self, split: splits.Split, fraction: float) -> dict[str, Any]:
        how = splits.evaluation_settings(self.plan, split, self.job.execution.sample_rows)
        summary, items = evaluate.evaluate_split(self.policy, split.task, split.examples, split.name, how)
        self.record(summary, items, fraction, self.meter.ledger.steps, self.meter.ledger.record())
        return summary

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
        stage = self.stage
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
            # Lengths of the record files: what is appended after this checkpoint is cut off when the run resumes.
            "sizes": self.store.sizes(),
            "last": self.last,
        }
        optimizer = stage.optimizer if stage else None
        reference = stage.reference if stage else None
        checkpoint.save(self.store.path, self.policy.model, optimizer, reference, state, selected)
        self.saved_at = monotonic()

    def resume(self) -> None:
        """Continue from the last checkpoint, or from the beginning when there is none."""
        saved = checkpoint.latest(self.store.path)
        if saved is None:
            self.store.truncate({})
            return
        state = checkpoint.read_state(saved)
        self.store.truncate(state["sizes"])
        checkpoint.load_weights(self.policy.model, saved / "policy.safetensors")
        self.meter.ledger = Ledger.restore(state["ledger"])
        self.meter.start, self.meter.limit = state["start"], state["limit"]
        self.meter.slowest_step, self.meter.seen = state["slowest_step"], set(state["seen"])
        self.stage_index, self.fractions_done = state["stage_index"], state["fractions_done"]
        self.last = state["last"]
        self.selection = state.get("selection", best_checkpoint.UNKNOWN if self.fractions_done else None)
        if state["stage"]:
            self.start_stage(saved).restore(state["stage"])


def execute(job: Job, save_policy: bool = True, command: Sequence[str] = ()) -> None:
    """Run a plan to its end in this process; a finished run is left alone.  ``command`` is recorded with it."""
    torch.set_num_threads(job.execution.threads)
    store = RunStore(job.path)
    with store.lock():
        if job.done:
            return
        # From here on a kill may come anywhere.  The plan is there first, so that the run has a name; the done marker
        # comes after all that it seals; checkpoints go last, since a run that is not marked done still needs them.
        write_atomic(store.path / "plan.json", job.plan.record())
        env = store.path / "env.json"
        stamp = passport.stamp(job, env, resumed=checkpoint.latest(store.path) is not None)
        write_atomic(env, {**run_environment(job, command), **stamp})
        run = Run(job, store)
        run.resume()
        run.show("training")
        run.train()
        run.test()
        if save_policy:
            run.policy.model.save_pretrained(store.path / "policy")
            run.policy.tokenizer.save_pretrained(store.path / "policy")
        packed_verdicts.write_verdicts(store.path)
        store.finish(run.meter.ledger.record(), best_checkpoint.known(run.selection))
        checkpoint.clear(store.path)

"""Sides that train: bench's own loop, TRL's trainers, and a plain loop over transformers' model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from bench.audit import trl_referee
from bench.engine.policy import Policy, load_model
from bench.engine.trainer import Stage
from bench.plan import registry
from bench.plan.budget import Budget, Meter
from bench.speed.turns import Amount, Turns
from bench.speed.work import GROUP, LR, MAX_GRAD_NORM, Work
from bench.types import Completion, Example, Trajectory, UserError, Verdict
from methods import common

MOST_STEPS = 10_000  # that a trainer is told to make: it is stopped before
MOST_ROWS = 1024  # of a trainer's data set, which begins again after them
RL: dict[str, Any] = {"kl_coef": 0.0, "entropy_coef": 0.0, "eps": 1e-4, "num_updates": 1, "aggregation": "dapo"}
SHARED: dict[str, Any] = {"lr": LR, "warmup": 0.0, "decay": "constant", "weight_decay": 0.01}

# --- bench -------------------------------------------------------------------------------------------------------


def make_stage(work: Work, name: str, pool: Sequence[Example], **fields: Any) -> Stage:
    """A stage on a freshly loaded model whose completions never end by themselves."""
    policy = Policy(*load_model(work.model, work.device))
    policy.meter = Meter(policy.architecture, Budget("steps", float("inf")))
    policy.eos_ids = frozenset()
    method = registry.build_method(name, {**SHARED, **fields})
    limits: dict[str, Any] = {"max_new_tokens": work.tokens, "temperature": 1.0, "max_grad_norm": MAX_GRAD_NORM}
    how = {**limits, "micro_batch_tokens": work.micro_batch_tokens, "sample_rows": work.rows}
    return Stage(policy, method, work.task, pool, 0, f"0:{name}", **how)


def take_turns(turns: Turns, case: str, work: Work, stage: Stage, step: Callable[[], object], by_token: bool) -> None:
    """Time steps of a stage, by what its ledger says of them; the matrix rate is taken beside each turn."""
    for _ in turns:
        turns.measure_matrix()
        before = stage.meter.ledger.record()
        with turns.timed(case) as amount:
            for _ in range(work.repeats):
                step()
            spent = {name: value - before[name] for name, value in stage.meter.ledger.record().items()}
            amount.flops = spent["flops"]
            amount.counts = {"trained tokens": spent["trained_tokens"], "generated tokens": spent["generated_tokens"]}
            amount.units = spent["trained_tokens"] if by_token else work.repeats


def sft(work: Work, turns: Turns) -> None:
    """Updates on demonstrations."""
    stage = make_stage(work, "sft", work.demonstrations, batch_size=work.rows)
    rows = common.demonstrations(work.demonstrations)
    take_turns(turns, "sft", work, stage, lambda: stage.update(rows, LR, 0.0), True)


def grpo(work: Work, turns: Turns) -> None:
    """Whole steps with their sampling."""
    stage = make_stage(work, "grpo", work.prompts, **RL, batch_size=len(work.prompts), group_size=GROUP)
    take_turns(turns, "grpo", work, stage, stage.run_step, False)


def recorded_rows(work: Work) -> list[Trajectory]:
    """The recorded completions with the advantages of their rewards."""
    found = [
        Completion(tuple(ids), (), "", "length", Verdict(bool(reward), reward, ""))
        for ids, reward in zip(work.completions, work.rewards)
    ]
    groups = [found[i : i + GROUP] for i in range(0, len(found), GROUP)]
    return common.grouped(work.prompts, groups, "std", RL["eps"])


def grpo_update(work: Work, turns: Turns) -> None:
    """Advantages of recorded completions, and the update."""
    stage = make_stage(work, "grpo", work.prompts, **RL, batch_size=len(work.prompts), group_size=GROUP)
    take_turns(turns, "grpo-update", work, stage, lambda: stage.update(recorded_rows(work), LR, 0.0), False)


# --- TRL ---------------------------------------------------------------------------------------------------------


class Pacer(TrainerCallback):
    """Ends a turn after so many steps of a trainer and waits for the next one; ``counts`` are of all its steps."""

    def __init__(self, work: Work, turns: Turns, case: str) -> None:
        self.work, self.turns, self.case = work, turns, case
        self.steps, self.counts = 0, {"trained tokens": 0.0, "generated tokens": 0.0}
        self.start = (0.0, 0.0)

    def run(self, trainer: Any) -> None:
        """Train until there are no more turns."""
        from transformers import PrinterCallback

        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(self)
        if self.turns.wait():
            self.start = self.turns.begin()
            trainer.train()

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.steps += 1
        if self.steps < self.work.repeats:
            return
        by_token = self.case == "sft"
        amount = Amount(self.counts["trained tokens"] if by_token else self.steps, 0.0, dict(self.counts))
        self.turns.end(self.case, self.start, amount)
        self.steps, self.counts = 0, dict.fromkeys(self.counts, 0.0)
        control.should_training_stop = not self.turns.wait()
        self.start = self.turns.begin()


def replay_of(work: Work, name: str, rows: Sequence[Trajectory], **fields: Any) -> trl_referee.Replay:
    """What TRL's trainers get: passes of as many rows as ours, at most."""
    model, tokenizer = load_model(work.model, work.device)
    method = registry.build_method(name, {**SHARED, **fields})
    longest = max(map(len, rows))
    fitting = [n for n in range(1, work.rows + 1) if work.rows % n == 0 and n * longest <= work.micro_batch_tokens]
    steps = [rows] * max(1, MOST_ROWS // len(rows))
    cuda = work.device == "cuda"
    how = {"max_steps": MOST_STEPS, "logging_steps": MOST_STEPS, "use_cpu": not cuda, "bf16": cuda}
    passed = max(fitting, default=1)
    return trl_referee.Replay(model, tokenizer, method, steps, MAX_GRAD_NORM, passed, work.tokens, how)


def trl_sft(work: Work, turns: Turns) -> None:
    """SFTTrainer on the same demonstrations."""
    replay = replay_of(work, "sft", common.demonstrations(work.demonstrations), batch_size=work.rows)
    pacer = Pacer(work, turns, "sft")
    with trl_referee.surroundings() as folder:
        trainer = trl_referee.sft_trainer(replay, folder)
        collate = trainer.data_collator

        def counted(rows: Any) -> Any:
            batch = collate(rows)
            pacer.counts["trained tokens"] += int(batch["attention_mask"].sum())
            return batch

        trainer.data_collator = counted
        pacer.run(trainer)


def trl_grpo_update(work: Work, turns: Turns) -> None:
    """GRPOTrainer whose completions are recorded."""
    rows, pacer = recorded_rows(work), Pacer(work, turns, "grpo-update")
    replay = replay_of(work, "grpo", rows, **RL, batch_size=len(work.prompts), group_size=GROUP)

    def counted(recorded: list[float], completion_ids: Any, **others: Any) -> list[float]:
        pacer.counts["trained tokens"] += prompt_tokens(work) + sum(map(len, completion_ids))
        return recorded

    with trl_referee.surroundings() as folder:
        pacer.run(trl_referee.grpo_trainer(replay, folder, counted))


def trl_grpo(work: Work, turns: Turns) -> None:
    """GRPOTrainer with its own generation by transformers; rewards are the task's."""
    replay = replay_of(work, "grpo", recorded_rows(work), **RL, batch_size=len(work.prompts), group_size=GROUP)
    pacer, task = Pacer(work, turns, "grpo"), work.task
    texts = [e.prompt for e in work.prompts]
    if replay.tokenizer(texts)["input_ids"] != [list(e.prompt_ids) for e in work.prompts]:
        raise UserError("TRL would give this model other tokens than bench: no comparison is possible")

    def reward(completions: list[str], completion_ids: Any, problem: list[str], **others: Any) -> list[float]:
        generated = sum(map(len, completion_ids))
        pacer.counts["generated tokens"] += generated
        pacer.counts["trained tokens"] += prompt_tokens(work) + generated
        return [task.verify(json.loads(p), text).reward for p, text in zip(problem, completions)]

    columns = {"prompt": texts, "problem": [json.dumps(e.problem) for e in work.prompts]}
    with trl_referee.surroundings() as folder:
        trainer = trl_referee.sampling_trainer(replay, folder, columns, reward)
        trainer.eos_token_ids = [-1]  # no completion ends by itself
        for settings in (trainer.generation_config, trainer.model.generation_config):
            settings.eos_token_id = None
        trainer.generation_kwargs["eos_token_id"] = None
        pacer.run(trainer)


def prompt_tokens(work: Work) -> int:
    """Of one step, in which every row has its prompt."""
    return GROUP * sum(len(e.prompt_ids) for e in work.prompts)


# --- transformers alone ------------------------------------------------------------------------------------------


def plain_sft(work: Work, turns: Turns) -> None:
    """One batch padded on the right, the model's own loss, AdamW."""
    model, _ = load_model(work.model, work.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=SHARED["weight_decay"])
    rows = sorted(common.demonstrations(work.demonstrations), key=len)
    most = max(1, work.micro_batch_tokens // len(rows[-1]))
    parts = [rows[i : i + most] for i in range(0, len(rows), most)]
    targets = sum(len(row.demo_ids) for row in rows)
    half = torch.autocast("cuda", torch.bfloat16, enabled=work.device == "cuda")

    def step() -> int:
        optimizer.zero_grad(set_to_none=True)
        tokens = 0
        for part in parts:
            batch = {name: values.to(work.device) for name, values in padded(part).items()}
            with half:
                loss = model(**batch, use_cache=False, num_items_in_batch=targets).loss
            loss.backward()
            tokens += int(batch["attention_mask"].sum())
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        return tokens

    for _ in turns:
        with turns.timed("sft") as amount:
            for _ in range(work.repeats):
                amount.units += step()
            amount.counts = {"trained tokens": amount.units, "generated tokens": 0.0}


def padded(rows: Sequence[Trajectory]) -> dict[str, torch.Tensor]:
    """Right-padded input_ids, attention_mask and labels [B, T]; labels only at the demonstration."""
    width = max(map(len, rows))
    found: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for row in rows:
        pad = width - len(row)
        found["input_ids"].append([*row.prompt_ids, *row.demo_ids] + [0] * pad)
        found["attention_mask"].append([1] * len(row) + [0] * pad)
        found["labels"].append([-100] * len(row.prompt_ids) + [*row.demo_ids] + [-100] * pad)
    return {name: torch.tensor(values) for name, values in found.items()}

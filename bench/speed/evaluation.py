"""Sides that evaluate: greedy answers to the same test problems, judged by the same task."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.engine.evaluate import Settings, complete
from bench.engine.policy import Policy, load_model
from bench.export.task_files import export_task
from bench.export.task_formats import Export
from bench.plan.budget import Budget, Meter
from bench.speed.turns import Turns
from bench.speed.work import LEVEL, Work, restored


def ours(work: Work, turns: Turns) -> None:
    """The greedy half of every evaluation."""
    policy = Policy(*load_model(work.model, work.device))
    meter = policy.meter = Meter(policy.architecture, Budget("steps", float("inf")))
    examples = [restored(record) for record in work.tests]
    settings = Settings(1, work.tokens, 1.0, work.rows, 0)
    prompts = [e.prompt_ids for e in examples]
    for _ in turns:
        turns.measure_matrix()
        before = meter.ledger.flops
        with turns.timed("evaluate") as amount:
            for _ in range(work.repeats):
                found = complete(policy, work.task, examples, prompts, settings, 1, None)
                amount.units += len(found)
            amount.flops = meter.ledger.flops - before
            amount.counts = {"right answers": sum(item[0]["correct"] for item in found)}


def lm_eval(work: Work, turns: Turns) -> None:
    """lm-eval's model ``hf`` on the task that ``bench tasks export`` writes."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager, get_task_dict
    from transformers import AutoTokenizer

    model, _ = load_model(work.model, work.device)
    tokenizer = AutoTokenizer.from_pretrained(work.model)
    precision = "bfloat16" if work.device == "cuda" else None
    lm = HFLM(model, tokenizer=tokenizer, batch_size=work.rows, mixed_precision_dtype=precision)
    chosen = Export(work.task, LEVEL, work.template, ("test",), work.rows, work.tokens)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "tasks"
        export_task(chosen, "lm-eval", place)
        tasks = get_task_dict([chosen.name], TaskManager(include_path=str(place)))
        for _ in turns:
            with turns.timed("evaluate") as amount:
                for _ in range(work.repeats):
                    found = evaluate(lm, tasks, bootstrap_iters=0, log_samples=False)
                    amount.units += work.rows
                accuracy = found["results"][chosen.name]["acc,none"]
                amount.counts = {"right answers": round(accuracy * work.rows)}

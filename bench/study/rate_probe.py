"""A process of its own that measures how fast a model trains and samples here, for about two seconds each.

It reads a job from standard input and writes a JSON object to standard output.  The command that asks stays free of
the device: what is allocated there goes away with this process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from time import perf_counter, process_time, time
from typing import Any

from bench.foreign import say, say_json
from bench.store.job import Job
from bench.types import Example, Trajectory, UserError

SECONDS = 2.0  # of training passes, and of sampling
FEW, MANY = 4, 256  # rows sampled at once, between which the time of a token is a straight line
SLOWEST = 0.5  # seconds that one token of all rows may take


def main() -> int:
    order = json.load(sys.stdin)
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        say_json(measure(Job.restore(order["job"]), order["began"]))
    except UserError as error:
        say(str(error), error=True)
        return 2
    return 0


def measure(job: Job, began: float) -> dict[str, float]:
    """Rates of this process: ``train`` and ``score`` in FLOPs per second, everything else in seconds.

    ``update`` is one of the optimizer; ``token`` and ``row`` are the fixed part of a sampling step and the part of
    each row; ``length`` is the mean length of a completion in tokens; ``load`` is what an example takes to be made and
    tokenised, ``verify`` a verdict, ``start`` all until the model was ready, counted from ``began`` (by the clock).
    With one thread on a CPU these are seconds of the processor, and ``busy`` is how many by the clock there were to
    one of them; otherwise they are by the clock and ``busy`` is 1.
    """
    import torch

    from bench.engine.planned import planned_engine
    from bench.engine.policy import Policy, load_model
    from bench.plan import registry
    from bench.study.probe import probe_examples

    how = job.execution
    torch.set_num_threads(how.threads)
    engine = planned_engine(how.sampler, job.model_path, how.device, how.sample_rows)
    policy = Policy(*load_model(job.model_path, how.device), engine=engine)
    watch = Watch(job.execution.device == "cpu" and job.execution.threads == 1, policy.device.type == "cuda")
    start = process_time() if watch.alone else time() - began
    examples: list[Example] = []
    load = watch(lambda: examples.extend(probe_examples(job, policy.tokenizer)[0])) / len(examples)
    texts, sampled = sampling(policy, job, examples, watch)
    judge = registry.task(job.plan.task)
    verify = watch(lambda: [judge.verify(examples[0].problem, text) for text in texts]) / len(texts)
    measured = {**training(policy, job, examples, watch), **sampled, "load": load, "verify": verify, "start": start}
    return {**measured, "busy": max(1.0, watch.clock / watch.processor) if watch.alone else 1.0}


class Watch:
    """Seconds that work takes: of the processor if it works alone, with one thread, else by the clock."""

    def __init__(self, alone: bool, waits: bool) -> None:
        self.alone, self.waits = alone, waits
        self.clock = self.processor = 0.0

    def __call__(self, work: Callable[[], Any]) -> float:
        clock, processor = perf_counter(), process_time()
        work()
        if self.waits:  # for the device
            import torch

            torch.cuda.synchronize()
        clock, processor = perf_counter() - clock, process_time() - processor
        self.clock, self.processor = self.clock + clock, self.processor + processor
        return processor if self.alone else clock


def training(policy: Any, job: Job, examples: Sequence[Example], watch: Watch) -> dict[str, float]:
    """Micro-batches of demonstrations, larger ones until the time is up or they are whole: FLOPs per second."""
    import torch

    from bench.engine.batching import collate
    from bench.plan.budget import Budget, Meter

    rows = [Trajectory(e.prompt_ids, e.demo_ids) for e in sorted(examples, key=lambda e: len(e.demo_ids))]
    rows = rows[len(rows) // 2 :] + rows[: len(rows) // 2]  # the first one is of median length
    most = max(1, job.execution.micro_batch_tokens // max(map(len, rows)))
    rates: dict[int, list[float]] = {}
    size, spent = 1, 0.0
    while spent < SECONDS:
        batch = collate((rows * (1 + most // len(rows)))[:size], policy.device)
        policy.meter = Meter(policy.architecture, Budget("flops", float("inf")))
        seconds = watch(partial(train_on, policy, batch))
        rates.setdefault(size, []).append(policy.meter.ledger.flops / seconds)
        size, spent = min(2 * size, most), spent + seconds
    with torch.no_grad():
        score = policy.meter.ledger.flops / 3 / watch(lambda: policy.forward(batch, False))
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=0.0)
    optimizer.step()  # the first one makes the moments
    return {"train": median(rates[max(rates)]), "score": score, "update": watch(optimizer.step)}


def train_on(policy: Any, batch: Any) -> None:
    policy.forward(batch, False)[0].sum().backward()


def sampling(policy: Any, job: Job, examples: Sequence[Example], watch: Watch) -> tuple[list[str], dict[str, float]]:
    """One prompt, a few rows, then many: texts, seconds of a step of sampling, and how soon completions end."""
    limit, prompt = job.plan.max_new_tokens, [examples[0].prompt_ids]
    eos, policy.eos_ids = policy.eos_ids, frozenset()  # rows that go on: steps of one size

    def sample(rows: int, tokens: int) -> tuple[float, list[list[int]]]:
        out: list[Any] = []
        seeds = list(range(rows))
        seconds = watch(lambda: out.append(policy.sample(prompt, rows, tokens, seeds, max_rows=rows)))
        return seconds, out[0].token_ids

    sample(FEW, 2)
    first = sample(FEW, 1)[0]  # the prompt alone
    few = max(sample(FEW, 9)[0] - first, 1e-6) / 8
    rows = int(max(2 * FEW, min(MANY, job.execution.sample_rows, FEW * SLOWEST / few)))
    tokens, seconds = 1, 0.0
    while seconds - first < SECONDS / 2 and tokens < limit:
        tokens = min(limit, max(5, int(tokens * min(8, SECONDS / max(seconds - first, 0.1)))))
        seconds, ids = sample(rows, tokens)
    policy.eos_ids = eos
    row = max((seconds - first) / max(tokens - 1, 1) - few, 0.0) / (rows - FEW)
    ends = [next((n for n, token in enumerate(written, 1) if token in eos), None) for written in ids]
    lengths = [end or tokens for end in ends]
    length = mean_length(sum(lengths), sum(end is not None for end in ends), limit)
    texts = policy.decode([written[:n] for written, n in zip(ids, lengths)])
    return texts, {"token": max(few - row * FEW, 0.0), "row": row, "length": length}


def mean_length(tokens: int, ends: int, limit: int) -> float:
    """Mean length of completions of at most ``limit`` tokens, by the first tokens of some and how many ended there.

    What ends later is taken to end at the rate of those seen: with a share h of tokens that end a completion the
    mean is (1 - (1 - h)^limit) / h.
    """
    if not ends:
        return float(limit)
    rate = ends / tokens
    return float((1 - (1 - rate) ** limit) / rate)


if __name__ == "__main__":
    sys.exit(main())

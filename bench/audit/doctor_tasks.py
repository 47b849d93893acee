"""What `bench doctor` says of tasks with a model: tokens, the verifier's speed and manners, what runs will cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

from bench.audit.doctor_machine import BAD, NOTE, OK, Finding
from bench.plan import registry
from bench.types import Example, UserError

SECONDS = 0.5  # of judging demonstrations, and of hostile texts
SAMPLE = 64  # examples of a task
SLOW = 3.0  # seconds for one verdict
# Texts that have brought down verifiers: nested, long, repeated, huge numbers, directions of writing.
HOSTILE: tuple[str, ...] = (
    "",
    "(" * 5_000 + "1" + ")" * 5_000,
    "<answer>" * 5_000,
    "<think>" + "1 + 1 = 2\n" * 20_000,
    "<answer> " + "9**9**" * 200 + "9 </answer>",
    "<answer> " + "1" * 100_000 + " </answer>",
    r"\boxed{" * 3_000 + "1" + "}" * 3_000,
    r"\boxed{" + r"\frac{1}{" * 500 + "2" + "}" * 501,
    r"\boxed{\sqrt[99]{" + "7" * 3_000 + "}}",
    "<answer> \u202e 1 + 1 \u0000 \ud7ff </answer>",
    "<answer> " + "A is a knight. " * 5_000 + "</answer>",
    "<answer> " + "1 2 3 4 5 6 7 8 9\n" * 5_000 + "</answer>",
)


def token_line(job: Any, tokenizer: Any, examples: Sequence[Example], context: int | None) -> Finding:
    """Demonstrations that the tokenizer would write otherwise, the longest row against context and completions."""
    plan = job.plan
    odd = sum(not canonical(tokenizer, e, plan.template) for e in examples)
    prompt, demo = max(len(e.prompt_ids) for e in examples), max(len(e.demo_ids) for e in examples)
    given = max(len(e.prompt_ids) + len(e.demo_ids) for e in examples)
    longest = given + plan.max_new_tokens  # a completion may follow any part of a demonstration
    held = f" of {context:,} in the context" if context else ""
    text = f"longest of {len(examples)}: prompt {prompt}, demonstration {demo}; rows up to {longest}{held}"
    facts = {"examples": len(examples), "odd": odd, "prompt": prompt, "demonstration": demo, "row": longest}
    name = f"{plan.task} tokens"
    if context and longest > context:
        left = context - given
        fix = f"--max-new-tokens {left}" if left >= demo else "another --level or --template, or another model"
        return Finding(name, BAD, f"{text}: too long", fix, facts)
    if demo > plan.max_new_tokens:
        text += f"; completions are cut at {plan.max_new_tokens} tokens, before the longest demonstration ends"
        return Finding(name, NOTE, text, f"--max-new-tokens {demo}", facts)
    if odd:
        text = f"{text}; {100 * odd / len(examples):.0f} % of the demonstrations are tokens that no model writes"
        return Finding(name, NOTE, text, "another --template", facts)
    return Finding(name, OK, f"{text}; every demonstration is what the tokenizer makes of the whole text", facts=facts)


def canonical(tokenizer: Any, example: Example, template: str) -> bool:
    """Whether prompt and demonstration are the tokens of the whole text, tokenised at once."""
    from bench.engine.encoding import render

    text = render(tokenizer, example.prompt, template) + example.demonstration.text
    whole = list(tokenizer(text, add_special_tokens=template != "chat").input_ids)
    while whole and whole[-1] == tokenizer.eos_token_id:
        whole.pop()  # some tokenizers close every text with EOS
    return whole == [*example.prompt_ids, *example.demo_ids[:-1]]


def verifier_line(task: Any, examples: Sequence[Example], hostile: Sequence[str] = HOSTILE) -> Finding:
    """Verdicts per second on demonstrations and on hostile texts, each for a bounded time; wrong verdicts are bad."""
    good = [(e, e.demonstration.text) for e in examples]
    rejected, rate, _ = judge(task, good, lambda verdict: not verdict.correct)
    bad = [(examples[i % len(examples)], text) for i, text in enumerate(hostile)]
    accepted, hostile_rate, slowest = judge(task, bad, lambda verdict: verdict.correct, once=True)
    text = f"{rate:,.0f} verdicts/s on demonstrations, {hostile_rate:,.0f} on hostile texts (slowest {slowest:.2f} s)"
    facts = {"per_second": rate, "hostile_per_second": hostile_rate, "slowest": slowest}
    name = f"{task.name} verifier"
    if rejected or accepted:
        text = f"{rejected} demonstrations fail and {accepted} hostile texts pass; {text}"
        return Finding(name, BAD, text, f"bench tasks check {task.name}", facts)
    return Finding(name, NOTE if slowest > SLOW else OK, text, facts=facts)


def judge(
    task: Any, cases: Sequence[tuple[Example, str]], wrong: Callable[[Any], bool], once: bool = False
) -> tuple[int, float, float]:
    """Wrong verdicts, verdicts per second and the slowest, over the cases for a bounded time (at least the first)."""
    faults, count, slowest = 0, 0, 0.0
    task.verify(cases[0][0].problem, cases[0][1])  # what a first verdict loads is not its speed
    begin = perf_counter()
    while True:
        for example, text in cases:
            before = perf_counter()
            faults += wrong(task.verify(example.problem, text))
            slowest = max(slowest, perf_counter() - before)
            count += 1
            if perf_counter() - begin > SECONDS and not once:
                return faults, count / (perf_counter() - begin), slowest
        if once:
            return faults, count / (perf_counter() - begin), slowest


def cost_lines(jobs: Sequence[Any], results: Any, free: int | None, assumed: str) -> Iterator[Finding]:
    """Steps, time and disk of these runs, by the estimate of a dry run; a budget that no method can use is bad."""
    from bench.store.run_folder import LAST
    from bench.study.estimate import duration, estimate_runs
    from bench.study.footprint import peak_disk

    tasks = list(dict.fromkeys(job.plan.task for job in jobs))
    disk = 0.0
    for task in tasks:
        own = [job for job in jobs if job.plan.task == task]
        try:
            made = estimate_runs(own, results, LAST, lambda note: None, measure=False)
        except UserError as error:
            smallest = re.search(r"smallest budget is (\w[\w.+]*)", str(error))
            yield Finding(f"{task} cost", BAD, str(error), f"--budget {smallest[1]}" if smallest else "")
            continue
        disk += peak_disk([e for e in made if not e.finished], 1)
        seconds = {job.plan.method: e.seconds for job, e in zip(own, made)}
        slowest = max(seconds, key=lambda method: seconds[method])
        text = f"{duration(seconds[slowest])} a run at {own[0].plan.budget}{assumed} (the longest: {slowest})"
        yield Finding(f"{task} cost", OK, text, facts={"seconds": seconds})
    if free is not None and disk:
        text = f"{disk / 1e9:.2f} GB for one seed of each, {free / 1e9:.1f} GB free"
        state = BAD if disk > free else OK
        yield Finding("disk", state, text, "--keep none, or --results elsewhere" if disk > free else "")


def sample_examples(job: Any, tokenizer: Any) -> list[Example]:
    """A few tokenised training examples; UserError for a data file without any."""
    from bench.engine.encoding import encode
    from tasks import common

    plan, task = job.plan, task_of(job)
    if job.data is None:
        size = min(SAMPLE, plan.train_size)
        rows = common.load_examples(task, "train", size, plan.level, plan.template, split_by=plan.split_by)
    else:
        rows = common.from_file(task, job.data, plan.template, plan.split_by)["train"][:SAMPLE]
    if not rows:
        raise UserError(f"data file '{job.data.location}' has no rows for the train split: give more rows")
    return [encode(tokenizer, e, plan.template) for e in rows]


def task_of(job: Any) -> Any:
    return registry.task(job.plan.task)

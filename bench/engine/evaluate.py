"""The one evaluation: greedy and sampled completions of fixed items, off the clock, one record per item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from bench.engine.policy import Policy
from bench.engine.sampler import Samples
from bench.engine.verification import Verification, num_threads
from bench.seeds import derive_seed
from bench.stats.pass_rates import pass_at_k
from bench.types import Example, Trajectory, Verdict

COMPARED = 16  # rows of an evaluation that the trainer scores too where another engine has written them


@dataclass(frozen=True)
class Settings:
    """How completions are sampled at evaluation, the same for every method."""

    num_samples: int
    max_new_tokens: int
    temperature: float
    sample_rows: int
    seed: int


class Judge(Protocol):
    """The part of a task that an evaluation uses.  A base skill has no more than this."""

    @property
    def name(self) -> str: ...

    def verify(self, problem: Mapping[str, Any], text: str) -> Verdict: ...

    def chance(self, problem: Mapping[str, Any]) -> float: ...


def evaluate_split(
    policy: Policy, task: Judge, examples: Sequence[Example], split: str, settings: Settings
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Summary of one evaluation and its item records; the policy's meter does not run."""
    begin = perf_counter()
    prompts = [e.prompt_ids for e in examples]
    # The method is no part of the seed: all methods of one training seed meet the same uniforms (common random
    # numbers), which takes part of the noise of decoding out of their differences.
    place = ("evaluation", task.name, split, settings.seed)
    seeds = [derive_seed(*place, e.id, k) for e in examples for k in range(settings.num_samples)]
    with policy.off_the_clock():
        sampled = complete(policy, task, examples, prompts, settings, settings.num_samples, seeds)
        greedy = complete(policy, task, examples, prompts, settings, 1, None)
    items = [{"split": split, "id": e.id, "greedy": g[0], "samples": s} for e, g, s in zip(examples, greedy, sampled)]
    gap = policy.gap.taken(f"in the evaluation of {split}")
    return {**summarise_items(task, examples, items), **gap, "split": split, "seconds": perf_counter() - begin}, items


def complete(
    policy: Policy,
    task: Judge,
    examples: Sequence[Example],
    prompts: Sequence[Sequence[int]],
    settings: Settings,
    size: int,
    seeds: Sequence[int] | None,
) -> list[list[dict[str, Any]]]:
    """``size`` completions of each prompt with their verdicts, as records by item; greedy without seeds."""
    texts: dict[int, str] = {}
    with Verification(task, num_threads(policy.device), policy.ranks) as verification:

        def finished(rows: Sequence[int], tokens: Sequence[list[int]]) -> None:
            texts.update(zip(rows, policy.decode(tokens)))
            for row in rows:
                verification.ask(row, examples[row // size].problem, texts[row])

        # The likeliest tokens are the same at every temperature, and an engine's values of them comparable at 1 alone.
        temperature = 1.0 if seeds is None else settings.temperature
        how = (settings.max_new_tokens, seeds, temperature, settings.sample_rows)
        out = policy.sample(prompts, size, *how, finished)
        verdicts = verification.wait()
    if others := [row for row in range(len(out.token_ids)) if row not in texts]:
        texts.update(zip(others, policy.decode([out.token_ids[row] for row in others])))
    compare(policy, prompts, size, out)
    records = []
    for row, (ids, verdict) in enumerate(zip(out.token_ids, verdicts)):
        completion = {"text": texts[row], "tokens": len(ids), "stopped": ids[-1] in policy.eos_ids}
        records.append({**completion, **asdict(verdict)})
    return [records[i : i + size] for i in range(0, len(records), size)]


def compare(policy: Policy, prompts: Sequence[Sequence[int]], size: int, out: Samples) -> None:
    """Note how far a foreign engine's log-probabilities of the first rows are from the trainer's."""
    if policy.gap.wanted and policy.gap.version is not None:
        first = range(min(COMPARED, len(out.token_ids)))
        rows = [Trajectory(tuple(prompts[r // size]), (), tuple(out.token_ids[r])) for r in first]
        trained = policy.score(rows, policy.model, max(map(len, rows)))
        for row, engine in zip(rows, out.logprobs):
            policy.gap.note(row, engine, trained[id(row)])


def summarise_items(task: Judge, examples: Sequence[Example], items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracies of item records: greedy, sampled pass@1, pass@k, chance, share that stops by itself, mean length."""
    samples = [s for item in items for s in item["samples"]]
    # By item, because pass@k is a mean over items and not over samples.
    correct = np.array([[s["correct"] for s in item["samples"]] for item in items])
    k = correct.shape[1]
    return {
        "num_items": len(items),
        "num_samples": k,
        "accuracy": sum(s["correct"] for s in samples) / len(samples),
        "greedy": sum(item["greedy"]["correct"] for item in items) / len(items),
        "pass_at": {str(n): float(pass_at_k(correct, n).mean()) for n in sorted({1, 2, 4, 8, 16, k}) if n <= k},
        "reward": sum(s["reward"] for s in samples) / len(samples),
        # A wrong answer that could be found in the text has a small reward, no answer has 0.
        "formatted": sum(s["reward"] > 0 for s in samples) / len(samples),
        "stopped": sum(s["stopped"] for s in samples) / len(samples),
        "mean_tokens": sum(s["tokens"] for s in samples) / len(samples),
        "chance": sum(task.chance(e.problem) for e in examples) / len(examples),
    }

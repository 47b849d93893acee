"""The sampler engines side by side on one model: the same tokens, the same rewards, seconds and memory.

``python -m benchmarks.engines --model tiny [--rows 64] [--turns 3] [--steps 20] [--set uft.batch_size=2]``

Both engines are in one process, on one thread, and take turns.  First the same rows with the weights as loaded, then
after an update.  Where a row's tokens part, the line says how far its uniform number lay from the border between the
two tokens by the trainer's own probabilities.  Then UFT for some steps with each engine.  Seconds are the processor's.
The environment of ``make test-vllm`` has what it needs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from bench.engine import splits
from bench.engine.planned import planned_policy, planned_stage
from bench.engine.sampler import row_uniforms
from bench.plan import registry
from bench.plan.budget import Budget, Meter
from bench.plan.execution import SAMPLERS
from bench.store.job import Job
from bench.study.jobs import Spec, plan_jobs

Rows = Annotated[int, typer.Option(min=1)]


def memory(name: str) -> float:
    """MB of this process: ``VmRSS`` now, ``VmHWM`` at most (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name)) / 1024


def planned(model: str, sampler: str, steps: int, set_: list[str], tokens: int | None) -> Job:
    how: dict[str, Any] = {"model": model, "sampler": sampler, "device": "cpu", "max_new_tokens": tokens}
    return plan_jobs(Spec(["uft"], ["countdown"], budget=f"{steps}steps", settings=set_, train_size=1000, **how))[0]


def border(policy: Any, context: list[int], uniform: float, tokens: tuple[int, int]) -> float:
    """How far a number is from the cumulated probability that lies between two tokens' shares, in probability."""
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([context])).logits[0, -1].double()
    cumulated = logits.softmax(-1).cumsum(-1)
    low, high = min(tokens), max(tokens)
    return float((cumulated[low:high] - uniform).abs().min())


def compare(title: str, policies: dict[str, Any], prompts: list[Any], group: int, new: int, turns: int) -> None:
    """The same rows by both engines, ``turns`` times after a first one that pushes the weights; 0: that one counts."""
    seeds = list(range(len(prompts) * group))
    found, seconds, peaks = {}, {name: list[float]() for name in policies}, {}
    for turn in range(turns + 1):
        for name, policy in policies.items():
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak counts from here
            before, begin = memory("VmRSS"), time.process_time()
            found[name] = policy.sample(prompts, group, new, seeds)
            if turn or not turns:
                seconds[name].append(time.process_time() - begin)
                peaks[name] = memory("VmHWM") - before
    ours, theirs = (found[name] for name in SAMPLERS)
    uniforms, gaps, parted = row_uniforms(seeds, new), [], []
    for r, (a, b) in enumerate(zip(ours.token_ids, theirs.token_ids)):
        same = next((i for i, pair in enumerate(zip(a, b)) if pair[0] != pair[1]), None)
        gaps += [abs(x - y) for x, y in zip(ours.logprobs[r][:same], theirs.logprobs[r][:same])]
        if same is not None:
            context = [*prompts[r // group], *a[:same]]
            away = border(policies["torch"], context, float(uniforms[r, same]), (a[same], b[same]))
            parted.append(f"row {r} at token {same}, {away:.1e} from the border")
    total = sum(map(len, ours.token_ids))
    print(f"{title}: {len(seeds) - len(parted)} of {len(seeds)} rows equal, {total} tokens", *parted, sep="; ")
    print(f"  log-probabilities apart: mean {np.mean(gaps):.1e}, most {np.max(gaps):.1e}")
    for name in SAMPLERS:
        middle = float(np.median(seconds[name]))
        out = found[name]
        rest = f"{total / middle:.0f} tokens/s, {peaks[name]:.0f} MB at most on top, {out.wasted} tokens of padding"
        print(f"  {name}: {middle:.2f} s, {rest}", flush=True)


def train(job: Job, policy: Any, steps: int) -> tuple[list[float], list[float], dict[str, float]]:
    """Rewards and gaps of every step of UFT, and seconds of the processor."""
    examples = splits.split_examples(job.plan, job.data, policy)["train"]
    policy.meter = Meter(policy.architecture, Budget("steps", float("inf")))
    spec = job.plan.stages[0]
    stage = planned_stage(job, policy, registry.build_method(spec.name, spec.fields), examples, f"0:{spec.name}")
    begin, records = time.process_time(), []
    for _ in range(steps):
        records.append(stage.run_step() or {})
    ledger = {k: v for k, v in policy.meter.ledger.record().items() if not k.startswith(("seconds", "padding"))}
    whole = {"seconds": time.process_time() - begin, "by the clock, sampling": policy.meter.ledger.seconds_sample}
    return [r["reward"] for r in records], [r.get("sampler_gap", 0.0) for r in records], whole | ledger


def main(
    model: str = "tiny",
    rows: Rows = 64,
    turns: Annotated[int, typer.Option(min=0)] = 3,
    steps: int = 20,
    new: int = 0,
    set_: Annotated[list[str] | None, typer.Option("--set")] = None,
) -> None:
    torch.set_num_threads(1)
    jobs = {name: planned(model, name, max(steps, 1), set_ or [], new or None) for name in SAMPLERS}
    policies = {}
    for name, job in jobs.items():
        before, begin = memory("VmRSS"), time.process_time()
        policies[name] = planned_policy(job)
        policies[name].sample([[5, 6]], 1, 2, [0])
        print(f"{name}: ready after {time.process_time() - begin:.1f} s, {memory('VmRSS') - before:.0f} MB")
    tokens = jobs["torch"].plan.max_new_tokens
    pool = splits.split_examples(jobs["torch"].plan, None, policies["torch"])["train"]
    group = 4
    prompts = [e.prompt_ids for e in pool[: -(-rows // group)]]
    compare("as loaded", policies, prompts, group, tokens, turns)
    for policy in policies.values():
        torch.manual_seed(0)
        with torch.no_grad():
            for p in policy.model.parameters():
                p.add_(0.05 * p.std() * torch.randn_like(p) if p.dim() > 1 else 0.02 * torch.randn_like(p))
    compare("after an update", policies, prompts, group, tokens, turns)
    del policies
    if steps:
        (rewards, _, ours), (others, gaps, theirs) = (train(job, planned_policy(job), steps) for job in jobs.values())
        equal = sum(a == b for a, b in zip(rewards, others))
        print(f"uft: {equal} of {steps} steps have the same reward; gap {np.mean(gaps):.1e}, most {max(gaps):.1e}")
        print("  rewards:", *(f"{reward:.3f}" for reward in rewards))
        for name in ours:
            print(f"  {name}: {ours[name]:.6g} {theirs[name]:.6g}")


if __name__ == "__main__":
    typer.run(main)

"""The preflight's identities of values: losses, schedules, log-probabilities, text, training and evaluation.

The expected side of each is worked out without batching, masks or losses of the engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from bench.audit.parity import largest
from bench.audit.stack import WHOLE, Check, SameReward, Stack, outcome, shortened
from bench.engine.batching import collate
from bench.engine.encoding import render
from bench.engine.evaluate import Settings, evaluate_split
from bench.plan.budget import Budget
from bench.types import Example, Trajectory

TORN = "\ufffd"  # what a part of a character decodes to
LEARNED = 0.1  # nats that the log-probability of EOS must gain
SCHEDULES = ((0.3, "cosine"), (0.0, "linear"), (0.2, "constant"))


# --- values: losses, log-probabilities, schedules ----------------------------------------------------------------


def hand_computed(stack: Stack) -> Check:
    """The losses of SFT and GRPO equal those worked out row by row in float64 from the model's own logits."""
    sft, grpo = stack.method("sft"), stack.method("grpo", kl_coef=0.0, entropy_coef=0.5)
    totals = {"nll": 0.0, "entropy": 0.0, "advantage": 0.0, "demo": 0.0, "policy": 0.0}
    imitated = stack.rows(sft)
    sampled = [replace(row, advantage=0.1 * i - 0.5) for i, row in enumerate(stack.rows(grpo))]  # sums must not cancel
    for row in (*imitated, *sampled):
        logp = stack.logprobs((*row.prompt_ids, *row.demo_ids, *row.completion_ids))[len(row.prompt_ids) - 1 :]
        if row.completion_ids:
            totals["entropy"] -= float((logp.exp() * logp).sum())
            totals["advantage"] += row.advantage * len(logp)
            totals["policy"] += len(logp)
        else:
            totals["nll"] -= float(logp.gather(1, torch.tensor([row.demo_ids]).T).sum())
            totals["demo"] += len(logp)
    expected = [totals["nll"] / totals["demo"], -(totals["advantage"] + 0.5 * totals["entropy"]) / totals["policy"]]
    tokens = sum(map(len, imitated)) // 2
    losses = [stack.stage(m, tokens).update(r, 0.0, 0.1)["loss"] for m, r in ((sft, imitated), (grpo, sampled))]
    worst = largest([abs(f - e) / abs(e) for f, e in zip(losses, expected)])
    detail = ", ".join(f"{n} {f:.6f} (by hand {e:.6f})" for n, f, e in zip(("sft", "grpo"), losses, expected))
    return outcome("hand-computed loss", worst, stack.tolerance.loss, detail)


def scheduled(rate: float, warmup: float, decay: str, progress: float) -> float:
    """Closed form: a ramp from 1 % up to the rate, then flat, a line or half a cosine down to 0 at the end."""
    if progress < warmup:
        return rate * max(0.01, progress / warmup)
    left = (1 - progress) / (1 - warmup)
    return rate * {"constant": 1.0, "linear": left, "cosine": math.sin(math.pi * left / 2) ** 2}[decay]


def watch(optimizer: torch.optim.Optimizer, rates: list[float]) -> None:
    """Append the rate in force to ``rates`` whenever the optimizer takes a step."""

    def note(changed: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        rates.append(changed.param_groups[0]["lr"])

    optimizer.register_step_pre_hook(note)


def learning_rate(stack: Stack) -> Check:
    """The optimizer's rate when it takes step k of n is the schedule's at k/n of the budget."""
    steps, gaps = 8, [0.0]
    for warmup, decay in SCHEDULES:
        rates: list[float] = []
        with stack.restored(Budget("steps", steps)):
            method = stack.method("sft", lr=1e-8, warmup=warmup, decay=decay, batch_size=1)
            stage = stack.stage(method)
            watch(stage.optimizer, rates)
            while stage.run_step() is not None:
                pass
        if len(rates) != steps:
            raise ValueError(f"{len(rates)} steps in a budget of {steps}")
        expected = [scheduled(1e-8, warmup, decay, k / steps) for k in range(steps)]
        gaps += [abs(f - e) / 1e-8 for f, e in zip(rates, expected)]
    return outcome("learning rate", largest(gaps), 1e-9, f"{steps} steps each of {', '.join(d for _, d in SCHEDULES)}")


def sampler(stack: Stack) -> Check:
    """The sampler's log-probabilities are the trainer's, and at temperature 0.5 those of the logits divided by it."""
    stage = stack.stage(stack.method("grpo"))
    examples = stage.examples()
    worst = {}
    for temperature in (1.0, 0.5):
        ctx = replace(stage._context(1), temperature=temperature)
        gaps = [0.0]
        for example, group in zip(examples, ctx.sample(examples, [()] * len(examples), 2)):
            rows = [Trajectory(example.prompt_ids, (), c.token_ids, c.logprobs) for c in group]
            trained = stack.policy.score(rows, stack.policy.model, WHOLE)
            for row in rows:
                full = stack.logprobs((*row.prompt_ids, *row.completion_ids), temperature)[len(row.prompt_ids) - 1 :]
                wanted = full.gather(1, torch.tensor([row.completion_ids]).T).squeeze(1)
                gaps.append(float((torch.tensor(row.old_logprobs) - wanted).abs().max()))
                if temperature == 1.0:
                    gaps.append(float((torch.tensor(row.old_logprobs) - trained[id(row)].cpu()).abs().max()))
        worst[temperature] = largest(gaps)
    detail = ", ".join(f"{gap:.1e} nats at temperature {t:g}" for t, gap in worst.items())
    return outcome("sampler", largest(list(worst.values())), stack.tolerance.logprob, detail)


# --- text and training -------------------------------------------------------------------------------------------


def difference(actual: str, expected: str) -> str:
    """Where two texts part, in a few characters of each."""
    place = next((i for i, (a, b) in enumerate(zip(actual, expected)) if a != b), min(len(actual), len(expected)))
    begin = max(0, place - 20)
    return f"{actual[begin : place + 20]!r} instead of {expected[begin : place + 20]!r} at character {place}"


def round_trip(stack: Stack) -> Check:
    """Prompt and demonstration decode to their texts, alone and joined; a step ends with its last whole token."""
    tokenizer = stack.policy.tokenizer

    def text(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def faults(e: Example) -> Iterator[str]:
        shown, ids = render(tokenizer, e.prompt, stack.template), list(e.prompt_ids)
        while stack.template != "chat" and ids and ids[0] in tokenizer.all_special_ids:
            ids.pop(0)
        demo = e.demo_ids[:-1] if e.demo_ids[-1] == tokenizer.eos_token_id else e.demo_ids
        written = e.demonstration.text
        for part, expected in ((ids, shown), ((*ids, *demo), shown + written), (demo, written)):
            if (found := text(part)) != expected:
                yield difference(found, expected)
        for k, end in enumerate(e.step_ends):
            steps = "".join(e.demonstration.steps[: k + 1])
            found, longer = text(demo[:end]).rstrip(TORN), text(demo[: end + 1])
            # A token that lies across the border belongs to the next step.
            if found != steps and not (steps.startswith(found) and len(longer) > len(steps)):
                yield difference(found, steps)

    found = [fault for example in stack.examples for fault in faults(example)]
    fine = f"{len(stack.examples)} examples, every step border"
    return outcome("round trip", len(found), 0, found[0] if found else fine)


def eos(stack: Stack) -> Check:
    """Demonstrations that stop after one step: their EOS has a gradient, and training teaches the policy to stop."""
    examples = [stack.policy.encode(shortened(e), stack.template) for e in stack.examples[:4]]
    ends = [(*e.prompt_ids, *stack.target_ids(e)) for e in examples]
    method = stack.method("sft", lr=stack.moving_rate(), warmup=0.0, decay="constant", batch_size=len(examples))
    with stack.restored(Budget("steps", 10)):
        stage = stack.stage(method, pool=examples)
        missing = sum(not has_gradient(stack, method, row) for row in zip(examples, ends))
        before = [float(stack.logprobs(ids)[-1, ids[-1]]) for ids in ends]
        while stage.run_step() is not None:
            pass
        after = [float(stack.logprobs(ids)[-1, ids[-1]]) for ids in ends]
    mean = [sum(values) / len(values) for values in (before, after)]
    detail = f"log-probability {mean[0]:.2f} before 10 updates, {mean[1]:.2f} after; {missing} without gradient"
    unlearned = sum(b > math.log(0.5) - LEARNED and not a >= b for b, a in zip(before, after))
    unlearned += sum(b <= math.log(0.5) - LEARNED and not a >= b + LEARNED for b, a in zip(before, after))
    return outcome("eos", max(missing, unlearned), 0, detail)


def has_gradient(stack: Stack, method: Any, case: tuple[Example, Sequence[int]]) -> bool:
    """Whether the loss of one example depends on the log-probability of the EOS that should end it."""
    example, ids = case
    row = Trajectory(example.prompt_ids, example.demo_ids)
    micro = collate([row], stack.policy.device)
    batch = stack.batch(method, micro, [row])
    (gradient,) = torch.autograd.grad(method.loss(batch).value, batch.logprobs)
    return gradient.shape[1] == len(ids) - 1 and int(micro.token_ids[0, -1]) == ids[-1] and bool(gradient[0, -1] < 0)


def evaluation(stack: Stack) -> Check:
    """Two evaluations of one policy agree item by item and cost no budget."""
    outcomes = []
    assert stack.policy.meter is not None
    spent = stack.policy.meter.ledger.record()
    for _ in range(2):
        items = stack.load("val", stack.sizes["batch_size"])
        settings = Settings(2, stack.max_new_tokens, 1.0, 256, 0)
        outcomes.append((items, evaluate_split(stack.policy, stack.task, items, "val", settings)[1]))
    wrong = sum(a != b for pair in zip(*outcomes) for a, b in zip(*pair, strict=True))
    charged = stack.policy.meter.ledger.record() != spent
    detail = f"{len(outcomes[0][0])} items x 2 samples and greedy" + (", charged to the budget" if charged else "")
    return outcome("evaluation", wrong, 0, detail, not charged)


def constant_reward(stack: Stack) -> Check:
    """Without KL, entropy bonus and weight decay, GRPO whose rewards are all equal leaves every weight as it was."""
    method = stack.method("grpo", kl_coef=0.0, entropy_coef=0.0, weight_decay=0.0, lr=1e-2, scale="std")
    parameters = list(stack.policy.model.parameters())
    with stack.restored(Budget("steps", 2)):
        before = [p.detach().clone() for p in parameters]
        stage = stack.stage(method, task=SameReward(stack.task))
        while stage.run_step() is not None:
            pass
        moved = largest([float((p.detach() - b).abs().max()) for p, b in zip(parameters, before)])
    return outcome("constant reward", moved, 0, f"largest change of a weight in {stage.step} updates at lr 0.01")

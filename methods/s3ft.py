"""S3FT: fine-tuning on the model's own answers where they are right, else on paraphrased or gold ones.

Source: Selective Self-to-Supervised Fine-Tuning (arXiv 2502.08130), of which the abstract page, notes, tables and
figures were read; no authors' code was found.  For each (x, y) the initial model M0 answers x; if the judge accepts the
answer it is the target, else M0's paraphrase of y if the judge accepts that, else y.  Then plain SFT of M0.

The caption of figure 1 says that the gold answer is judged; it means the model's.

Departures and choices where the paper was not available:
- The judge is the task's strict verifier.
- The paraphrase is a solution re-sampled under the gold one: M0 continues the first paraphrase_share of y's steps.  The
  paper prompts the model with x and y, which a model without instructions cannot follow.
- One greedy answer and one greedy paraphrase per problem (greedy=False samples at the run's temperature).  With
  num_samples above 1 the first accepted one of as many sampled answers is taken.
- judge_noise flips each verdict with that probability, a stand-in for judges less reliable than a verifier.
- Sampling and judging are charged to the budget; the paper does not charge them.
- Answers that do not end by themselves are refused.
- Optimizer settings are those of our ``sft``; the paper's are not verified.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.types import Batch, Completion, Context, Example, Loss, Rows
from methods import common

CHOICES = ("self", "paraphrase", "gold")

EQUATION = """\
L = -(1/N) sum_x sum_t log pi(y'_t | x, y'_<t),  N = target tokens (with EOS) of the step
y' = own answer if judged right, else verified paraphrase of y*, else y*;  built once, by the initial model"""
EVIDENCE = "abstract, notes, tables and figures of the paper; no authors' code found"
DATA_FLOW = """\
once: the initial model answers every prompt (num_samples tries); failures are answered again from half of the gold
  steps; then gold
prompt | chosen target with EOS;  likelihood: every target token
charged: both passes of sampling, then as SFT; the targets and their sources are stored with the run"""
PUBLISHED: tuple[str, ...] = (
    "Mistral-7B-Instruct-v0.2, GSM8K / MBPP / NQ: base 40.3 / 22.2 / 64.7, SFT 53.4 / 32.8 / 60.0, SDFT 54.8 "
    "/ 35.8 / 67.1, S3FT 56.9 / 39.4 / 67.1",
    "Targets own / paraphrase / gold: GSM8K 49.5 / 42.1 / 8.4 %, MBPP 30.2 / 32.4 / 37.4 %, NQ 66.0 / 25.6 / 8.1 %",
)


def accepted(completion: Completion) -> bool:
    """Whether an answer may become a target: right, and ended by the model itself."""
    # An answer cut at the limit has no EOS: as a target it would teach the model not to stop.
    return completion.verdict.correct and completion.finish_reason == "stop"


def judged(completion: Completion, noise: float, rng: random.Random) -> bool:
    """Whether a judge accepts an answer whose verdict is flipped with probability ``noise``."""
    if rng.random() < noise:
        verdict = completion.verdict
        completion = replace(completion, verdict=replace(verdict, correct=not verdict.correct))
    return accepted(completion)


@dataclass(frozen=True)
class S3FT:
    """L = -(1/N) sum over target tokens of log pi, with targets that the initial model chose.

    ``choices`` is the order in which targets are tried, joined by "+"; a problem for which none holds is dropped.
    """

    choices: str = "self+paraphrase+gold"
    paraphrase_share: float = 0.5
    greedy: bool = True
    num_samples: int = 1
    judge_noise: float = 0.0
    divisor: str = "step"
    lr: float = 1e-5
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    batch_size: int = 256
    num_updates: int = 1

    def __post_init__(self) -> None:
        for choice in self.choices.split("+"):
            common.require(choice in CHOICES, f"choices: '{choice}' is not one of {', '.join(CHOICES)}")
        common.require_choices(self, divisor=common.DIVISORS)
        common.require_shares(self, "paraphrase_share", "judge_noise")
        common.require_at_least(self, 1, "num_samples")
        different = self.num_samples == 1 or not self.greedy
        common.require(different, f"num_samples: {self.num_samples} greedy answers are all the same, set greedy=false")

    def prefix(self, example: Example) -> tuple[int, ...]:
        """The first steps of the gold solution, which the paraphrase continues."""
        steps = round(self.paraphrase_share * len(example.step_ends))
        return example.demo_ids[: example.step_ends[steps - 1]] if steps else ()

    def prepare(self, examples: Sequence[Example], ctx: Context) -> list[Example]:
        """Every prompt at most once, each with the first of ``choices`` that holds."""
        targets: dict[str, Example] = {}
        for choice in self.choices.split("+"):
            rest = [example for example in examples if example.id not in targets]
            if choice == "gold":
                targets.update((example.id, example) for example in rest)
                continue
            prefixes = [self.prefix(e) if choice == "paraphrase" else () for e in rest]
            answers = ctx.sample(rest, prefixes, self.num_samples, greedy=self.greedy) if rest else []
            for example, prefix, tries in zip(rest, prefixes, answers, strict=True):
                answer = next((a for a in tries if judged(a, self.judge_noise, ctx.rng)), None)
                if answer is not None:
                    # Only the prefix comes from the data; the rest is not charged as a demonstration.
                    ids = (*prefix, *answer.token_ids)
                    targets[example.id] = replace(
                        example, demo_ids=ids, step_ends=(), source=choice, gold_tokens=len(prefix)
                    )
        return [targets[example.id] for example in examples if example.id in targets]

    def prepare_worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        """Every choice but gold tried on every problem."""
        parts = []
        for choice in self.choices.split("+"):
            if choice != "gold":
                lengths = [len(e.prompt_ids) + (len(self.prefix(e)) if choice == "paraphrase" else 0) for e in examples]
                tries = [(length, max_new_tokens) for length in lengths for _ in range(self.num_samples)]
                parts.append(Rows(lengths, tries))
        return common.joined(*parts)

    collect = common.collect_demonstrations
    worst_case = common.demonstrations_worst_case

    def loss(self, batch: Batch) -> Loss:
        # Plain SFT: what the method changes is the targets, not the loss.
        value = common.demo_mean(batch, -batch.logprobs, self.divisor)
        nll = common.demo_mean(batch, -batch.logprobs.detach(), "step")
        return Loss(value, {"demo_nll": nll})


METHOD = S3FT
VARIANTS: dict[str, dict[str, Any]] = {
    "sdft": {"choices": "paraphrase+gold"},
    "self-only": {"choices": "self"},
    "self-or-gold": {"choices": "self+gold"},
    "gold": {"choices": "gold"},
    "sampled": {"greedy": False},
    "samples-4": {"greedy": False, "num_samples": 4},
    "samples-8": {"greedy": False, "num_samples": 8},
    "judge-noise-0.1": {"judge_noise": 0.1},
    "judge-noise-0.3": {"judge_noise": 0.3},
}
SYMBOLS: dict[str, str] = {
    "choices": "order of y-hat, y-tilde, y; the paper's algorithm",
    "paraphrase_share": "no symbol; this project's paraphrase",
    "greedy": "no symbol; not verified, this project's choice",
    "num_samples": "number of y-hat per x; not verified, this project's choice",
    "judge_noise": "no symbol; this project's ablation",
    "divisor": "N; this project's choice, as sft",
    "lr": "learning rate; not verified, as sft",
    "warmup": "warm-up share; not verified, as sft",
    "decay": "schedule; not verified, as sft",
    "weight_decay": "AdamW weight decay; not verified, as sft",
    "betas": "AdamW betas; not verified, as sft",
    "batch_size": "demonstrations per step; not verified, as sft",
    "num_updates": "one update per batch",
}
